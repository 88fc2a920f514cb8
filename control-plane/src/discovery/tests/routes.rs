//! Which routes hold where several are attached, and what they mirror to.

use leno_proto::v1;

use super::super::ResourceType;
use super::super::fixtures::{Scene, backend, grant_from, grant_to, name, route, service};
use crate::model::{
    Filter, GatewayParent, HttpRoute, Kind, Mirror, ParentRef, ReferenceGrant, ServicePort, TcpRoute, TlsRoute, Unfit,
};

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
        parents: vec![ParentRef { service: name("default/web"), port: None, section: None, says_namespace: false }],
        gateways: vec![],
        backends: vec![backend("default/web")],
    };
    scene.mesh.tcp_routes.insert(tcp.name.clone(), tcp);
    scene.commit();
    assert_eq!(lists(&scene), (vec![], vec!["TCPRoute/default/t".to_owned()]));
    let tls = TlsRoute {
        name: name("default/s"),
        created: 9,
        parents: vec![ParentRef {
            service: name("default/web"),
            port: None,
            section: Some("http".to_owned()),
            says_namespace: false,
        }],
        gateways: vec![],
        hostnames: vec!["a.example.com".to_owned()],
        backends: vec![backend("default/web")],
    };
    scene.mesh.tls_routes.insert(tls.name.clone(), tls);
    scene.commit();
    assert_eq!(lists(&scene), (vec![], vec![]));
    assert_eq!(scene.service("default/web", "x").ports[0].tls_routes, ["TLSRoute/default/s"]);
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

#[test]
fn a_parents_section_is_the_name_of_a_port() {
    let mut scene = Scene::new();
    let mut two = service("default/web");
    two.ports.push(ServicePort { name: "admin".into(), number: 81, ..two.ports[0].clone() });
    scene.add_service(two);
    let mut of_admin = route("default/r", 1, "default/web", &["default/web"]);
    of_admin.parents[0].section = Some("admin".to_owned());
    scene.add_route(of_admin.clone());
    scene.commit();
    let on = |scene: &Scene| {
        let ports = scene.service("default/web", "x").ports;
        ports.iter().filter(|port| !port.http_routes.is_empty()).map(|port| port.number).collect::<Vec<_>>()
    };
    assert_eq!(on(&scene), [81]);
    // With a number it is the port that has both.
    of_admin.parents[0].port = Some(80);
    scene.add_route(of_admin.clone());
    scene.commit();
    assert_eq!(on(&scene), [0; 0]);
}

#[test]
fn a_route_of_services_alone_may_send_to_them_without_a_grant_and_to_nothing_else() {
    let mut scene = Scene::new();
    scene.add_service(service("far/web"));
    scene.add_service(service("far/other"));
    scene.add_route(route("default/r", 1, "far/web", &["far/web", "far/other"]));
    scene.commit();
    assert_eq!(scene.reasons("default/r"), ["", "RefNotPermitted"]);
    let mut both = route("default/r", 1, "far/web", &["far/web"]);
    both.gateways.push(GatewayParent {
        index: 1,
        kind: Kind::Gateway,
        name: name("default/edge"),
        section: None,
        port: None,
        says_namespace: false,
    });
    scene.add_route(both);
    scene.commit();
    assert_eq!(scene.reasons("default/r"), ["RefNotPermitted"], "a Gateway's clients could not reach it before");
}

#[test]
fn what_cannot_be_carried_or_is_filtered_by_what_nobody_knows_is_answered_with_an_error() {
    let mut scene = Scene::new();
    let mut redis = service("default/redis");
    redis.ports[0].unfit = Some(Unfit::Http);
    scene.add_service(redis);
    scene.add_service(service("default/web"));
    let mut of = route("default/r", 1, "default/web", &["default/redis", "default/web", "default/web"]);
    of.rules[0].backends[2].filters.push(Filter::Unknown("B.a c".to_owned()));
    scene.add_route(of.clone());
    scene.commit();
    assert_eq!(scene.reasons("default/r"), ["UnsupportedProtocol", "", "UnsupportedValue"]);
    of.rules[0].filters.push(Filter::Unknown("B.a c".to_owned()));
    scene.add_route(of);
    scene.commit();
    assert_eq!(scene.reasons("default/r"), ["UnsupportedValue"]);
}
