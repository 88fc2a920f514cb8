//! Services that nobody wrote. A transparent sidecar says by its label `app` what its app is called; as long as there is no
//! Service of that name, this makes one: it selects that label and is reached on every port that the apps listen on. So a
//! mesh of unchanged apps needs no object at all.

use std::collections::{BTreeMap, BTreeSet};

use super::attach::Attachments;
use super::selection::Selection;
use crate::model::{Name, Service, ServicePort, TargetPort, Workload};
use crate::validate::{is_dns_label, protocol_of_name};

/// The label that `leno-proxy --service` sets.
const APP: &str = "app";
/// Most ports that stand in it by name or because a route is attached there; the others are reached all the same.
const MOST_PORTS: usize = 100;

/// The name of the service that a workload stands for by itself.
pub(super) fn name_of(workload: &Workload) -> Option<Name> {
    let app = workload.labels.get(APP).filter(|_| workload.any_port)?;
    is_dns_label(app).then(|| Name::new(&workload.name.namespace, app))
}

/// The service of a name that workloads stand for.
pub(super) fn service(name: &Name, selection: &Selection, attachments: &Attachments) -> Option<Service> {
    let mut service = Service {
        name: name.clone(),
        selector: [(APP.to_owned(), name.name.clone())].into(),
        ports: Vec::new(),
        any_port: true,
        headless: false,
    };
    let mut named: BTreeMap<u16, String> = BTreeMap::new();
    let mut any = false;
    for workload in selection.workloads_of(&service).filter(|workload| workload.any_port) {
        any = true;
        for (port, number) in &workload.ports {
            named.entry(*number).or_insert_with(|| port.clone());
        }
    }
    if !any {
        return None;
    }
    let numbers: BTreeSet<u16> = named.keys().copied().chain(attachments.parent_ports(name)).collect();
    let port = |number: u16| {
        let name = named.get(&number).cloned().unwrap_or_default();
        let protocol = protocol_of_name(&name);
        ServicePort { name, number, target: TargetPort::Number(number), protocol, unfit: None }
    };
    service.ports = numbers.into_iter().take(MOST_PORTS).map(port).collect();
    Some(service)
}
