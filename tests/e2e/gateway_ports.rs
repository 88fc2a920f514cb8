//! What the sidecars that serve a Gateway say of its ports and addresses stands in its `status`.

use std::net::{SocketAddr, TcpListener};

use leno_tests::{Mesh, peers, wait};
use serde_json::Value;

async fn status(mesh: &Mesh, kind: &str, name: &str) -> Value {
    let output = mesh.leno(&["get", kind, name, "-o", "json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["status"].clone()
}

/// `True/Accepted` of a condition; empty when it is not there.
fn judged(owner: &Value, kind: &str) -> String {
    let mut list = owner["conditions"].as_array().into_iter().flatten();
    let found = list.find(|condition| condition["type"] == kind);
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    found.map(|found| format!("{}/{}", text(found, "status"), text(found, "reason"))).unwrap_or_default()
}

fn gateway(name: &str, listeners: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{gatewayClassName: leno, listeners: [{listeners}]{more}}}\n---\n"
    )
}

/// Waits until the Gateway's condition is so.
async fn until(mesh: &Mesh, name: &str, kind: &str, expected: &str) -> Value {
    wait::eventually(&format!("{name} is {kind}={expected}"), wait::DEADLINE, || async {
        let found = status(mesh, "gateway", name).await;
        (judged(&found, kind) == expected).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_bound_is_said_on_its_listener_and_no_more_once_it_is_free() {
    let mesh = Mesh::start().await;
    let (taken, free) = (peers::free_port(), peers::free_port().port());
    let holder = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], taken.port()))).unwrap();
    let taken = taken.port();
    let listeners =
        format!("{{name: free, port: {free}, protocol: HTTP}}, {{name: taken, port: {taken}, protocol: HTTP}}");
    let set = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: more, namespace: default}}\nspec:\n  \
         parentRef: {{name: edge}}\n  listeners: [{{name: also, port: {taken}, protocol: HTTP, hostname: a.example.com}}]\n---\n"
    );
    mesh.apply(&(gateway("edge", &listeners, ", allowedListeners: {namespaces: {from: Same}}") + &set)).await;
    let _edge = mesh.sidecar("edge", "edge").await.args(&["--gateway", "edge"]).start().await;

    let found = until(&mesh, "edge", "Programmed", "True/Programmed").await;
    assert_eq!(judged(&found, "Accepted"), "True/ListenersNotValid");
    let listener =
        |found: &Value, n: usize| ["Accepted", "Programmed"].map(|kind| judged(&found["listeners"][n], kind));
    assert_eq!(listener(&found, 0), ["True/Accepted", "True/Programmed"]);
    assert_eq!(listener(&found, 1), ["False/PortUnavailable", "False/Invalid"]);
    let said = found["listeners"][1]["conditions"][0]["message"].as_str().unwrap();
    assert!(said.contains("in use"), "{said}");
    let set = status(&mesh, "listenerset", "more").await;
    assert_eq!(judged(&set, "Accepted"), "False/ListenersNotValid");
    assert_eq!(judged(&set["listeners"][0], "Accepted"), "False/PortUnavailable");

    drop(holder);
    until(&mesh, "edge", "Accepted", "True/Accepted").await;
    let found = status(&mesh, "gateway", "edge").await;
    assert_eq!(listener(&found, 1), ["True/Accepted", "True/Programmed"]);
    assert_eq!(judged(&status(&mesh, "listenerset", "more").await, "Programmed"), "True/Programmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_which_no_port_can_be_bound_is_not_programmed() {
    let mesh = Mesh::start().await;
    let taken = peers::free_port().port();
    let _holder = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], taken))).unwrap();
    mesh.apply(&gateway("edge", &format!("{{name: only, port: {taken}, protocol: HTTP}}"), "")).await;
    let _edge = mesh.sidecar("edge", "edge").await.args(&["--gateway", "edge"]).start().await;
    let found = until(&mesh, "edge", "Accepted", "False/ListenersNotValid").await;
    assert_eq!(judged(&found, "Programmed"), "False/Invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_where_the_ports_are_open_and_others_are_not_usable() {
    let mesh = Mesh::start().await;
    let of = |addresses: &str| gateway("edge", "{name: http, port: 80, protocol: HTTP}", addresses);
    // An address without a value: any will do.
    mesh.apply(&of(", addresses: [{type: IPAddress}]")).await;
    let args = ["--gateway", "edge", "--gateway-listen", "80=127.0.0.2:0"];
    let _edge = mesh.sidecar("edge", "edge").await.args(&args).start().await;
    let found = until(&mesh, "edge", "Programmed", "True/Programmed").await;
    let open = serde_json::json!([{"type": "IPAddress", "value": "127.0.0.2"}]);
    assert_eq!(found["addresses"], open, "where its port is, and not where its mesh port is");

    mesh.apply(&of(", addresses: [{type: example.com/odd, value: x}, {value: 192.0.2.1}, {value: 127.0.0.2}]")).await;
    until(&mesh, "edge", "Accepted", "False/UnsupportedAddress").await;
    mesh.apply(&of(", addresses: [{value: 192.0.2.1}, {value: 127.0.0.2}]")).await;
    let found = until(&mesh, "edge", "Programmed", "False/AddressNotUsable").await;
    assert_eq!(judged(&found, "Accepted"), "True/Accepted");
    mesh.apply(&of(", addresses: [{value: 127.0.0.2}]")).await;
    let found = until(&mesh, "edge", "Programmed", "True/Programmed").await;
    assert_eq!(found["addresses"], open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_control_plane_is_no_transition_of_what_its_sidecars_serve() {
    let mut mesh = Mesh::start().await;
    mesh.apply(&gateway("edge", "{name: http, port: 80, protocol: HTTP}", "")).await;
    let args = ["--gateway", "edge", "--gateway-listen", "80=127.0.0.1:0"];
    let mut edge = mesh.sidecar("edge", "edge").await.args(&args).start().await;
    let since = |found: &Value| {
        let list = [&found["conditions"], &found["listeners"][0]["conditions"]].map(|list| list.as_array().unwrap());
        let programmed = list.map(|list| list.iter().find(|condition| condition["type"] == "Programmed").unwrap());
        programmed.map(|condition| (condition["status"].clone(), condition["lastTransitionTime"].clone()))
    };
    let first = since(&until(&mesh, "edge", "Programmed", "True/Programmed").await);
    // A sidecar that takes its time to come back.
    edge.process().pause();
    mesh.control_plane.stop().await;
    mesh.control_plane.start_again().await;
    for _ in 0..3 {
        assert_eq!(since(&status(&mesh, "gateway", "edge").await), first);
    }
    edge.process().resume();
    wait::eventually("the sidecar is back", wait::DEADLINE, || async {
        let found = status(&mesh, "gateway", "edge").await;
        assert_eq!(since(&found), first);
        (!found["addresses"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    // That one goes is a transition.
    edge.stop().await;
    until(&mesh, "edge", "Programmed", "False/Pending").await;
}
