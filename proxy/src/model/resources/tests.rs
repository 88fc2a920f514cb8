use std::collections::BTreeSet;

use http::{HeaderMap, Method};
use leno_proto::resource::Resource;
use leno_proto::v1;

use super::*;
use crate::model::testing::endpoints;
use crate::model::{Peer, Place, Target};

fn service(name: &str, routes: &[&str]) -> v1::Service {
    v1::Service {
        namespace: "default".into(),
        name: name.into(),
        ports: vec![v1::ServicePort {
            number: 80,
            http_routes: routes.iter().map(|r| (*r).to_owned()).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn route(name: &str, rules: Vec<(v1::HttpMatch, &str)>) -> v1::HttpRoute {
    let rules = rules.into_iter().map(|(matches, backend)| v1::HttpRule {
        matches: vec![matches],
        backends: vec![v1::Backend { service: backend.into(), port: 80, weight: 1, ..Default::default() }],
        ..Default::default()
    });
    v1::HttpRoute { namespace: "default".into(), name: name.into(), rules: rules.collect(), ..Default::default() }
}

fn path(path: v1::http_match::Path) -> v1::HttpMatch {
    v1::HttpMatch { path: Some(path), ..Default::default() }
}

fn demand() -> BTreeSet<Demand> {
    [Demand::Service("default/web".into())].into()
}

#[test]
fn a_destination_waits_for_every_part_and_keeps_its_last_version_meanwhile() {
    let mut held = Resources::default();
    let demanded = demand();
    assert_eq!(held.assemble(&demanded).incomplete, 1);

    held.upsert("default/web", &service("web", &[]).to_any()).unwrap();
    held.upsert("default/web", &endpoints("default/web", "127.0.0.1").to_any()).unwrap();
    let first = held.assemble(&demanded);
    assert_eq!(first.incomplete, 0);
    let before = first.snapshot.services["default/web"].clone().unwrap();
    assert!(!before.ports[0].routed);

    // A route appears: wanted, and until it and its backend are there the old version stays.
    held.upsert("default/web", &service("web", &["HTTPRoute/default/web"]).to_any()).unwrap();
    assert!(held.wanted(&demanded).contains(&(v1::HttpRoute::TYPE_URL, "HTTPRoute/default/web".to_owned())));
    let waiting = held.assemble(&demanded);
    assert_eq!(waiting.incomplete, 1);
    assert!(Arc::ptr_eq(&before, waiting.snapshot.services["default/web"].as_ref().unwrap()));

    let to_v1 = route("web", vec![(v1::HttpMatch::default(), "default/web-v1")]);
    held.upsert("HTTPRoute/default/web", &to_v1.to_any()).unwrap();
    assert!(held.wanted(&demanded).contains(&(v1::Endpoints::TYPE_URL, "default/web-v1".to_owned())));
    assert_eq!(held.assemble(&demanded).incomplete, 1);

    held.upsert("default/web-v1", &service("web-v1", &[]).to_any()).unwrap();
    held.upsert("default/web-v1", &endpoints("default/web-v1", "127.0.0.2").to_any()).unwrap();
    let done = held.assemble(&demanded);
    assert_eq!(done.incomplete, 0);
    let port = &done.snapshot.services["default/web"].as_ref().unwrap().ports[0];
    let Target::Cluster(cluster) = &port.candidates[0].rule.backends[0].target else { panic!("no cluster") };
    assert_eq!(cluster.endpoints[0].address, "127.0.0.2:15008".parse().unwrap());
}

#[test]
fn a_service_that_does_not_exist_is_known_as_such() {
    let mut held = Resources::default();
    held.remove(v1::Service::TYPE_URL, "default/web");
    let assembled = held.assemble(&demand());
    assert_eq!(assembled.incomplete, 0);
    assert!(assembled.snapshot.services["default/web"].is_none());
    held.forget(v1::Service::TYPE_URL, "default/web");
    assert!(!held.assemble(&demand()).snapshot.services.contains_key("default/web"));
}

#[test]
fn a_backend_that_is_gone_is_invalid_and_does_not_hold_the_rest_up() {
    let mut held = Resources::default();
    held.upsert("default/web", &service("web", &["HTTPRoute/default/web"]).to_any()).unwrap();
    held.upsert("default/web", &endpoints("default/web", "127.0.0.1").to_any()).unwrap();
    held.upsert("HTTPRoute/default/web", &route("web", vec![(v1::HttpMatch::default(), "default/none")]).to_any())
        .unwrap();
    held.remove(v1::Service::TYPE_URL, "default/none");
    let assembled = held.assemble(&demand());
    assert_eq!(assembled.incomplete, 0);
    let port = &assembled.snapshot.services["default/web"].as_ref().unwrap().ports[0];
    assert!(matches!(&port.candidates[0].rule.backends[0].target, Target::Invalid(r) if r == "BackendNotFound"));
}

#[test]
fn matches_are_tried_in_the_order_of_the_specification() {
    use v1::http_match::Path;
    let header = |name: &str| v1::ValueMatch { name: name.into(), value: "1".into(), regex: false };
    let rules = vec![
        (path(Path::Prefix("/".into())), "default/any"),
        (path(Path::Prefix("/a".into())), "default/short"),
        (path(Path::Prefix("/a/b".into())), "default/long"),
        (v1::HttpMatch { method: "POST".into(), ..path(Path::Prefix("/a/b".into())) }, "default/method"),
        (v1::HttpMatch { headers: vec![header("x-a")], ..path(Path::Prefix("/a/b".into())) }, "default/header"),
        (v1::HttpMatch { query: vec![header("q")], ..path(Path::Prefix("/a/b".into())) }, "default/query"),
        (path(Path::Exact("/a/b".into())), "default/exact"),
    ];
    let mut held = Resources::default();
    for (_, backend) in &rules {
        let name = backend.strip_prefix("default/").unwrap();
        held.upsert(backend, &service(name, &[]).to_any()).unwrap();
        held.upsert(backend, &endpoints(backend, "127.0.0.1").to_any()).unwrap();
    }
    held.upsert("default/web", &service("web", &["HTTPRoute/default/web"]).to_any()).unwrap();
    held.upsert("default/web", &endpoints("default/web", "127.0.0.1").to_any()).unwrap();
    held.upsert("HTTPRoute/default/web", &route("web", rules).to_any()).unwrap();
    let assembled = held.assemble(&demand());
    assert_eq!(assembled.incomplete, 0);
    let port = assembled.snapshot.services["default/web"].as_ref().unwrap().ports[0].candidates.clone();

    let chosen = |method: Method, path: &str, query: Option<&str>, with_header: bool| {
        let mut headers = HeaderMap::new();
        if with_header {
            headers.insert("x-a", "1".parse().unwrap());
        }
        let hit = port.iter().find(|c| c.matches.holds(&method, path, query, &headers)).unwrap();
        let Target::Cluster(cluster) = &hit.rule.backends[0].target else { panic!("no cluster") };
        cluster.service.clone()
    };
    assert_eq!(chosen(Method::GET, "/", None, false), "default/any");
    assert_eq!(chosen(Method::GET, "/ab", None, false), "default/any");
    assert_eq!(chosen(Method::GET, "/a/x", None, false), "default/short");
    assert_eq!(chosen(Method::GET, "/a/b/c", None, false), "default/long");
    assert_eq!(chosen(Method::GET, "/a/b/c", Some("q=1"), false), "default/query");
    assert_eq!(chosen(Method::GET, "/a/b/c", Some("q=1"), true), "default/header");
    assert_eq!(chosen(Method::POST, "/a/b/c", Some("q=1"), true), "default/method");
    assert_eq!(chosen(Method::POST, "/a/b", Some("q=1"), true), "default/exact");
}

#[test]
fn a_resource_that_cannot_be_right_is_refused_with_a_reason_and_the_last_one_stays() {
    use v1::http_match::Path;
    let mut held = Resources::default();
    held.upsert("HTTPRoute/default/web", &route("web", vec![(v1::HttpMatch::default(), "default/a")]).to_any())
        .unwrap();
    let bad = route("web", vec![(path(Path::Regex("(".into())), "default/a")]);
    let error = held.upsert("HTTPRoute/default/web", &bad.to_any()).unwrap_err().to_string();
    assert!(error.contains("regular expression"), "{error}");
    assert!(held.http_routes["HTTPRoute/default/web"].is_some());

    let no_identity = {
        let mut e = endpoints("default/web", "127.0.0.1");
        e.endpoints[0].identity.clear();
        e
    };
    assert!(held.upsert("default/web", &no_identity.to_any()).is_err());
    let any = Any { type_url: v1::Service::TYPE_URL.into(), value: vec![0xff; 9] };
    assert!(held.upsert("default/web", &any).is_err());
    assert!(held.upsert("x", &Any { type_url: "unknown".into(), value: vec![] }).is_err());
}

/// Takes resources in, as if they had come over the stream.
fn held(all: &[(&str, prost_types::Any)]) -> Resources {
    let mut resources = Resources::default();
    for (name, any) in all {
        resources.upsert(name, any).unwrap();
    }
    resources
}

fn any_port_service() -> [(&'static str, prost_types::Any); 2] {
    let mut endpoints = endpoints("default/web", "10.0.0.7");
    endpoints.endpoints[0].any_port = true;
    let service = v1::Service {
        namespace: "default".into(),
        name: "web".into(),
        any_port: Some(v1::ServicePort::default()),
        addresses: vec!["240.240.0.5".into(), "fd6c:656e:6f00::5".into()],
        ..Default::default()
    };
    [("default/web", service.to_any()), ("default/web", endpoints.to_any())]
}

#[test]
fn a_service_of_every_port_is_reached_on_each_by_its_number() {
    let mut held = held(&any_port_service());
    let demanded = [Demand::Service("default/web".into())].into();
    let snapshot = held.assemble(&demanded).snapshot;
    let destination = snapshot.services["default/web"].clone().unwrap();
    assert_eq!(destination.addresses.len(), 2);
    assert!(destination.port(Some(5432)).is_none());
    let port = destination.any_port.as_ref().unwrap().port(5432);
    assert_eq!((port.number, port.own.port), (5432, 5432));
    let Peer::Sidecar { port, .. } = &port.own.endpoints[0].peer else { panic!("no sidecar") };
    assert_eq!(port, "5432");
    // A port that stands there by name keeps its name.
    let port = destination.any_port.as_ref().unwrap().port(80);
    let Peer::Sidecar { port, .. } = &port.own.endpoints[0].peer else { panic!("no sidecar") };
    assert_eq!(port, "http");
}

#[test]
fn an_ip_is_a_service_a_workload_or_shared_and_a_bad_one_is_refused() {
    let mut endpoint = endpoints("default/web", "10.0.0.7").endpoints.remove(0);
    endpoint.any_port = true;
    let host = v1::Address { service: "default/web".into(), endpoint: Some(endpoint.clone()), ..Default::default() };
    let mut held = held(&[
        ("240.240.0.5", v1::Address { service: "default/web".into(), ..Default::default() }.to_any()),
        ("fd77::7", host.to_any()),
        ("10.0.0.8", v1::Address { shared: true, ..Default::default() }.to_any()),
    ]);
    let demanded = ["240.240.0.5", "fd77::7", "10.0.0.8"].map(|ip| Demand::Address(ip.into())).into();
    let snapshot = held.assemble(&demanded).snapshot;
    let place = |ip: &str| snapshot.addresses[ip].clone().unwrap();
    assert!(matches!(place("240.240.0.5"), Place::Virtual(name) if name == "default/web"));
    assert!(matches!(place("10.0.0.8"), Place::Shared));
    let Place::Host(host) = place("fd77::7") else { panic!("no host") };
    let cluster = crate::model::host(&host, "[fd77::7]:5432".parse().unwrap()).unwrap();
    assert_eq!(cluster.endpoints[0].address, "[fd77::7]:15008".parse().unwrap(), "dialled where it was asked for");
    endpoint.identity.clear();
    let bad = v1::Address { endpoint: Some(endpoint), ..Default::default() };
    assert!(held.upsert("10.0.0.9", &bad.to_any()).is_err(), "a mesh port without an identity");
}

#[test]
fn addresses_of_the_virtual_blocks_are_known_as_such() {
    for (ip, is) in [
        ("240.240.0.5", true),
        ("::ffff:240.240.0.5", true),
        ("fd6c:656e:6f00::5", true),
        ("240.241.0.5", false),
        ("fd6c:656e:6f01::5", false),
    ] {
        assert_eq!(crate::model::is_virtual(ip.parse().unwrap()), is, "{ip}");
    }
}
