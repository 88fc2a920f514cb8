//! ListenerSets and policies.

use super::*;

fn set(name: &str, listeners: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: ListenerSet\nmetadata: {{name: {name}, namespace: infra}}\n\
         spec:\n  parentRef: {{name: edge}}\n  listeners:\n{listeners}"
    )
}

#[test]
fn a_listener_set_says_whether_it_is_taken_and_what_came_of_each_listener() {
    let edge = |from: &str| {
        gateway(HTTP)
            .replace("  listeners:", &format!("  allowedListeners: {{namespaces: {{from: {from}}}}}\n  listeners:"))
    };
    let clash = "  - {name: tcp, port: 80, protocol: TCP}\n";
    let good = "  - {name: more, port: 8080, protocol: HTTP}\n";
    let refused = status(&(edge("None") + &set("s", good)), Kind::ListenerSet, "infra/s", true);
    assert_eq!(conditions(&refused), ["Accepted=False/NotAllowed", "Programmed=False/NotAllowed"]);
    let invalid = status(&(edge("Same") + &set("s", clash)), Kind::ListenerSet, "infra/s", true);
    assert_eq!(conditions(&invalid), ["Accepted=False/ListenersNotValid", "Programmed=False/ListenersNotValid"]);
    let yaml = edge("Same") + &set("s", &(clash.to_owned() + good));
    let mixed = status(&yaml, Kind::ListenerSet, "infra/s", true);
    assert_eq!(conditions(&mixed), ["Accepted=True/ListenersNotValid", "Programmed=True/Programmed"]);
    let listener = &mixed["listeners"][0];
    assert_eq!((listener["name"].as_str(), listener["port"].as_u64()), (Some("tcp"), Some(80)));
    let expected = [
        "Accepted=False/ProtocolConflict",
        "Programmed=False/ProtocolConflict",
        "ResolvedRefs=True/ResolvedRefs",
        "Conflicted=True/ProtocolConflict",
    ];
    assert_eq!(conditions(listener), expected);
    assert_eq!(conditions(&mixed["listeners"][1])[..2], ["Accepted=True/Accepted", "Programmed=True/Programmed"]);
    let parent = status(&yaml, Kind::Gateway, "infra/edge", true);
    assert_eq!(parent["attachedListenerSets"], 1);
    assert_eq!(parent["listeners"].as_array().unwrap().len(), 1, "a set's listeners are the set's to show");
    assert_eq!(conditions(&parent["listeners"][0])[0], "Accepted=True/Accepted");
    let missing = status(&set("s", good), Kind::ListenerSet, "infra/s", true);
    assert_eq!(conditions(&missing)[0], "Accepted=False/ParentNotAccepted");
}

fn policy(name: &str, target: &str, authority: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}, namespace: infra}}\n\
         spec:\n  targetRefs: [{{group: '', kind: Service, {target}}}]\n  \
         validation: {{hostname: a.example.com, caCertificateRefs: [{{group: '', {authority}}}]}}\n"
    )
}

