//! GRPCRoutes at a Gateway, with the official client and server of gRPC.

use std::net::SocketAddr;

use leno_tests::{Mesh, peers, tools};
use serde_json::Value;

use super::support::*;

/// A Service of HTTP/2 with one workload that has no sidecar.
fn greeter(name: &str, app: SocketAddr) -> String {
    outside(name, app).replace("name: main, port: 80", "name: main, appProtocol: kubernetes.io/h2c, port: 80")
}

fn grpc_route(name: &str, hostname: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{name: edge}}]\n  hostnames: [{hostname}]\n  rules:\n{rules}---\n"
    )
}

/// Who answers a call, or with which status it ends.
async fn ask(at: SocketAddr, authority: &str, method: &str) -> String {
    let script = peers::grpc_script();
    let at = at.to_string();
    peers::run_ok("python3", &[script.to_str().unwrap(), "ask", &at, authority, method]).await.trim().to_owned()
}

/// `Accepted` of the one parent of a route.
async fn accepted(mesh: &Mesh, kind: &str, name: &str) -> String {
    let output = mesh.leno(&["get", kind, name, "-o", "json"]).await;
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let condition = &object["status"]["parents"][0]["conditions"][0];
    format!("{}/{}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_kind_go_where_their_method_and_host_say() {
    if !tools::python_has("grpc") {
        return tools::skip("the Python module grpc is not installed");
    }
    let mesh = Mesh::start().await;
    let one = peers::Server::grpc_named(mesh.dir(), "one").await;
    let two = peers::Server::grpc_named(mesh.dir(), "two").await;
    let to = |method: &str, backend: &str| {
        format!(
            "  - matches: [{{method: {{service: leno.test.Peer, method: {method}}}}}]\n    backendRefs: [{backend}]\n"
        )
    };
    let backend = |name: &str| format!("{{name: {name}, port: 80}}");
    let rules = to("Unary", &backend("one"))
        + &to("Count", &backend("two"))
        + &to("Add", &backend("one"))
        + &to("Echo", &backend("two"))
        + &to("Nobody", "{name: one, port: 80, weight: 0}")
        + &to("Gone", &backend("gone"));
    let yaml = greeter("one", one.addr)
        + &greeter("two", two.addr)
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + &grpc_route("wide", "'*.example.com'", "  - backendRefs: [{name: two, port: 80}]\n")
        + &grpc_route("exact", "a.example.com", &rules)
            .replace("networking.k8s.io/v1\n", "networking.k8s.io/v1alpha2\n");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    answers(at, "any", "/", 404).await;
    for (authority, method, expected) in [
        ("a.example.com", "Unary", "one"),
        ("a.example.com", "Count", "two"),
        ("a.example.com", "Add", "one"),
        ("a.example.com", "Echo", "two"),
        // The most specific hostname goes before, and what it does not match to the next one.
        ("a.example.com", "Fail", "FAILED_PRECONDITION"),
        ("b.example.com", "Unary", "two"),
        ("a.example.com", "Nobody", "UNAVAILABLE"),
        ("a.example.com", "Gone", "UNAVAILABLE"),
        ("example.org", "Unary", "UNIMPLEMENTED"),
    ] {
        assert_eq!(ask(at, authority, method).await, expected, "{authority} {method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_http_and_a_grpc_route_with_a_common_hostname_the_older_is_served() {
    let mesh = Mesh::start().await;
    let _apps = apps(&mesh, ["web", "cart"]).await;
    let grpc = |name: &str, host: &str| grpc_route(name, host, "  - backendRefs: [{name: cart, port: 80}]\n");
    let older = |yaml: String| {
        yaml.replacen("namespace: default}", "namespace: default, creationTimestamp: '2020-01-01T00:00:00Z'}", 1)
    };
    let yaml = gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + &older(route("web", "", &["a.example.com"], "", "web"))
        + &grpc("late", "a.example.com")
        + &grpc("apart", "b.example.com")
        + &older(grpc("early", "c.example.com"))
        + &route("behind", "", &["c.example.com"], "", "web");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    for (kind, name, expected) in [
        ("httproute", "web", "True/Accepted"),
        ("grpcroute", "late", "False/Conflicted"),
        ("grpcroute", "apart", "True/Accepted"),
        ("grpcroute", "early", "True/Accepted"),
        ("httproute", "behind", "False/Conflicted"),
    ] {
        assert_eq!(accepted(&mesh, kind, name).await, expected, "{kind} {name}");
    }
    let at = edge.gateway(80);
    assert_eq!(answers(at, "a.example.com", "/", 200).await.text(), "web");
    assert_eq!(get(at, "c.example.com", "/").await.unwrap().status, 404, "its one route takes gRPC alone");
    // The place is free again.
    assert!(mesh.leno(&["delete", "grpcroute", "early"]).await.status.success());
    assert_eq!(answers(at, "c.example.com", "/", 200).await.text(), "web");
    assert_eq!(accepted(&mesh, "httproute", "behind").await, "True/Accepted");
}
