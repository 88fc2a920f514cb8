mod filters;

use super::testing::refuses;
use super::*;
use crate::config::parse;
use crate::model::{AppProtocol, Name, PathMatch, TargetPort};

fn check(text: &str) -> Checked {
    let parsed = parse("x.yaml", text.as_bytes());
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    batch(parsed.objects)
}

fn mesh(text: &str) -> Mesh {
    let checked = check(text);
    let errors: Vec<_> = checked.problems.iter().filter(|p| p.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut mesh = Mesh::default();
    for valid in &checked.valid {
        valid.put_into(&mut mesh, 1000);
    }
    mesh
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
";
const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /}}]
    filters: []
    timeouts: {request: 2s}
    retry: {attempts: 2, codes: [502, 503]}
    backendRefs: [{name: web-v1, port: 80, weight: 90}, {name: web-v2, port: 80, weight: 10}]
";
const GRPC: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: cart}
spec:
  parentRefs: [{kind: Service, name: cart}]
  rules:
  - matches: [{method: {service: shop.v1.Cart, method: Add}}]
    backendRefs: [{name: cart, port: 80}]
";
const TCP: &str = "apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: store}
spec:
  parentRefs: [{kind: Service, group: '', name: store}]
  rules: [{backendRefs: [{name: store-v2, port: 6379}]}]
";
const WORKLOAD: &str = "apiVersion: leno.dev/v1alpha1
kind: Workload
metadata: {name: web-1, labels: {app: web}}
spec: {address: 127.0.0.1, ports: {http: 18080}, serviceAccount: web}
";
const POLICY: &str = "apiVersion: leno.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: web}
spec:
  targetRefs: [{group: '', kind: Service, name: web}]
  connectTimeout: 2s
  idleTimeout: 1m30s
  outlierDetection: {consecutiveFailures: 5, ejectionTime: 30s, maxEjectedPercent: 50}
  retryBudget: {percent: 20, minRetriesPerSecond: 10}
";
const GRANT: &str = "apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: a, namespace: shop}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: '', kind: Service}]
";