#[test]
fn a_backend_tls_policy_says_of_each_gateway_that_sends_there_whether_it_holds() {
    let base = gateway(HTTP) + SERVICE + &route("HTTPRoute", "infra/r", "name: edge", "") + &authority("infra/ca");
    let of = |yaml: &str, name: &str| {
        let found = status(&(base.clone() + yaml), Kind::BackendTlsPolicy, &format!("infra/{name}"), true);
        let ancestors = found["ancestors"].as_array().unwrap().clone();
        assert_eq!(ancestors.len(), 1);
        assert_eq!(ancestors[0]["ancestorRef"]["name"], "edge");
        conditions(&ancestors[0])
    };
    let good = policy("p", "name: web", "kind: ConfigMap, name: ca");
    assert_eq!(of(&good, "p"), ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"]);
    let missing = policy("p", "name: web", "kind: ConfigMap, name: none");
    assert_eq!(
        of(&missing, "p"),
        ["Accepted=False/NoValidCACertificate", "ResolvedRefs=False/InvalidCACertificateRef"]
    );
    let kind = policy("p", "name: web", "kind: Widget, name: ca");
    assert_eq!(of(&kind, "p"), ["Accepted=False/NoValidCACertificate", "ResolvedRefs=False/InvalidKind"]);
    let two = good.clone() + &policy("q", "name: web", "kind: ConfigMap, name: ca");
    assert_eq!(
        (of(&two, "p")[0].as_str(), of(&two, "q")[0].as_str()),
        ("Accepted=True/Accepted", "Accepted=False/Conflicted")
    );
    let section = good.clone() + &policy("q", "name: web, sectionName: other", "kind: ConfigMap, name: ca");
    assert_eq!(of(&section, "q")[0], "Accepted=False/TargetNotFound");
    let mesh_only = SERVICE.to_owned() + &authority("infra/ca") + &good;
    let found = status(&mesh_only, Kind::BackendTlsPolicy, "infra/p", true);
    assert_eq!(found["ancestors"][0]["ancestorRef"]["kind"], "Service");
}

#[test]
fn a_traffic_policy_says_whether_its_targets_are_there() {
    let policy = "---\napiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: infra}\n\
                  spec: {targetRefs: [{kind: Service, name: web}, {kind: Service, name: none}], connectTimeout: 1s}\n";
    let found = status(&(SERVICE.to_owned() + policy), Kind::TrafficPolicy, "infra/p", true);
    let of = |n: usize| conditions(&found["ancestors"][n]);
    assert_eq!(
        (of(0), of(1)),
        (vec!["Accepted=True/Accepted".to_owned()], vec!["Accepted=False/TargetNotFound".to_owned()])
    );
}

fn traffic(name: &str, created: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: infra, creationTimestamp: '{created}'}}\n\
         spec: {{targetRefs: [{{group: '', kind: Service, name: web}}], {spec}}}\n"
    )
}

/// GEP-713.
#[test]
fn of_traffic_policies_that_say_a_field_differently_the_oldest_holds_and_the_others_say_so() {
    let (old, new) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let of = |a: (&str, &str), b: (&str, &str)| {
        let yaml = SERVICE.to_owned() + &traffic("a", a.0, a.1) + &traffic("b", b.0, b.1);
        let one = |name: &str| conditions(&status(&yaml, Kind::TrafficPolicy, name, true)["ancestors"][0]);
        (one("infra/a"), one("infra/b"))
    };
    let accepted = vec!["Accepted=True/Accepted".to_owned()];
    let conflicted = vec!["Accepted=False/Conflicted".to_owned()];
    let partly = vec!["Accepted=True/Accepted".to_owned(), "Conflicted=True/Conflicted".to_owned()];
    let (two, three) = ("connectTimeout: 2s", "connectTimeout: 3s");
    assert_eq!(of((old, two), (new, three)), (accepted.clone(), conflicted.clone()));
    assert_eq!(of((new, two), (old, three)), (conflicted.clone(), accepted.clone()));
    assert_eq!(of((old, two), (old, three)), (accepted.clone(), conflicted));
    assert_eq!(of((old, two), (new, "connectTimeout: 3s, idleTimeout: 9s")), (accepted.clone(), partly));
    assert_eq!(of((old, two), (new, "idleTimeout: 9s")), (accepted.clone(), accepted.clone()));
    assert_eq!(of((old, two), (new, two)), (accepted.clone(), accepted));
}

#[test]
fn a_traffic_policy_of_a_route_or_rule_that_is_not_there_says_so() {
    let base = gateway(HTTP) + SERVICE + &route("HTTPRoute", "infra/r", "name: edge", "");
    let of = |target: &str| {
        let target = format!("group: gateway.networking.k8s.io, kind: HTTPRoute, {target}");
        let yaml = base.clone() + &traffic("p", "2024-01-01T00:00:00Z", "retry: {attempts: 1}");
        let yaml = yaml.replace("group: '', kind: Service, name: web}]", &format!("{target}}}]"));
        let found = status(&yaml, Kind::TrafficPolicy, "infra/p", true);
        (found["ancestors"][0]["ancestorRef"].clone(), conditions(&found["ancestors"][0]))
    };
    let (reference, conditions) = of("name: r");
    assert_eq!((reference["kind"].as_str(), reference["name"].as_str()), (Some("HTTPRoute"), Some("r")));
    assert_eq!(conditions, ["Accepted=True/Accepted"]);
    assert_eq!(of("name: none").1, ["Accepted=False/TargetNotFound"]);
    assert_eq!(of("name: r, sectionName: none").1, ["Accepted=False/TargetNotFound"]);
}
