use std::collections::BTreeSet;

use leno_proto::resource::Resource;
use leno_proto::v1;

use crate::model::{Demand, Family, Hostname, Peer, Resources, Target};

const NAME: &str = "default/edge";

fn demand() -> BTreeSet<Demand> {
    [Demand::Gateway(NAME.into())].into()
}

fn listener(name: &str, port: u32, hostname: &str, protocol: v1::ListenerProtocol) -> v1::GatewayListener {
    v1::GatewayListener {
        name: name.into(),
        port,
        hostname: hostname.into(),
        protocol: protocol.into(),
        http_routes: vec!["HTTPRoute/default/web".into()],
        ..Default::default()
    }
}

fn gateway(listeners: Vec<v1::GatewayListener>) -> v1::Gateway {
    v1::Gateway { namespace: "default".into(), name: "edge".into(), listeners, ..Default::default() }
}

fn route(hostnames: &[&str], backend: &str) -> v1::HttpRoute {
    let backends = vec![v1::Backend { service: backend.into(), port: 80, weight: 1, ..Default::default() }];
    let rule = v1::HttpRule { matches: vec![v1::HttpMatch::default()], backends, ..Default::default() };
    let hostnames = hostnames.iter().map(|name| (*name).to_owned()).collect();
    v1::HttpRoute {
        namespace: "default".into(),
        name: "web".into(),
        hostnames,
        rules: vec![rule],
        ..Default::default()
    }
}

fn service(tls: Option<v1::BackendTls>) -> v1::Service {
    let port = v1::ServicePort { number: 80, backend_tls: tls, ..Default::default() };
    v1::Service { namespace: "default".into(), name: "web".into(), ports: vec![port], ..Default::default() }
}

fn endpoints() -> v1::Endpoints {
    let port = v1::EndpointPort { service_port: 80, target: "http".into(), number: 8080 };
    let plain = v1::Endpoint {
        workload: "default/web-1".into(),
        address: "127.0.0.1".into(),
        ports: vec![port],
        healthy: true,
        ..Default::default()
    };
    let meshed = v1::Endpoint { mesh_port: 15008, identity: "spiffe://d/ns/n/sa/s".into(), ..plain.clone() };
    v1::Endpoints { service: "default/web".into(), endpoints: vec![plain, meshed] }
}

fn pair() -> v1::TlsCertificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
    v1::TlsCertificate { chain: vec![certificate.der().to_vec()], key: key.serialize_der() }
}

#[test]
fn a_gateway_waits_for_every_part_and_keeps_its_last_version_meanwhile() {
    let mut held = Resources::default();
    assert_eq!(held.assemble(&demand()).incomplete, 1);
    assert!(held.wanted(&demand()).contains(&(v1::Gateway::TYPE_URL, NAME.to_owned())));
    held.remove(v1::Gateway::TYPE_URL, NAME);
    assert!(matches!(held.assemble(&demand()).snapshot.gateway, Some(None)));

    let one = listener("one", 80, "", v1::ListenerProtocol::Http);
    held.upsert(NAME, &gateway(vec![v1::GatewayListener { http_routes: vec![], ..one.clone() }]).to_any()).unwrap();
    let first = held.assemble(&demand()).snapshot.gateway.unwrap().unwrap();
    assert_eq!((first.ports[&80].family, first.ports[&80].listeners[0].http.len()), (Family::Http, 0));

    held.upsert(NAME, &gateway(vec![one]).to_any()).unwrap();
    held.upsert("HTTPRoute/default/web", &route(&["a.b", "*.b"], "default/web").to_any()).unwrap();
    let wanted = held.wanted(&demand());
    assert!(wanted.contains(&(v1::Endpoints::TYPE_URL, "default/web".to_owned())));
    let waiting = held.assemble(&demand());
    assert_eq!(waiting.incomplete, 1);
    assert!(std::sync::Arc::ptr_eq(&first, &waiting.snapshot.gateway.unwrap().unwrap()));

    held.upsert("default/web", &service(None).to_any()).unwrap();
    held.upsert("default/web", &endpoints().to_any()).unwrap();
    let done = held.assemble(&demand());
    assert_eq!(done.incomplete, 0);
    let done = done.snapshot.gateway.unwrap().unwrap();
    let hosts: Vec<_> = done.ports[&80].listeners[0].http.iter().map(|(hostname, _)| hostname.clone()).collect();
    assert_eq!(hosts, [Hostname::Exact("a.b".into()), Hostname::Below(".b".into())]);
}