/// A good object, what to replace in it and by what, and what must be said: line, field, and part of message or hint.
type Case = (&'static str, &'static str, &'static str, u32, &'static str, &'static str);

const BAD: &[Case] = &[
    (SERVICE, "name: web}", "name: Web}", 3, "metadata.name", "RFC 1035"),
    (SERVICE, "name: web}", "name: 9web}", 3, "metadata.name", "begins with a letter"),
    (SERVICE, "name: web}", "name: web, namespace: a_b}", 3, "metadata.namespace", "RFC 1123"),
    (SERVICE, "name: web}", "name: web, labels: {a b: c}}", 3, "metadata.labels.a b", "label"),
    (SERVICE, "app: web", "app: -web", 5, "spec.selector.app", "value of a label"),
    (SERVICE, "port: 80", "port: 0", 6, "spec.ports[0].port", "1 to 65535"),
    (SERVICE, "port: 80", "port: 70000", 6, "spec.ports[0].port", "70000 is no port"),
    (SERVICE, "port: 80", "port: 80, protocol: UDP", 6, "spec.ports[0].protocol", "UDP is not supported yet"),
    (SERVICE, "port: 80", "port: 80, targetPort: 99999", 6, "spec.ports[0].targetPort", "no port"),
    (SERVICE, "port: 80", "port: 80, targetPort: '8080'", 6, "spec.ports[0].targetPort", "without quotes"),
    (SERVICE, "{port: 80}", "{port: 80}, {port: 81}", 6, "spec.ports[0]", "more than one"),
    (SERVICE, "{port: 80}", "{name: a, port: 80}, {name: b, port: 80}", 6, "spec.ports[1].port", "twice"),
    (SERVICE, "{port: 80}", "{name: a, port: 80}, {name: a, port: 81}", 6, "spec.ports[1].name", "two ports"),
    (SERVICE, "[{port: 80}]", "[]", 6, "spec.ports", "at least one"),
    (SERVICE, "selector:", "type: ExternalName\n  selector:", 5, "spec.type", "not supported yet"),
    (SERVICE, "selector:", "sessionAffinity: ClientIP\n  selector:", 5, "spec.sessionAffinity", "not supported yet"),
    (ROUTE, "weight: 90", "weight: -1", 11, "spec.rules[0].backendRefs[0].weight", "0 to 1000000"),
    (ROUTE, "weight: 90", "weight: 1000001", 11, "spec.rules[0].backendRefs[0].weight", "out of range"),
    (ROUTE, "web-v1, port: 80", "web-v1", 11, "spec.rules[0].backendRefs[0].port", "needs a port"),
    (ROUTE, "name: web-v1", "name: Web_V1", 11, "spec.rules[0].backendRefs[0].name", "RFC 1123"),
    (ROUTE, "port: 80}]\n", "port: 80, sectionName: A_B}]\n", 5, "spec.parentRefs[0].sectionName", "RFC 1123"),
    (ROUTE, "port: 80}]\n", "port: 80}, {kind: Service, name: web}]\n", 5, "spec.parentRefs[1]", "twice"),
    (ROUTE, "value: /}", "value: a}", 7, "spec.rules[0].matches[0].path.value", "write /a"),
    (ROUTE, "value: /}", "value: /a//b}", 7, "spec.rules[0].matches[0].path.value", "//"),
    (ROUTE, "value: /}", "value: /a/../b}", 7, "spec.rules[0].matches[0].path.value", "/../"),
    (ROUTE, "value: /}", "value: '/a b'}", 7, "spec.rules[0].matches[0].path.value", "%XX"),
    (
        ROUTE,
        "PathPrefix, value: /}",
        "RegularExpression, value: '('}",
        7,
        "spec.rules[0].matches[0].path.value",
        "regular expression",
    ),
    (
        ROUTE,
        "PathPrefix, value: /}",
        "RegularExpression, value: '(a{1000}){1000}'}",
        7,
        "spec.rules[0].matches[0].path.value",
        "memory",
    ),
    (
        ROUTE,
        "value: /}}",
        "value: /}, headers: [{name: 'a b', value: c}]}",
        7,
        "spec.rules[0].matches[0].headers[0].name",
        "no name",
    ),
    (
        ROUTE,
        "value: /}}",
        "value: /}, headers: [{name: a, value: b}, {name: a, value: c}]}",
        7,
        "spec.rules[0].matches[0].headers[1].name",
        "twice",
    ),
    (ROUTE, "value: /}}", "value: /}, method: FETCH}", 7, "spec.rules[0].matches[0].method", "unknown variant"),
    (
        ROUTE,
        "filters: []",
        "filters: [{type: RequestHeaderModifier}]",
        8,
        "spec.rules[0].filters[0]",
        "needs requestHeaderModifier",
    ),
    (
        ROUTE,
        "filters: []",
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}]}}]",
        8,
        "spec.rules[0].filters[0].requestHeaderModifier.set[0].name",
        "cannot be modified",
    ),
    (
        ROUTE,
        "filters: []",
        "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\nc\"}]}}]",
        8,
        "spec.rules[0].filters[0].requestHeaderModifier.set[0].value",
        "no value",
    ),
    (
        ROUTE,
        "filters: []",
        "sessionPersistence: {idleTimeout: 1}",
        8,
        "spec.rules[0].sessionPersistence.idleTimeout",
        "expected a string",
    ),
    (ROUTE, "request: 2s", "request: 2", 9, "spec.rules[0].timeouts.request", "expected a string"),
    (ROUTE, "request: 2s", "request: 1.5s", 9, "spec.rules[0].timeouts.request", "GEP-2257"),
    (
        ROUTE,
        "request: 2s",
        "request: 2s, backendRequest: 3s",
        9,
        "spec.rules[0].timeouts.backendRequest",
        "longer than request",
    ),
    (ROUTE, "codes: [502, 503]", "codes: [502, 200]", 10, "spec.rules[0].retry.codes[1]", "400 to 599"),
    (ROUTE, "attempts: 2", "attempts: -1", 10, "spec.rules[0].retry.attempts", "out of range"),
    (ROUTE, "attempts: 2", "backoff: soon", 10, "spec.rules[0].retry.backoff", "no duration"),
    (ROUTE, "spec:\n", "spec:\n  hostnames: ['127.0.0.1']\n", 5, "spec.hostnames[0]", "no hostname"),
    (ROUTE, "spec:\n", "spec:\n  hostnames: ['web:80']\n", 5, "spec.hostnames[0]", "without a port"),
    (ROUTE, "spec:\n", "spec:\n  useDefaultGateways: All\n", 5, "spec.useDefaultGateways", "not supported yet"),
    (GRPC, "shop.v1.Cart", "shop/Cart", 7, "spec.rules[0].matches[0].method.service", "no name of a gRPC service"),
    (GRPC, "{service: shop.v1.Cart, method: Add}", "{}", 7, "spec.rules[0].matches[0].method", "neither"),
    (
        TCP,
        "{backendRefs: [{name: store-v2, port: 6379}]}",
        "{backendRefs: []}",
        6,
        "spec.rules[0].backendRefs",
        "at least one",
    ),
    (TCP, "rules: [", "rules: [{backendRefs: [{name: a, port: 1}]}, ", 6, "spec.rules", "more than one"),
    (WORKLOAD, "127.0.0.1", "localhost", 4, "spec.address", "IPv4 or IPv6"),
    (WORKLOAD, "127.0.0.1", "0.0.0.0", 4, "spec.address", "no address"),
    (WORKLOAD, "18080", "-1", 4, "spec.ports.http", "no port"),
    (WORKLOAD, "serviceAccount: web", "serviceAccount: A B", 4, "spec.serviceAccount", "RFC 1123"),
    (WORKLOAD, "serviceAccount", "serviceAcount", 4, "spec.serviceAcount", "did you mean serviceAccount?"),
    (POLICY, "kind: Service", "kind: Gateway", 5, "spec.targetRefs[0]", "kind: Service"),
    (POLICY, "idleTimeout: 1m30s", "idleTimeout: 0s", 7, "spec.idleTimeout", "out of range"),
    (
        POLICY,
        "maxEjectedPercent: 50",
        "maxEjectedPercent: 101",
        8,
        "spec.outlierDetection.maxEjectedPercent",
        "1 to 100",
    ),
    (POLICY, "percent: 20", "percentage: 20", 9, "spec.retryBudget.percentage", "unknown field"),
];

