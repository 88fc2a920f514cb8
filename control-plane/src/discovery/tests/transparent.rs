//! Workloads whose sidecars intercept: services that nobody wrote, virtual addresses, hosts, the word to a namespace.

use leno_proto::v1;

use super::super::ResourceType;
use super::super::fixtures::{Scene, name, route, service, workload};
use crate::model::{EgressMode, MtlsMode, ParentRef, TargetPort, TrafficPolicy, Workload};

/// A live workload whose sidecar takes every port.
fn transparent(at: &str, app: &str, ip: &str) -> Workload {
    Workload { address: ip.parse().unwrap(), ports: [].into(), any_port: true, ..workload(at, app, 8080) }
}

fn address(scene: &Scene, ip: &str) -> Option<v1::Address> {
    scene.get(ResourceType::Address, ip, "")
}

#[test]
fn a_transparent_workload_needs_no_service_object() {
    let mut scene = Scene::new();
    scene.add_live(transparent("default/db-1", "db", "10.0.0.7"));
    scene.commit();
    let service = scene.service("default/db", "default");
    assert!(service.any_port.is_some() && service.ports.is_empty());
    let endpoints = scene.endpoints("default/db");
    assert!(endpoints.len() == 1 && endpoints[0].any_port && endpoints[0].ports.is_empty());
    scene.live.clear();
    scene.publish();
    assert!(scene.get::<v1::Service>(ResourceType::Service, "default/db", "").is_none());
    assert!(address(&scene, &service.addresses[0]).is_none());
}

#[test]
fn an_explicit_workload_stands_for_no_service() {
    let mut scene = Scene::new();
    scene.add_live(workload("default/db-1", "db", 8080));
    scene.commit();
    assert!(scene.get::<v1::Service>(ResourceType::Service, "default/db", "").is_none());
}

#[test]
fn a_written_service_goes_before_the_implicit_one_and_its_numbers_reach_any_port() {
    let mut scene = Scene::new();
    scene.add_live(transparent("default/web-1", "web", "10.0.0.7"));
    let mut written = service("default/web");
    written.ports[0].target = TargetPort::Number(9000);
    scene.add_service(written);
    scene.commit();
    assert!(scene.service("default/web", "default").any_port.is_none());
    let port = scene.endpoints("default/web")[0].ports[0].clone();
    assert_eq!((port.target.as_str(), port.number), ("9000", 9000));
    scene.mesh.services.clear();
    scene.commit();
    assert!(scene.service("default/web", "default").any_port.is_some(), "the implicit one is back");
}

#[test]
fn a_route_on_a_port_of_an_implicit_service_holds_there_and_sends_to_another_one() {
    let mut scene = Scene::new();
    scene.add_live(transparent("default/web-1", "web", "10.0.0.7"));
    scene.add_live(transparent("default/web-v2-1", "web-v2", "10.0.0.8"));
    scene.commit();
    let mut canary = route("default/web", 1, "default/web", &["default/web-v2", "default/nobody"]);
    canary.parents =
        vec![ParentRef { service: name("default/web"), port: Some(8080), section: None, says_namespace: false }];
    scene.add_route(canary);
    scene.commit();
    let service = scene.service("default/web", "default");
    assert_eq!(service.ports.iter().map(|p| p.number).collect::<Vec<_>>(), [8080]);
    assert_eq!(service.ports[0].http_routes, ["HTTPRoute/default/web"]);
    assert!(service.any_port.unwrap().http_routes.is_empty(), "the route is of one port");
    assert_eq!(scene.reasons("default/web"), ["", "BackendNotFound"]);
    scene.mesh.http_routes.get_mut(&name("default/web")).unwrap().parents[0].port = None;
    scene.commit();
    let service = scene.service("default/web", "default");
    assert_eq!(service.any_port.unwrap().http_routes, ["HTTPRoute/default/web"]);
    // The backend goes, and comes back.
    scene.live.remove(&name("default/web-v2-1"));
    scene.publish();
    assert_eq!(scene.reasons("default/web"), ["BackendNotFound", "BackendNotFound"]);
    scene.add_live(transparent("default/web-v2-1", "web-v2", "10.0.0.8"));
    scene.publish();
    assert_eq!(scene.reasons("default/web"), ["", "BackendNotFound"]);
}

#[test]
fn a_virtual_address_leads_to_its_service_and_a_headless_one_has_none() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let mut headless = service("default/peers");
    headless.headless = true;
    scene.add_service(headless);
    scene.commit();
    let addresses = scene.service("default/web", "default").addresses;
    assert_eq!(addresses.len(), 2);
    for ip in &addresses {
        let found = address(&scene, ip).unwrap();
        assert!(found.service == "default/web" && found.endpoint.is_none() && !found.shared);
    }
    assert!(scene.service("default/peers", "default").addresses.is_empty());
    scene.mesh.services.remove(&name("default/web"));
    scene.commit();
    assert!(address(&scene, &addresses[0]).is_none());
}

#[test]
fn an_ip_is_one_workload_or_shared_or_nobodys() {
    let mut scene = Scene::new();
    let mut both = transparent("default/web-1", "web", "10.0.0.7");
    both.more_addresses = vec!["fd00::7".parse().unwrap()];
    scene.add_live(both);
    scene.add_live(workload("default/old-1", "old", 8080));
    scene.commit();
    for ip in ["10.0.0.7", "fd00::7"] {
        let found = address(&scene, ip).unwrap();
        assert_eq!(found.endpoint.unwrap().workload, "default/web-1");
        assert_eq!(found.service, "default/web");
    }
    assert!(address(&scene, "10.0.0.1").unwrap().shared, "an explicit sidecar's ports are asked for one by one");
    assert!(address(&scene, "10.0.0.9").is_none());
    scene.add_live(transparent("default/web-2", "web", "10.0.0.7"));
    scene.publish();
    assert!(address(&scene, "10.0.0.7").unwrap().shared);
}

#[test]
fn a_namespace_is_told_its_own_modes_and_every_one_which_namespaces_there_are() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    scene.add_service(service("shop/cart"));
    scene.commit();
    let config = |scene: &Scene, namespace: &str| -> v1::SidecarConfig {
        scene.get(ResourceType::SidecarConfig, "self", namespace).unwrap()
    };
    assert_eq!(config(&scene, "shop").namespaces, ["default", "shop"]);
    assert!(!config(&scene, "shop").permissive && !config(&scene, "shop").registry_only);
    let policy = TrafficPolicy {
        of_namespace: true,
        mtls: Some(MtlsMode::Permissive),
        egress: Some(EgressMode::RegistryOnly),
        ..TrafficPolicy::default()
    };
    scene.mesh.traffic_policies.insert(name("shop/open"), policy);
    let changed = scene.commit();
    assert!(changed.contains(&(ResourceType::SidecarConfig, "self".to_owned())), "{changed:?}");
    assert!(config(&scene, "shop").permissive && config(&scene, "shop").registry_only);
    assert!(!config(&scene, "default").permissive);
    scene.mesh.traffic_policies.clear();
    scene.commit();
    assert!(!config(&scene, "shop").permissive && !config(&scene, "shop").registry_only);
}
