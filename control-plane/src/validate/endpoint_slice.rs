//! `discovery.k8s.io/v1` EndpointSlice.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice as Written};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::check::Check;
use crate::config::FieldPath;
use crate::model::{EndpointSlice, Name, SliceEndpoint};

/// The label that says whose endpoints they are.
const SERVICE: &str = "kubernetes.io/service-name";
/// Bounds of lists, as Kubernetes has them.
const MOST_ENDPOINTS: usize = 1000;
const MOST_PORTS: usize = 100;

pub(super) fn check(check: &mut Check<'_>, name: Name, metadata: &ObjectMeta, written: &Written) -> EndpointSlice {
    let v6 = match written.address_type.as_str() {
        "IPv4" => false,
        "IPv6" => true,
        other => {
            let message = format!("the address type {other:?} is not supported");
            check.error(&FieldPath::of("addressType"), message, "write IPv4 or IPv6");
            false
        }
    };
    let service = metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE)).filter(|name| !name.is_empty());
    if service.is_none() {
        let hint = "write `labels: {kubernetes.io/service-name: web}`";
        check.warn(&FieldPath::of("metadata").key("labels"), "the slice belongs to no Service", hint);
    }
    let path = FieldPath::of("ports");
    let list = written.ports.as_deref().unwrap_or_default();
    check.most(&path, list.len(), MOST_PORTS);
    let mut ports = BTreeMap::new();
    for (n, port) in list.iter().take(MOST_PORTS).enumerate() {
        let at = path.index(n);
        if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            let what = format!("protocol {}", port.protocol.as_deref().unwrap_or_default());
            check.not_yet(&at.key("protocol"), &what);
        }
        let Some(number) = port.port else {
            check.error(&at.key("port"), "is missing", "write a number from 1 to 65535");
            continue;
        };
        let port_name = port.name.clone().unwrap_or_default();
        let Some(number) = check.port(&at.key("port"), number.into()) else { continue };
        if ports.insert(port_name.clone(), number).is_some() {
            check.error(&at.key("name"), format!("two ports have the name {port_name:?}"), "rename one of them");
        }
    }
    let path = FieldPath::of("endpoints");
    check.most(&path, written.endpoints.len(), MOST_ENDPOINTS);
    let list = written.endpoints.iter().take(MOST_ENDPOINTS).enumerate();
    let endpoints = list.filter_map(|(n, written)| endpoint(check, &path.index(n), written, v6)).collect();
    EndpointSlice { name, service: service.cloned(), ports, endpoints }
}

/// One that ends is not ready; a condition that nobody states is as Kubernetes reads it: ready.
fn endpoint(check: &mut Check<'_>, at: &FieldPath, written: &Endpoint, v6: bool) -> Option<SliceEndpoint> {
    let mut addresses = Vec::new();
    for (n, text) in written.addresses.iter().take(MOST_PORTS).enumerate() {
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv6() == v6 && !address.is_unspecified() && !address.is_multicast() => {
                addresses.push(address);
            }
            _ => {
                let hint = if v6 { "write an IPv6 address" } else { "write an IPv4 address" };
                check.error(&at.key("addresses").index(n), format!("{text:?} is no address of an endpoint"), hint);
            }
        }
    }
    check.most(&at.key("addresses"), written.addresses.len(), MOST_PORTS);
    if addresses.is_empty() {
        check.error(&at.key("addresses"), "has at least one entry", "add one");
        return None;
    }
    let conditions = written.conditions.as_ref();
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    Some(SliceEndpoint { addresses, ready: ready && !terminating })
}
