//! Routes: one entry for each parent.

use serde_json::{Map, Value, json};

use super::Inputs;
use super::condition::judged;
use crate::model::{Backend, CONTROLLER, GATEWAY_GROUP, GatewayParent, HttpRule, Kind, Name, ParentRef};
use crate::resolve::Problem;

pub(super) fn route(inputs: Inputs<'_>, kind: Kind, name: &Name) -> Option<Value> {
    let mesh = inputs.mesh;
    let (services, backends): (&[ParentRef], Vec<&Backend>) = match kind {
        Kind::TcpRoute => {
            let route = mesh.tcp_routes.get(name)?;
            (&route.parents, route.backends.iter().collect())
        }
        Kind::TlsRoute => (&[], mesh.tls_routes.get(name)?.backends.iter().collect()),
        _ => {
            let routes = if kind == Kind::GrpcRoute { &mesh.grpc_routes } else { &mesh.http_routes };
            let route = routes.get(name)?;
            (&route.parents, route.rules.iter().flat_map(HttpRule::targets).collect())
        }
    };
    let references = backends.iter().find_map(|backend| unresolved(inputs, kind, name, backend));
    let references = judged("ResolvedRefs", "ResolvedRefs", references.as_ref());
    let entry = |parent: Value, problem: Option<&Problem>| {
        json!({
            "parentRef": parent,
            "controllerName": CONTROLLER,
            "conditions": [judged("Accepted", "Accepted", problem), references],
        })
    };
    let mut parents: Vec<Value> =
        services.iter().map(|parent| entry(service_ref(parent, name), of_service(inputs, parent).as_ref())).collect();
    let outcomes = inputs.resolved.routes.get(&(kind, name.clone())).map(Vec::as_slice).unwrap_or_default();
    for (parent, outcome) in outcomes {
        // Another controller says what came of its own.
        if let Some(outcome) = outcome {
            parents.push(entry(gateway_ref(parent, name), outcome.as_ref().err()));
        }
    }
    Some(json!({"parents": parents}))
}

fn reference(group: &str, kind: &str, target: &Name, own: &Name) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("group".to_owned(), json!(group));
    fields.insert("kind".to_owned(), json!(kind));
    fields.insert("name".to_owned(), json!(target.name));
    if target.namespace != own.namespace {
        fields.insert("namespace".to_owned(), json!(target.namespace));
    }
    fields
}

fn service_ref(parent: &ParentRef, own: &Name) -> Value {
    let mut fields = reference("", "Service", &parent.service, own);
    fields.extend(parent.port.map(|port| ("port".to_owned(), json!(port))));
    Value::Object(fields)
}

fn gateway_ref(parent: &GatewayParent, own: &Name) -> Value {
    let mut fields = reference(GATEWAY_GROUP, parent.kind.as_str(), &parent.name, own);
    fields.extend(parent.section.as_ref().map(|section| ("sectionName".to_owned(), json!(section))));
    fields.extend(parent.port.map(|port| ("port".to_owned(), json!(port))));
    Value::Object(fields)
}

fn of_service(inputs: Inputs<'_>, parent: &ParentRef) -> Option<Problem> {
    let found = (inputs.has_port)(&parent.service, parent.port.unwrap_or_default());
    let message = match (found, parent.port) {
        (None, _) => format!("there is no Service {}", parent.service),
        (Some(false), Some(port)) => format!("the Service {} has no port {port}", parent.service),
        _ => return None,
    };
    Some(Problem { reason: "NoMatchingParent", message })
}

/// The grant is looked at before the Service, so that nobody learns what exists in a namespace that granted nothing.
fn unresolved(inputs: Inputs<'_>, kind: Kind, route: &Name, backend: &Backend) -> Option<Problem> {
    let service = &backend.service;
    match backend.invalid_reason.as_str() {
        "" => {}
        "InvalidKind" => {
            return Some(Problem { reason: "InvalidKind", message: format!("the backend {service} is no Service") });
        }
        _ => {
            return Some(Problem {
                reason: "UnsupportedValue",
                message: format!("the backend {service} is not valid"),
            });
        }
    }
    if !inputs.mesh.may_refer((GATEWAY_GROUP, kind.as_str()), &route.namespace, ("", "Service", service)) {
        let message = format!("no ReferenceGrant in {} lets this {kind} send to {service}", service.namespace);
        return Some(Problem { reason: "RefNotPermitted", message });
    }
    let message = match (inputs.has_port)(service, backend.port) {
        Some(true) => return None,
        Some(false) => format!("the Service {service} has no port {}", backend.port),
        None => format!("there is no Service {service}"),
    };
    Some(Problem { reason: "BackendNotFound", message })
}
