//! What the sidecar says about its workload.

use std::net::IpAddr;

use leno_proto::discovery::Node;
use leno_proto::{GatewayPorts, Registration, WorkloadState};

use crate::model::{Demand, Network};
use crate::settings::Settings;

/// Builds the registration; the address may only be known once the control plane was reached.
#[derive(Debug, Clone)]
pub struct Registrant {
    registration: Registration,
    /// The address was chosen by hand.
    fixed: bool,
    /// NAMESPACE/NAME of the Gateway that is served.
    gateway: Option<String>,
}

/// What changes of a workload while its sidecar runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Now {
    pub state: WorkloadState,
    /// Of the Gateway that is served, once they were tried.
    pub gateway_ports: Option<GatewayPorts>,
}

/// Further addresses that are told, at most.
const MOST_ADDRESSES: usize = 16;

fn interfaces() -> Vec<if_addrs::Interface> {
    if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses of this machine cannot be read; it is found by one of them only");
        Vec::new()
    })
}

/// The networks that this machine is in.
pub(super) fn networks() -> Vec<Network> {
    let network = |interface: if_addrs::Interface| {
        let prefix = match &interface.addr {
            if_addrs::IfAddr::V4(v4) => v4.prefixlen,
            if_addrs::IfAddr::V6(v6) => v6.prefixlen,
        };
        Network { address: interface.ip(), prefix }
    };
    interfaces().into_iter().map(network).collect()
}

/// The addresses of this network namespace at which others may look for the app. They are read at each connection: a container
/// may get another network while it runs.
fn addresses() -> Vec<IpAddr> {
    let reachable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    interfaces().iter().map(|interface| interface.ip()).filter(reachable).take(MOST_ADDRESSES).collect()
}

impl Registrant {
    /// `name` is the workload's; `mesh` is where its mesh port is really bound.
    pub fn new(settings: &Settings, name: String, mesh: std::net::SocketAddr) -> Self {
        let bound = Some(mesh.ip().to_canonical()).filter(|ip| !ip.is_unspecified());
        // What was said wins over what is bound: there may be a port forwarded in between.
        let address = settings.advertise_addr.or(bound);
        let registration = Registration {
            name,
            namespace: settings.namespace.clone(),
            service_account: settings.service_account.clone(),
            labels: settings.labels.clone(),
            address: address.map(|ip| ip.to_string()).unwrap_or_default(),
            mesh_port: mesh.port(),
            more_addresses: Vec::new(),
            any_port: settings.interception.is_some(),
            ports: settings.ports.iter().map(|port| (port.name.clone(), port.port)).collect(),
            state: WorkloadState::Ready,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway_ports: None,
        };
        let gateway = settings.gateway.as_ref().map(|gateway| format!("{}/{}", settings.namespace, gateway.name));
        Self { registration, fixed: address.is_some(), gateway }
    }

    /// What is asked for although no app does.
    pub(super) fn demand(&self) -> Option<Demand> {
        self.gateway.clone().map(Demand::Gateway)
    }

    /// The control plane was reached from this address of ours: peers can reach us there as well.
    pub(super) fn reached_from(&mut self, local: IpAddr) {
        if !self.fixed {
            self.registration.address = local.to_string();
        }
        if self.registration.any_port {
            self.registration.more_addresses = addresses().iter().map(ToString::to_string).collect();
        }
    }

    /// What is true of the workload by now.
    pub(super) fn node(&self, now: &Now) -> Node {
        let gateway_ports = now.gateway_ports.clone();
        Registration { state: now.state, gateway_ports, ..self.registration.clone() }.to_node()
    }

    /// The workload's name with its namespace.
    pub fn workload(&self) -> String {
        format!("{}/{}", self.registration.namespace, self.registration.name)
    }
}
