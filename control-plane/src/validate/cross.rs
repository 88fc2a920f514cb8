//! What only shows when all objects are seen together. These are warnings, never refusals: objects come in any order,
//! and what is missing now may be there in a moment.

use super::{Entity, Valid};
use crate::config::{Problem, Severity};
use crate::model::{
    AuthorizationPolicy, Backend, Filter, HttpRule, JwtKeys, JwtProvider, Kind, Mesh, Name, ParentRef, RouteTarget,
};

/// Warnings about the objects of a batch, as they stand in the mesh that has taken them.
pub fn warnings(mesh: &Mesh, valid: &[Valid]) -> Vec<Problem> {
    let mut found = Vec::new();
    for object in valid {
        let mut warn = |field: String, message: String, hint: &str| {
            found.push(Problem {
                file: object.file.clone(),
                object: object.key.to_string(),
                field,
                message,
                hint: hint.to_owned(),
                severity: Severity::Warning,
                ..Problem::default()
            });
        };
        match &object.entity {
            Entity::HttpRoute(route) | Entity::GrpcRoute(route) => {
                parents(mesh, &route.parents, &mut warn);
                let kind = if route.grpc { Kind::GrpcRoute } else { Kind::HttpRoute };
                for (n, rule) in route.rules.iter().enumerate() {
                    let field = format!("spec.rules[{n}].backendRefs");
                    backends(mesh, (kind, &route.name), &field, &rule.backends, &mut warn);
                    mirrors(mesh, (kind, &route.name), n, rule, &mut warn);
                }
            }
            Entity::TcpRoute(route) => {
                parents(mesh, &route.parents, &mut warn);
                let field = "spec.rules[0].backendRefs";
                backends(mesh, (Kind::TcpRoute, &route.name), field, &route.backends, &mut warn);
            }
            Entity::TlsRoute(route) => {
                parents(mesh, &route.parents, &mut warn);
                let field = "spec.rules[0].backendRefs";
                backends(mesh, (Kind::TlsRoute, &route.name), field, &route.backends, &mut warn);
            }
            Entity::TrafficPolicy(policy) => {
                policy_routes(mesh, &object.key.name.namespace, &policy.routes, &mut warn);
                policy_services(mesh, &object.key.name.namespace, &policy.targets, &mut warn);
            }
            Entity::AuthorizationPolicy(policy) => {
                policy_services(mesh, &object.key.name.namespace, &policy.targets, &mut warn);
                policy_providers(mesh, &object.key.name.namespace, policy, &mut warn);
            }
            Entity::JwtProvider(provider) => provider_keys(mesh, &object.key.name.namespace, provider, &mut warn),
            _ => {}
        }
    }
    found
}

fn policy_services(mesh: &Mesh, namespace: &str, targets: &[String], warn: &mut Warn<'_>) {
    for (n, target) in targets.iter().enumerate() {
        let name = Name::new(namespace, target.as_str());
        if !mesh.services.contains_key(&name) {
            let message = format!("the Service {name} does not exist");
            warn(format!("spec.targetRefs[{n}]"), message, "create it, or correct the name");
        }
    }
}

/// Of an issuer that is not there no token is right.
fn policy_providers(mesh: &Mesh, namespace: &str, policy: &AuthorizationPolicy, warn: &mut Warn<'_>) {
    for (n, rule) in policy.rules.iter().enumerate() {
        for claim in rule.to.iter().flat_map(|to| &to.claims) {
            let name = Name::new(namespace, &claim.provider);
            if !mesh.jwt_providers.contains_key(&name) {
                let message = format!("the JwtProvider {name} does not exist; no token is right for it");
                warn(format!("spec.rules[{n}]"), message, "create it, or correct the name");
            }
        }
    }
}

fn provider_keys(mesh: &Mesh, namespace: &str, provider: &JwtProvider, warn: &mut Warn<'_>) {
    let JwtKeys::ConfigMap(map) = &provider.keys else { return };
    let name = Name::new(namespace, map);
    let why = match mesh.config_maps.get(&name).map(|map| &map.jwks) {
        None => "does not exist".to_owned(),
        Some(Err(why)) => format!("is of no use: {why}"),
        Some(Ok(_)) => return,
    };
    let field = "spec.jwks.configMap".to_owned();
    warn(field, format!("the ConfigMap {name} {why}; no token is right"), "give it the entry jwks.json");
}

