//! From what the user wrote to the model: what an object means, and everything that is wrong with it at once.
//!
//! A [`Valid`] object is the only way into the store, and only this module makes one.

mod authorization_policy;
mod backend_tls_policy;
mod balancing;
mod check;
mod cross;
mod endpoint_slice;
mod endpoints;
mod federation;
mod filter;
mod gateway;
mod grpc_route;
mod http_path;
mod http_route;
mod jwt_provider;
mod listener;
mod reference_grant;
mod resilience;
mod route;
mod secret;
mod service;
mod session;
mod tcp_route;
mod tls_route;
mod traffic_policy;
mod workload;

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::config::{FieldPath, Object, Problem, Severity, Spec};
use crate::model::{self, Kind, Mesh, Name, ObjectKey};
use check::Check;

pub use check::{is_dns_label, is_dns_subdomain};
pub use cross::warnings;
pub use service::protocol_of_name;

/// What a valid object means.
#[derive(Debug, Clone, PartialEq)]
enum Entity {
    Namespace(BTreeMap<String, String>),
    Service(model::Service),
    Workload(model::StaticWorkload),
    HttpRoute(model::HttpRoute),
    GrpcRoute(model::HttpRoute),
    TcpRoute(model::TcpRoute),
    ReferenceGrant(model::ReferenceGrant),
    TrafficPolicy(Box<model::TrafficPolicy>),
    GatewayClass(model::GatewayClass),
    Gateway(model::Gateway),
    ListenerSet(model::ListenerSet),
    TlsRoute(model::TlsRoute),
    BackendTlsPolicy(model::BackendTlsPolicy),
    Secret(model::Secret),
    ConfigMap(model::ConfigMap),
    EndpointSlice(model::EndpointSlice),
    Endpoints(Vec<model::EndpointSlice>),
    AuthorizationPolicy(model::AuthorizationPolicy),
    JwtProvider(model::JwtProvider),
    FederatedTrustDomain(model::FederatedTrustDomain),
}

/// An object that has passed every check.
#[derive(Debug, Clone)]
pub struct Valid {
    key: ObjectKey,
    value: Value,
    file: String,
    /// `metadata.creationTimestamp`, seconds since 1970.
    created: Option<i64>,
    entity: Entity,
}

/// What came of a batch of objects.
#[derive(Debug, Default)]
pub struct Checked {
    pub valid: Vec<Valid>,
    /// Objects that are refused; their last good version stays.
    pub refused: Vec<ObjectKey>,
    pub problems: Vec<Problem>,
}

impl Valid {
    /// Which object it is.
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// As the user wrote it, as it is stored.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The file that it came from, as its sender named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// When the object says that it was made, seconds since 1970.
    pub fn created(&self) -> Option<i64> {
        self.created
    }

    /// Puts it into a mesh. `stored` is when it was first stored, for an object that does not say when it was made.
    pub fn put_into(&self, mesh: &mut Mesh, stored: i64) {
        let name = self.key.name.clone();
        let created = self.created.unwrap_or(stored);
        match self.entity.clone() {
            Entity::Namespace(labels) => drop(mesh.namespaces.insert(name.name, labels)),
            Entity::Service(service) => drop(mesh.services.insert(name, service)),
            Entity::Workload(workload) => drop(mesh.workloads.insert(name, workload)),
            Entity::HttpRoute(route) => drop(mesh.http_routes.insert(name, model::HttpRoute { created, ..route })),
            Entity::GrpcRoute(route) => drop(mesh.grpc_routes.insert(name, model::HttpRoute { created, ..route })),
            Entity::TcpRoute(route) => drop(mesh.tcp_routes.insert(name, model::TcpRoute { created, ..route })),
            Entity::ReferenceGrant(grant) => drop(mesh.reference_grants.insert(name, grant)),
            Entity::TrafficPolicy(policy) => {
                drop(mesh.traffic_policies.insert(name, model::TrafficPolicy { created, ..*policy }));
            }
            Entity::GatewayClass(class) => drop(mesh.gateway_classes.insert(name.name, class)),
            Entity::Gateway(gateway) => drop(mesh.gateways.insert(name, model::Gateway { created, ..gateway })),
            Entity::ListenerSet(set) => drop(mesh.listener_sets.insert(name, model::ListenerSet { created, ..set })),
            Entity::TlsRoute(route) => drop(mesh.tls_routes.insert(name, model::TlsRoute { created, ..route })),
            Entity::BackendTlsPolicy(policy) => {
                drop(mesh.backend_tls_policies.insert(name, model::BackendTlsPolicy { created, ..policy }));
            }
            Entity::Secret(secret) => drop(mesh.secrets.insert(name, secret)),
            Entity::ConfigMap(map) => drop(mesh.config_maps.insert(name, map)),
            Entity::EndpointSlice(slice) => drop(mesh.endpoint_slices.insert(name, slice)),
            Entity::Endpoints(slices) => drop(mesh.endpoints.insert(name, slices)),
            Entity::AuthorizationPolicy(policy) => drop(mesh.authorization_policies.insert(name, policy)),
            Entity::JwtProvider(provider) => drop(mesh.jwt_providers.insert(name, provider)),
            Entity::FederatedTrustDomain(domain) => drop(mesh.federated_trust_domains.insert(name.name, domain)),
        }
    }
}

