//! Which workloads a Service selects, kept as an index: a changed workload finds its Services, and a changed Service its
//! workloads, without a pass over all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::{Name, Service, TargetPort, Workload};

/// Namespace, key and value of a label.
type Label = (String, String, String);

/// A port of a workload as one Service reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndpointPort {
    pub(super) service_port: u16,
    pub(super) target: String,
    pub(super) number: u16,
}

/// All workloads, from wherever they come, and the Services by what they select.
#[derive(Debug, Default)]
pub(super) struct Selection {
    workloads: BTreeMap<Name, Arc<Workload>>,
    workloads_by_label: HashMap<Label, BTreeSet<Name>>,
    workloads_by_address: HashMap<SocketAddr, BTreeSet<Name>>,
    workloads_by_ip: HashMap<IpAddr, BTreeSet<Name>>,
    /// By the first label of the selector: who lacks that one is not selected.
    services_by_label: HashMap<Label, BTreeSet<Name>>,
}

impl Selection {
    /// Sets or removes a workload; gives the one before.
    pub(super) fn set_workload(&mut self, name: &Name, workload: Option<Arc<Workload>>) -> Option<Arc<Workload>> {
        let old = self.workloads.remove(name);
        if let Some(old) = &old {
            for label in labels(&name.namespace, &old.labels) {
                forget(&mut self.workloads_by_label, &label, name);
            }
            for address in addresses(old) {
                forget(&mut self.workloads_by_address, &address, name);
            }
            for ip in old.ips() {
                forget(&mut self.workloads_by_ip, &ip, name);
            }
        }
        if let Some(workload) = workload {
            for label in labels(&name.namespace, &workload.labels) {
                self.workloads_by_label.entry(label).or_default().insert(name.clone());
            }
            for address in addresses(&workload) {
                self.workloads_by_address.entry(address).or_default().insert(name.clone());
            }
            for ip in workload.ips() {
                self.workloads_by_ip.entry(ip).or_default().insert(name.clone());
            }
            self.workloads.insert(name.clone(), workload);
        }
        old
    }

    /// Exchanges what a Service selects.
    pub(super) fn set_service(&mut self, old: Option<&Service>, new: Option<&Service>) {
        if let Some((label, service)) = old.and_then(|s| Some((first_label(s)?, s))) {
            forget(&mut self.services_by_label, &label, &service.name);
        }
        if let Some((label, service)) = new.and_then(|s| Some((first_label(s)?, s))) {
            self.services_by_label.entry(label).or_default().insert(service.name.clone());
        }
    }

    /// The workloads of a Service, by name.
    pub(super) fn workloads_of(&self, service: &Service) -> impl Iterator<Item = &Arc<Workload>> {
        let candidates = first_label(service).and_then(|label| self.workloads_by_label.get(&label));
        candidates.into_iter().flatten().filter_map(|name| self.workloads.get(name)).filter(|w| selects(service, w))
    }

    /// Names of the Services that may select a workload; the caller checks with [`selects`].
    pub(super) fn services_near<'a>(&'a self, workload: &'a Workload) -> BTreeSet<&'a Name> {
        labels(&workload.name.namespace, &workload.labels)
            .filter_map(|label| self.services_by_label.get(&label))
            .flatten()
            .collect()
    }

    /// The workloads of a namespace, by name.
    pub(super) fn workloads_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Workload>> {
        let from = Name::new(namespace, "");
        self.workloads
            .range(from..)
            .take_while(move |(name, _)| name.namespace == namespace)
            .map(|(_, workload)| workload)
    }

    /// The workloads that have an IP address, by name.
    pub(super) fn workloads_of_ip(&self, ip: IpAddr) -> impl Iterator<Item = &Arc<Workload>> {
        let names = self.workloads_by_ip.get(&ip);
        names.into_iter().flatten().filter_map(|name| self.workloads.get(name))
    }

    /// The workloads that have an address, by name.
    pub(super) fn workloads_at(&self, address: SocketAddr) -> impl Iterator<Item = &Arc<Workload>> {
        let names = self.workloads_by_address.get(&address);
        names.into_iter().flatten().filter_map(|name| self.workloads.get(name))
    }
}

/// Whether every label of the selector is the workload's. An empty selector selects nothing, as in Kubernetes.
pub(super) fn selects(service: &Service, workload: &Workload) -> bool {
    !service.selector.is_empty()
        && service.name.namespace == workload.name.namespace
        && service.selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
}

/// The ports of a workload that a Service reaches. A port that the workload does not have is left out; one whose sidecar takes
/// every port has it, whatever its number.
pub(super) fn endpoint_ports(service: &Service, workload: &Workload) -> Vec<EndpointPort> {
    service
        .ports
        .iter()
        .filter_map(|port| {
            let (target, number) = target(&port.target, workload)?;
            Some(EndpointPort { service_port: port.number, target, number })
        })
        .collect()
}

/// The workload's port of that name; for a number the port of that name (`--port 80=127.0.0.1:8080` stands in for port 80),
/// else the first one of that number.
fn target(target: &TargetPort, workload: &Workload) -> Option<(String, u16)> {
    let found = match target {
        TargetPort::Name(name) => workload.ports.get_key_value(name),
        TargetPort::Number(number) => workload
            .ports
            .get_key_value(&number.to_string())
            .or_else(|| workload.ports.iter().find(|(_, port)| *port == number)),
    };
    match (found, target) {
        (Some((name, number)), _) => Some((name.clone(), *number)),
        (None, TargetPort::Number(number)) if workload.any_port => Some((number.to_string(), *number)),
        (None, _) => None,
    }
}

/// Every address at which a workload may be asked for: its app's ports and its sidecar's.
pub(super) fn addresses(workload: &Workload) -> impl Iterator<Item = SocketAddr> {
    let ports = workload.ports.values().copied().chain(workload.mesh_port);
    ports.flat_map(|port| workload.ips().map(move |ip| SocketAddr::new(ip, port)))
}

fn labels(namespace: &str, labels: &BTreeMap<String, String>) -> impl Iterator<Item = Label> {
    labels.iter().map(move |(key, value)| (namespace.to_owned(), key.clone(), value.clone()))
}

fn first_label(service: &Service) -> Option<Label> {
    let (key, value) = service.selector.first_key_value()?;
    Some((service.name.namespace.clone(), key.clone(), value.clone()))
}

fn forget<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<Name>>, key: &K, name: &Name) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}
