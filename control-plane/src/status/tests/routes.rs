//! Routes of Services, and routes of which a part is in force.

use super::*;

const WEB: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: infra}\n\
                   spec: {ports: [{name: http, port: 80}, {name: admin, port: 81}]}\n";

fn of_service(kind: &str, name: &str, parent: &str) -> String {
    let hostnames = if kind == "TLSRoute" { "  hostnames: [a.example.com]\n" } else { "" };
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: infra}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: web{parent}}}]\n{hostnames}  rules: [{{backendRefs: [{{name: web, port: 80}}]}}]\n"
    )
}

fn accepted(yaml: &str, kind: Kind, name: &str) -> String {
    let found = status(yaml, kind, &format!("infra/{name}"), true);
    conditions(&found["parents"][0])[0].clone()
}

/// GEP-1294.
#[test]
fn a_route_that_a_more_specific_type_displaces_everywhere_is_conflicted() {
    let kinds = [
        (Kind::GrpcRoute, "GRPCRoute"),
        (Kind::HttpRoute, "HTTPRoute"),
        (Kind::TlsRoute, "TLSRoute"),
        (Kind::TcpRoute, "TCPRoute"),
    ];
    for (n, (kind, word)) in kinds.into_iter().enumerate() {
        for (other, word_of_other) in &kinds[n + 1..] {
            let yaml = WEB.to_owned() + &of_service(word, "a", "") + &of_service(word_of_other, "b", ", port: 80");
            assert_eq!(accepted(&yaml, kind, "a"), "Accepted=True/Accepted");
            assert_eq!(accepted(&yaml, *other, "b"), "Accepted=False/Conflicted", "{word} {word_of_other}");
        }
    }
    // On one port of two.
    let yaml =
        WEB.to_owned() + &of_service("GRPCRoute", "a", ", sectionName: admin") + &of_service("TCPRoute", "b", "");
    assert_eq!(accepted(&yaml, Kind::TcpRoute, "b"), "Accepted=True/Accepted");
    let consumer = of_service("GRPCRoute", "a", ", namespace: infra").replacen("namespace: infra", "namespace: far", 1);
    let yaml = WEB.to_owned() + &consumer + &of_service("TCPRoute", "b", "");
    assert_eq!(accepted(&yaml, Kind::TcpRoute, "b"), "Accepted=True/Accepted", "another namespace's are for its own");
}

#[test]
fn the_section_of_a_service_is_a_port_by_its_name() {
    let of = |parent: &str| {
        let yaml = WEB.to_owned() + &of_service("HTTPRoute", "r", parent);
        let found = status(&yaml, Kind::HttpRoute, "infra/r", true);
        (found["parents"][0]["parentRef"].clone(), conditions(&found["parents"][0])[0].clone())
    };
    let (reference, condition) = of(", sectionName: admin");
    assert_eq!(reference["namespace"], Value::Null, "the reference is shown as it is written");
    assert_eq!(of(", namespace: infra").0["namespace"], "infra");
    assert_eq!((reference["sectionName"].as_str(), condition.as_str()), (Some("admin"), "Accepted=True/Accepted"));
    assert_eq!(of(", sectionName: none").1, "Accepted=False/NoMatchingParent");
    assert_eq!(of(", sectionName: admin, port: 80").1, "Accepted=False/NoMatchingParent");
    assert_eq!(of(", sectionName: admin, port: 81").1, "Accepted=True/Accepted");
}

#[test]
fn a_filter_that_nobody_knows_drops_its_rule_and_is_said() {
    let rules = |rules: &str| {
        let yaml = of_service("HTTPRoute", "r", "");
        let at = yaml.find("  rules:").unwrap();
        let yaml = format!("{WEB}{}  rules: [{rules}]\n", &yaml[..at]);
        let found = status(&yaml, Kind::HttpRoute, "infra/r", true);
        let parent = found["parents"][0].clone();
        (conditions(&parent), parent["conditions"].as_array().unwrap().last().unwrap()["message"].clone())
    };
    let good = "{backendRefs: [{name: web, port: 80}]}";
    let bad = "{filters: [{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}], backendRefs: [{name: web, port: 80}]}";
    assert_eq!(rules(good).0, ["Accepted=True/Accepted", "ResolvedRefs=True/ResolvedRefs"]);
    let (conditions, message) = rules(&format!("{good}, {bad}"));
    assert_eq!(conditions[..1], ["Accepted=True/Accepted"]);
    assert_eq!(conditions[2], "PartiallyInvalid=True/UnsupportedValue");
    let message = message.as_str().unwrap();
    assert!(message.starts_with("Dropped Rule") && message.contains("1 (the filter C.a.b d"), "{message}");
    assert_eq!(rules(bad).0, ["Accepted=False/UnsupportedValue", "ResolvedRefs=True/ResolvedRefs"]);
}

/// GEP-1911.
#[test]
fn a_backend_whose_app_protocol_the_route_does_not_carry_is_said() {
    let of = |kind: &str, protocol: &str| {
        let yaml =
            WEB.replace("port: 80}", &format!("port: 80, appProtocol: {protocol}}}")) + &of_service(kind, "r", "");
        let kind = Kind::from_exact(kind).unwrap();
        conditions(&status(&yaml, kind, "infra/r", true)["parents"][0])[1].clone()
    };
    let (fine, unsupported) = ("ResolvedRefs=True/ResolvedRefs", "ResolvedRefs=False/UnsupportedProtocol");
    for (kind, protocol, expected) in [
        ("HTTPRoute", "redis", unsupported),
        ("GRPCRoute", "redis", unsupported),
        ("TCPRoute", "redis", fine),
        ("HTTPRoute", "kubernetes.io/ws", fine),
        ("GRPCRoute", "kubernetes.io/ws", unsupported),
        ("GRPCRoute", "kubernetes.io/h2c", fine),
        ("HTTPRoute", "tcp", fine),
        ("HTTPRoute", "https", fine),
        ("HTTPRoute", "example.com/own", fine),
    ] {
        assert_eq!(of(kind, protocol), expected, "{kind} {protocol}");
    }
}