/// Takes an object out of a mesh.
pub fn remove_from(mesh: &mut Mesh, key: &ObjectKey) {
    match key.kind {
        Kind::Namespace => drop(mesh.namespaces.remove(&key.name.name)),
        Kind::Service => drop(mesh.services.remove(&key.name)),
        Kind::Workload => drop(mesh.workloads.remove(&key.name)),
        Kind::HttpRoute => drop(mesh.http_routes.remove(&key.name)),
        Kind::GrpcRoute => drop(mesh.grpc_routes.remove(&key.name)),
        Kind::TcpRoute => drop(mesh.tcp_routes.remove(&key.name)),
        Kind::ReferenceGrant => drop(mesh.reference_grants.remove(&key.name)),
        Kind::TrafficPolicy => drop(mesh.traffic_policies.remove(&key.name)),
        Kind::GatewayClass => drop(mesh.gateway_classes.remove(&key.name.name)),
        Kind::Gateway => drop(mesh.gateways.remove(&key.name)),
        Kind::ListenerSet => drop(mesh.listener_sets.remove(&key.name)),
        Kind::TlsRoute => drop(mesh.tls_routes.remove(&key.name)),
        Kind::BackendTlsPolicy => drop(mesh.backend_tls_policies.remove(&key.name)),
        Kind::Secret => drop(mesh.secrets.remove(&key.name)),
        Kind::ConfigMap => drop(mesh.config_maps.remove(&key.name)),
        Kind::EndpointSlice => drop(mesh.endpoint_slices.remove(&key.name)),
        Kind::Endpoints => drop(mesh.endpoints.remove(&key.name)),
        Kind::AuthorizationPolicy => drop(mesh.authorization_policies.remove(&key.name)),
        Kind::JwtProvider => drop(mesh.jwt_providers.remove(&key.name)),
        Kind::FederatedTrustDomain => drop(mesh.federated_trust_domains.remove(&key.name.name)),
    }
}

/// Checks one object.
pub fn object(object: Object) -> Result<(Valid, Vec<Problem>), Vec<Problem>> {
    let mut check = Check::new(&object);
    let entity = object.typed.as_ref().and_then(|(metadata, spec)| {
        check.metadata(metadata);
        let name = object.key.name.clone();
        match spec {
            Spec::Namespace => Some(Entity::Namespace(metadata.labels.clone().unwrap_or_default())),
            Spec::Service(spec) => service::check(&mut check, name, spec).map(Entity::Service),
            Spec::Workload(spec) => workload::check(&mut check, name, metadata, spec).map(Entity::Workload),
            Spec::HttpRoute(spec) => Some(Entity::HttpRoute(http_route::check(&mut check, name, spec))),
            Spec::GrpcRoute(spec) => Some(Entity::GrpcRoute(grpc_route::check(&mut check, name, spec))),
            Spec::TcpRoute(spec) => Some(Entity::TcpRoute(tcp_route::check(&mut check, name, spec))),
            Spec::ReferenceGrant(spec) => Some(Entity::ReferenceGrant(reference_grant::check(&mut check, name, spec))),
            Spec::TrafficPolicy(spec) => Some(Entity::TrafficPolicy(Box::new(traffic_policy::check(&mut check, spec)))),
            Spec::AuthorizationPolicy(spec) => {
                Some(Entity::AuthorizationPolicy(authorization_policy::check(&mut check, spec)))
            }
            Spec::JwtProvider(spec) => Some(Entity::JwtProvider(jwt_provider::check(&mut check, spec))),
            Spec::FederatedTrustDomain(spec) => {
                Some(Entity::FederatedTrustDomain(federation::check(&mut check, &name.name, spec)))
            }
            other => Some(gateway_api(&mut check, name, metadata, other)),
        }
    });
    let mut problems = object.problems.clone();
    problems.extend(check.into_problems());
    problems.sort_by_key(|p| (p.line, p.column));
    let refused = problems.iter().any(Problem::is_error);
    let created = object.typed.as_ref().and_then(|(m, _)| m.creation_timestamp.as_ref()).map(|t| t.0.as_second());
    match entity.filter(|_| !refused) {
        Some(entity) => {
            Ok((Valid { key: object.key, value: object.value, file: object.file, created, entity }, problems))
        }
        None => Err(problems),
    }
}

