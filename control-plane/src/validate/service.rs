//! `v1` Service.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ServicePort as WrittenPort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::check::{Check, is_dns_label, is_port_name};
use crate::config::FieldPath;
use crate::model::{AppProtocol, Name, Service, ServicePort, TargetPort, Unfit};

/// Most ports of a Service.
const MOST_PORTS: usize = 100;

/// A Service without a selector is taken, as by Kubernetes, and has no endpoints. Fields that are about addresses and
/// ports outside the mesh (`clusterIP`, `nodePort`, load balancers) mean nothing to the mesh and are let be; those
/// that would change which endpoint gets a request are refused.
pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &ServiceSpec) -> Option<Service> {
    let path = FieldPath::of("spec");
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    match kind {
        "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        "ExternalName" => {
            check.not_yet(&path.key("type"), "type ExternalName");
            return None;
        }
        other => {
            let hint = "write one of ClusterIP, NodePort, LoadBalancer";
            check.error(&path.key("type"), format!("{other:?} is no type of Service"), hint);
        }
    }
    if spec.session_affinity.as_deref().is_some_and(|affinity| affinity != "None") {
        check.not_yet(&path.key("sessionAffinity"), "sessionAffinity");
    }
    if spec.internal_traffic_policy.as_deref().is_some_and(|policy| policy != "Cluster") {
        check.not_yet(&path.key("internalTrafficPolicy"), "internalTrafficPolicy other than Cluster");
    }
    if spec.traffic_distribution.is_some() {
        check.not_yet(&path.key("trafficDistribution"), "trafficDistribution");
    }
    if spec.publish_not_ready_addresses == Some(true) {
        check.not_yet(&path.key("publishNotReadyAddresses"), "publishNotReadyAddresses");
    }
    if let Some(selector) = &spec.selector {
        check.labels(&path.key("selector"), selector.iter());
    }
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = check_ports(check, &path.key("ports"), spec.ports.as_deref().unwrap_or_default(), headless);
    Some(Service { name, selector: spec.selector.clone().unwrap_or_default(), ports, any_port: false, headless })
}

fn check_ports(check: &mut Check<'_>, path: &FieldPath, written: &[WrittenPort], headless: bool) -> Vec<ServicePort> {
    if written.is_empty() && !headless {
        check.error(path, "a Service has at least one port", "write `ports: [{port: 80}]`");
    }
    check.most(path, written.len(), MOST_PORTS);
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut ports = Vec::new();
    for (n, port) in written.iter().take(MOST_PORTS).enumerate() {
        let at = path.index(n);
        let name = port.name.clone().unwrap_or_default();
        if name.is_empty() && written.len() > 1 {
            check.error(&at, "every port has a name when there is more than one", "add `name:`");
        }
        if !name.is_empty() && !is_dns_label(&name) {
            check.error(&at.key("name"), format!("{name:?} is no name of a port"), "write 1 to 63 of a-z, 0-9 and -");
        }
        if !name.is_empty() && !names.insert(name.clone()) {
            check.error(&at.key("name"), format!("two ports have the name {name:?}"), "rename one of them");
        }
        match port.protocol.as_deref() {
            None | Some("TCP") => {}
            Some(other @ ("UDP" | "SCTP")) => check.not_yet(&at.key("protocol"), &format!("protocol {other}")),
            Some(other) => check.error(&at.key("protocol"), format!("{other:?} is no protocol"), "write TCP"),
        }
        let Some(number) = check.port(&at.key("port"), port.port.into()) else { continue };
        if !numbers.insert(number) {
            check.error(&at.key("port"), format!("port {number} is here twice"), "remove one of them");
        }
        let target = check_target(check, &at.key("targetPort"), port.target_port.as_ref(), number);
        let protocol = protocol(check, &at.key("appProtocol"), port.app_protocol.as_deref(), &name);
        let unfit = port.app_protocol.as_deref().and_then(unfit);
        ports.push(ServicePort { name, number, target, protocol, unfit });
    }
    ports
}

fn check_target(check: &mut Check<'_>, path: &FieldPath, written: Option<&IntOrString>, port: u16) -> TargetPort {
    match written {
        None => TargetPort::Number(port),
        Some(IntOrString::Int(number)) => TargetPort::Number(check.port(path, (*number).into()).unwrap_or(port)),
        Some(IntOrString::String(name)) => {
            if !is_port_name(name) {
                let hint =
                    "write a number without quotes, or a name of at most 15 of a-z, 0-9 and - with a letter in it";
                check.error(path, format!("{name:?} is no port"), hint);
            }
            TargetPort::Name(name.clone())
        }
    }
}

/// `appProtocol` says it (KEP-3726 has the standard ones), else the first part of the port's name, else nobody.
fn protocol(check: &mut Check<'_>, path: &FieldPath, written: Option<&str>, name: &str) -> AppProtocol {
    let Some(written) = written else { return protocol_of_name(name) };
    let plain = written.strip_prefix("kubernetes.io/").unwrap_or(written).to_ascii_lowercase();
    known(&plain).unwrap_or_else(|| {
        let hint = "write http, kubernetes.io/h2c, grpc, kubernetes.io/ws or tcp";
        check.warn(path, format!("{written:?} is not known; the first bytes of a connection decide"), hint);
        AppProtocol::Detect
    })
}

/// What an app cannot be spoken to by; its TLS may have HTTP inside, and TCP anything.
fn unfit(written: &str) -> Option<Unfit> {
    match written.strip_prefix("kubernetes.io/").unwrap_or(written).to_ascii_lowercase().as_str() {
        "ws" | "wss" => Some(Unfit::Grpc),
        "tcp" | "tls" | "https" => None,
        plain => (known(plain) == Some(AppProtocol::Tcp)).then_some(Unfit::Http),
    }
}

/// What the name of a port says of what is spoken there.
pub fn protocol_of_name(name: &str) -> AppProtocol {
    known(name.split('-').next().unwrap_or_default()).unwrap_or_default()
}

fn known(word: &str) -> Option<AppProtocol> {
    match word {
        "http" | "ws" | "http1" => Some(AppProtocol::Http),
        "h2c" | "grpc" | "http2" => Some(AppProtocol::Http2),
        "tcp" | "tls" | "https" | "wss" | "redis" | "mysql" | "mongo" | "mongodb" | "postgres" | "postgresql"
        | "amqp" | "kafka" | "memcached" | "mqtt" | "nats" | "ldap" | "smtp" => Some(AppProtocol::Tcp),
        _ => None,
    }
}
