//! What discovery promises.

mod gateways;
mod plain_endpoints;
mod resilience;
mod routes;
mod transparent;

use std::sync::Arc;

use leno_proto::v1;

use super::fixtures::*;
use super::*;
use crate::model::{Kind, Name, ParentRef, ReferenceGrant, StaticWorkload, TargetPort, TcpRoute, TrafficPolicy};

#[test]
fn one_changed_endpoint_among_many_services_touches_its_service_and_its_address_alone() {
    let mut scene = Scene::new();
    for n in 0..200 {
        scene.add_service(service(&format!("default/app{n}")));
        scene.add_live(workload(&format!("default/w{n}"), &format!("app{n}"), 2000 + n));
    }
    scene.commit();
    let mut sick = workload("default/w7", "app7", 2007);
    sick.healthy = false;
    scene.add_live(sick);
    let changed = scene.publish();
    let expected = [
        (ResourceType::Endpoints, "default/app7"),
        (ResourceType::Address, "10.0.0.1:12007"),
        (ResourceType::Address, "10.0.0.1:2007"),
    ];
    assert_eq!(changed, expected.map(|(kind, name)| (kind, name.to_owned())));
    assert!(!scene.endpoints("default/app7")[0].healthy);
    assert!(scene.publish().is_empty(), "nothing new makes no new world");
}

#[test]
fn a_workload_is_selected_by_its_labels_within_its_namespace() {
    let mut scene = Scene::new();
    let mut v1 = service("default/web-v1");
    v1.selector = [("app".to_owned(), "web".to_owned()), ("version".to_owned(), "v1".to_owned())].into();
    scene.add_service(v1);
    scene.add_service(service("default/web"));
    let mut nothing = service("default/nothing");
    nothing.selector.clear();
    scene.add_service(nothing);
    let mut first = workload("default/web-1", "web", 2001);
    first.labels.insert("version".into(), "v1".into());
    scene.add_live(first);
    scene.add_live(workload("default/web-2", "web", 2002));
    scene.add_live(workload("other/web-3", "web", 2003));
    scene.commit();
    let of = |scene: &Scene, service: &str| -> Vec<String> {
        scene.endpoints(service).into_iter().map(|e| e.workload).collect()
    };
    assert_eq!(of(&scene, "default/web"), ["default/web-1", "default/web-2"]);
    assert_eq!(of(&scene, "default/web-v1"), ["default/web-1"]);
    assert!(of(&scene, "default/nothing").is_empty());

    // The label moves it from one Service to none, and it may go altogether.
    scene.add_live(workload("default/web-1", "web", 2001));
    scene.publish();
    assert!(of(&scene, "default/web-v1").is_empty());
    scene.live.remove(&name("default/web-2"));
    scene.publish();
    assert_eq!(of(&scene, "default/web"), ["default/web-1"]);
}

#[test]
fn a_target_port_is_found_by_name_or_by_number_and_a_workload_without_it_is_no_endpoint() {
    let mut scene = Scene::new();
    let mut web = service("default/web");
    scene.add_service(web.clone());
    let mut stands_in = workload("default/a", "web", 8080);
    stands_in.ports = [("80".to_owned(), 8080), ("other".to_owned(), 80)].into();
    scene.add_live(stands_in);
    let mut numbered = workload("default/b", "web", 8081);
    numbered.ports = [("x".to_owned(), 80)].into();
    scene.add_live(numbered);
    scene.add_live(workload("default/c", "web", 8082));
    let targets = |scene: &Scene| -> Vec<(String, String, u32)> {
        let endpoints = scene.endpoints("default/web").into_iter();
        endpoints.map(|e| (e.workload, e.ports[0].target.clone(), e.ports[0].number)).collect()
    };
    scene.commit();
    assert_eq!(targets(&scene), [("default/c".to_owned(), "http".to_owned(), 8082)]);
    web.ports[0].target = TargetPort::Number(80);
    scene.add_service(web);
    scene.commit();
    let expected = [("default/a", "80", 8080), ("default/b", "x", 80)];
    assert_eq!(targets(&scene), expected.map(|(w, t, n)| (w.to_owned(), t.to_owned(), n)));
}

