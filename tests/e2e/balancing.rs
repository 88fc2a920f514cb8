//! Which instance gets a request, by the policy that its Service has. Counted at the apps.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use leno_tests::mesh::{service, split, web_services};
use leno_tests::stats::binomial_999;
use leno_tests::{Behaviour, HttpApp, Mesh, ProxyConnection, Sidecar, client, wait};

const URI: &str = "http://web/";

struct Web {
    frontend: Sidecar,
    apps: Vec<HttpApp>,
    sidecars: Vec<Sidecar>,
    mesh: Mesh,
}

/// The TrafficPolicy of Service web with this in its spec.
fn policy(spec: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         targetRefs: [{{kind: Service, group: \"\", name: web}}]\n  {spec}\n---\n"
    )
}

/// So many instances of `web`, called `0`, `1` and so on; each with a zone, when there are some.
async fn web(n: usize, spec: &str, zones: &[&str]) -> Web {
    let mesh = Mesh::start().await;
    mesh.apply(&(service("web", "app: web", 80, "http") + &policy(spec))).await;
    let (mut apps, mut sidecars) = (Vec::new(), Vec::new());
    for i in 0..n {
        let app = HttpApp::start(&i.to_string()).await;
        let mut builder = mesh.sidecar(&format!("web-{i}"), "web").await.port("http", app.addr());
        builder = builder.args(&["--name", &format!("web-{i}")]);
        if let Some(zone) = zones.get(i) {
            builder = builder.label("topology.kubernetes.io/zone", zone);
        }
        sidecars.push(builder.start().await);
        apps.push(app);
    }
    let mut frontend = mesh.sidecar("frontend", "frontend").await;
    if let Some(zone) = zones.first() {
        frontend = frontend.label("topology.kubernetes.io/zone", zone);
    }
    let frontend = frontend.start().await;
    mesh.connected(n + 1).await;
    mesh.reachable(&frontend, URI).await;
    Web { frontend, apps, sidecars, mesh }
}

impl Web {
    /// Forgets, sends so many requests one after the other, and gives how many each app had.
    async fn hits(&self, n: usize) -> Vec<usize> {
        self.apps.iter().for_each(HttpApp::forget);
        let mut connection = ProxyConnection::open(self.frontend.http_proxy()).await.unwrap();
        for _ in 0..n {
            // Waits until it can take another request.
            assert!(!connection.is_closed().await, "the sidecar closed the connection");
            let reply = connection.send(client::request(Method::GET, URI, &[], Bytes::new())).await.unwrap();
            assert_eq!(reply.status, 200);
        }
        self.apps.iter().map(HttpApp::count).collect()
    }
}

/// Who answers each of so many users, who are told apart by a header.
async fn answered(frontend: &Sidecar, users: usize) -> Vec<String> {
    let mut connection = ProxyConnection::open(frontend.http_proxy()).await.unwrap();
    let mut answers = Vec::new();
    for user in 0..users {
        let user = format!("user-{user}");
        let request = client::request(Method::GET, URI, &[("x-user", &user)], Bytes::new());
        assert!(!connection.is_closed().await, "the sidecar closed the connection");
        let reply = connection.send(request).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        answers.push(reply.text());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_spreads_requests_as_it_says() {
    let web = web(3, "loadBalancing: {policy: RoundRobin}", &[]).await;
    wait::eventually("all three instances are known", wait::DEADLINE, async || {
        (web.hits(30).await == [10, 10, 10]).then_some(())
    })
    .await;
    assert_eq!(web.hits(300).await, [100, 100, 100]);

    web.mesh.apply(&policy("loadBalancing: {policy: Random}")).await;
    let hits = web.hits(900).await;
    assert!(hits.iter().all(|n| (230..370).contains(n)), "random: {hits:?}");

    web.mesh.apply(&policy("loadBalancing: {policy: LeastRequest}")).await;
    let hits = web.hits(900).await;
    assert!(hits.iter().all(|n| (230..370).contains(n)), "least request, one at a time: {hits:?}");

    // One is slow; who measures leaves it alone, although it never has more than one request.
    web.apps[0].set(Behaviour::Delay(Duration::from_millis(40)));
    web.mesh.apply(&policy("loadBalancing: {policy: PeakEwma}")).await;
    let hits = web.hits(400).await;
    assert!(hits[0] < 40 && hits[1] > 100 && hits[2] > 100, "peak EWMA: {hits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_stays_with_an_instance_and_only_those_of_one_that_goes_move() {
    let mut web = web(4, "loadBalancing: {policy: Maglev, hashKey: {type: Header, name: X-User}}", &[]).await;
    for policy_name in ["Maglev", "RingHash"] {
        let spec = format!("loadBalancing: {{policy: {policy_name}, hashKey: {{type: Header, name: X-User}}}}");
        web.mesh.apply(&policy(&spec)).await;
        let settled = |all: &[String]| all.iter().collect::<std::collections::BTreeSet<_>>().len() == 4;
        let before = wait::eventually("all four instances have users", wait::DEADLINE, async || {
            let all = answered(&web.frontend, 400).await;
            settled(&all).then_some(all)
        })
        .await;
        assert_eq!(before, answered(&web.frontend, 400).await, "{policy_name}: somebody moved for nothing");

        web.sidecars[2].stop().await;
        let after = wait::eventually("the third is gone", wait::DEADLINE, async || {
            let all = answered(&web.frontend, 400).await;
            (!all.contains(&"2".to_owned())).then_some(all)
        })
        .await;
        let moved: Vec<_> = before.iter().zip(&after).filter(|(b, a)| b != a).collect();
        let own = before.iter().filter(|app| *app == "2").count();
        // The ring moves nobody else, Maglev a few percent.
        let others = moved.iter().filter(|(b, _)| *b != "2").count();
        assert!(own > 40 && moved.len() - others == own, "{policy_name}: {own} users, {} moved", moved.len());
        assert!(others <= if policy_name == "RingHash" { 0 } else { 20 }, "{policy_name}: {others} others moved");

        web.sidecars[2].start_again().await;
        wait::eventually("everybody is back", wait::DEADLINE, async || {
            (answered(&web.frontend, 400).await == before).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_that_the_sidecar_makes_keeps_a_client_where_it_is() {
    let web = web(3, "loadBalancing: {policy: RingHash, hashKey: {type: Cookie, name: lb, ttl: 1h}}", &[]).await;
    wait::eventually("all three instances answer", wait::DEADLINE, async || {
        web.hits(60).await.iter().all(|n| *n > 0).then_some(())
    })
    .await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..30 {
        let first = web.frontend.get(URI).await.unwrap();
        let set = first.headers["set-cookie"].to_str().unwrap().to_owned();
        assert!(set.starts_with("lb=") && set.contains("Max-Age=3600"), "{set}");
        let cookie = set.split(';').next().unwrap().to_owned();
        for _ in 0..5 {
            let request = client::request(Method::GET, URI, &[("cookie", &cookie)], Bytes::new());
            let again = client::send(web.frontend.http_proxy(), request).await.unwrap();
            assert_eq!(again.text(), first.text());
            assert!(!again.headers.contains_key("set-cookie"), "a client that has one gets no other");
        }
        seen.insert(first.text());
    }
    assert!(seen.len() > 1, "all clients went to {seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_a_sticky_split_from_10_to_20_percent_moves_only_new_users_and_nobody_back() {
    const USERS: usize = 2000;
    let mesh = Mesh::start().await;
    let sticky = policy("loadBalancing: {stickySplits: true, hashKey: {type: Header, name: x-user}}");
    mesh.apply(&(web_services() + &split(90, 10, "") + &sticky)).await;
    let apps = [HttpApp::start("v1").await, HttpApp::start("v2").await];
    let mut sidecars = Vec::new();
    for (app, version) in apps.iter().zip(["v1", "v2"]) {
        let builder = mesh.sidecar(&format!("web-{version}"), "web").await.label("version", version);
        sidecars.push(builder.port("http", app.addr()).start().await);
    }
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    wait::eventually("both versions answer", wait::DEADLINE, async || {
        for user in 0..40 {
            let user = format!("user-{user}");
            let request = client::request(Method::GET, URI, &[("x-user", &user)], Bytes::new());
            let reply = client::send(frontend.http_proxy(), request).await.ok()?;
            (reply.status == 200).then_some(())?;
        }
        Some(())
    })
    .await;
    let mut before: BTreeMap<usize, String> = answered(&frontend, USERS).await.into_iter().enumerate().collect();
    for percent in [10, 20, 50] {
        mesh.apply(&split(100 - percent, percent, "")).await;
        let after: BTreeMap<usize, String> = answered(&frontend, USERS).await.into_iter().enumerate().collect();
        let on = after.values().filter(|app| *app == "v2").count();
        let allowed = binomial_999(USERS, f64::from(percent) / 100.0);
        assert!(allowed.contains(&on), "{on} of {USERS} users at {percent} %, allowed is {allowed:?}");
        let back: Vec<_> = after.iter().filter(|(user, app)| *app == "v1" && before[user] == "v2").collect();
        assert!(back.is_empty(), "moved back at {percent} %: {back:?}");
        before = after;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_stay_in_the_own_zone_and_leave_it_when_it_is_gone() {
    let mut web = web(3, "loadBalancing: {locality: PreferClose}", &["a", "a", "b"]).await;
    wait::eventually("all three instances are known", wait::DEADLINE, async || {
        web.mesh.apply(&policy("loadBalancing: {policy: RoundRobin}")).await;
        (web.hits(30).await == [10, 10, 10]).then_some(())
    })
    .await;
    web.mesh.apply(&policy("loadBalancing: {locality: PreferClose}")).await;
    let hits = web.hits(400).await;
    assert!(hits[2] == 0 && hits[0] > 100 && hits[1] > 100, "{hits:?}");
    web.sidecars[0].stop().await;
    web.sidecars[1].stop().await;
    wait::eventually("the other zone has it all", wait::DEADLINE, async || {
        (web.hits(50).await == [0, 0, 50]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_slower_than_the_others_is_set_aside() {
    // One after the other, a round of three requests takes 140 ms and more: an interval of two seconds holds a dozen of each.
    let outliers = "outlierDetection: {latencyFactor: 3, interval: 2s, minimumRequests: 5, ejectionTime: 60s}";
    let web = web(3, outliers, &[]).await;
    wait::eventually("all three instances answer", wait::DEADLINE, async || {
        web.hits(60).await.iter().all(|n| *n > 0).then_some(())
    })
    .await;
    // The others take their time, too, so that what a busy machine adds to one of them is little beside it.
    for (app, millis) in web.apps.iter().zip([10, 120, 10]) {
        app.set(Behaviour::Delay(Duration::from_millis(millis)));
    }
    wait::eventually("the slow one is set aside", wait::DEADLINE, async || (web.hits(100).await[1] == 0).then_some(()))
        .await;
    let metrics = web.frontend.metrics().await;
    assert_eq!(metrics.sum("leno_endpoint_ejections_total", &[("service", "default/web")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_fails_more_often_than_the_others_is_set_aside() {
    // Its failures never come in a row that is long enough.
    let outliers = "outlierDetection: {consecutiveFailures: 1000000, successRatePercent: 90, interval: 500ms, \
                    minimumRequests: 10, ejectionTime: 60s}";
    let web = web(3, outliers, &[]).await;
    wait::eventually("all three instances answer", wait::DEADLINE, async || {
        web.hits(60).await.iter().all(|n| *n > 0).then_some(())
    })
    .await;
    web.apps[1].set(Behaviour::Status(500));
    wait::eventually("the failing one is set aside", wait::DEADLINE, async || {
        let mut failed = 0;
        for _ in 0..60 {
            failed += usize::from(web.frontend.get(URI).await.unwrap().status == 500);
        }
        (failed == 0).then_some(())
    })
    .await;
}
