//! Which routes hold where several are attached, and what they mirror to.

use leno_proto::v1;

use super::super::ResourceType;
use super::super::fixtures::{Scene, backend, grant_from, grant_to, name, route, service};
use crate::model::{Filter, HttpRoute, Kind, Mirror, ParentRef, ReferenceGrant, TcpRoute};

fn lists(scene: &Scene) -> (Vec<String>, Vec<String>) {
    let port = scene.service("default/web", "x").ports.remove(0);
    (port.http_routes, port.tcp_routes)
}

/// GEP-1426: only a single type is applied to a Service's port.
#[test]
fn of_several_types_of_routes_only_the_most_specific_holds() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let tcp = TcpRoute {
        name: name("default/t"),
        created: 1,
        parents: vec![ParentRef { service: name("default/web"), port: None }],
        gateways: vec![],
        backends: vec![backend("default/web")],
    };
    scene.mesh.tcp_routes.insert(tcp.name.clone(), tcp);
    scene.commit();
    assert_eq!(lists(&scene), (vec![], vec!["TCPRoute/default/t".to_owned()]));
    scene.add_route(route("default/h", 2, "default/web", &["default/web"]));
    scene.add_route(route("default/a", 2, "default/web", &["default/web"]));
    scene.add_route(route("default/z", 1, "default/web", &["default/web"]));
    scene.commit();
    let by_age_and_name = ["z", "a", "h"].map(|name| format!("HTTPRoute/default/{name}")).to_vec();
    assert_eq!(lists(&scene), (by_age_and_name, vec![]));
    scene.add_route(HttpRoute { grpc: true, ..route("default/g", 3, "default/web", &["default/web"]) });
    scene.commit();
    assert_eq!(lists(&scene), (vec!["GRPCRoute/default/g".to_owned()], vec![]));
    scene.mesh.grpc_routes.clear();
    scene.commit();
    assert_eq!(lists(&scene).0.len(), 3);
}

fn mirror_reason(scene: &Scene) -> String {
    let route: v1::HttpRoute = scene.get(ResourceType::HttpRoute, "HTTPRoute/default/r", "").unwrap();
    match &route.rules[0].filters[0].filter {
        Some(v1::http_filter::Filter::Mirror(mirror)) => mirror.backend.clone().unwrap().invalid_reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_mirrored_to_is_checked_as_a_backend_is_and_again_when_it_comes_or_is_granted() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let mirrored = |to: &str| {
        let mut route = route("default/r", 1, "default/web", &["default/web"]);
        let mirror = Mirror { backend: backend(to), numerator: 1, denominator: 1 };
        route.rules[0].filters.push(Filter::Mirror(mirror));
        route
    };
    scene.add_route(mirrored("default/copy"));
    scene.commit();
    assert_eq!(mirror_reason(&scene), "BackendNotFound");
    scene.add_service(service("default/copy"));
    scene.commit();
    assert_eq!(mirror_reason(&scene), "");
    scene.add_service(service("other/copy"));
    scene.add_route(mirrored("other/copy"));
    scene.commit();
    assert_eq!(mirror_reason(&scene), "RefNotPermitted");
    let grant = ReferenceGrant {
        name: name("other/g"),
        from: vec![grant_from(Kind::HttpRoute, "default")],
        to: vec![grant_to(None)],
    };
    scene.mesh.reference_grants.insert(grant.name.clone(), grant);
    scene.commit();
    assert_eq!(mirror_reason(&scene), "");
}
