//! Routes: one entry for each parent.

use serde_json::{Map, Value, json};

use super::Inputs;
use super::condition::{condition, judged};
use crate::model::{Backend, CONTROLLER, GATEWAY_GROUP, GatewayParent, HttpRule, Kind, Name, ParentRef};
use crate::resolve::{Problem, backend_problem};

pub(super) fn route(inputs: Inputs<'_>, kind: Kind, name: &Name) -> Option<Value> {
    let mesh = inputs.mesh;
    let (services, backends): (&[ParentRef], Vec<&Backend>) = match kind {
        Kind::TcpRoute => {
            let route = mesh.tcp_routes.get(name)?;
            (&route.parents, route.backends.iter().collect())
        }
        Kind::TlsRoute => {
            let route = mesh.tls_routes.get(name)?;
            (&route.parents, route.backends.iter().collect())
        }
        _ => {
            let routes = if kind == Kind::GrpcRoute { &mesh.grpc_routes } else { &mesh.http_routes };
            let route = routes.get(name)?;
            (&route.parents, route.rules.iter().flat_map(HttpRule::targets).collect())
        }
    };
    let problem = |backend: &Backend| backend_problem(mesh, inputs.has_port, (kind, name), backend);
    let references = backends.into_iter().find_map(problem);
    let references = judged("ResolvedRefs", "ResolvedRefs", references.as_ref());
    let (refused, partly) = match unknown_filters(inputs, kind, name) {
        Some((problem, true)) => (Some(problem), None),
        Some((problem, false)) => (None, Some(condition("PartiallyInvalid", true, problem.reason, problem.message))),
        None => (None, None),
    };
    let entry = |parent: Value, problem: Option<&Problem>| {
        let mut conditions = vec![judged("Accepted", "Accepted", problem.or(refused.as_ref())), references.clone()];
        conditions.extend(partly.clone().filter(|_| problem.is_none()));
        json!({"parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions})
    };
    let of_service = |parent: &ParentRef| missing(inputs, parent).or_else(|| displaced(inputs, kind, name, parent));
    let mut parents: Vec<Value> =
        services.iter().map(|parent| entry(service_ref(parent), of_service(parent).as_ref())).collect();
    let outcomes = inputs.resolved.routes.get(&(kind, name.clone())).map(Vec::as_slice).unwrap_or_default();
    for (parent, outcome) in outcomes {
        // Another controller says what came of its own.
        if let Some(outcome) = outcome {
            parents.push(entry(gateway_ref(parent), outcome.as_ref().err()));
        }
    }
    Some(json!({"parents": parents}))
}

/// The rules that are not in force because of a filter that is not known, and whether those are all.
fn unknown_filters(inputs: Inputs<'_>, kind: Kind, name: &Name) -> Option<(Problem, bool)> {
    let routes = match kind {
        Kind::HttpRoute => &inputs.mesh.http_routes,
        Kind::GrpcRoute => &inputs.mesh.grpc_routes,
        _ => return None,
    };
    let rules = &routes.get(name)?.rules;
    let found = rules.iter().enumerate().filter_map(|(n, rule)| Some((n, rule.unknown_filter()?)));
    let found: Vec<String> = found.map(|(n, what)| format!("{n} (the filter {what} is not known)")).collect();
    if found.is_empty() {
        return None;
    }
    // The first words are specified.
    let message = format!("Dropped Rule: its requests are answered with an error: {}", found.join(", "));
    Some((Problem { reason: "UnsupportedValue", message }, found.len() == rules.len()))
}

/// As it is written, with the defaults.
fn reference(group: &str, kind: &str, target: &Name, says_namespace: bool) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("group".to_owned(), json!(group));
    fields.insert("kind".to_owned(), json!(kind));
    fields.insert("name".to_owned(), json!(target.name));
    if says_namespace {
        fields.insert("namespace".to_owned(), json!(target.namespace));
    }
    fields
}

fn service_ref(parent: &ParentRef) -> Value {
    placed(reference("", "Service", &parent.service, parent.says_namespace), parent.section.as_ref(), parent.port)
}

fn gateway_ref(parent: &GatewayParent) -> Value {
    let fields = reference(GATEWAY_GROUP, parent.kind.as_str(), &parent.name, parent.says_namespace);
    placed(fields, parent.section.as_ref(), parent.port)
}

fn placed(mut fields: Map<String, Value>, section: Option<&String>, port: Option<u16>) -> Value {
    fields.extend(section.map(|section| ("sectionName".to_owned(), json!(section))));
    fields.extend(port.map(|port| ("port".to_owned(), json!(port))));
    Value::Object(fields)
}

fn missing(inputs: Inputs<'_>, parent: &ParentRef) -> Option<Problem> {
    let service = &parent.service;
    let has_port = match inputs.mesh.services.get(service) {
        Some(written) => Some(written.has_parent_port(parent)),
        None => (inputs.has_port)(service, parent.port.unwrap_or_default()),
    };
    let message = match has_port {
        None => format!("there is no Service {service}"),
        Some(false) => format!("the Service {service} has no port {}", parent.port_words()),
        Some(true) => return None,
    };
    Some(Problem { reason: "NoMatchingParent", message })
}

/// On every port that the parent stands for, a more specific type of route holds.
fn displaced(inputs: Inputs<'_>, kind: Kind, name: &Name, parent: &ParentRef) -> Option<Problem> {
    let other = inputs.resolved.on_services.instead_of(inputs.mesh, kind, &name.namespace, parent)?;
    let service = &parent.service;
    let message = format!("a {other} of {} is attached to the same ports of the Service {service}", name.namespace);
    Some(Problem { reason: "Conflicted", message })
}