/// The kinds that belong to Gateways.
fn gateway_api(check: &mut Check<'_>, name: Name, metadata: &ObjectMeta, spec: &Spec) -> Entity {
    match spec {
        Spec::GatewayClass(spec) => Entity::GatewayClass(gateway::class(check, spec)),
        Spec::Gateway(spec) => Entity::Gateway(gateway::gateway(check, name, spec)),
        Spec::ListenerSet(spec) => Entity::ListenerSet(gateway::listener_set(check, name, spec)),
        Spec::TlsRoute(spec) => Entity::TlsRoute(tls_route::check(check, name, spec)),
        Spec::BackendTlsPolicy(spec) => Entity::BackendTlsPolicy(backend_tls_policy::check(check, name, spec)),
        Spec::Secret(secret) => Entity::Secret(secret::secret(check, secret)),
        Spec::ConfigMap(map) => Entity::ConfigMap(secret::config_map(check, map)),
        Spec::EndpointSlice(slice) => Entity::EndpointSlice(endpoint_slice::check(check, name, metadata, slice)),
        Spec::Endpoints(written) => Entity::Endpoints(endpoints::check(check, &name, written)),
        // Every other kind was taken above.
        _ => Entity::Namespace(BTreeMap::new()),
    }
}

/// Checks the objects of a batch or a folder. An object that is defined twice is refused, since either definition
/// could be the one that is meant.
pub fn batch(objects: Vec<Object>) -> Checked {
    let mut checked = Checked::default();
    let mut seen: HashMap<ObjectKey, Vec<Problem>> = HashMap::new();
    for object in &objects {
        let here = object.describe(&FieldPath::of("metadata").key("name"), Severity::Error, "", "");
        seen.entry(object.key.clone()).or_default().push(here);
    }
    for one in objects {
        let key = one.key.clone();
        let twice = seen.get(&key).filter(|places| places.len() > 1).map(|places| duplicate(&one, places));
        match object(one) {
            Ok((valid, warnings)) => {
                checked.problems.extend(warnings);
                match twice {
                    None => checked.valid.push(valid),
                    Some(problem) => {
                        checked.problems.push(problem);
                        checked.refused.push(key);
                    }
                }
            }
            Err(problems) => {
                checked.problems.extend(problems);
                checked.problems.extend(twice);
                checked.refused.push(key);
            }
        }
    }
    checked.refused.sort();
    checked.refused.dedup();
    checked
}

fn duplicate(object: &Object, places: &[Problem]) -> Problem {
    let path = FieldPath::of("metadata").key("name");
    let mut here = object.describe(&path, Severity::Error, "", "keep one of them");
    let others: Vec<String> = places
        .iter()
        .filter(|p| (&p.file, p.line, p.column) != (&here.file, here.line, here.column))
        .take(3)
        .map(|p| format!("{}:{}", p.file, p.line))
        .collect();
    here.message = match others.is_empty() {
        true => "is defined twice in one file".to_owned(),
        false => format!("is defined twice, also in {}", others.join(", ")),
    };
    here
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

#[cfg(test)]
mod gateway_tests;
