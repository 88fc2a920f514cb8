use crate::discovery::ResourceType;
use crate::discovery::fixtures::{Scene, name, route, service};
use crate::model::{Kind, MtlsMode, RateLimit, Resilience, RetryRules, RouteTarget, TrafficPolicy};
use leno_proto::{resource, v1};

fn limit(name: &str) -> RateLimit {
    RateLimit { name: name.into(), requests: 1, seconds: 1, burst: 1, by_caller: true }
}

fn policy(section: Option<&str>, attempts: u32, limits: Option<Vec<RateLimit>>) -> TrafficPolicy {
    let retry = Some(RetryRules { attempts: Some(attempts), ..RetryRules::default() });
    TrafficPolicy {
        routes: vec![RouteTarget { kind: Kind::HttpRoute, name: "r".into(), section: section.map(str::to_owned) }],
        resilience: Resilience { retry, rate_limits: limits, ..Resilience::default() },
        ..TrafficPolicy::default()
    }
}

#[test]
fn what_is_said_of_a_named_rule_goes_before_what_is_said_of_its_route() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let mut named = route("default/r", 1, "default/web", &["default/web"]);
    named.rules[0].name = "a".into();
    named.rules.push(named.rules[0].clone());
    named.rules[1].name = "b".into();
    scene.add_route(named);
    scene.mesh.traffic_policies.insert(name("default/all"), policy(None, 1, None));
    scene.mesh.traffic_policies.insert(name("default/z"), policy(Some("b"), 7, None));
    // One of another namespace says nothing.
    scene.mesh.traffic_policies.insert(name("shop/z"), policy(Some("a"), 9, None));
    scene.commit();
    let attempts = |scene: &Scene| -> Vec<Option<u32>> {
        let found: v1::HttpRoute = scene.get(ResourceType::HttpRoute, "HTTPRoute/default/r", "default").unwrap();
        found.rules.iter().map(|rule| rule.resilience.as_ref()?.retry.as_ref()?.attempts).collect()
    };
    assert_eq!(attempts(&scene), [Some(1), Some(7)]);
    scene.mesh.traffic_policies.remove(&name("default/z"));
    scene.commit();
    assert_eq!(attempts(&scene), [Some(1), Some(1)], "a policy that goes is taken back from its route");
}

#[test]
fn the_sidecars_of_a_service_are_told_its_limits_and_those_of_its_routes_and_other_namespaces_are_not() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    scene.add_service(service("shop/web"));
    scene.add_route(route("default/r", 1, "default/web", &["default/web"]));
    let config = |scene: &Scene, namespace: &str| -> v1::SidecarConfig {
        scene.get(ResourceType::SidecarConfig, resource::SELF, namespace).unwrap()
    };
    scene.commit();
    assert!(config(&scene, "default").inbound.is_empty());
    scene.mesh.traffic_policies.insert(name("default/r"), policy(None, 1, Some(vec![limit("of-route")])));
    let of_service = TrafficPolicy {
        targets: vec!["web".into()],
        resilience: Resilience { rate_limits: Some(vec![limit("of-service")]), ..Resilience::default() },
        ..TrafficPolicy::default()
    };
    scene.mesh.traffic_policies.insert(name("default/s"), of_service);
    scene.commit();
    let inbound = config(&scene, "default").inbound;
    assert_eq!(inbound.len(), 1);
    assert_eq!((inbound[0].service.as_str(), inbound[0].rate_limits[0].name.as_str()), ("default/web", "of-service"));
    let of_rule = inbound[0].routes[0].rules[0].resilience.as_ref().unwrap();
    assert_eq!(of_rule.rate_limits[0].name, "of-route");
    assert!(inbound[0].routes[0].rules[0].backends.is_empty());
    assert!(config(&scene, "shop").inbound.is_empty());
    scene.mesh.traffic_policies.clear();
    scene.commit();
    assert!(config(&scene, "default").inbound.is_empty());
}

#[test]
fn the_sidecars_of_a_service_are_told_which_ports_take_plaintext() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let of_service = |created, mtls, ports: &[(u16, MtlsMode)]| TrafficPolicy {
        created,
        targets: vec!["web".into()],
        mtls,
        port_mtls: ports.iter().copied().collect(),
        ..TrafficPolicy::default()
    };
    use MtlsMode::{Permissive, Strict};
    // Of two policies the older one holds for what it says, and the other one for the rest.
    scene.mesh.traffic_policies.insert(name("default/new"), of_service(2, Some(Strict), &[(80, Strict), (81, Strict)]));
    scene.mesh.traffic_policies.insert(name("default/old"), of_service(1, None, &[(80, Permissive)]));
    scene.commit();
    let config: v1::SidecarConfig = scene.get(ResourceType::SidecarConfig, resource::SELF, "default").unwrap();
    assert_eq!(config.inbound[0].permissive, [(0, false), (80, true), (81, false)].into());
    assert!(!config.permissive);
}