#[test]
fn a_gateway_whose_key_is_of_no_use_is_refused_by_name_and_the_last_one_stays() {
    let mut held = Resources::default();
    let https = |certificates| {
        let https = listener("https", 443, "a", v1::ListenerProtocol::Https);
        gateway(vec![v1::GatewayListener { certificates, http_routes: vec![], ..https }]).to_any()
    };
    held.upsert(NAME, &https(vec![pair()])).unwrap();
    let (one, other) = (pair(), pair());
    let why = held.upsert(NAME, &https(vec![v1::TlsCertificate { key: other.key, ..one }])).unwrap_err().to_string();
    assert!(why.contains("https") && why.contains("private key"), "{why}");
    assert!(held.upsert(NAME, &https(vec![])).is_err());
    let many = vec![listener("l", 80, "", v1::ListenerProtocol::Http); 1025];
    assert!(held.upsert(NAME, &gateway(many).to_any()).is_err());
    let unknown = listener("l", 80, "", v1::ListenerProtocol::Unspecified);
    assert!(held.upsert(NAME, &gateway(vec![unknown]).to_any()).is_err());
    let kept = held.assemble(&demand()).snapshot.gateway.unwrap().unwrap();
    assert!(kept.ports[&443].listeners[0].tls.is_some());
}

#[test]
fn only_apps_without_a_sidecar_are_spoken_to_over_their_own_tls_with_this_sidecars_certificate() {
    let mut held = Resources::default();
    let tls = v1::BackendTls { hostname: "web".into(), system_roots: true, ..Default::default() };
    held.upsert("default/web", &service(Some(tls)).to_any()).unwrap();
    held.upsert("default/web", &endpoints().to_any()).unwrap();
    held.upsert("HTTPRoute/default/web", &route(&[], "default/web").to_any()).unwrap();
    let plain = gateway(vec![listener("one", 80, "", v1::ListenerProtocol::Http)]);
    let mut peers = |gateway: &v1::Gateway| -> Vec<Peer> {
        held.upsert(NAME, &gateway.to_any()).unwrap();
        let gateway = held.assemble(&demand()).snapshot.gateway.unwrap().unwrap();
        let candidate = &gateway.ports[&80].listeners[0].http[0].1[0];
        let Target::Cluster(cluster) = &candidate.rule.backends[0].target else { panic!("no cluster") };
        cluster.endpoints.iter().map(|endpoint| endpoint.peer.clone()).collect()
    };
    let before = peers(&plain);
    let [Peer::Tls(tls), Peer::Sidecar { .. }] = &before[..] else { panic!("{before:?}") };
    assert!(tls.client.is_none() && tls.invalid.is_none());
    assert_eq!(before, peers(&plain), "what stays the same is the same endpoint");
    let lost = "InvalidClientCertificateRef".to_owned();
    let without = peers(&v1::Gateway { backend_client_certificate_invalid: lost, ..plain.clone() });
    let [Peer::Tls(tls), Peer::Sidecar { .. }] = &without[..] else { panic!("{without:?}") };
    assert!(tls.invalid.as_ref().unwrap().contains("InvalidClientCertificateRef"));
    assert_ne!(before[0], without[0], "nothing is sent over the connections of before");
    let shown = peers(&v1::Gateway { backend_client_certificate: Some(pair()), ..plain });
    assert_ne!(before[0], shown[0], "another certificate needs other connections");
    assert!(!format!("{shown:?}").contains("key"), "{shown:?}");
}