#[test]
fn a_written_down_workload_has_no_mesh_port_and_a_live_one_of_its_name_hides_it() {
    let mut scene = Scene::new();
    scene.add_service(service("default/store"));
    let written = StaticWorkload {
        name: name("default/store-1"),
        labels: [("app".to_owned(), "store".to_owned())].into(),
        address: "127.0.0.1".parse().unwrap(),
        ports: [("http".to_owned(), 18080)].into(),
        service_account: None,
        sidecar: None,
    };
    scene.mesh.workloads.insert(written.name.clone(), written);
    scene.commit();
    let endpoint = scene.endpoints("default/store").remove(0);
    assert_eq!((endpoint.mesh_port, endpoint.identity.as_str(), endpoint.healthy), (0, "", true));
    scene.add_live(workload("default/store-1", "store", 2001));
    scene.publish();
    assert_eq!(scene.endpoints("default/store")[0].mesh_port, 12_001);
    scene.live.clear();
    scene.publish();
    assert_eq!(scene.endpoints("default/store")[0].mesh_port, 0);
}

#[test]
fn routes_are_listed_oldest_first_then_by_name_and_once() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    scene.add_route(route("default/z", 1, "default/web", &[]));
    scene.add_route(route("default/b", 5, "default/web", &[]));
    scene.add_route(route("default/a", 5, "default/web", &[]));
    let mut elsewhere = route("default/other-port", 0, "default/web", &[]);
    elsewhere.parents[0].port = Some(81);
    scene.add_route(elsewhere);
    let mut twice = route("default/twice", 9, "default/web", &[]);
    twice.parents.push(ParentRef {
        service: name("default/web"),
        port: Some(80),
        section: None,
        says_namespace: false,
    });
    scene.add_route(twice);
    scene.commit();
    let expected = ["z", "a", "b", "twice"].map(|name| format!("HTTPRoute/default/{name}"));
    assert_eq!(scene.service("default/web", "default").ports[0].http_routes, expected);
}

#[test]
fn consumer_routes_replace_the_producers_for_the_clients_of_their_namespace_alone() {
    let mut scene = Scene::new();
    scene.add_service(service("shop/web"));
    scene.add_route(route("shop/producer", 1, "shop/web", &[]));
    scene.add_route(route("client/consumer", 2, "shop/web", &[]));
    scene.commit();
    let seen = |scene: &Scene, from: &str| scene.service("shop/web", from).ports[0].http_routes.clone();
    assert_eq!(seen(&scene, "client"), ["HTTPRoute/client/consumer"]);
    for from in ["shop", "third"] {
        assert_eq!(seen(&scene, from), ["HTTPRoute/shop/producer"], "{from}");
    }
    scene.mesh.http_routes.remove(&name("client/consumer"));
    let changed = scene.commit();
    assert!(changed.contains(&(ResourceType::Service, "shop/web".to_owned())));
    assert_eq!(seen(&scene, "client"), ["HTTPRoute/shop/producer"]);
}

#[test]
fn a_reference_to_nothing_or_to_a_missing_port_is_not_found_until_it_appears() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let mut to = route("default/r", 1, "default/web", &["default/web", "default/later", "default/web"]);
    to.rules[0].backends[2].port = 81;
    scene.add_route(to);
    scene.commit();
    assert_eq!(scene.reasons("default/r"), ["", "BackendNotFound", "BackendNotFound"]);
    scene.add_service(service("default/later"));
    let changed = scene.commit();
    assert!(changed.contains(&(ResourceType::HttpRoute, "HTTPRoute/default/r".to_owned())));
    assert_eq!(scene.reasons("default/r"), ["", "", "BackendNotFound"]);
}

