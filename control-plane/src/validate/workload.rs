//! `leno.dev/v1alpha1` Workload.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use leno_certs::SpiffeId;

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
    let sidecar = sidecar(check, &path, spec);
    Some(StaticWorkload {
        name,
        labels: metadata.labels.clone().unwrap_or_default(),
        address: address?,
        ports,
        service_account: spec.service_account.clone(),
        sidecar,
    })
}

/// A sidecar that does not register here: where it is, and who it has to prove to be.
fn sidecar(check: &mut Check<'_>, path: &FieldPath, spec: &WorkloadSpec) -> Option<(u16, String)> {
    match (&spec.identity, spec.mesh_port) {
        (None, None) => None,
        (Some(identity), Some(port)) => {
            if let Err(why) = SpiffeId::parse(identity) {
                let hint = "write spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT";
                check.error(&path.key("identity"), why.to_string(), hint);
            }
            Some((check.port(&path.key("meshPort"), port)?, identity.clone()))
        }
        (Some(_), None) => {
            check.error(&path.key("meshPort"), "an identity is proven at a mesh port", "write `meshPort: 15008`");
            None
        }
        (None, Some(_)) => {
            let hint = "write the SPIFFE ID that its sidecar proves";
            check.error(&path.key("identity"), "nobody is believed at a mesh port without a name", hint);
            None
        }
    }
}