#[test]
fn every_bad_object_is_refused_with_line_field_and_reason() {
    for (good, from, to, line, field, part) in BAD {
        assert!(good.contains(from), "{from} is not in {good}");
        let text = good.replacen(from, to, 1);
        refuses(&text, *line, field, part);
        assert_eq!(check(&text).refused.len(), 1);
    }
}

#[test]
fn every_good_object_is_taken() {
    for good in [SERVICE, ROUTE, GRPC, TCP, WORKLOAD, POLICY, GRANT] {
        let checked = check(good);
        assert_eq!((checked.valid.len(), checked.problems), (1, Vec::new()), "{good}");
    }
}

#[test]
fn a_route_means_what_it_says() {
    let mesh = mesh(ROUTE);
    let route = &mesh.http_routes[&Name::new("default", "web")];
    assert_eq!(route.created, 1000);
    assert_eq!((route.parents[0].service.to_string().as_str(), route.parents[0].port), ("default/web", Some(80)));
    let rule = &route.rules[0];
    assert_eq!(rule.matches[0].path, Some(PathMatch::Prefix("/".into())));
    assert_eq!(rule.backends.iter().map(|b| b.weight).collect::<Vec<_>>(), [90, 10]);
    assert_eq!(rule.request_timeout_ms, Some(2000));
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.codes.as_slice()), (2, &[502, 503][..]));
}

#[test]
fn the_creation_time_that_is_written_wins_over_the_stores() {
    let mesh = mesh(&ROUTE.replace("{name: web}", "{name: web, creationTimestamp: '1970-01-01T00:00:07Z'}"));
    assert_eq!(mesh.http_routes[&Name::new("default", "web")].created, 7);
}

#[test]
fn a_service_port_means_what_it_says() {
    let ports = "[{name: http, port: 80, targetPort: web}, {name: grpc-a, port: 81}, {name: x, port: 82, appProtocol: kubernetes.io/h2c}, {name: redis, port: 83}, {name: y, port: 84}, {name: z, port: 85, appProtocol: example.com/x}]";
    let mesh = mesh(&SERVICE.replace("[{port: 80}]", ports));
    let ports = &mesh.services[&Name::new("default", "web")].ports;
    assert_eq!(ports[0].target, TargetPort::Name("web".into()));
    assert_eq!(ports[1].target, TargetPort::Number(81));
    let protocols: Vec<_> = ports.iter().map(|p| p.protocol).collect();
    use AppProtocol::*;
    assert_eq!(protocols, [Http, Http2, Http2, Tcp, Detect, Detect]);
}

