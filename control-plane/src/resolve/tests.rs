//! What the Gateway API says of references, on YAML as users write it.

mod apart;
mod listener_sets;

use super::*;
use crate::config::parse;
use crate::validate::batch;

/// A mesh of objects, which must all be taken.
pub(crate) fn mesh(yaml: &str) -> Mesh {
    let parsed = parse("x.yaml", yaml.as_bytes());
    assert!(parsed.problems.is_empty(), "{:#?}", parsed.problems);
    let checked = batch(parsed.objects);
    let errors: Vec<_> = checked.problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut mesh = Mesh::default();
    for valid in &checked.valid {
        valid.put_into(&mut mesh, 1000);
    }
    mesh
}

pub(crate) fn resolved(yaml: &str) -> Resolved {
    Resolved::of(&mesh(yaml))
}

/// A Secret with a certificate of its own.
pub(crate) fn secret(at: &str) -> String {
    let (namespace, name) = at.split_once('/').unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["a.example.com".to_owned()]).unwrap();
    let indented = |pem: String| pem.lines().map(|line| format!("    {}\n", line.trim())).collect::<String>();
    format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\ntype: kubernetes.io/tls\nstringData:\n  \
         tls.crt: |\n{}  tls.key: |\n{}",
        indented(made.cert.pem()),
        indented(made.signing_key.serialize_pem())
    )
}

/// A ConfigMap with the certificate of an authority.
pub(crate) fn authority(at: &str) -> String {
    let (namespace, name) = at.split_once('/').unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["ca".to_owned()]).unwrap();
    let pem = made.cert.pem().lines().map(|line| format!("    {}\n", line.trim())).collect::<String>();
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\ndata:\n  ca.crt: |\n{pem}"
    )
}

/// A Gateway `infra/edge` with these listeners.
pub(crate) fn gateway(listeners: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: infra}}\nspec:\n  \
         gatewayClassName: leno\n  listeners:\n{listeners}"
    )
}

pub(crate) fn route(kind: &str, at: &str, parent: &str, hostnames: &str) -> String {
    let (namespace, name) = at.split_once('/').unwrap();
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         parentRefs: [{{{parent}}}]\n  hostnames: [{hostnames}]\n  rules: [{{backendRefs: [{{name: web, port: 80}}]}}]\n"
    )
}

pub(crate) fn name(at: &str) -> Name {
    let (namespace, name) = at.split_once('/').unwrap();
    Name::new(namespace, name)
}

/// What came of a route's first parent: `Accepted`, or the reason why not.
pub(crate) fn outcome(resolved: &Resolved, kind: Kind, at: &str) -> &'static str {
    match &resolved.routes[&(kind, name(at))][0].1 {
        None => "(not ours)",
        Some(Ok(())) => "Accepted",
        Some(Err(problem)) => problem.reason,
    }
}

pub(crate) fn listeners(resolved: &Resolved) -> &[ResolvedListener] {
    &resolved.gateways[&name("infra/edge")].listeners
}

fn unresolved(listener: &ResolvedListener) -> &'static str {
    listener.unresolved.as_ref().map_or("ResolvedRefs", |problem| problem.reason)
}

