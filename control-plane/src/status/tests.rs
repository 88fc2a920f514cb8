//! What the Gateway API says of `status`, on YAML as users write it.

mod policies;
mod routes;

use super::*;
use crate::resolve::tests::{authority, gateway, mesh, name, route, secret};

/// The status of an object in a mesh; `serving`: a sidecar at 10.0.0.9 has every Gateway in force.
fn status(yaml: &str, kind: Kind, at: &str, serving: bool) -> Value {
    let mesh = mesh(yaml);
    let resolved = Resolved::of(&mesh);
    let has_port = |service: &Name, port: u16| mesh.services.get(service).map(|service| service.has_port(port));
    let serving = |_: &Name| {
        let mut there = Serving::default();
        there.add(&["10.0.0.9".parse().unwrap()], None);
        serving.then_some(there)
    };
    let inputs = Inputs { mesh: &mesh, resolved: &resolved, has_port: &has_port, serving: &serving };
    let name = name(at);
    of(inputs, &ObjectKey::new(kind, name.namespace, name.name), 7).unwrap_or_default()
}

/// `Accepted=True/Accepted` and so on.
fn conditions(owner: &Value) -> Vec<String> {
    let list = owner["conditions"].as_array().unwrap();
    list.iter()
        .map(|condition| {
            assert_eq!(condition["observedGeneration"], 7, "{condition}");
            let text = |field: &str| condition[field].as_str().unwrap();
            format!("{}={}/{}", text("type"), text("status"), text("reason"))
        })
        .collect()
}

const HTTP: &str = "  - {name: http, port: 80, protocol: HTTP}\n";
const SERVICE: &str =
    "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: infra}\nspec: {ports: [{port: 80}]}\n";

#[test]
fn a_gateway_is_programmed_once_a_sidecar_has_it_in_force() {
    let yaml = gateway(HTTP) + &route("HTTPRoute", "infra/r", "name: edge", "");
    let pending = status(&yaml, Kind::Gateway, "infra/edge", false);
    assert_eq!(
        conditions(&pending),
        ["Accepted=True/Accepted", "Programmed=False/Pending", "ResolvedRefs=True/ResolvedRefs"]
    );
    let there = status(&yaml, Kind::Gateway, "infra/edge", true);
    assert_eq!(conditions(&there)[1], "Programmed=True/Programmed");
    assert_eq!(there["addresses"][0]["value"], "10.0.0.9");
    let listener = &there["listeners"][0];
    assert_eq!((listener["name"].as_str(), listener["attachedRoutes"].as_u64()), (Some("http"), Some(1)));
    assert_eq!(listener["supportedKinds"][1]["kind"], "GRPCRoute");
    assert_eq!(
        conditions(listener),
        [
            "Accepted=True/Accepted",
            "Programmed=True/Programmed",
            "ResolvedRefs=True/ResolvedRefs",
            "Conflicted=False/NoConflicts"
        ]
    );
    assert_eq!(conditions(&pending["listeners"][0])[1], "Programmed=False/Pending");
}

#[test]
fn listeners_that_are_not_accepted_are_named_and_leave_the_gateway_accepted_when_one_is_left() {
    let clash = "  - {name: a, port: 81, protocol: HTTP}\n  - {name: b, port: 81, protocol: HTTP}\n";
    let some = status(&gateway(&(HTTP.to_owned() + clash)), Kind::Gateway, "infra/edge", true);
    assert_eq!(conditions(&some)[..2], ["Accepted=True/ListenersNotValid", "Programmed=True/Programmed"]);
    assert_eq!(some["conditions"][0]["message"], "not accepted: a, b; accepted: http");
    assert_eq!(
        conditions(&some["listeners"][1]),
        [
            "Accepted=False/Invalid",
            "Programmed=False/Invalid",
            "ResolvedRefs=True/ResolvedRefs",
            "Conflicted=True/HostnameConflict"
        ]
    );
    let none = status(&gateway(clash), Kind::Gateway, "infra/edge", true);
    assert_eq!(conditions(&none)[..2], ["Accepted=False/ListenersNotValid", "Programmed=False/Invalid"]);
    let unknown = "  - {name: a, port: 80, protocol: example.com/x}\n";
    let unknown = status(&gateway(unknown), Kind::Gateway, "infra/edge", true);
    assert_eq!(conditions(&unknown)[0], "Accepted=False/ListenersNotValid");
    assert_eq!(conditions(&unknown["listeners"][0])[0], "Accepted=False/UnsupportedProtocol");
    assert_eq!(unknown["listeners"][0]["supportedKinds"], serde_json::json!([]));
}

