//! ListenerSets (GEP-1713).

use super::*;

fn set(at: &str, created: &str, listeners: &str) -> String {
    let (namespace, name) = at.split_once('/').unwrap();
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\n\
         metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: {created}}}\n\
         spec:\n  parentRef: {{name: edge, namespace: infra}}\n  listeners:\n{listeners}"
    )
}

fn edge(allowed: &str) -> String {
    let own = gateway("  - {name: http, port: 80, protocol: HTTP}\n");
    own.replace("  listeners:", &format!("  allowedListeners: {{namespaces: {allowed}}}\n  listeners:"))
}

fn verdict(resolved: &Resolved, at: &str) -> &'static str {
    resolved.listener_sets[&name(at)].as_ref().err().map_or("Accepted", |problem| problem.reason)
}

const OTHER: &str = "  - {name: http, port: 8080, protocol: HTTP}\n";
const OLD: &str = "2024-01-01T00:00:00Z";
const NEW: &str = "2024-01-02T00:00:00Z";

#[test]
fn a_listener_set_is_merged_where_the_gateway_allows_its_namespace() {
    let of = |allowed: &str| {
        let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: shop}}\n";
        let sets = set("shop/s", OLD, OTHER) + &set("infra/s", OLD, "  - {name: http, port: 8081, protocol: HTTP}\n");
        let resolved = resolved(&(edge(allowed) + &sets + namespace));
        (verdict(&resolved, "shop/s"), verdict(&resolved, "infra/s"), listeners(&resolved).len())
    };
    assert_eq!(of("{from: All}"), ("Accepted", "Accepted", 3));
    assert_eq!(of("{from: Same}"), ("NotAllowed", "Accepted", 2));
    assert_eq!(of("{from: None}"), ("NotAllowed", "NotAllowed", 1));
    assert_eq!(of("{}"), ("NotAllowed", "NotAllowed", 1), "nothing is the default");
    assert_eq!(of("{from: Selector, selector: {matchLabels: {team: shop}}}"), ("Accepted", "NotAllowed", 2));
}

#[test]
fn of_listeners_of_several_objects_the_one_that_is_merged_first_is_served() {
    let clash = "  - {name: a, port: 80, protocol: TCP}\n  - {name: b, port: 9000, protocol: HTTP}\n";
    let resolved = resolved(
        &(edge("{from: All}")
            + &set("shop/young", NEW, "  - {name: x, port: 9000, protocol: HTTP}\n")
            + &set("shop/old", OLD, clash)),
    );
    let found: Vec<_> = listeners(&resolved)
        .iter()
        .map(|l| (l.owner.1.name.as_str(), l.listener.name.as_str(), l.conflict.unwrap_or("-")))
        .collect();
    let expected = [
        ("edge", "http", "-"),
        ("old", "a", "ProtocolConflict"),
        ("old", "b", "-"),
        ("young", "x", "HostnameConflict"),
    ];
    assert_eq!(found, expected);
    assert_eq!(verdict(&resolved, "shop/old"), "Accepted", "one that holds is enough");
    assert_eq!(verdict(&resolved, "shop/young"), "ListenersNotValid");
}

#[test]
fn what_loses_to_another_object_stands_in_nobodys_way() {
    let both =
        "  - {name: a, port: 80, protocol: TCP}\n  - {name: b, port: 80, protocol: HTTP, hostname: b.example.com}\n";
    let same = "  - {name: a, port: 80, protocol: HTTP, hostname: c.example.com}\n  - {name: b, port: 80, protocol: HTTP, hostname: c.example.com}\n";
    let one = "  - {name: x, port: 80, protocol: HTTP, hostname: c.example.com}\n";
    let yaml = edge("{from: All}").replace("protocol: HTTP}", "protocol: HTTP, hostname: a.example.com}");
    let yaml = yaml + &set("infra/one", OLD, both) + &set("infra/two", OLD, same) + &set("infra/young", NEW, one);
    let found: Vec<_> = listeners(&resolved(&yaml)).iter().map(|l| l.conflict.unwrap_or("-")).collect();
    assert_eq!(found, ["-", "ProtocolConflict", "-", "HostnameConflict", "HostnameConflict", "-"]);
}

#[test]
fn a_route_is_attached_to_the_listeners_of_the_object_that_it_names_and_to_no_others() {
    let on = |parent: &str| {
        let sets = set("infra/s", OLD, OTHER) + &set("infra/t", NEW, "  - {name: http, port: 8081, protocol: HTTP}\n");
        let resolved = resolved(&(edge("{from: All}") + &sets + &route("HTTPRoute", "infra/r", parent, "")));
        let on: Vec<_> =
            listeners(&resolved).iter().filter(|l| !l.attached.is_empty()).map(|l| l.listener.port).collect();
        (outcome(&resolved, Kind::HttpRoute, "infra/r"), on)
    };
    assert_eq!(on("name: edge"), ("Accepted", vec![80]));
    assert_eq!(on("name: s, kind: ListenerSet"), ("Accepted", vec![8080]));
    assert_eq!(on("name: t, kind: ListenerSet, sectionName: http"), ("Accepted", vec![8081]));
    assert_eq!(on("name: t, kind: ListenerSet, sectionName: x"), ("NoMatchingParent", vec![]));
    assert_eq!(on("name: u, kind: ListenerSet"), ("NoMatchingParent", vec![]));
}

#[test]
fn a_grant_to_the_gateway_is_none_to_its_listener_sets() {
    let grant = |kind: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: certs}}\n\
             spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: infra}}], to: [{{group: '', kind: Secret}}]}}\n"
        )
    };
    let https = "  - {name: x, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: far, namespace: certs}]}}\n";
    let of = |kind: &str| {
        let yaml = edge("{from: All}") + &set("infra/s", OLD, https) + &secret("certs/far") + &grant(kind);
        let resolved = resolved(&yaml);
        listeners(&resolved)[1].unresolved.as_ref().map(|problem| problem.reason)
    };
    assert_eq!(of("Gateway"), Some("RefNotPermitted"));
    assert_eq!(of("ListenerSet"), None);
}
