//! The cases of the official conformance suite that are about `status`, written anew: each is applied by the command line, taken,
//! and judged as specified.

use leno_tests::Mesh;
use serde_json::Value;

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: NAME, namespace: default}\n\
                       spec: {gatewayClassName: leno, allowedListeners: {namespaces: {from: Same}}, listeners: [LISTENERS]}\n---\n";

fn gateway(name: &str, listeners: &str) -> String {
    GATEWAY.replace("NAME", name).replace("LISTENERS", listeners)
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec: {{{spec}}}\n---\n"
    )
}

fn http_route(name: &str, parents: &str, more: &str) -> String {
    let backends = "rules: [{backendRefs: [{name: web, port: 80}]}]";
    object(
        "HTTPRoute",
        name,
        &format!(
            "parentRefs: [{parents}], {}",
            if more.contains("rules:") { more.to_owned() } else { format!("{backends}{more}") }
        ),
    )
}

fn certificate(name: &str, namespace: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec!["edge.example.com".to_owned()]).unwrap();
    let encode = |pem: String| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem);
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\n\
         data: {{tls.crt: {}, tls.key: {}}}\n---\n",
        encode(made.cert.pem()),
        encode(made.signing_key.serialize_pem())
    )
}

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: NS}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n---\n";

async fn started(yaml: &str) -> Mesh {
    let mesh = Mesh::start().await;
    mesh.apply(&(WEB.replace("NS", "default") + &WEB.replace("NS", "shop") + yaml)).await;
    mesh
}

