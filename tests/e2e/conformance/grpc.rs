//! GRPCRoutes: methods, headers, weights, filters, and what a caller is told that none matches.

use bytes::Bytes;
use http::Method;
use leno_tests::wait::{DEADLINE, until};
use leno_tests::{Behaviour, Reply, client};

use super::{Headers, Stage, route};

async fn stage(rules: &str) -> Stage {
    let stage = Stage::start(&route("GRPCRoute", "grpc", "name: echo, port: 7070", rules)).await;
    stage.v1.set(Behaviour::Grpc);
    stage.v2.set(Behaviour::Grpc);
    stage.v1.forget();
    stage.v2.forget();
    stage
}

/// Calls a method with an empty message.
async fn call(stage: &Stage, method: &str, headers: Headers<'_>) -> Reply {
    let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
    all.extend(headers);
    let uri = format!("http://echo:7070/{method}");
    let request = client::request(Method::POST, &uri, &all, Bytes::from_static(&[0; 5]));
    client::send_http2(stage.client.http_proxy(), request).await.unwrap()
}

/// Who answered with which gRPC status.
fn by(reply: &Reply) -> (&str, &str) {
    let header = |name: &str| reply.headers.get(name).map_or("", |value| value.to_str().unwrap());
    (header("x-app"), header("grpc-status"))
}

const RULES: &str = "
  - name: echo
    matches: [{method: {service: grpc.Echo, method: Echo}}]
    backendRefs: [{name: echo-v1, port: 7070}]
  - matches: [{method: {service: grpc.Echo}}]
    backendRefs: [{name: echo-v2, port: 7070}]
  - matches: [{method: {service: grpc.Echo}, headers: [{name: version, value: one}]}]
    backendRefs: [{name: echo-v1, port: 7070}]
  - matches: [{method: {type: RegularExpression, service: 'grpc[.]R.*'}}]
    backendRefs: [{name: echo-v1, port: 7070}]
  - matches: [{method: {service: grpc.Gone}}]
    backendRefs: [{name: not-there, port: 7070}]
  - matches: [{method: {service: grpc.Nowhere}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn methods_and_headers_lead_to_different_backends_and_errors_are_statuses() {
    let stage = stage(RULES).await;
    for (method, headers, expected) in [
        ("grpc.Echo/Echo", &[][..], ("echo-v1", "0")),
        ("grpc.Echo/Other", &[], ("echo-v2", "0")),
        ("grpc.Echo/Other", &[("version", "one")], ("echo-v1", "0")),
        ("grpc.Echoes/Echo", &[], ("", "12")),
        ("grpc.Reg/Any", &[], ("echo-v1", "0")),
        // UNAVAILABLE, as specified.
        ("grpc.Gone/Echo", &[], ("", "14")),
        ("grpc.Nowhere/Echo", &[], ("", "14")),
    ] {
        let reply = call(&stage, method, headers).await;
        assert_eq!((reply.status, by(&reply)), (200, expected), "{method} {headers:?}");
    }
}

const MIRRORED: &str = "
  - matches: [{headers: [{name: x-mirror-only, value: \"true\"}]}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 7070}}}]
    backendRefs: [{name: echo-v1, port: 7070}]
  - matches: [{headers: [{name: x-modify, value: \"true\"}]}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: X-Set, value: new}], add: [{name: X-Add, value: two}], remove: [X-Remove]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {set: [{name: X-Answer, value: set}]}
    - {type: RequestMirror, requestMirror: {backendRef: {name: echo-v2, port: 7070}}}
    backendRefs: [{name: echo-v1, port: 7070, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Backend, value: b}]}}]}]
";

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_mirrored_and_their_headers_modified() {
    let stage = stage(MIRRORED).await;
    let reply = call(&stage, "grpc.Echo/Echo", &[("x-mirror-only", "true")]).await;
    assert_eq!(by(&reply), ("echo-v1", "0"));
    until("the mirror has it", DEADLINE, || stage.v2.count() == 1).await;
    let (real, copy) = (stage.v1.seen().remove(0), stage.v2.seen().remove(0));
    assert_eq!((real.path, real.body, real.host), (copy.path, copy.body, copy.host));

    let sent: Headers<'_> = &[("x-modify", "true"), ("x-add", "one"), ("x-set", "old"), ("x-remove", "1")];
    let reply = call(&stage, "grpc.Echo/Echo", sent).await;
    assert_eq!(by(&reply), ("echo-v1", "0"));
    assert_eq!(reply.headers["x-answer"], "set");
    until("the mirror has it", DEADLINE, || stage.v2.count() == 2).await;
    for (seen, backend) in [(stage.v1.seen().remove(1), Some("b")), (stage.v2.seen().remove(1), None)] {
        let header = |name: &str| seen.header(name);
        assert_eq!(header("x-set").as_deref(), Some("new"));
        assert_eq!(header("x-add").as_deref(), Some("one,two"));
        assert_eq!(header("x-remove"), None);
        assert_eq!(header("x-backend").as_deref(), backend, "the backend's own filters are its own");
    }
}

const WEIGHTED: &str = "
  - backendRefs: [{name: echo-v1, port: 7070, weight: 9}, {name: echo-v2, port: 7070, weight: 1}, {name: echo, port: 7070, weight: 0}]
";

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_shares_of_calls() {
    let stage = stage(WEIGHTED).await;
    for _ in 0..500 {
        assert_eq!(by(&call(&stage, "grpc.Echo/Echo", &[]).await).1, "0");
    }
    let allowed = leno_tests::stats::binomial_999(500, 0.1);
    assert!(allowed.contains(&stage.v2.count()), "{} is not in {allowed:?}", stage.v2.count());
    assert_eq!(stage.v1.count() + stage.v2.count(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_types_of_routes_on_one_port_the_grpc_route_alone_holds() {
    let stage = stage(RULES).await;
    stage.mesh.apply(&route("HTTPRoute", "http", "name: echo", "  - backendRefs: [{name: echo-v2, port: 80}]\n")).await;
    assert_eq!(stage.get("http://echo:7070/", &[]).await.status, 404);
    assert_eq!(by(&call(&stage, "grpc.Echo/Echo", &[]).await), ("echo-v1", "0"));
    // On the other ports it holds alone.
    stage.v2.set(Behaviour::Answer);
    assert_eq!(stage.get("http://echo/", &[]).await.text(), "echo-v2");
}