#[test]
fn a_route_is_attached_where_the_listeners_kinds_namespaces_and_hostnames_allow_it() {
    let listeners_yaml = "  - {name: any, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
  - {name: own, port: 81, protocol: HTTP, hostname: '*.example.com'}
  - name: labelled
    port: 82
    protocol: HTTP
    allowedRoutes: {kinds: [{kind: GRPCRoute}], namespaces: {from: Selector, selector: {matchLabels: {team: shop}}}}
";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: shop}}\n";
    let of = |kind: Kind, at: &str, parent: &str, hostnames: &str| {
        let yaml = namespace.to_owned() + &gateway(listeners_yaml) + &route(kind.as_str(), at, parent, hostnames);
        let resolved = resolved(&yaml);
        let on = listeners(&resolved).iter().filter(|l| !l.attached.is_empty()).map(|l| l.listener.name.as_str());
        (outcome(&resolved, kind, at), on.collect::<Vec<_>>().join(","))
    };
    let table = [
        (Kind::HttpRoute, "infra/r", "name: edge", "", ("Accepted", "any,own")),
        (Kind::HttpRoute, "infra/r", "name: edge, sectionName: own", "a.example.com", ("Accepted", "own")),
        (Kind::HttpRoute, "infra/r", "name: edge, port: 81", "example.com", ("NoMatchingListenerHostname", "")),
        (Kind::HttpRoute, "infra/r", "name: edge", "example.org", ("Accepted", "any")),
        (Kind::HttpRoute, "infra/r", "name: edge, sectionName: none", "", ("NoMatchingParent", "")),
        (Kind::HttpRoute, "infra/r", "name: edge, sectionName: own, port: 80", "", ("NoMatchingParent", "")),
        (Kind::HttpRoute, "infra/r", "name: other", "", ("NoMatchingParent", "")),
        (Kind::HttpRoute, "shop/r", "name: edge, namespace: infra", "", ("Accepted", "any")),
        (Kind::GrpcRoute, "shop/r", "name: edge, namespace: infra", "", ("Accepted", "any,labelled")),
        (Kind::GrpcRoute, "else/r", "name: edge, namespace: infra, port: 82", "", ("NotAllowedByListeners", "")),
        (Kind::HttpRoute, "shop/r", "name: edge, namespace: infra, port: 82", "", ("NotAllowedByListeners", "")),
        (Kind::HttpRoute, "shop/r", "name: edge, namespace: infra, port: 81", "", ("NotAllowedByListeners", "")),
        (Kind::TlsRoute, "infra/r", "name: edge", "a.example.com", ("NotAllowedByListeners", "")),
    ];
    for (kind, at, parent, hostnames, expected) in table {
        let (reason, on) = of(kind, at, parent, hostnames);
        assert_eq!((reason, on.as_str()), expected, "{kind} {at} on {parent} for {hostnames:?}");
    }
}

#[test]
fn routes_of_a_listener_are_in_order_of_age_and_then_of_name() {
    let mut all = mesh(
        &(gateway("  - {name: http, port: 80, protocol: HTTP}\n")
            + &["infra/c", "infra/b", "infra/a"].map(|at| route("HTTPRoute", at, "name: edge", "")).concat()),
    );
    all.http_routes.get_mut(&name("infra/c")).unwrap().created = 1;
    let resolved = Resolved::of(&all);
    let order: Vec<_> = listeners(&resolved)[0].attached.iter().map(|route| route.name.name.as_str()).collect();
    assert_eq!(order, ["c", "a", "b"]);
}

#[test]
fn a_gateway_of_another_class_is_left_alone_and_a_class_may_be_named_otherwise() {
    let yaml =
        gateway("  - {name: http, port: 80, protocol: HTTP}\n") + &route("HTTPRoute", "infra/r", "name: edge", "");
    let other = yaml.replace("gatewayClassName: leno", "gatewayClassName: other");
    assert_eq!(outcome(&resolved(&other), Kind::HttpRoute, "infra/r"), "(not ours)");
    assert!(resolved(&other).gateways.is_empty());
    let class = |name: &str, controller: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: {name}}}\n\
             spec: {{controllerName: {controller}}}\n"
        )
    };
    assert_eq!(resolved(&(other + &class("other", CONTROLLER))).gateways.len(), 1);
    assert!(resolved(&(yaml + &class("leno", "example.com/somebody"))).gateways.is_empty());
}

const HTTPS: &str = "  - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [REF]}}\n";