#[test]
fn defaults_are_those_of_the_gateway_api() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\nspec:\n  parentRefs: [{kind: Service, name: web}]\n  rules: [{backendRefs: [{name: a, port: 80}], matches: [{headers: [{name: X-A, value: b}, {name: x-a, value: c}]}]}]";
    let mesh = mesh(text);
    let route = &mesh.http_routes[&Name::new("shop", "web")];
    let rule = &route.rules[0];
    assert_eq!(route.parents[0].service, Name::new("shop", "web"));
    assert_eq!((rule.backends[0].weight, rule.backends[0].service.namespace.as_str()), (1, "shop"));
    assert_eq!(rule.matches[0].path, Some(PathMatch::Prefix("/".into())));
    assert_eq!(rule.matches[0].headers.len(), 1);
    assert_eq!(rule.matches[0].headers[0].name, "x-a");
}

#[test]
fn a_backend_of_another_kind_is_kept_as_invalid() {
    let text = ROUTE.replace("{name: web-v1, port: 80, weight: 90}", "{group: example.com, kind: Bucket, name: b}");
    let mesh = mesh(&text);
    let backend = &mesh.http_routes[&Name::new("default", "web")].rules[0].backends[0];
    assert_eq!(backend.invalid_reason, "InvalidKind");
}

#[test]
fn an_object_that_is_defined_twice_is_refused_and_both_places_are_named() {
    let (mut one, two) = (parse("a.yaml", SERVICE.as_bytes()).objects, parse("b.yaml", SERVICE.as_bytes()).objects);
    one.extend(two);
    one.extend(parse("c.yaml", WORKLOAD.as_bytes()).objects);
    let checked = batch(one);
    assert_eq!((checked.valid.len(), checked.refused.len()), (1, 1));
    let said: Vec<String> = checked.problems.iter().map(ToString::to_string).collect();
    assert!(said[0].starts_with("a.yaml:3") && said[0].contains("b.yaml:3"), "{said:?}");
    assert!(said[1].starts_with("b.yaml:3") && said[1].contains("a.yaml:3"), "{said:?}");
}

#[test]
fn lists_beyond_the_specified_bounds_are_refused() {
    let many = |item: &str, n: usize| format!("[{}]", vec![item; n].join(", "));
    let rules = many("{backendRefs: [{name: a, port: 80}]}", 17);
    let text = format!("{}  rules: {rules}\n", ROUTE.split("  rules:").next().unwrap());
    assert!(check(&text).problems.iter().any(|p| p.field == "spec.rules" && p.message.contains("at most 16")));
    let text = ROUTE.replace("[{path: {type: PathPrefix, value: /}}]", &many("{path: {value: /a}}", 65));
    assert!(check(&text).problems.iter().any(|p| p.field == "spec.rules[0].matches"));
    let text =
        ROUTE.replace("backendRefs: [", &format!("backendRefs: [{}, ", vec!["{name: a, port: 1}"; 15].join(", ")));
    assert!(check(&text).problems.iter().any(|p| p.field == "spec.rules[0].backendRefs"));
}

#[test]
fn what_is_missing_around_an_object_is_a_warning() {
    let all = format!("{ROUTE}---\n{SERVICE}---\n{POLICY}");
    let checked = check(&all);
    let mut mesh = Mesh::default();
    checked.valid.iter().for_each(|v| v.put_into(&mut mesh, 0));
    let said: Vec<String> = warnings(&mesh, &checked.valid).iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("spec.rules[0].backendRefs[0]: the Service default/web-v1 does not exist"), "{said:?}");
    let far = check(&ROUTE.replace("{name: web-v1", "{namespace: shop, name: web-v1"));
    let shop = SERVICE.replace("name: web}", "name: web-v1, namespace: shop}");
    check(&shop).valid[0].put_into(&mut mesh, 0);
    assert!(warnings(&mesh, &far.valid)[0].message.contains("ReferenceGrant"));
    check(GRANT).valid[0].put_into(&mut mesh, 0);
    assert!(!warnings(&mesh, &far.valid)[0].message.contains("ReferenceGrant"));
}
