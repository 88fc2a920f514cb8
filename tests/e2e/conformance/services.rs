//! What a route is attached to: a Service, one port of it, for its own namespace's callers or for all; and how it splits.

use leno_tests::stats::binomial_999;
use leno_tests::{Load, client};

use super::{Stage, route};

/// Passes on to a backend and says so in the answer.
fn marked(backend: &str, mark: &str) -> String {
    format!(
        "  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: X-Header-Set, value: {mark}}}]}}}}]\n    \
         backendRefs: [{{name: {backend}, port: 80}}]\n"
    )
}

fn mark(reply: &client::Reply) -> Option<&str> {
    reply.headers.get("x-header-set")?.to_str().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_with_a_port_holds_for_that_port_and_one_without_for_all() {
    let routes = route("HTTPRoute", "one-port", "name: echo-v1, port: 80", &marked("echo-v1", "v1"))
        + &route("HTTPRoute", "all-ports", "name: echo-v2", &marked("echo-v2", "v2"));
    let stage = Stage::start(&routes).await;
    for (uri, app, set) in [
        ("http://echo-v1/", "echo-v1", Some("v1")),
        ("http://echo-v1:8080/", "echo-v1", None),
        ("http://echo-v2/", "echo-v2", Some("v2")),
        ("http://echo-v2:8080/", "echo-v2", Some("v2")),
        // A backend is reached as it is: its own routes are not followed.
        ("http://echo/", "echo", None),
    ] {
        let reply = stage.get(uri, &[]).await;
        assert_eq!((reply.status, mark(&reply)), (200, set), "{uri}");
        assert!(reply.text().starts_with(app), "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_holds_for_its_service_and_not_for_the_workload_or_the_host_that_is_named() {
    let routes = route("HTTPRoute", "frontend", "name: echo-v2", &marked("echo-v2", "set"));
    // What it says of hosts has no meaning for a Service.
    let routes = routes.replace("  rules:", "  hostnames: [other.example.org]\n  rules:");
    let stage = Stage::start(&routes).await;
    let reply = stage.get("http://echo-v2/", &[]).await;
    assert_eq!((reply.text().as_str(), mark(&reply)), ("echo-v2", Some("set")));
    let pod = format!("http://{}/", stage.v2.addr());
    let reply = stage.get(&pod, &[]).await;
    assert_eq!((reply.text().as_str(), mark(&reply)), ("echo-v2", None));
    // A connection for one service is that service's, whatever host its requests name.
    for (service, host, app, set) in
        [("echo-v2:80", "echo-v1", "echo-v2", Some("set")), ("echo-v1:80", "echo-v2", "echo-v1", None)]
    {
        let request = http::Request::get("/").header("host", host).body(Default::default()).unwrap();
        let reply = client::send(stage.client.upstream(service), request).await.unwrap();
        assert_eq!((reply.text().as_str(), mark(&reply)), (app, set), "{service} {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_another_namespace_holds_for_the_callers_of_that_namespace_alone() {
    let consumer = route("HTTPRoute", "consumer", "name: echo-v1, namespace: default", &marked("echo-v1", "set"))
        .replacen("namespace: default", "namespace: consumers", 1)
        .replace("name: echo-v1, port", "name: echo-v1, namespace: default, port");
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: consumers, namespace: default}\n\
        spec:\n  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: consumers}]\n  to: [{group: \"\", kind: Service}]\n---\n";
    let stage = Stage::start("").await;
    let token = stage.mesh.control_plane.api().token("consumers", "caller", 600).await.unwrap();
    let caller = stage.mesh.sidecar("caller", "caller").await.token(&token).args(&["--namespace", "consumers"]);
    let caller = caller.start().await;
    stage.mesh.reachable(&caller, "http://echo-v1.default/").await;
    stage.mesh.apply(&(consumer.clone() + grant)).await;
    let reply = caller.get("http://echo-v1.default/").await.unwrap();
    assert_eq!((reply.text().as_str(), mark(&reply)), ("echo-v1", Some("set")));
    let reply = stage.get("http://echo-v1.default/", &[]).await;
    assert_eq!((reply.text().as_str(), mark(&reply)), ("echo-v1", None));
    // To the Service itself without one: its clients reach it anyway (GEP-1294).
    assert!(stage.mesh.leno(&["delete", "referencegrant", "consumers", "--wait"]).await.status.success());
    let reply = caller.get("http://echo-v1.default/").await.unwrap();
    assert_eq!((reply.text().as_str(), mark(&reply)), ("echo-v1", Some("set")));
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_shares_and_what_is_not_there_has_its_share_of_500() {
    let rules = "  - matches: [{path: {type: Exact, value: /split}}]
    backendRefs: [{name: echo-v1, port: 80, weight: 70}, {name: echo-v2, port: 80, weight: 30}, {name: echo, port: 80, weight: 0}]
  - matches: [{path: {type: Exact, value: /gone}}]
    backendRefs: [{name: echo-v1, port: 80}, {name: not-there, port: 80}]
  - matches: [{path: {type: Exact, value: /no-port}}]
    backendRefs: [{name: echo-v1, port: 81}]
  - matches: [{path: {type: Exact, value: /zero}}]
    backendRefs: [{name: echo-v1, port: 80, weight: 0}, {name: echo-v2, port: 80, weight: 0}]
  - matches: [{path: {type: Exact, value: /nowhere}}]
  - matches: [{path: {type: Exact, value: /forbidden}}]
    backendRefs: [{name: echo, namespace: other, port: 80}]
  - matches: [{path: {type: Exact, value: /kind}}]
    backendRefs: [{group: example.com, kind: Bucket, name: echo}]
";
    let stage = Stage::start(&route("HTTPRoute", "weights", "name: echo", rules)).await;
    let ask = async |path: &str| {
        let uri = format!("http://echo{path}");
        Load::new(stage.client.http_proxy(), &uri).clients(8).limit(2000).run().await
    };
    let report = ask("/split").await;
    report.assert_no_failure();
    assert!(binomial_999(2000, 0.3).contains(&report.answered_by("echo-v2")), "{}", report.answered_by("echo-v2"));
    assert_eq!(report.answered_by("echo-v1") + report.answered_by("echo-v2"), 2000);
    let report = ask("/gone").await;
    let refused = report.outcomes.iter().filter(|o| matches!(&o.result, Ok((500, _)))).count();
    assert_eq!(report.answered_by("echo-v1") + refused, 2000);
    assert!(binomial_999(2000, 0.5).contains(&refused), "{refused}");
    for (path, reason) in [
        ("/no-port", "invalid_backend"),
        ("/zero", "no_backend"),
        ("/nowhere", "no_backend"),
        ("/forbidden", "invalid_backend"),
        ("/kind", "invalid_backend"),
    ] {
        let reply = stage.get(&format!("http://echo{path}"), &[]).await;
        assert_eq!((reply.status, reply.reason()), (500, Some(reason)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_route_holds_for_whatever_the_ports_clients_speak() {
    let stage = Stage::start("").await;
    let rules = "  - backendRefs: [{name: echo-v2, port: 80, weight: 1}, {name: echo-v1, port: 80, weight: 0}]\n";
    stage.mesh.apply(&route("TCPRoute", "tcp", "name: echo-v1, sectionName: http", rules)).await;
    for _ in 0..10 {
        assert_eq!(stage.get("http://echo-v1/", &[]).await.text(), "echo-v2");
        let request = client::request(http::Method::GET, "http://echo-v1/", &[], "");
        let reply = client::send(stage.client.upstream("echo-v1:80"), request).await.unwrap();
        assert_eq!(reply.text(), "echo-v2");
    }
    assert_eq!(stage.get("http://echo-v1:8080/", &[]).await.text(), "echo-v1", "another port");
}
