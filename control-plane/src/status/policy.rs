//! Policies: one entry for each ancestor (GEP-713).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Inputs;
use super::condition::judged;
use crate::model::{
    Backend, BackendTlsPolicy, CONTROLLER, GATEWAY_GROUP, HttpRoute, HttpRule, Kind, Mesh, Name, PolicyTarget,
};
use crate::resolve::{self, Problem};

/// Most ancestors of a policy, as specified.
const MOST: usize = 16;

fn ancestor(group: &str, kind: &str, name: &Name, conditions: Vec<Value>) -> Value {
    json!({
        "ancestorRef": {"group": group, "kind": kind, "namespace": name.namespace, "name": name.name},
        "controllerName": CONTROLLER,
        "conditions": conditions,
    })
}

pub(super) fn traffic(inputs: Inputs<'_>, name: &Name) -> Option<Value> {
    let policy = inputs.mesh.traffic_policies.get(name)?;
    Some(attached(inputs, name, &policy.targets, policy.of_namespace))
}

pub(super) fn authorization(inputs: Inputs<'_>, name: &Name) -> Option<Value> {
    let policy = inputs.mesh.authorization_policies.get(name)?;
    Some(attached(inputs, name, &policy.targets, policy.of_namespace))
}

/// Of a policy for Services, for its namespace, or for both.
fn attached(inputs: Inputs<'_>, name: &Name, targets: &[String], of_namespace: bool) -> Value {
    let mut ancestors: Vec<Value> = Vec::new();
    for target in targets.iter().take(MOST) {
        let service = Name::new(&name.namespace, target);
        let missing = (inputs.has_port)(&service, 0).is_none();
        let message = format!("there is no Service {service}");
        let problem = missing.then_some(Problem { reason: "TargetNotFound", message });
        ancestors.push(ancestor("", "Service", &service, vec![judged("Accepted", "Accepted", problem.as_ref())]));
    }
    if of_namespace {
        let conditions = vec![judged("Accepted", "Accepted", None)];
        let reference = json!({"group": "", "kind": "Namespace", "name": name.namespace});
        ancestors.push(json!({"ancestorRef": reference, "controllerName": CONTROLLER, "conditions": conditions}));
    }
    json!({"ancestors": ancestors})
}

/// The ancestors are the Gateways that send to what the policy is attached to; where there are none, the Services
/// themselves, whose callers in the mesh it is for.
pub(super) fn backend_tls(inputs: Inputs<'_>, name: &Name) -> Option<Value> {
    let policy = inputs.mesh.backend_tls_policies.get(name)?;
    let resolved = resolve::backend_tls_policy(inputs.mesh, policy);
    let problem = found(inputs, policy).or_else(|| conflict(inputs.mesh, policy)).or(resolved.invalid);
    let conditions = vec![
        judged("Accepted", "Accepted", problem.as_ref()),
        judged("ResolvedRefs", "ResolvedRefs", resolved.unresolved.as_ref()),
    ];
    let services: Vec<Name> =
        policy.targets.iter().map(|target| Name::new(&name.namespace, &target.name)).take(MOST).collect();
    let gateways = sending_to(inputs, &services);
    let ancestors: Vec<Value> = match gateways.is_empty() {
        false => gateways
            .iter()
            .take(MOST)
            .map(|gateway| ancestor(GATEWAY_GROUP, "Gateway", gateway, conditions.clone()))
            .collect(),
        true => services.iter().map(|service| ancestor("", "Service", service, conditions.clone())).collect(),
    };
    Some(json!({"ancestors": ancestors}))
}

/// Why none of the targets is there.
fn found(inputs: Inputs<'_>, policy: &BackendTlsPolicy) -> Option<Problem> {
    let is_there = |target: &PolicyTarget| {
        let service = inputs.mesh.services.get(&Name::new(&policy.name.namespace, &target.name));
        let service = service.filter(|_| target.group.is_empty() && target.kind == "Service");
        service.is_some_and(|service| {
            target.section.as_ref().is_none_or(|section| service.ports.iter().any(|port| port.name == *section))
        })
    };
    if policy.targets.iter().any(is_there) {
        return None;
    }
    Some(Problem { reason: "TargetNotFound", message: "no Service and port of targetRefs is there".to_owned() })
}

/// Whether an older policy has every one of the targets.
fn conflict(mesh: &Mesh, policy: &BackendTlsPolicy) -> Option<Problem> {
    let before = |other: &&BackendTlsPolicy| (other.created, &other.name) < (policy.created, &policy.name);
    let others = mesh.backend_tls_policies.values().filter(|other| other.name.namespace == policy.name.namespace);
    let older: Vec<&BackendTlsPolicy> = others.filter(before).collect();
    let has = |target: &PolicyTarget| older.iter().find(|other| other.targets.contains(target));
    let winner = policy.targets.iter().map(has).collect::<Option<Vec<_>>>()?.first().map(|other| other.name.clone())?;
    let message = format!("the BackendTLSPolicy {winner} is older and has the same targets");
    Some(Problem { reason: "Conflicted", message })
}

fn sending_to(inputs: Inputs<'_>, services: &[Name]) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    for (name, gateway) in &inputs.resolved.gateways {
        let routes = gateway.listeners.iter().flat_map(|listener| &listener.attached);
        if routes.into_iter().any(|route| sends(inputs.mesh, route.kind, &route.name, services)) {
            found.insert(name.clone());
        }
    }
    found
}

fn sends(mesh: &Mesh, kind: Kind, name: &Name, services: &[Name]) -> bool {
    let of = |backend: &Backend| services.contains(&backend.service);
    let http = |route: &HttpRoute| route.rules.iter().flat_map(HttpRule::targets).any(of);
    match kind {
        Kind::TcpRoute => mesh.tcp_routes.get(name).is_some_and(|route| route.backends.iter().any(of)),
        Kind::TlsRoute => mesh.tls_routes.get(name).is_some_and(|route| route.backends.iter().any(of)),
        Kind::GrpcRoute => mesh.grpc_routes.get(name).is_some_and(http),
        _ => mesh.http_routes.get(name).is_some_and(http),
    }
}