/// A policy of a route or rule that is not there holds for nothing.
fn policy_routes(mesh: &Mesh, namespace: &str, targets: &[RouteTarget], warn: &mut Warn<'_>) {
    for target in targets {
        let name = Name::new(namespace, &target.name);
        let routes = if target.kind == Kind::GrpcRoute { &mesh.grpc_routes } else { &mesh.http_routes };
        let field = "spec.targetRefs".to_owned();
        match (routes.get(&name), &target.section) {
            (None, _) => {
                warn(field, format!("the {} {name} does not exist", target.kind), "create it, or correct the name");
            }
            (Some(route), Some(section)) if !route.rules.iter().any(|rule| rule.name == *section) => {
                let message = format!("the {} {name} has no rule named {section:?}", target.kind);
                warn(field, message, "name the rule, or correct sectionName");
            }
            _ => {}
        }
    }
}

type Warn<'a> = dyn FnMut(String, String, &str) + 'a;

fn parents(mesh: &Mesh, parents: &[ParentRef], warn: &mut Warn<'_>) {
    for (n, parent) in parents.iter().enumerate() {
        let field = format!("spec.parentRefs[{n}]");
        match mesh.services.get(&parent.service) {
            None => {
                warn(field, format!("the Service {} does not exist", parent.service), "create it, or correct the name");
            }
            Some(service) if !service.has_parent_port(parent) => {
                let message = format!("the Service {} has no port {}", parent.service, parent.port_words());
                warn(field, message, "correct the port");
            }
            Some(_) => {}
        }
    }
}

fn backends(mesh: &Mesh, route: (Kind, &Name), field: &str, backends: &[Backend], warn: &mut Warn<'_>) {
    for (n, backend) in backends.iter().enumerate().filter(|(_, b)| b.invalid_reason.is_empty()) {
        let field = format!("{field}[{n}]");
        let service = &backend.service;
        match mesh.services.get(service) {
            None => {
                let message = format!("the Service {service} does not exist; its share is answered 500");
                warn(field, message, "create it, or correct the name");
            }
            Some(found) if !found.has_port(backend.port) => {
                let message = format!("the Service {service} has no port {}; its share is answered 500", backend.port);
                warn(field, message, "correct the port");
            }
            Some(_) if !granted(mesh, route, service) => {
                let message = format!(
                    "no ReferenceGrant in {} lets this route send to {service}; its share is answered 500",
                    service.namespace
                );
                warn(field, message, "create one in that namespace");
            }
            Some(_) => {}
        }
    }
}

/// What is not there is not mirrored to.
fn mirrors(mesh: &Mesh, route: (Kind, &Name), n: usize, rule: &HttpRule, warn: &mut Warn<'_>) {
    let of_rule = rule.filters.iter().enumerate().map(|(f, filter)| (format!("spec.rules[{n}].filters[{f}]"), filter));
    let of_backends = rule.backends.iter().enumerate().flat_map(|(b, backend)| {
        let filters = backend.filters.iter().enumerate();
        filters.map(move |(f, filter)| (format!("spec.rules[{n}].backendRefs[{b}].filters[{f}]"), filter))
    });
    for (field, filter) in of_rule.chain(of_backends) {
        let Some(backend) = Filter::mirrored(filter).filter(|backend| backend.invalid_reason.is_empty()) else {
            continue;
        };
        let field = format!("{field}.requestMirror.backendRef");
        let service = &backend.service;
        let missing = match mesh.services.get(service) {
            None => "does not exist".to_owned(),
            Some(found) if !found.has_port(backend.port) => format!("has no port {}", backend.port),
            Some(_) if !granted(mesh, route, service) => {
                "is not opened by a ReferenceGrant of its namespace".to_owned()
            }
            Some(_) => continue,
        };
        warn(field, format!("the Service {service} {missing}; nothing is mirrored to it"), "correct the reference");
    }
}

/// Whether a route may send to a Service (GEP-709): its own namespace's, or one that a ReferenceGrant opens.
fn granted(mesh: &Mesh, (kind, route): (Kind, &Name), service: &Name) -> bool {
    mesh.may_send(kind, route, service)
}