#[test]
fn a_certificate_that_is_not_there_or_not_permitted_is_named_and_its_listener_is_not_served() {
    let broken = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: broken, namespace: infra}\ntype: kubernetes.io/tls\n\
                  stringData: {tls.crt: nonsense, tls.key: nonsense}\n";
    let grant = |kind: &str, to: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: certs}}\n\
             spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: infra}}], to: [{{group: '', kind: Secret{to}}}]}}\n"
        )
    };
    let far = "{name: far, namespace: certs}";
    let table = [
        ("{name: good}", String::new(), "ResolvedRefs", true),
        ("{name: none}", String::new(), "InvalidCertificateRef", false),
        ("{name: broken}", String::new(), "InvalidCertificateRef", false),
        ("{name: good, kind: ConfigMap}", String::new(), "InvalidCertificateRef", false),
        ("{name: good, group: example.com}", String::new(), "InvalidCertificateRef", false),
        ("{name: good}, {name: none}", String::new(), "InvalidCertificateRef", true),
        (far, String::new(), "RefNotPermitted", false),
        (far, grant("ListenerSet", ""), "RefNotPermitted", false),
        (far, grant("Gateway", ", name: another"), "RefNotPermitted", false),
        (far, grant("Gateway", ", name: far"), "ResolvedRefs", true),
        (far, grant("Gateway", ""), "ResolvedRefs", true),
    ];
    for (reference, grant, reason, holds) in table {
        let yaml =
            gateway(&HTTPS.replace("REF", reference)) + &secret("infra/good") + &secret("certs/far") + broken + &grant;
        let resolved = resolved(&yaml);
        let listener = &listeners(&resolved)[0];
        assert_eq!((unresolved(listener), listener.holds()), (reason, holds), "{reference} {grant}");
    }
}

#[test]
fn a_key_that_is_not_the_certificates_is_no_key_pair_and_no_key_is_ever_shown() {
    let one = mesh(&secret("infra/one"));
    let pair = one.secrets[&name("infra/one")].key_pair.clone().unwrap();
    assert_eq!(format!("{pair:?}"), "KeyPair { certificates: 1, .. }");
    let (a, b) = (secret("infra/mixed"), secret("infra/mixed"));
    let mixed = a.split("  tls.key").next().unwrap().to_owned() + "  tls.key" + b.split("  tls.key").nth(1).unwrap();
    let problem = mesh(&mixed).secrets[&name("infra/mixed")].key_pair.clone().unwrap_err();
    assert_eq!(problem, "tls.key is not the key of the certificate in tls.crt");
}

#[test]
fn of_the_listeners_that_cannot_be_told_apart_none_is_served() {
    let of = |yaml: &str| {
        let resolved = resolved(&(gateway(yaml) + &secret("infra/good")));
        listeners(&resolved).iter().map(|l| l.conflict.unwrap_or("-")).collect::<Vec<_>>()
    };
    let tls = "tls: {certificateRefs: [{name: good}]}";
    let passing = "tls: {mode: Passthrough}";
    assert_eq!(
        of("  - {name: a, port: 80, protocol: HTTP}\n  - {name: b, port: 80, protocol: HTTP}\n"),
        ["HostnameConflict"; 2]
    );
    assert_eq!(
        of("  - {name: a, port: 80, protocol: HTTP}\n  - {name: b, port: 80, protocol: HTTP, hostname: a.b}\n"),
        ["-"; 2]
    );
    assert_eq!(
        of(&format!("  - {{name: a, port: 80, protocol: HTTP}}\n  - {{name: b, port: 80, protocol: HTTPS, {tls}}}\n")),
        ["ProtocolConflict"; 2]
    );
    assert_eq!(
        of(&format!(
            "  - {{name: a, port: 1, protocol: TLS, {passing}}}\n  - {{name: b, port: 1, protocol: HTTPS, {tls}}}\n"
        )),
        ["ProtocolConflict"; 2]
    );
    let split = |host: &str| {
        of(&format!(
            "  - {{name: a, port: 1, protocol: TLS, hostname: a.b, {passing}}}\n  - {{name: b, port: 1, protocol: HTTPS, {host}{tls}}}\n"
        ))
    };
    assert_eq!(split("hostname: '*.b', "), ["-"; 2]);
    assert_eq!(split(""), ["ProtocolConflict"; 2], "one that takes every name cannot be told apart");
    assert_eq!(
        of(
            "  - {name: a, port: 1, protocol: TCP}\n  - {name: b, port: 1, protocol: HTTP}\n  - {name: c, port: 2, protocol: HTTP}\n"
        ),
        ["ProtocolConflict", "ProtocolConflict", "-"]
    );
    assert_eq!(
        of("  - {name: a, port: 1, protocol: example.com/x}\n  - {name: b, port: 1, protocol: HTTP}\n"),
        ["-"; 2]
    );
}

