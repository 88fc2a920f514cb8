//! EndpointSlices and BackendTLSPolicies: endpoints without a sidecar.

use super::*;
use crate::model::{
    BackendTlsPolicy, ConfigMap, EndpointSlice, ObjectRef, PolicyTarget, SliceEndpoint, SubjectAltName,
};

fn slice(at: &str, service: &str, port: (&str, u16), addresses: &[(&str, bool)]) -> EndpointSlice {
    let endpoint =
        |(address, ready): &(&str, bool)| SliceEndpoint { addresses: vec![address.parse().unwrap()], ready: *ready };
    EndpointSlice {
        name: name(at),
        service: Some(service.to_owned()),
        ports: [(port.0.to_owned(), port.1)].into(),
        endpoints: addresses.iter().map(endpoint).collect(),
    }
}

fn put(scene: &mut Scene, slice: EndpointSlice) {
    scene.mesh.endpoint_slices.insert(slice.name.clone(), slice);
}

#[test]
fn a_service_without_a_selector_has_the_endpoints_of_its_slices() {
    let mut scene = Scene::new();
    let mut bare = service("default/db");
    bare.selector.clear();
    scene.add_service(bare);
    put(&mut scene, slice("default/one", "db", ("http", 5432), &[("10.1.0.2", true), ("10.1.0.1", false)]));
    put(&mut scene, slice("default/two", "db", ("other", 5433), &[("10.1.0.3", true)]));
    put(&mut scene, slice("other/three", "db", ("http", 5432), &[("10.1.0.4", true)]));
    scene.commit();
    let found: Vec<_> = scene
        .endpoints("default/db")
        .into_iter()
        .map(|e| (e.workload, e.address, e.mesh_port, e.healthy, e.ports[0].service_port, e.ports[0].number))
        .collect();
    let expected =
        |address: &str, ready: bool| (format!("default/db-{address}"), address.to_owned(), 0, ready, 80, 5432);
    assert_eq!(found, [expected("10.1.0.1", false), expected("10.1.0.2", true)]);
}

#[test]
fn a_changed_slice_sends_the_endpoints_of_its_service_alone_and_a_workload_goes_before_it() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    scene.add_service(service("default/db"));
    scene.add_live(workload("default/w", "web", 2001));
    scene.commit();
    put(&mut scene, slice("default/one", "web", ("http", 2001), &[("10.0.0.1", true), ("10.1.0.1", true)]));
    assert_eq!(scene.commit(), [(ResourceType::Endpoints, "default/web".to_owned())]);
    let names = |scene: &Scene| scene.endpoints("default/web").into_iter().map(|e| e.workload).collect::<Vec<_>>();
    assert_eq!(names(&scene), ["default/w", "default/web-10.1.0.1"]);
    scene.mesh.endpoint_slices.clear();
    assert_eq!(scene.commit(), [(ResourceType::Endpoints, "default/web".to_owned())]);
    assert_eq!(names(&scene), ["default/w"]);
}

fn policy(at: &str, created: i64, section: Option<&str>) -> BackendTlsPolicy {
    let at = name(at);
    let map = ObjectRef { group: String::new(), kind: "ConfigMap".into(), name: Name::new(&at.namespace, "ca") };
    BackendTlsPolicy {
        created,
        targets: vec![PolicyTarget {
            group: String::new(),
            kind: "Service".into(),
            name: "web".into(),
            section: section.map(str::to_owned),
        }],
        authorities: vec![map],
        system_authorities: false,
        hostname: at.name.clone(),
        subject_alt_names: vec![SubjectAltName::Uri("spiffe://a/b".into())],
        name: at,
    }
}

#[test]
fn the_policy_of_a_port_goes_before_that_of_the_service_and_the_oldest_before_the_others() {
    let mut scene = Scene::new();
    scene.add_service(service("default/web"));
    scene.add_service(service("other/web"));
    let put = |scene: &mut Scene, policy: BackendTlsPolicy| {
        scene.mesh.backend_tls_policies.insert(policy.name.clone(), policy);
        scene.commit();
    };
    let tls = |scene: &Scene| scene.service("default/web", "default").ports[0].backend_tls.clone();
    scene.commit();
    assert_eq!(tls(&scene), None);
    put(&mut scene, policy("default/b", 5, None));
    let found = tls(&scene).unwrap();
    assert_eq!((found.hostname.as_str(), found.invalid_reason.as_str()), ("b", "NoValidCACertificate"));
    scene
        .mesh
        .config_maps
        .insert(name("default/ca"), ConfigMap { authorities: Ok(Arc::new(vec![vec![3]])), jwks: Err(String::new()) });
    assert_eq!(scene.commit(), [(ResourceType::Service, "default/web".to_owned())], "the authority has come");
    let found = tls(&scene).unwrap();
    assert_eq!((found.roots, found.invalid_reason.as_str(), found.subject_alt_names.len()), (vec![vec![3]], "", 1));
    put(&mut scene, policy("default/a", 6, None));
    assert_eq!(tls(&scene).unwrap().hostname, "b", "the oldest");
    put(&mut scene, policy("default/c", 7, Some("http")));
    assert_eq!(tls(&scene).unwrap().hostname, "c", "the one for the port");
    put(&mut scene, policy("default/d", 1, Some("elsewhere")));
    assert_eq!(tls(&scene).unwrap().hostname, "c");
    assert_eq!(scene.service("other/web", "other").ports[0].backend_tls, None);
}
