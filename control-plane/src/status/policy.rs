//! Policies: one entry for each ancestor (GEP-713).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Inputs;
use super::condition::{condition, judged};
use crate::model::{
    Backend, BackendTlsPolicy, CONTROLLER, GATEWAY_GROUP, HttpRoute, HttpRule, Kind, Mesh, Name, PolicyTarget,
    RouteTarget, TrafficPolicy,
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
    let older: Vec<(&Name, &TrafficPolicy)> = inputs
        .mesh
        .policies_by_age()
        .into_iter()
        .take_while(|(other, _)| *other != name)
        .filter(|(other, _)| other.namespace == name.namespace)
        .collect();
    let conditions = |missing: Option<Problem>, meets: &dyn Fn(&TrafficPolicy) -> bool| {
        let older = older.iter().filter(|(_, other)| meets(other)).copied();
        let lost = lost(policy, &older.collect::<Vec<_>>());
        match (missing, lost) {
            (Some(missing), _) => vec![judged("Accepted", "Accepted", Some(&missing))],
            (None, Lost::Everything(problem)) => vec![judged("Accepted", "Accepted", Some(&problem))],
            (None, Lost::Some(problem)) => {
                let accepted = judged("Accepted", "Accepted", None);
                vec![accepted, condition("Conflicted", true, "Conflicted", problem.message)]
            }
            (None, Lost::Nothing) => vec![judged("Accepted", "Accepted", None)],
        }
    };
    let mut ancestors: Vec<Value> = Vec::new();
    for target in &policy.targets {
        let service = Name::new(&name.namespace, target);
        let missing = (inputs.has_port)(&service, 0).is_none().then(|| not_found("Service", &service));
        let conditions = conditions(missing, &|other| other.targets.contains(target));
        ancestors.push(ancestor("", "Service", &service, conditions));
    }
    for target in &policy.routes {
        let route = Name::new(&name.namespace, &target.name);
        let missing = (!is_there(inputs.mesh, target, &route)).then(|| not_found(target.kind.as_str(), &route));
        let mut entry =
            ancestor(GATEWAY_GROUP, target.kind.as_str(), &route, conditions(missing, &|o| o.routes.contains(target)));
        if let Some(section) = &target.section {
            entry["ancestorRef"]["sectionName"] = json!(section);
        }
        ancestors.push(entry);
    }
    if policy.of_namespace {
        ancestors.push(of_namespace(name, conditions(None, &|other| other.of_namespace)));
    }
    ancestors.truncate(MOST);
    Some(json!({"ancestors": ancestors}))
}

pub(super) fn authorization(inputs: Inputs<'_>, name: &Name) -> Option<Value> {
    let policy = inputs.mesh.authorization_policies.get(name)?;
    let accepted = |missing: Option<Problem>| vec![judged("Accepted", "Accepted", missing.as_ref())];
    let mut ancestors: Vec<Value> = Vec::new();
    for target in policy.targets.iter().take(MOST) {
        let service = Name::new(&name.namespace, target);
        let missing = (inputs.has_port)(&service, 0).is_none().then(|| not_found("Service", &service));
        ancestors.push(ancestor("", "Service", &service, accepted(missing)));
    }
    if policy.of_namespace {
        ancestors.push(of_namespace(name, accepted(None)));
    }
    Some(json!({"ancestors": ancestors}))
}

fn of_namespace(name: &Name, conditions: Vec<Value>) -> Value {
    let reference = json!({"group": "", "kind": "Namespace", "name": name.namespace});
    json!({"ancestorRef": reference, "controllerName": CONTROLLER, "conditions": conditions})
}

fn not_found(kind: &str, target: &Name) -> Problem {
    Problem { reason: "TargetNotFound", message: format!("there is no {kind} {target} with what is named of it") }
}

/// Whether a route is there, and has the rule that is named.
fn is_there(mesh: &Mesh, target: &RouteTarget, name: &Name) -> bool {
    let routes = if target.kind == Kind::GrpcRoute { &mesh.grpc_routes } else { &mesh.http_routes };
    let has_rule =
        |section: &String| routes.get(name).is_some_and(|r| r.rules.iter().any(|rule| rule.name == *section));
    target.section.as_ref().map_or(routes.contains_key(name), has_rule)
}

/// What older policies of the same target leave of a policy.
enum Lost {
    Nothing,
    Some(Problem),
    Everything(Problem),
}

/// Policies are merged field by field; of two that say the same field differently the older one holds (GEP-713).
fn lost(policy: &TrafficPolicy, older: &[(&Name, &TrafficPolicy)]) -> Lost {
    let mut before = TrafficPolicy::default();
    older.iter().for_each(|(_, other)| before.fill(&other.said()));
    let said = policy.said();
    let mut with = before.clone();
    with.fill(&said);
    let differs = |(_, other): &&(&Name, &TrafficPolicy)| {
        let (mut own, mut theirs) = (said.clone(), other.said());
        own.fill(&other.said());
        theirs.fill(&said);
        own != theirs
    };
    let Some((winner, _)) = older.iter().find(differs) else { return Lost::Nothing };
    let everything = with == before;
    let what = if everything { "everything" } else { "some" };
    let message = format!("the TrafficPolicy {winner} is older and says {what} of this one otherwise");
    let problem = Problem { reason: "Conflicted", message };
    if everything { Lost::Everything(problem) } else { Lost::Some(problem) }
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
