//! Messages of the wire that tests share.

use leno_proto::v1;

/// One endpoint of a service, behind a sidecar.
pub fn endpoints(service: &str, address: &str) -> v1::Endpoints {
    let endpoint = v1::Endpoint {
        workload: format!("{service}-1"),
        address: address.into(),
        mesh_port: 15008,
        identity: "spiffe://cluster.local/ns/default/sa/web".into(),
        ports: vec![v1::EndpointPort { service_port: 80, target: "http".into(), number: 8080 }],
        healthy: true,
        ..v1::Endpoint::default()
    };
    v1::Endpoints { service: service.into(), endpoints: vec![endpoint] }
}