#[test]
fn kinds_that_a_listener_cannot_carry_are_named_and_the_others_stay() {
    let of = |kinds: &str| {
        let yaml = format!("  - {{name: a, port: 80, protocol: HTTP, allowedRoutes: {{kinds: [{kinds}]}}}}\n");
        let resolved = resolved(&gateway(&yaml));
        let listener = &listeners(&resolved)[0];
        let kinds = listener.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(",");
        (unresolved(listener), kinds, listener.holds())
    };
    assert_eq!(of(""), ("ResolvedRefs", "HTTPRoute,GRPCRoute".to_owned(), true));
    assert_eq!(of("{kind: GRPCRoute}"), ("ResolvedRefs", "GRPCRoute".to_owned(), true));
    assert_eq!(of("{kind: InvalidRoute}"), ("InvalidRouteKinds", String::new(), true));
    assert_eq!(of("{kind: InvalidRoute}, {kind: HTTPRoute}"), ("InvalidRouteKinds", "HTTPRoute".to_owned(), true));
    assert_eq!(of("{kind: HTTPRoute, group: example.com}"), ("InvalidRouteKinds", String::new(), true));
    assert_eq!(of("{kind: TCPRoute}"), ("InvalidRouteKinds", String::new(), true));
}

#[test]
fn without_one_authority_that_can_be_used_nobody_is_let_in() {
    let of = |refs: &str, port: u16| {
        let tls = format!(
            "  tls: {{frontend: {{default: {{validation: {{caCertificateRefs: [{refs}]}}}}, perPort: [{{port: 8443, tls: {{}}}}]}}}}\n"
        );
        let https = HTTPS.replace("REF", "{name: good}").replace("443", &port.to_string());
        let yaml = gateway(&https) + &tls + &secret("infra/good") + &authority("infra/ca") + &authority("certs/ca");
        let resolved = resolved(&yaml);
        let listener = &listeners(&resolved)[0];
        let roots = listener.client_validation.as_ref().map(|v| v.roots.len());
        (unresolved(listener), listener.refused.as_ref().map_or("Accepted", |p| p.reason), roots, listener.holds())
    };
    let ca = "{group: '', kind: ConfigMap, name: ca}";
    let none = "{group: '', kind: ConfigMap, name: none}";
    assert_eq!(of(ca, 443), ("ResolvedRefs", "Accepted", Some(1), true));
    assert_eq!(of(none, 443), ("InvalidCACertificateRef", "NoValidCACertificate", Some(0), false));
    assert_eq!(of(&format!("{ca}, {none}"), 443), ("InvalidCACertificateRef", "Accepted", Some(1), true));
    let kind = "{group: '', kind: Service, name: ca}";
    assert_eq!(of(kind, 443), ("InvalidCACertificateKind", "NoValidCACertificate", Some(0), false));
    let far = "{group: '', kind: ConfigMap, name: ca, namespace: certs}";
    assert_eq!(of(far, 443), ("RefNotPermitted", "NoValidCACertificate", Some(0), false));
    assert_eq!(of(ca, 8443), ("ResolvedRefs", "Accepted", None, true), "the port says that none is asked for");
}
