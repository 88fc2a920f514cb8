//! What is refused of the kinds that belong to Gateways, and what is taken.

use super::testing::{checked, refuses};
use super::*;

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: leno
  addresses: []
  tls: {}
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}
";
const TLS_ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: r}
spec:
  parentRefs: [{name: edge}]
  hostnames: [a.example.com]
  rules: [{backendRefs: [{name: web, port: 443}]}]
";
const SECRET: &str = "apiVersion: v1
kind: Secret
metadata: {name: s}
type: Opaque
data: {password: c2VjcmV0}
";
const SLICE: &str = "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.1]}]
";
const ENDPOINTS: &str = "apiVersion: v1
kind: Endpoints
metadata: {name: web}
subsets:
- addresses: [{ip: 10.0.0.1}]
  ports: [{name: http, port: 80}]
";
const POLICY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  validation: {hostname: a.example.com, wellKnownCACertificates: System}
";

/// A good object, what to replace in it and by what, and what must be said: line, field, and part of message or hint.
type Case = (&'static str, &'static str, &'static str, u32, &'static str, &'static str);

const BAD: &[Case] = &[
    (GATEWAY, "name: https,", "name: http,", 10, "spec.listeners[1].name", "two listeners"),
    (GATEWAY, "port: 80", "port: 0", 9, "spec.listeners[0].port", "1 to 65535"),
    (GATEWAY, "protocol: HTTP}", "protocol: HTTP, tls: {}}", 9, "spec.listeners[0].tls", "no TLS"),
    (GATEWAY, "protocol: HTTP}", "protocol: TLS}", 9, "spec.listeners[0].tls", "mode: Passthrough"),
    (GATEWAY, "protocol: HTTP}", "protocol: HTTP, hostname: A.b}", 9, "spec.listeners[0].hostname", "no hostname"),
    (GATEWAY, "protocol: HTTP}", "protocol: TCP, hostname: a.b}", 9, "spec.listeners[0].hostname", "no hostname"),
    (GATEWAY, "tls: {cert", "tls: {mode: Passthrough, cert", 10, "spec.listeners[1].tls.mode", "Terminate"),
    (GATEWAY, "tls: {cert", "tls: {options: {x: y}, cert", 10, "spec.listeners[1].tls.options.x", "not supported yet"),
    (GATEWAY, "  tls: {}", "  defaultScope: All", 7, "spec.defaultScope", "not supported yet"),
    (GATEWAY, "addresses: []", "addresses: [{value: x}]", 6, "spec.addresses[0].value", "no IP address"),
    (
        GATEWAY,
        "protocol: HTTP}",
        "protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}",
        9,
        "spec.listeners[0].allowedRoutes.namespaces.selector",
        "missing",
    ),
    (
        GATEWAY,
        "  tls: {}",
        "  tls: {frontend: {default: {validation: {caCertificateRefs: []}}}}",
        7,
        "spec.tls.frontend.default.validation.caCertificateRefs",
        "at least one",
    ),
    (GATEWAY, "certificateRefs", "certificateRef", 10, "spec.listeners[1].tls.certificateRef", "certificateRefs"),
    (TLS_ROUTE, "{name: edge}", "{name: edge}, {name: edge}", 5, "spec.parentRefs[1]", "twice"),
    (TLS_ROUTE, "{name: edge}", "{name: edge}, {name: edge, port: 1}", 5, "spec.parentRefs[1]", "twice"),
    (TLS_ROUTE, "[{backendRefs: [{name: web, port: 443}]}]", "[]", 7, "spec.rules", "one rule"),
    (SECRET, "c2VjcmV0", "'hunter2!'", 5, "data.password", "no base64"),
    (SECRET, "data: {password: c2VjcmV0}", "stringData: {password: 4711}", 5, "stringData.password", "in quotes"),
    (SECRET, "Opaque", "kubernetes.io/tls", 5, "data.tls.crt", "tls.key"),
    (SECRET, "data: {p", "date: {p", 5, "date", "data"),
    (SLICE, "IPv4", "FQDN", 4, "addressType", "not supported"),
    (SLICE, "10.0.0.1", "'fd00::1'", 6, "endpoints[0].addresses[0]", "IPv4"),
    (SLICE, "port: 80}", "port: 80, protocol: UDP}", 5, "ports[0].protocol", "not supported yet"),
    (ENDPOINTS, "10.0.0.1", "web.example.com", 5, "subsets[0].addresses[0].ip", "IP address"),
    (ENDPOINTS, "10.0.0.1", "0.0.0.0", 5, "subsets[0].addresses[0].ip", "IP address"),
    (ENDPOINTS, "port: 80}", "port: 0}", 6, "subsets[0].ports[0].port", "65535"),
    (ENDPOINTS, "port: 80}", "port: 80}, {name: http, port: 81}", 6, "subsets[0].ports[1].name", "two ports"),
    (ENDPOINTS, "port: 80}", "port: 80, protocol: UDP}", 6, "subsets[0].ports[0].protocol", "not supported yet"),
    (
        POLICY,
        "wellKnownCACertificates: System",
        "wellKnownCACertificates: Mine",
        6,
        "spec.validation.wellKnownCACertificates",
        "System",
    ),
    (POLICY, ", wellKnownCACertificates: System", "", 6, "spec.validation", "caCertificateRefs"),
    (POLICY, "hostname: a.example.com", "hostname: '*.example.com'", 6, "spec.validation.hostname", "no hostname"),
    (POLICY, "spec:\n", "spec:\n  options: {x: y}\n", 5, "spec.options.x", "not supported yet"),
];

fn problems(text: &str) -> Vec<Problem> {
    checked(text).problems.into_iter().filter(Problem::is_error).collect()
}

#[test]
fn each_mistake_is_named_with_its_line_field_and_hint() {
    for (good, from, to, line, field, words) in BAD {
        assert_eq!(problems(good), [], "{good}");
        assert!(good.contains(from), "{from} is not in\n{good}");
        refuses(&good.replacen(from, to, 1), *line, field, words);
    }
}

#[test]
fn no_mistake_in_a_secret_shows_its_value() {
    for (from, to) in [
        ("c2VjcmV0", "'hunter2!'"),
        ("data: {password: c2VjcmV0}", "stringData: {password: 4711}"),
        ("data: {password: c2VjcmV0}", "data: [hunter2]"),
    ] {
        let text = format!("{:#?}", problems(&SECRET.replace(from, to)));
        assert!(text.contains("Secret default/s") && !text.contains("hunter2") && !text.contains("4711"), "{text}");
    }
}

#[test]
fn what_the_specification_wants_in_status_is_taken() {
    for yaml in [
        GATEWAY.replace("protocol: HTTP}", "protocol: example.com/x}"),
        GATEWAY.replace("{name: c}", "{name: c, kind: Widget, group: example.com, namespace: elsewhere}"),
        GATEWAY.replace("protocol: HTTP}", "protocol: HTTP, allowedRoutes: {kinds: [{kind: Widget}]}}"),
        GATEWAY.replace("addresses: []", "infrastructure: {parametersRef: {group: a.b, kind: C, name: d}}"),
        GATEWAY.replace("gatewayClassName: leno", "gatewayClassName: somebody-elses"),
        GATEWAY.replace("spec:", "status: {conditions: []}\nspec:"),
        TLS_ROUTE
            .replace("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2")
            .replace("  hostnames: [a.example.com]\n", ""),
        TLS_ROUTE.replace("{name: edge}", "{name: edge}, {name: x, kind: Widget, group: example.com}"),
        SECRET.replace("data: {password: c2VjcmV0}", "stringData: {a: b}\nimmutable: true"),
        "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\n".to_owned(),
    ] {
        assert_eq!(problems(&yaml), [], "{yaml}");
    }
}

#[test]
fn string_data_goes_over_data_and_is_kept_there() {
    let checked = checked(&(SECRET.to_owned() + "stringData: {password: new, more: x}\n"));
    let value = checked.valid[0].value();
    assert_eq!(value["data"], serde_json::json!({"password": "bmV3", "more": "eA=="}));
    assert_eq!(value.get("stringData"), None);
}