async fn status(mesh: &Mesh, kind: &str, name: &str) -> Value {
    let output = mesh.leno(&["get", kind, name, "-o", "json"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    object["status"].clone()
}

/// `True/Accepted` of one condition.
fn judged(owner: &Value, kind: &str) -> String {
    let list = owner["conditions"].as_array().unwrap_or_else(|| panic!("no conditions in {owner}"));
    let found = list.iter().find(|c| c["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {owner}"));
    format!("{}/{}", found["status"].as_str().unwrap(), found["reason"].as_str().unwrap())
}

fn listener<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .find(|l| l["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_is_said_on_its_listener() {
    let with = |name: &str, reference: &str| {
        gateway(
            name,
            &format!(
                "{{name: https, port: 443, protocol: HTTPS, allowedRoutes: {{kinds: [{{kind: HTTPRoute}}]}}, tls: {{certificateRefs: [{reference}]}}}}"
            ),
        )
    };
    let broken = "apiVersion: v1\nkind: Secret\nmetadata: {name: broken, namespace: default}\ntype: kubernetes.io/tls\n\
                  data: {tls.crt: SGVsbG8gd29ybGQK, tls.key: SGVsbG8gd29ybGQK}\n---\n";
    let grant = "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: granting}\n\
                 spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}], to: [{group: '', kind: Secret, name: cert}]}\n---\n";
    let mesh = started(
        &(with("missing", "{name: nonexistent}")
            + &with("group", "{group: wrong.group.company.io, kind: Secret, name: cert}")
            + &with("kind", "{kind: WrongKind, name: cert}")
            + &with("malformed", "{name: broken}")
            + &with("not-granted", "{name: cert, namespace: closed}")
            + &with("granted", "{name: cert, namespace: granting}")
            + &with("good", "{name: cert}")
            + &certificate("cert", "default")
            + &certificate("cert", "closed")
            + &certificate("cert", "granting")
            + broken
            + grant),
    )
    .await;
    for (name, expected) in [
        ("missing", "False/InvalidCertificateRef"),
        ("group", "False/InvalidCertificateRef"),
        ("kind", "False/InvalidCertificateRef"),
        ("malformed", "False/InvalidCertificateRef"),
        ("not-granted", "False/RefNotPermitted"),
        ("granted", "True/ResolvedRefs"),
        ("good", "True/ResolvedRefs"),
    ] {
        let status = status(&mesh, "gateway", name).await;
        let listener = listener(&status, "https");
        assert_eq!(judged(listener, "ResolvedRefs"), expected, "{name}");
        assert_eq!(listener["supportedKinds"][0]["kind"], "HTTPRoute");
        let programmed = if expected.starts_with("True") { "False/Pending" } else { "False/Invalid" };
        assert_eq!(judged(&status, "Programmed"), programmed, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_protocols_and_clashes_of_listeners_are_said() {
    let kinds = |name: &str, kinds: &str| {
        gateway(name, &format!("{{name: http, port: 80, protocol: HTTP, allowedRoutes: {{kinds: [{kinds}]}}}}"))
    };
    let clash = "{name: tls, port: 443, protocol: TLS, hostname: abc.example.com, tls: {mode: Passthrough}},\
                 {name: conflicted-https, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}},\
                 {name: conflicted-tls, port: 8443, protocol: TLS, tls: {mode: Passthrough}}";
    let mesh = started(
        &(kinds("only-invalid", "{kind: InvalidRoute}")
            + &kinds("some-invalid", "{kind: InvalidRoute}, {kind: HTTPRoute}")
            + &gateway("unsupported", "{name: odd, port: 80, protocol: UDP}, {name: http, port: 80, protocol: HTTP}")
            + &gateway("clash", clash)
            + &certificate("cert", "default")
            + &http_route("disallowed-kind", "{name: clash, sectionName: tls}", "")),
    )
    .await;
    let found = status(&mesh, "gateway", "only-invalid").await;
    assert_eq!(judged(listener(&found, "http"), "ResolvedRefs"), "False/InvalidRouteKinds");
    assert_eq!(listener(&found, "http")["supportedKinds"], serde_json::json!([]));
    let found = status(&mesh, "gateway", "some-invalid").await;
    assert_eq!(judged(listener(&found, "http"), "ResolvedRefs"), "False/InvalidRouteKinds");
    assert_eq!(listener(&found, "http")["supportedKinds"][0]["kind"], "HTTPRoute");
    let found = status(&mesh, "gateway", "unsupported").await;
    assert_eq!(judged(listener(&found, "odd"), "Accepted"), "False/UnsupportedProtocol");
    assert_eq!(judged(&found, "Accepted"), "True/ListenersNotValid");
    let found = status(&mesh, "gateway", "clash").await;
    for name in ["conflicted-https", "conflicted-tls"] {
        assert_eq!(judged(listener(&found, name), "Accepted"), "False/Invalid");
        assert_eq!(judged(listener(&found, name), "Conflicted"), "True/ProtocolConflict");
    }
    assert_eq!(judged(listener(&found, "tls"), "Accepted"), "True/Accepted");
    let route = status(&mesh, "httproute", "disallowed-kind").await;
    assert_eq!(judged(&route["parents"][0], "Accepted"), "False/NotAllowedByListeners");
    assert_eq!(judged(&route["parents"][0], "ResolvedRefs"), "True/ResolvedRefs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_cannot_be_attached_or_sends_nowhere_says_why() {
    let edge = gateway("edge", "{name: http, port: 80, protocol: HTTP, hostname: '*.example.com'}");
    let backend =
        |name: &str, backend: &str| http_route(name, "{name: edge}", &format!("rules: [{{backendRefs: [{backend}]}}]"));
    let far = http_route("far", "{name: edge, namespace: default}", "")
        .replace("namespace: default}\nspec", "namespace: shop}\nspec");
    let mesh = started(
        &(edge
            + &http_route("good", "{name: edge}", ", hostnames: [a.example.com]")
            + &http_route("no-section", "{name: edge, sectionName: none}", "")
            + &http_route("no-port", "{name: edge, port: 81}", "")
            + &http_route("no-hostname", "{name: edge}", ", hostnames: [a.example.org]")
            + &far
            + &backend("missing", "{name: nonexistent, port: 80}")
            + &backend("kind", "{name: web, kind: NonExistent, group: example.com}")
            + &backend("not-granted", "{name: web, namespace: shop, port: 80}")),
    )
    .await;
    for (name, accepted, resolved) in [
        ("good", "True/Accepted", "True/ResolvedRefs"),
        ("no-section", "False/NoMatchingParent", "True/ResolvedRefs"),
        ("no-port", "False/NoMatchingParent", "True/ResolvedRefs"),
        ("no-hostname", "False/NoMatchingListenerHostname", "True/ResolvedRefs"),
        ("missing", "True/Accepted", "False/BackendNotFound"),
        ("kind", "True/Accepted", "False/InvalidKind"),
        ("not-granted", "True/Accepted", "False/RefNotPermitted"),
    ] {
        let parent = status(&mesh, "httproute", name).await["parents"][0].clone();
        assert_eq!(
            (judged(&parent, "Accepted").as_str(), judged(&parent, "ResolvedRefs").as_str()),
            (accepted, resolved),
            "{name}"
        );
        assert_eq!(parent["controllerName"], "leno.dev/gateway-controller");
    }
    let far = mesh.control_plane.api().get("/v1/objects/httproute/shop/far").await.unwrap();
    assert_eq!(judged(&far["status"]["parents"][0], "Accepted"), "False/NotAllowedByListeners");
    // Accepted routes are counted, also those that send nowhere.
    assert_eq!(status(&mesh, "gateway", "edge").await["listeners"][0]["attachedRoutes"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_listener_sets_the_gateways_listeners_and_the_oldest_set_come_first() {
    let set = |name: &str, created: &str, listeners: &str| {
        object("ListenerSet", name, &format!("parentRef: {{name: edge}}, listeners: [{listeners}]")).replace(
            "namespace: default}\nspec",
            &format!("namespace: default, creationTimestamp: '{created}'}}\nspec"),
        )
    };
    let mesh = started(
        &(gateway("edge", "{name: http, port: 80, protocol: HTTP, hostname: a.example.com}")
            + &set("clash", "2024-01-01T00:00:00Z", "{name: one, port: 80, protocol: HTTP, hostname: a.example.com}")
            + &set("old", "2024-01-02T00:00:00Z", "{name: two, port: 80, protocol: HTTP, hostname: b.example.com}")
            + &set(
                "young",
                "2024-01-03T00:00:00Z",
                "{name: two, port: 80, protocol: HTTP, hostname: b.example.com}, {name: three, port: 80, protocol: HTTP, hostname: c.example.com}",
            )
            + &http_route("r", "{name: young, kind: ListenerSet, sectionName: three}", "")),
    )
    .await;
    let clash = status(&mesh, "listenerset", "clash").await;
    assert_eq!(judged(&clash, "Accepted"), "False/ListenersNotValid");
    assert_eq!(judged(listener(&clash, "one"), "Accepted"), "False/HostnameConflict");
    assert_eq!(judged(listener(&clash, "one"), "Programmed"), "False/HostnameConflict");
    assert_eq!(judged(listener(&clash, "one"), "Conflicted"), "True/HostnameConflict");
    assert_eq!(judged(&status(&mesh, "listenerset", "old").await, "Accepted"), "True/Accepted");
    let young = status(&mesh, "listenerset", "young").await;
    assert_eq!(judged(&young, "Accepted"), "True/ListenersNotValid", "one that holds is enough, and it is said");
    assert_eq!(judged(listener(&young, "two"), "Conflicted"), "True/HostnameConflict");
    assert_eq!(listener(&young, "three")["attachedRoutes"], 1);
    let edge = status(&mesh, "gateway", "edge").await;
    assert_eq!((&edge["attachedListenerSets"], edge["listeners"].as_array().unwrap().len()), (&2.into(), 1));
    assert_eq!(judged(&status(&mesh, "httproute", "r").await["parents"][0], "Accepted"), "True/Accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_loses_to_another_object_spoils_none_beside_it() {
    let set = |name: &str, listeners: &str| {
        object("ListenerSet", name, &format!("parentRef: {{name: edge}}, listeners: [{listeners}]"))
    };
    let https = "{name: https, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}";
    let mesh = started(
        &(gateway("edge", &format!("{{name: http, port: 80, protocol: HTTP, hostname: a.example.com}}, {https}"))
            + &certificate("cert", "default")
            + &set("a", "{name: good, port: 80, protocol: HTTP, hostname: b.example.com}, {name: bytes, port: 80, protocol: TCP}")
            + &set("b", "{name: tls, port: 8443, protocol: TLS, hostname: b.example.com, tls: {mode: Passthrough}}")),
    )
    .await;
    let edge = status(&mesh, "gateway", "edge").await;
    assert_eq!((judged(&edge, "Accepted"), &edge["attachedListenerSets"]), ("True/Accepted".into(), &1.into()));
    let a = status(&mesh, "listenerset", "a").await;
    assert_eq!(judged(&a, "Accepted"), "True/ListenersNotValid");
    assert_eq!(judged(listener(&a, "good"), "Accepted"), "True/Accepted");
    assert_eq!(judged(listener(&a, "good"), "Conflicted"), "False/NoConflicts");
    let b = status(&mesh, "listenerset", "b").await;
    for (set, name) in [(&a, "bytes"), (&b, "tls")] {
        for kind in ["Accepted", "Programmed"] {
            assert_eq!(judged(listener(set, name), kind), "False/ProtocolConflict", "{name} {kind}");
        }
        assert_eq!(judged(listener(set, name), "Conflicted"), "True/ProtocolConflict");
    }
    assert_eq!(judged(&b, "Accepted"), "False/ListenersNotValid");
}