#[test]
fn a_backend_of_another_namespace_needs_a_grant_for_the_kind_the_namespace_and_the_service() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    scene.add_service(service("shop/web"));
    scene.add_route(route("default/r", 1, "default/web", &["shop/web", "shop/missing"]));
    scene.commit();
    let refused = ["RefNotPermitted", "RefNotPermitted"];
    assert_eq!(scene.reasons("default/r"), refused, "what does not exist is not told apart");
    let grant = |scene: &mut Scene, from: (Kind, &str), to: Option<&str>| {
        let grant =
            ReferenceGrant { name: name("shop/g"), from: vec![grant_from(from.0, from.1)], to: vec![grant_to(to)] };
        scene.mesh.reference_grants.insert(grant.name.clone(), grant);
        scene.commit();
        scene.reasons("default/r")
    };
    assert_eq!(grant(&mut scene, (Kind::GrpcRoute, "default"), None), refused);
    assert_eq!(grant(&mut scene, (Kind::HttpRoute, "other"), None), refused);
    assert_eq!(grant(&mut scene, (Kind::HttpRoute, "default"), Some("web")), ["", "RefNotPermitted"]);
    assert_eq!(grant(&mut scene, (Kind::HttpRoute, "default"), None), ["", "BackendNotFound"]);
    scene.mesh.reference_grants.clear();
    scene.commit();
    assert_eq!(scene.reasons("default/r"), refused, "a grant that is withdrawn counts no more");
}

#[test]
fn a_reference_of_the_wrong_kind_stays_what_it_is() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let mut bad = route("default/r", 1, "default/web", &["default/web"]);
    bad.rules[0].backends[0].invalid_reason = "InvalidKind".into();
    scene.add_route(bad);
    scene.commit();
    assert_eq!(scene.reasons("default/r"), ["InvalidKind"]);
}

#[test]
fn the_policies_of_a_service_are_merged_field_by_field() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let policy = |connect, ejection| TrafficPolicy {
        targets: vec!["web".into()],
        connect_timeout_ms: connect,
        ejection_ms: ejection,
        ..TrafficPolicy::default()
    };
    scene.mesh.traffic_policies.insert(name("default/a"), policy(Some(100), None));
    scene.mesh.traffic_policies.insert(name("default/b"), policy(Some(200), Some(300)));
    scene.commit();
    let merged = scene.service("default/web", "default").policy.unwrap();
    assert_eq!((merged.connect_timeout_ms, merged.ejection_ms), (100, 300));
    scene.mesh.traffic_policies.clear();
    scene.commit();
    assert_eq!(scene.service("default/web", "default").policy, None);
}

#[test]
fn an_address_leads_to_its_workload_and_the_service_that_selects_it() {
    let mut scene = Scene::new();
    scene.add_live(workload("default/web-1", "web", 2001));
    scene.commit();
    let get = |scene: &Scene, at: &str| scene.get::<v1::Address>(ResourceType::Address, at, "");
    let bare = get(&scene, "10.0.0.1:2001").unwrap();
    assert_eq!((bare.service.as_str(), bare.service_port), ("", 0), "no Service selects it yet");
    assert_eq!(bare.endpoint.unwrap().ports[0].number, 2001);
    scene.add_service(service("default/web"));
    scene.commit();
    for at in ["10.0.0.1:2001", "10.0.0.1:12001"] {
        let found = get(&scene, at).unwrap();
        assert_eq!((found.service.as_str(), found.service_port), ("default/web", 80), "{at}");
        assert_eq!(found.endpoint.unwrap().workload, "default/web-1");
    }
    assert!(get(&scene, "10.0.0.1:80").is_none());
    scene.live.clear();
    scene.publish();
    assert!(get(&scene, "10.0.0.1:2001").is_none());
}

