//! A canary's weights hold, and a change of them is in force when `leno apply --wait` returns.

use std::time::Instant;

use leno_tests::mesh::{split, web_services};
use leno_tests::stats::binomial_999;
use leno_tests::{HttpApp, Load, Mesh, Sidecar};

const URI: &str = "http://web/";

struct Canary {
    frontend: Sidecar,
    _parts: (HttpApp, HttpApp, Sidecar, Sidecar),
    mesh: Mesh,
}

/// `frontend` and the two versions of `web`, split `v1` to `v2`.
async fn canary(v1: u32, v2: u32) -> Canary {
    let mesh = Mesh::start().await;
    mesh.apply(&(web_services() + &split(v1, v2, ""))).await;
    let apps = (HttpApp::start("v1").await, HttpApp::start("v2").await);
    let one = mesh.sidecar("web-v1", "web").await.label("version", "v1").port("http", apps.0.addr()).start().await;
    let two = mesh.sidecar("web-v2", "web").await.label("version", "v2").port("http", apps.1.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, URI).await;
    Canary { mesh, frontend, _parts: (apps.0, apps.1, one, two) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_90_to_10_split_is_what_the_binomial_allows() {
    let canary = canary(90, 10).await;
    let report = Load::new(canary.frontend.http_proxy(), URI).clients(16).limit(20_000).run().await;
    report.assert_no_failure();
    assert_eq!(report.total(), 20_000);
    let (v1, v2) = (report.answered_by("v1"), report.answered_by("v2"));
    assert_eq!(v1 + v2, 20_000, "somebody else answered");
    let allowed = binomial_999(20_000, 0.1);
    assert!(allowed.contains(&v2), "v2 got {v2} of 20,000, allowed is {allowed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_weights_hold_for_every_request_after_apply_returns_and_none_fails() {
    let canary = canary(90, 10).await;
    let load = Load::new(canary.frontend.http_proxy(), URI).clients(16).start();
    load.more(1000).await;

    canary.mesh.apply(&split(50, 50, "")).await;
    let even = Instant::now();
    load.more(4000).await;
    canary.mesh.apply(&split(0, 100, "")).await;
    let all = Instant::now();
    load.more(1000).await;
    canary.mesh.apply(&split(100, 0, "")).await;
    let back = Instant::now();
    load.more(1000).await;

    let report = load.stop().await;
    report.assert_no_failure();
    let between = |from: Instant, to: Option<Instant>| {
        let mut part = report.started_after(from);
        // Only what had ended before the next change was begun can be told apart from it by the clock; the command takes
        // many round trips, so what was begun a hundred requests before is safely of the old weights.
        if let Some(to) = to {
            part.outcomes.retain(|outcome| outcome.started < to);
        }
        part
    };
    let part = between(back, None);
    assert_eq!(part.answered_by("v2"), 0, "requests begun after 100/0 was acknowledged went to v2");
    assert!(part.total() >= 900, "{}", part.total());

    // From the acknowledgement of 0/100 until the next change was begun (1000 requests later) only v2 answers.
    let first = between(all, Some(back));
    let first = &first.outcomes[..first.outcomes.len().min(900)];
    let wrong = first.iter().filter(|o| !matches!(&o.result, Ok((200, b)) if b == "v2")).count();
    assert_eq!((wrong, first.len()), (0, 900), "requests begun after 0/100 was acknowledged went to v1");

    let mut even = between(even, Some(all));
    even.outcomes.truncate(4000);
    let (n, v1) = (even.total(), even.answered_by("v1"));
    assert!(n == 4000 && binomial_999(n, 0.5).contains(&v1), "after 50/50, v1 got {v1} of {n}");
}
