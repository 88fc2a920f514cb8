//! Endpoints that EndpointSlices and Endpoints write down: no sidecar, reached as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use leno_proto::v1;

use crate::model::{EndpointSlice, Mesh, Name, Service};

/// The slices by the Service that they belong to.
#[derive(Debug, Default)]
pub(super) struct Slices(HashMap<Name, Vec<EndpointSlice>>);

impl Slices {
    /// Takes up a mesh; gives the Services whose endpoints may have changed.
    pub(super) fn update(&mut self, mesh: &Mesh) -> BTreeSet<Name> {
        let mut new: HashMap<Name, Vec<EndpointSlice>> = HashMap::new();
        for slice in mesh.endpoint_slices.values().chain(mesh.endpoints.values().flatten()) {
            if let Some(service) = &slice.service {
                new.entry(Name::new(&slice.name.namespace, service)).or_default().push(slice.clone());
            }
        }
        let old = std::mem::replace(&mut self.0, new);
        let names = old.keys().chain(self.0.keys()).cloned().collect::<BTreeSet<Name>>();
        names.into_iter().filter(|name| old.get(name) != self.0.get(name)).collect()
    }

    /// The endpoints of a Service, by address. An address may stand in several slices, with other ports in each, and a port of
    /// the Service finds its own by its name. `taken` are those that workloads have.
    pub(super) fn endpoints(&self, service: &Service, taken: &BTreeSet<IpAddr>) -> Vec<v1::Endpoint> {
        let mut found: BTreeMap<IpAddr, v1::Endpoint> = BTreeMap::new();
        for slice in self.0.get(&service.name).into_iter().flatten() {
            let ports: Vec<(u16, u16)> = service
                .ports
                .iter()
                .filter_map(|port| slice.ports.get(&port.name).map(|number| (port.number, *number)))
                .collect();
            for endpoint in slice.endpoints.iter().filter(|_| !ports.is_empty()) {
                let Some((first, more)) = endpoint.addresses.split_first().filter(|(first, _)| !taken.contains(first))
                else {
                    continue;
                };
                let entry = found.entry(*first).or_insert_with(|| v1::Endpoint {
                    workload: format!("{}/{}-{first}", service.name.namespace, service.name.name),
                    address: first.to_string(),
                    healthy: true,
                    more_addresses: more.iter().map(ToString::to_string).collect(),
                    ..v1::Endpoint::default()
                });
                entry.healthy &= endpoint.ready;
                for (service_port, number) in &ports {
                    let port = v1::EndpointPort {
                        service_port: (*service_port).into(),
                        target: number.to_string(),
                        number: (*number).into(),
                    };
                    if !entry.ports.iter().any(|other| other.service_port == port.service_port) {
                        entry.ports.push(port);
                    }
                }
            }
        }
        found.into_values().collect()
    }
}