#[test]
fn tcp_routes_are_resources_of_their_own() {
    let mut scene = Scene::new();
    scene.add_service(service("default/db"));
    let route = TcpRoute {
        name: name("default/db"),
        created: 1,
        parents: vec![ParentRef { service: name("default/db"), port: Some(80), section: None, says_namespace: false }],
        gateways: vec![],
        backends: vec![backend("default/db"), backend("default/gone")],
    };
    scene.mesh.tcp_routes.insert(route.name.clone(), route);
    scene.commit();
    assert_eq!(scene.service("default/db", "x").ports[0].tcp_routes, ["TCPRoute/default/db"]);
    let route: v1::TcpRoute = scene.get(ResourceType::TcpRoute, "TCPRoute/default/db", "").unwrap();
    assert_eq!(route.backends[1].invalid_reason, "BackendNotFound");
}

#[test]
fn what_an_engine_reached_step_by_step_is_what_a_fresh_one_computes() {
    let mut scene = Scene::new();
    for step in 0..400 {
        random_step(&mut scene);
        if step % 3 == 0 {
            scene.publish()
        } else {
            scene.commit()
        };
    }
    scene.commit();
    let mut fresh = Scene::new();
    (fresh.mesh, fresh.live) = (scene.mesh.clone(), scene.live.clone());
    fresh.commit();
    let (world, expected) = (scene.world(), fresh.world());
    for kind in ResourceType::ALL {
        assert_eq!(world.count(kind), expected.count(kind), "{kind:?}");
    }
    for (kind, name) in expected.changed_since(0).unwrap() {
        for from in ["n0", "n1", "elsewhere"] {
            let client = client(from);
            let (found, expected) = (world.get(*kind, name, &client), expected.get(*kind, name, &client));
            assert_eq!(found, expected, "{kind:?} {name} from {from}");
        }
    }
}

/// Adds or removes something small at random, among few names so that they meet.
fn random_step(scene: &mut Scene) {
    let pick = || format!("n{}/x{}", fastrand::u8(..2), fastrand::u8(..4));
    let at = pick();
    match fastrand::u8(..9) {
        0..=1 => scene.add_service(service(&at)),
        2 => drop(scene.mesh.services.remove(&name(&at))),
        3 => scene.add_route(route(&at, fastrand::i64(..3), &pick(), &[&pick(), &pick()])),
        4 => drop(scene.mesh.http_routes.remove(&name(&at))),
        5..=6 => scene.add_live(workload(&at, &pick()[3..], 2000 + fastrand::u16(..4))),
        7 => drop(scene.live.remove(&name(&at))),
        _ => {
            let (from, to) = (vec![grant_from(Kind::HttpRoute, &pick()[..2])], vec![grant_to(None)]);
            let grant = ReferenceGrant { name: name(&at), from, to };
            if scene.mesh.reference_grants.remove(&grant.name).is_none() {
                scene.mesh.reference_grants.insert(grant.name.clone(), grant);
            }
        }
    }
}

#[test]
fn five_thousand_services_are_computed_and_changed_in_reasonable_time() {
    let mut scene = Scene::new();
    for n in 0..5000 {
        scene.add_service(service(&format!("default/app{n}")));
        scene.add_live(workload(&format!("default/w{n}"), &format!("app{n}"), 2000 + n));
        scene.add_route(route(
            &format!("default/app{n}"),
            1,
            &format!("default/app{n}"),
            &[&format!("default/app{n}")],
        ));
    }
    let begin = std::time::Instant::now();
    scene.commit();
    let first = begin.elapsed();
    let mut live = Arc::new(scene.live.clone());
    let committed = crate::model::Committed { revision: 1, mesh: scene.engine.mesh() };
    let begin = std::time::Instant::now();
    for n in 0..100 {
        let mut changed = workload("default/w7", "app7", 2007);
        changed.healthy = n % 2 == 0;
        Arc::make_mut(&mut live).insert(Name::new("default", "w7"), Arc::new(changed));
        scene.engine.update(&committed, &live.clone(), &globals());
    }
    let each = begin.elapsed() / 100;
    println!("first world of 5,000 services: {first:?}; one changed endpoint: {each:?}");
    // Far above what it takes, also in a debug build: it is a guard against a pass over everything, not a benchmark.
    assert!(each < std::time::Duration::from_millis(200), "{each:?}");
}
