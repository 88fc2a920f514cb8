//! What is behind `IP:PORT`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use leno_proto::v1;

use super::convert;
use super::selection::{EndpointPort, Selection, endpoint_ports, selects};
use crate::model::{Name, Service, Workload};

/// What is at an address, and whose sidecar decides who may speak to it.
pub(super) type Found<'a> = (v1::Address, Option<&'a Arc<Workload>>);

/// The workload that owns an address and the Service that selects it, or none when the address is not in the mesh.
///
/// When several own it, the one with a sidecar wins, then the first by name. When several Services select it, the first by
/// name that reaches this port; a workload that no Service selects is reachable all the same, without a Service.
pub(super) fn address<'a>(
    selection: &'a Selection,
    services: &BTreeMap<Name, Service>,
    address: SocketAddr,
) -> Option<Found<'a>> {
    let workload = selection.workloads_at(address).min_by_key(|w| w.mesh_port.is_none())?;
    let selecting = selection
        .services_near(workload)
        .into_iter()
        .filter_map(|name| services.get(name))
        .filter(|service| selects(service, workload))
        .find_map(|service| {
            let ports = endpoint_ports(service, workload);
            let port = ports.iter().find(|port| is_behind(workload, port, address)).cloned()?;
            Some((service, port, ports))
        });
    let found = match selecting {
        Some((service, port, ports)) => v1::Address {
            service: service.name.to_string(),
            service_port: port.service_port.into(),
            endpoint: Some(convert::endpoint(workload, ports)),
            shared: false,
        },
        None => v1::Address {
            service: String::new(),
            service_port: 0,
            endpoint: Some(convert::endpoint(workload, bare_port(workload, address))),
            shared: false,
        },
    };
    Some((found, Some(workload)))
}

/// What is behind an IP address: a workload whose sidecar takes every port, or a word that IP:PORT is to be asked for, since
/// several share it or some of its ports are in nobody's mesh. None: no workload has it.
pub(super) fn host<'a>(selection: &'a Selection, services: &BTreeMap<Name, Service>, ip: IpAddr) -> Option<Found<'a>> {
    let mut workloads = selection.workloads_of_ip(ip);
    let workload = workloads.next()?;
    if !workload.any_port || workloads.next().is_some() {
        return Some((v1::Address { shared: true, ..v1::Address::default() }, None));
    }
    let selecting = selection
        .services_near(workload)
        .into_iter()
        .find(|name| services.get(*name).is_some_and(|service| selects(service, workload)));
    let ports = workload.ports.iter();
    let ports =
        ports.map(|(name, number)| EndpointPort { service_port: *number, target: name.clone(), number: *number });
    let found = v1::Address {
        service: selecting.map(ToString::to_string).unwrap_or_default(),
        endpoint: Some(convert::endpoint(workload, ports.collect())),
        ..v1::Address::default()
    };
    Some((found, Some(workload)))
}

/// Behind its sidecar's own address is whatever port a Service reaches first.
fn is_behind(workload: &Workload, port: &EndpointPort, address: SocketAddr) -> bool {
    port.number == address.port() || workload.mesh_port == Some(address.port())
}

/// The one port that was asked for. Behind a sidecar's own address no port is meant when no Service says which.
fn bare_port(workload: &Workload, address: SocketAddr) -> Vec<EndpointPort> {
    let port = workload.ports.iter().find(|(_, number)| **number == address.port());
    port.map(|(name, number)| EndpointPort { service_port: 0, target: name.clone(), number: *number })
        .into_iter()
        .collect()
}
