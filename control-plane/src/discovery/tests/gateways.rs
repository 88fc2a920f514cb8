//! Gateways as resources.

use super::*;
use crate::model::{AllowedFrom, Gateway, GatewayParent, KeyPair, Listener, ObjectRef, Protocol, Secret};

fn gateway(at: &str, protocol: Protocol) -> Gateway {
    let at = name(at);
    let secret = ObjectRef { group: String::new(), kind: "Secret".into(), name: Name::new(&at.namespace, "cert") };
    Gateway {
        created: 1,
        class: "leno".into(),
        has_parameters: false,
        listeners: vec![Listener {
            name: "main".into(),
            port: 443,
            protocol,
            hostname: String::new(),
            passthrough: false,
            certificates: vec![secret],
            kinds: vec![],
            from: AllowedFrom::Same,
        }],
        addresses: vec![],
        allowed_listeners: AllowedFrom::None,
        client_validation: None,
        port_client_validation: Default::default(),
        backend_client_certificate: None,
        name: at,
    }
}

fn certificate(scene: &mut Scene, key: u8) {
    let pair = Arc::new(KeyPair { chain: vec![vec![1]], key: vec![key] });
    let secret = Secret { key_pair: Ok(pair), authorities: Err("none".into()) };
    scene.mesh.secrets.insert(name("default/cert"), secret);
}

fn attached(at: &str) -> crate::model::HttpRoute {
    let mut route = route(at, 1, "default/web", &["default/web"]);
    route.parents.clear();
    let parent = GatewayParent {
        index: 0,
        kind: Kind::Gateway,
        name: name("default/edge"),
        section: None,
        port: None,
        says_namespace: false,
    };
    route.gateways.push(parent);
    route
}

fn edge() -> (ResourceType, String) {
    (ResourceType::Gateway, "default/edge".to_owned())
}

#[test]
fn a_gateway_with_its_keys_is_there_for_its_own_namespace_alone() {
    let mut scene = Scene::new();
    let listed = gateway("default/edge", Protocol::Https);
    scene.mesh.gateways.insert(listed.name.clone(), listed);
    certificate(&mut scene, 7);
    scene.add_route(attached("default/r"));
    assert!(scene.commit().contains(&edge()));
    let own: v1::Gateway = scene.get(ResourceType::Gateway, "default/edge", "default").unwrap();
    assert_eq!((own.listeners[0].certificates[0].key.as_slice(), own.listeners[0].port), ([7].as_slice(), 443));
    assert_eq!(own.listeners[0].http_routes, ["HTTPRoute/default/r"]);
    for from in ["other", "defaul", "default/edge", ""] {
        assert!(scene.get::<v1::Gateway>(ResourceType::Gateway, "default/edge", from).is_none(), "{from:?}");
    }
    scene.mesh.gateways.clear();
    assert!(scene.commit().contains(&edge()));
    assert!(scene.get::<v1::Gateway>(ResourceType::Gateway, "default/edge", "default").is_none());
}

#[test]
fn a_changed_route_sends_the_route_alone_and_a_changed_certificate_the_gateway_alone() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    let listed = gateway("default/edge", Protocol::Https);
    scene.mesh.gateways.insert(listed.name.clone(), listed);
    certificate(&mut scene, 7);
    scene.add_route(attached("default/r"));
    scene.commit();
    let mut changed = attached("default/r");
    changed.rules[0].backends[0].weight = 9;
    scene.add_route(changed);
    assert_eq!(scene.commit(), [(ResourceType::HttpRoute, "HTTPRoute/default/r".to_owned())]);
    certificate(&mut scene, 8);
    assert_eq!(scene.commit(), [edge()]);
    scene.add_service(service("default/more"));
    assert!(!scene.commit().contains(&edge()));
    scene.add_route(attached("default/s"));
    let both = [(ResourceType::HttpRoute, "HTTPRoute/default/s".to_owned()), edge()];
    assert_eq!(scene.commit(), both);
}

#[test]
fn a_listener_that_does_not_hold_is_not_sent() {
    let mut scene = Scene::new();
    let listed = gateway("default/edge", Protocol::Https);
    scene.mesh.gateways.insert(listed.name.clone(), listed.clone());
    scene.commit();
    let listeners = |scene: &Scene| {
        scene.get::<v1::Gateway>(ResourceType::Gateway, "default/edge", "default").unwrap().listeners.len()
    };
    assert_eq!(listeners(&scene), 0, "it has no certificate");
    certificate(&mut scene, 1);
    scene.commit();
    assert_eq!(listeners(&scene), 1);
    let refused = Gateway { has_parameters: true, ..listed };
    scene.mesh.gateways.insert(refused.name.clone(), refused);
    scene.commit();
    assert_eq!(listeners(&scene), 0, "the Gateway is not accepted");
}