#[test]
fn references_that_do_not_hold_show_on_the_listener_and_on_the_gateway() {
    let https = "  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: none}]}}\n";
    let missing = status(&gateway(https), Kind::Gateway, "infra/edge", true);
    let expected = ["Accepted=True/Accepted", "Programmed=False/Invalid", "ResolvedRefs=False/ListenersNotResolved"];
    assert_eq!(conditions(&missing), expected);
    assert_eq!(
        conditions(&missing["listeners"][0])[1..3],
        ["Programmed=False/Invalid", "ResolvedRefs=False/InvalidCertificateRef"]
    );
    let client = |to: &str| {
        let yaml = gateway(HTTP)
            + &format!("  tls: {{backend: {{clientCertificateRef: {{name: {to}}}}}}}\n")
            + &secret("infra/good");
        conditions(&status(&yaml, Kind::Gateway, "infra/edge", true))[2].clone()
    };
    assert_eq!(client("none"), "ResolvedRefs=False/InvalidClientCertificateRef");
    assert_eq!(client("good, namespace: certs"), "ResolvedRefs=False/RefNotPermitted");
    assert_eq!(client("good"), "ResolvedRefs=True/ResolvedRefs");
    let fallback = "  tls: {frontend: {default: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}\n";
    let open = status(&(gateway(HTTP) + fallback + &authority("infra/ca")), Kind::Gateway, "infra/edge", true);
    assert!(conditions(&open).contains(&"InsecureFrontendValidationMode=True/ConfigurationChanged".to_owned()));
}

#[test]
fn what_a_gateway_asks_for_and_cannot_have_is_said() {
    let with = |more: &str| gateway(HTTP).replace("  listeners:", &format!("{more}\n  listeners:"));
    let of = |more: &str| conditions(&status(&with(more), Kind::Gateway, "infra/edge", true))[..2].to_vec();
    assert_eq!(
        of("  infrastructure: {parametersRef: {group: a.b, kind: C, name: d}}")[0],
        "Accepted=False/InvalidParameters"
    );
    assert_eq!(of("  addresses: [{type: example.com/x, value: y}]")[0], "Accepted=False/UnsupportedAddress");
    assert_eq!(of("  addresses: [{value: 10.1.1.1}]"), ["Accepted=True/Accepted", "Programmed=False/AddressNotUsable"]);
    assert_eq!(of("  addresses: [{value: 10.0.0.9}]"), ["Accepted=True/Accepted", "Programmed=True/Programmed"]);
    assert_eq!(of("  addresses: [{type: IPAddress}]"), ["Accepted=True/Accepted", "Programmed=True/Programmed"]);
    let found = status(&with("  addresses: [{value: 10.0.0.9}, {value: 10.1.1.1}]"), Kind::Gateway, "infra/edge", true);
    assert_eq!(found["addresses"].as_array().unwrap().len(), 1);
}

#[test]
fn tls_listeners_of_a_port_with_common_names_say_so() {
    let one = |name: &str, port: u16, host: &str| {
        format!(
            "  - {{name: {name}, port: {port}, protocol: HTTPS, hostname: {host}, tls: {{certificateRefs: [{{name: good}}]}}}}\n"
        )
    };
    let listeners = one("a", 443, "foo.example.com")
        + &one("b", 443, "foo.example.org")
        + &one("c", 443, "'*.example.com'")
        + &one("d", 8443, "foo.example.com");
    let found = status(&(gateway(&listeners) + &secret("infra/good")), Kind::Gateway, "infra/edge", true);
    let overlaps = |n: usize| {
        conditions(&found["listeners"][n]).contains(&"OverlappingTLSConfig=True/OverlappingHostnames".to_owned())
    };
    assert_eq!([0, 1, 2, 3].map(overlaps), [true, false, true, false]);
}

