//! `leno tap`.

use std::time::Duration;

use http::Method;
use leno_tests::client::{request, send};
use leno_tests::{Behaviour, Load, wait};
use serde_json::Value;

use super::Pair;

/// Until both sidecars can be asked.
async fn askable(pair: &Pair) {
    wait::eventually("sidecars can be asked", wait::DEADLINE, async || {
        let api = pair.mesh.control_plane.api();
        let (_, answer) = api.call(Method::GET, "/v1/requests?id=0000000000000001", None).await.unwrap();
        (answer["answered"] == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_shown_as_they_end_by_both_sidecars_and_only_those_that_were_asked_for() {
    let pair = Pair::start(&[]).await;
    askable(&pair).await;
    let load =
        Load::new(pair.frontend.http_proxy(), "http://web/shop/1").clients(1).pause(Duration::from_millis(5)).start();
    let all = pair.mesh.leno(&["tap", "web", "--count", "4", "-o", "json"]).await;
    let shown: Vec<Value> =
        String::from_utf8_lossy(&all.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown.len(), 4, "{all:?}");
    let of = |direction: &str| shown.iter().find(|one| one["direction"] == direction).cloned();
    let (outbound, inbound) = (of("outbound"), of("inbound"));
    let one = outbound.as_ref().or(inbound.as_ref()).unwrap();
    assert_eq!(
        (&one["path"], &one["status"], &one["service"]),
        (&"/shop/1".into(), &200.into(), &"default/web".into())
    );
    if let Some(outbound) = outbound {
        assert!(outbound["tapped"]["endpoint"].as_str().unwrap().starts_with("default/web-"), "{outbound}");
    }

    // What does not match is not shown, and the tap ends with its time.
    let none = pair.mesh.leno(&["tap", "web", "--path", "/other*", "--for", "1s"]).await;
    assert!(none.status.success() && none.stdout.is_empty(), "{none:?}");
    pair.app.set(Behaviour::Status(500));
    let failing =
        pair.mesh.leno(&["tap", "web", "--status", "5xx", "--failures", "--count", "1", "--for", "30s"]).await;
    let text = String::from_utf8(failing.stdout).unwrap();
    assert!(text.contains(" default/web GET web/shop/1 ") && text.contains(" 500"), "{text}");
    load.stop().await;
    // Nobody looks any more, and so nobody pays.
    let refused = pair.mesh.leno(&["tap", "web", "--status", "abc"]).await;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("400-499"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_may_tap() {
    let pair = Pair::start(&[]).await;
    let context = pair.mesh.dir().join("viewer.yaml");
    let context = context.to_str().unwrap();
    let made = pair.mesh.leno(&["user", "create", "vera", "--role", "viewer", "--out", context]).await;
    assert!(made.status.success(), "{made:?}");
    let refused = pair.mesh.leno(&["tap", "web", "--context", context]).await;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(77) && why.contains("needs the role operator"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_who_read_slowly_cost_no_request_and_are_told_what_they_missed() {
    let mut pair = Pair::start(&[]).await;
    askable(&pair).await;
    let before = (pair.frontend.process().memory(), pair.mesh.control_plane.process().memory());
    // They ask for everything, and read nothing of it.
    let mut taps = Vec::new();
    for _ in 0..10 {
        let api = pair.mesh.control_plane.api();
        taps.push(api.open("/v1/tap?perSecond=1000&seconds=60").await.unwrap());
    }
    let load = Load::new(pair.frontend.http_proxy(), "http://web/").clients(4).limit(8_000).start();
    load.join().await.assert_no_failure();
    let after = (pair.frontend.process().memory(), pair.mesh.control_plane.process().memory());
    assert!(after.0.saturating_sub(before.0) < 24 << 20, "the sidecar: {before:?} {after:?}");
    assert!(after.1.saturating_sub(before.1) < 48 << 20, "the control plane: {before:?} {after:?}");
    drop(taps);
    let asked = request(Method::GET, "http://web/", &[], "");
    assert_eq!(send(pair.frontend.http_proxy(), asked).await.unwrap().status, 200);
    let _ = &pair.web;
}
