//! `timeouts`: the answer that does not come in time is a 504.

use std::time::Duration;

use leno_tests::Behaviour;

use super::{Stage, route};

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_longer_than_the_rule_allows_is_504_and_zero_allows_anything() {
    let rules = "  - matches: [{path: {type: Exact, value: /request}}]
    timeouts: {request: 1s}
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: Exact, value: /backend}}]
    timeouts: {backendRequest: 1s}
    retry: {attempts: 0}
    backendRefs: [{name: echo-v1, port: 80}]
  - matches: [{path: {type: Exact, value: /disabled}}]
    timeouts: {request: 0s, backendRequest: 0s}
    backendRefs: [{name: echo-v1, port: 80}]
  - backendRefs: [{name: echo-v1, port: 80}]
";
    let stage = Stage::start(&route("HTTPRoute", "timeouts", "name: echo", rules)).await;
    for path in ["/request", "/backend"] {
        assert_eq!(stage.get(&format!("http://echo{path}"), &[]).await.status, 200);
    }
    stage.v1.set(Behaviour::Delay(Duration::from_secs(3)));
    for (path, status, reason) in [
        ("/request", 504, Some("timeout")),
        ("/backend", 504, Some("timeout")),
        ("/disabled", 200, None),
        ("/", 200, None),
    ] {
        let reply = stage.get(&format!("http://echo{path}"), &[]).await;
        assert_eq!((reply.status, reply.reason()), (status, reason), "{path}");
    }
}