#[test]
fn a_route_says_of_each_parent_what_came_of_it() {
    let yaml = gateway(HTTP)
        + SERVICE
        + &route(
            "HTTPRoute",
            "infra/r",
            "name: edge}, {name: edge2}, {kind: Service, group: '', name: web, port: 80}, {kind: Service, name: web2",
            "",
        );
    let found = status(&yaml, Kind::HttpRoute, "infra/r", true);
    let all: Vec<_> =
        found["parents"].as_array().unwrap().iter().map(|p| (p["parentRef"].clone(), conditions(p))).collect();
    let of = |name: &str| all.iter().find(|(parent, _)| parent["name"] == name).unwrap();
    assert_eq!(
        of("edge").0,
        serde_json::json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"})
    );
    assert_eq!(of("edge").1, ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"]);
    assert_eq!(of("edge2").1[0], "Accepted=False/NoMatchingParent");
    assert_eq!(of("web").0, serde_json::json!({"group": "", "kind": "Service", "name": "web", "port": 80}));
    assert_eq!(of("web").1[0], "Accepted=True/Accepted");
    assert_eq!(of("web2").1[0], "Accepted=False/NoMatchingParent");
    assert_eq!(found["parents"][0]["controllerName"], "leno.dev/gateway-controller");
}

#[test]
fn backends_that_cannot_be_reached_are_said_with_the_specified_reason() {
    let of = |kind: &str, backend: &str, more: &str| {
        let route = route(kind, "infra/r", "name: edge", "").replace("name: web, port: 80", backend);
        let yaml = gateway(HTTP) + SERVICE + more + &route;
        let kind = if kind == "GRPCRoute" { Kind::GrpcRoute } else { Kind::HttpRoute };
        conditions(&status(&yaml, kind, "infra/r", true)["parents"][0])[1].clone()
    };
    assert_eq!(of("HTTPRoute", "name: none, port: 80", ""), "ResolvedRefs=False/BackendNotFound");
    assert_eq!(of("HTTPRoute", "name: web, port: 81", ""), "ResolvedRefs=False/BackendNotFound");
    assert_eq!(of("HTTPRoute", "name: web, kind: Widget, group: example.com", ""), "ResolvedRefs=False/InvalidKind");
    let far = "name: web, namespace: shop, port: 80";
    let there = SERVICE.replace("infra", "shop");
    assert_eq!(of("HTTPRoute", far, &there), "ResolvedRefs=False/RefNotPermitted");
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: shop}\n\
                 spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: infra}], to: [{group: '', kind: Service}]}\n";
    assert_eq!(of("HTTPRoute", far, &(there.clone() + grant)), "ResolvedRefs=True/ResolvedRefs");
    assert_eq!(of("GRPCRoute", far, &(there + grant)), "ResolvedRefs=False/RefNotPermitted");
}

#[test]
fn a_gateway_and_its_routes_of_another_controller_have_no_status_of_ours() {
    let yaml = (gateway(HTTP) + &route("HTTPRoute", "infra/r", "name: edge", ""))
        .replace("gatewayClassName: leno", "gatewayClassName: other");
    assert_eq!(status(&yaml, Kind::Gateway, "infra/edge", true), Value::Null);
    assert_eq!(status(&yaml, Kind::HttpRoute, "infra/r", true)["parents"], serde_json::json!([]));
    let class = |controller: &str, more: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: x}}\nspec: {{controllerName: {controller}{more}}}\n"
        )
    };
    let of = |yaml: String| status(&yaml, Kind::GatewayClass, "/x", true);
    assert_eq!(of(class("example.com/other", "")), Value::Null);
    let good = of(class("leno.dev/gateway-controller", ""));
    assert_eq!(conditions(&good), ["Accepted=True/Accepted", "SupportedVersion=True/SupportedVersion"]);
    assert_eq!(good["supportedFeatures"].as_array().unwrap().len(), FEATURES.len());
    let parameters = of(class("leno.dev/gateway-controller", ", parametersRef: {group: a.b, kind: C, name: d}"));
    assert_eq!(conditions(&parameters)[0], "Accepted=False/InvalidParameters");
}
