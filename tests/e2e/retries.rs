//! A failing instance is retried around where that is safe, and within a budget.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use leno_tests::mesh::service;
use leno_tests::{Behaviour, HttpApp, Load, Mesh, Sidecar};

const URI: &str = "http://web/";

/// A route to Service web with retries of everything that may be retried.
fn route(attempts: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: web, port: 80}}]\n  rules:\n  - backendRefs: [{{name: web, port: 80}}]\n    \
         retry: {{attempts: {attempts}, codes: [500, 502, 503, 504]}}\n"
    )
}

struct Pair {
    frontend: Sidecar,
    good: HttpApp,
    bad: HttpApp,
    bad_sidecar: Sidecar,
    _good_sidecar: Sidecar,
    mesh: Mesh,
}

/// Two instances of `web`, both well as yet.
async fn pair(attempts: u32) -> Pair {
    let mesh = Mesh::start().await;
    mesh.apply(&(service("web", "app: web", 80, "http") + &route(attempts))).await;
    let (good, bad) = (HttpApp::start("good").await, HttpApp::start("bad").await);
    let good_sidecar = mesh.sidecar("web-good", "web").await.port("http", good.addr()).start().await;
    let bad_sidecar = mesh.sidecar("web-bad", "web").await.port("http", bad.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    // Both instances take part before one of them fails.
    leno_tests::wait::eventually("both instances answer", Duration::from_secs(30), || async {
        mesh.reachable(&frontend, URI).await;
        (good.count() > 0 && bad.count() > 0).then_some(())
    })
    .await;
    good.forget();
    bad.forget();
    Pair { mesh, frontend, good, bad, bad_sidecar, _good_sidecar: good_sidecar }
}

async fn gets_see_no_error(behaviour: Behaviour) {
    let pair = pair(2).await;
    pair.bad.set(behaviour.clone());
    let report = Load::new(pair.frontend.http_proxy(), URI).clients(4).limit(2000).run().await;
    report.assert_no_failure();
    assert_eq!(report.answered_by("good"), 2000, "{behaviour:?}");
    assert!(pair.bad.count() > 0, "the failing instance was never tried, so nothing was retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_see_no_error_when_one_of_two_instances_answers_503() {
    gets_see_no_error(Behaviour::Status(503)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_see_no_error_when_one_of_two_instances_resets() {
    gets_see_no_error(Behaviour::ResetBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_see_no_error_when_an_instance_dies_under_load() {
    let mut pair = pair(2).await;
    let load = Load::new(pair.frontend.http_proxy(), URI).clients(4).start();
    load.more(500).await;
    pair.bad_sidecar.kill();
    load.more(3000).await;
    load.stop().await.assert_no_failure();
}

/// How often each numbered request was seen, at both apps together.
fn times_seen(pair: &Pair) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for seen in pair.good.seen().into_iter().chain(pair.bad.seen()) {
        *times.entry(seen.id.expect("the load numbers its requests")).or_default() += 1;
    }
    times
}

async fn posts_are_sent_once(behaviour: Behaviour) {
    let pair = pair(3).await;
    pair.bad.set(behaviour.clone());
    let report = Load::new(pair.frontend.http_proxy(), URI).post(64).clients(4).limit(400).run().await;
    let times = times_seen(&pair);
    let twice: Vec<_> = times.iter().filter(|(_, n)| **n > 1).collect();
    assert!(twice.is_empty(), "{behaviour:?}: POSTs were sent again: {twice:?}");
    assert!(pair.bad.count() > 0, "no POST reached the failing instance");
    // The client hears of each POST that failed: none is claimed to have succeeded.
    assert_eq!(report.answered_by("good"), pair.good.count(), "{behaviour:?}");
    assert_eq!(report.failures().len(), pair.bad.count(), "{behaviour:?}");
    // Every failure is an answer, never a broken connection.
    let broken: Vec<_> = report.failures().into_iter().filter(|outcome| outcome.result.is_err()).collect();
    assert!(broken.is_empty(), "{behaviour:?}: {broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_an_app_answered_with_503_is_not_sent_twice() {
    posts_are_sent_once(Behaviour::Status(503)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_whose_connection_the_app_reset_is_not_sent_twice() {
    posts_are_sent_once(Behaviour::ResetBefore).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_caps_retries_at_a_fifth_of_the_requests_plus_ten_a_second() {
    let pair = pair(5).await;
    // Nobody is set aside, so that every request and every retry reaches an app and can be counted there.
    pair.mesh
        .apply(
            "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: web, namespace: default}\nspec:\n  \
             targetRefs: [{kind: Service, group: \"\", name: web}]\n  outlierDetection: {consecutiveFailures: 1000000}\n",
        )
        .await;
    pair.good.set(Behaviour::Status(503));
    pair.bad.set(Behaviour::Status(503));
    let start = Instant::now();
    let report =
        Load::new(pair.frontend.http_proxy(), URI).clients(8).pause(Duration::from_millis(5)).limit(4000).run().await;
    let seconds = start.elapsed().as_secs_f64();

    let tried = pair.good.count() + pair.bad.count();
    let most = 1.2 * report.total() as f64 + 10.0 * seconds.ceil();
    assert!(tried as f64 <= most, "{tried} tries of {} requests in {seconds:.1} s; at most {most:.0}", report.total());
    assert!(
        tried as f64 > 1.1 * report.total() as f64,
        "only {tried} tries of {} requests: was the budget used at all?",
        report.total()
    );
    // The app's own answer is passed on when there is no retry left.
    let statuses: BTreeMap<u16, usize> = report.outcomes.iter().fold(BTreeMap::new(), |mut map, outcome| {
        *map.entry(outcome.result.as_ref().map_or(0, |(status, _)| *status)).or_default() += 1;
        map
    });
    assert_eq!(statuses, BTreeMap::from([(503, 4000)]));
}
