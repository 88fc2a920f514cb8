//! `leno.dev/v1alpha1` Workload.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::check::{Check, is_port_name};
use crate::config::{FieldPath, WorkloadSpec};
use crate::model::{Name, StaticWorkload};

/// Most ports of a Workload.
const MOST_PORTS: usize = 64;

pub(super) fn check(
    check: &mut Check<'_>,
    name: Name,
    metadata: &ObjectMeta,
    spec: &WorkloadSpec,
) -> Option<StaticWorkload> {
    let path = FieldPath::of("spec");
    let address =
        spec.address.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified() && !address.is_multicast());
    if address.is_none() {
        let hint = "write an IPv4 or IPv6 address without a port, as 127.0.0.1";
        check.error(&path.key("address"), format!("{:?} is no address of a workload", spec.address), hint);
    }
    let at = path.key("ports");
    if spec.ports.is_empty() {
        check.error(&at, "a Workload has at least one port", "write `ports: {http: 8080}`");
    }
    check.most(&at, spec.ports.len(), MOST_PORTS);
    let mut ports = BTreeMap::new();
    for (port_name, number) in spec.ports.iter().take(MOST_PORTS) {
        let at = at.key(port_name.as_str());
        if !is_port_name(port_name) && port_name.parse::<u16>().is_err() {
            check.error(&at, format!("{port_name:?} is no name of a port"), "write at most 15 of a-z, 0-9 and -");
        }
        if let Some(number) = check.port(&at, *number) {
            ports.insert(port_name.clone(), number);
        }
    }
    if let Some(account) = &spec.service_account {
        check.dns_subdomain(&path.key("serviceAccount"), account);
    }
    Some(StaticWorkload {
        name,
        labels: metadata.labels.clone().unwrap_or_default(),
        address: address?,
        ports,
        service_account: spec.service_account.clone(),
    })
}
