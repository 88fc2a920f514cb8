//! `v1` Endpoints: how endpoints were written down before EndpointSlices. Each subset means what a slice means.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints as Written};

use super::check::Check;
use crate::config::FieldPath;
use crate::model::{EndpointSlice, Name, SliceEndpoint};

/// Bounds of lists, as Kubernetes has them for slices.
const MOST_SUBSETS: usize = 100;
const MOST_ENDPOINTS: usize = 1000;
const MOST_PORTS: usize = 100;

pub(super) fn check(check: &mut Check<'_>, name: &Name, written: &Written) -> Vec<EndpointSlice> {
    let path = FieldPath::of("subsets");
    let subsets = written.subsets.as_deref().unwrap_or_default();
    check.most(&path, subsets.len(), MOST_SUBSETS);
    let each = subsets.iter().take(MOST_SUBSETS).enumerate();
    each.map(|(n, subset)| one(check, &path.index(n), name, subset)).collect()
}

fn one(check: &mut Check<'_>, at: &FieldPath, name: &Name, written: &EndpointSubset) -> EndpointSlice {
    let ports = ports(check, &at.key("ports"), written.ports.as_deref().unwrap_or_default());
    let mut endpoints = addresses(check, &at.key("addresses"), written.addresses.as_deref(), true);
    endpoints.extend(addresses(check, &at.key("notReadyAddresses"), written.not_ready_addresses.as_deref(), false));
    EndpointSlice { name: name.clone(), service: Some(name.name.clone()), ports, endpoints }
}

fn ports(check: &mut Check<'_>, path: &FieldPath, written: &[EndpointPort]) -> BTreeMap<String, u16> {
    check.most(path, written.len(), MOST_PORTS);
    let mut ports = BTreeMap::new();
    for (n, port) in written.iter().take(MOST_PORTS).enumerate() {
        let at = path.index(n);
        if let Some(protocol) = port.protocol.as_deref().filter(|protocol| *protocol != "TCP") {
            check.not_yet(&at.key("protocol"), &format!("protocol {protocol}"));
        }
        let port_name = port.name.clone().unwrap_or_default();
        let Some(number) = check.port(&at.key("port"), port.port.into()) else { continue };
        if ports.insert(port_name.clone(), number).is_some() {
            check.error(&at.key("name"), format!("two ports have the name {port_name:?}"), "rename one of them");
        }
    }
    ports
}

fn addresses(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: Option<&[EndpointAddress]>,
    ready: bool,
) -> Vec<SliceEndpoint> {
    let written = written.unwrap_or_default();
    check.most(path, written.len(), MOST_ENDPOINTS);
    let mut found = Vec::new();
    for (n, address) in written.iter().take(MOST_ENDPOINTS).enumerate() {
        match address.ip.parse::<IpAddr>() {
            Ok(ip) if !ip.is_unspecified() && !ip.is_multicast() => {
                found.push(SliceEndpoint { addresses: vec![ip], ready });
            }
            _ => {
                let message = format!("{:?} is no address of an endpoint", address.ip);
                check.error(&path.index(n).key("ip"), message, "write an IP address");
            }
        }
    }
    found
}
