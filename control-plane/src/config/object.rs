//! Objects: one document of a file, named, typed, and with every misfit noted.

use std::sync::Arc;

use gateway_api::backendtlspolicies::BackendTlsPolicySpec;
use gateway_api::experimental::gatewayclasses::GatewayClassSpec;
use gateway_api::experimental::gateways::GatewaySpec;
use gateway_api::experimental::grpcroutes::GrpcRouteSpec;
use gateway_api::experimental::httproutes::HttpRouteSpec;
use gateway_api::experimental::listenersets::ListenerSetSpec;
use gateway_api::experimental::tcproutes::TcpRouteSpec;
use gateway_api::experimental::tlsroutes::TlsRouteSpec;
use gateway_api::referencegrants::ReferenceGrantSpec;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, NamespaceSpec, Secret, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::decode::{self, Misfit};
use super::field::FieldPath;
use super::kinds;
use super::node::{Content, Node, Place};
use super::own::{AuthorizationPolicySpec, FederatedTrustDomainSpec, JwtProviderSpec, TrafficPolicySpec, WorkloadSpec};
use super::problem::{Problem, Severity, clip};
use super::{MOST_FILE_BYTES, whole, yaml};
use crate::model::{Kind, ObjectKey};

/// Most objects of one file.
const MOST_OBJECTS: usize = 2_000;
/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// An object that a user wrote.
#[derive(Debug, Clone)]
pub struct Object {
    /// The file as its sender named it.
    pub file: String,
    pub key: ObjectKey,
    /// As it is stored: with its namespace, without `status` and what only a Kubernetes API server keeps.
    pub value: Value,
    /// None: it has a value that does not fit; `problems` says which.
    pub typed: Option<(ObjectMeta, Spec)>,
    pub problems: Vec<Problem>,
    node: Arc<Node>,
}

/// The typed spec. HTTPRoute and TCPRoute are those of the experimental channel, which has `retry` and TCPRoute itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    Namespace,
    Service(Box<ServiceSpec>),
    Workload(WorkloadSpec),
    HttpRoute(Box<HttpRouteSpec>),
    GrpcRoute(Box<GrpcRouteSpec>),
    TcpRoute(Box<TcpRouteSpec>),
    ReferenceGrant(ReferenceGrantSpec),
    TrafficPolicy(Box<TrafficPolicySpec>),
    GatewayClass(GatewayClassSpec),
    Gateway(Box<GatewaySpec>),
    ListenerSet(Box<ListenerSetSpec>),
    TlsRoute(Box<TlsRouteSpec>),
    BackendTlsPolicy(BackendTlsPolicySpec),
    Secret(Box<Secret>),
    ConfigMap(Box<ConfigMap>),
    EndpointSlice(Box<EndpointSlice>),
    Endpoints(Box<Endpoints>),
    AuthorizationPolicy(Box<AuthorizationPolicySpec>),
    JwtProvider(Box<JwtProviderSpec>),
    FederatedTrustDomain(Box<FederatedTrustDomainSpec>),
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    pub objects: Vec<Object>,
    /// Problems of what could not be read as far as its name. While there are any, nobody can say which objects are
    /// missing.
    pub problems: Vec<Problem>,
}

/// Reads a file: any number of YAML documents, each an object or a `List` of objects.
pub fn parse(file: &str, bytes: &[u8]) -> Parsed {
    let mut parsed = Parsed::default();
    if bytes.len() > MOST_FILE_BYTES {
        let message = format!("the file has more than {MOST_FILE_BYTES} bytes");
        parsed.problems.push(Problem::of_file(file, message, "split it"));
        return parsed;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let message = format!("line {line} is not UTF-8 text");
            let mut problem = Problem::of_file(file, message, "save the file as UTF-8");
            problem.line = u32::try_from(line).unwrap_or(u32::MAX);
            let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
            problem.column = u32::try_from(column).unwrap_or(u32::MAX);
            parsed.problems.push(problem);
            return parsed;
        }
    };
    let (documents, error) = yaml::documents(text);
    for document in documents {
        parsed.document(file, document);
    }
    if let Some(error) = error {
        parsed.nameless(file, error.place, "", error.message, error.hint);
    }
    parsed
}

impl Parsed {
    fn nameless(&mut self, file: &str, place: Place, field: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(Problem {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            field: field.to_owned(),
            message: message.into(),
            hint: hint.into(),
            ..Problem::default()
        });
    }

    fn document(&mut self, file: &str, node: Node) {
        let kind = node.get("kind").and_then(Node::text);
        if kind != Some("List") {
            return self.object(file, node);
        }
        let Some(items) = node.get("items").and_then(Node::items) else {
            return self.nameless(file, node.place, "items", "a List without a list of items", "add `items:`");
        };
        for item in items {
            self.object(file, item.clone());
        }
    }

    fn object(&mut self, file: &str, node: Node) {
        if self.objects.len() >= MOST_OBJECTS {
            // Said once, then silently dropped.
            if self.objects.len() == MOST_OBJECTS
                && self.problems.iter().all(|p| !p.message.contains("objects in one file"))
            {
                let message =
                    format!("more than {MOST_OBJECTS} objects in one file; this one and those after it are not read");
                self.nameless(file, node.place, "", message, "split the file");
            }
            return;
        }
        match identify(&node) {
            Ok(key) => self.objects.push(Object::new(file, key, node)),
            Err(Nameless { path, message, hint }) => {
                self.nameless(file, node.locate(&path), &path.to_string(), message, hint);
            }
        }
    }
}

struct Nameless {
    path: FieldPath,
    message: String,
    hint: String,
}

/// Kind, namespace and name, without which nothing can be said of an object.
fn identify(node: &Node) -> Result<ObjectKey, Nameless> {
    let refuse = |path, message: &str, hint: &str| Nameless { path, message: message.into(), hint: hint.into() };
    if !matches!(node.content, Content::Map(_)) {
        return Err(refuse(FieldPath::default(), "this is no object", "write apiVersion, kind, metadata and spec"));
    }
    let text = |field: &str| match node.get(field) {
        None => Err(refuse(FieldPath::default(), &format!("{field} is missing"), "write apiVersion and kind")),
        Some(value) => {
            value.text().ok_or_else(|| refuse(FieldPath::of(field), "must be a text", "write apiVersion and kind"))
        }
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    let kind = kinds::kind_of(api_version, kind).map_err(|error| Nameless {
        path: FieldPath::of(if error.api_version { "apiVersion" } else { "kind" }),
        message: error.message,
        hint: error.hint,
    })?;
    let name_path = FieldPath::of("metadata").key("name");
    let metadata = node.get("metadata");
    let name = match metadata.and_then(|m| m.get("name")) {
        None if metadata.is_some_and(|m| m.get("generateName").is_some()) => {
            return Err(refuse(name_path, "generateName is not supported", "write metadata.name"));
        }
        None => return Err(refuse(name_path, &format!("the {kind} has no metadata.name"), "add it")),
        Some(name) => name.text().ok_or_else(|| refuse(name_path.clone(), "must be a text", "put it in quotes"))?,
    };
    let namespace_path = FieldPath::of("metadata").key("namespace");
    let namespace = match metadata.and_then(|m| m.get("namespace")) {
        None => DEFAULT_NAMESPACE,
        Some(node) if node.content == Content::Scalar(Value::Null) => DEFAULT_NAMESPACE,
        Some(node) => {
            node.text().ok_or_else(|| refuse(namespace_path.clone(), "must be a text", "put it in quotes"))?
        }
    };
    // Longer than any valid name; what is stored and shown under it stays small.
    if name.len() > 253 || namespace.len() > 253 {
        return Err(refuse(name_path, "a name has at most 253 characters", "shorten it"));
    }
    Ok(ObjectKey::new(kind, namespace, name))
}

/// The fields of `metadata` that are the user's own; a Kubernetes API server keeps the others.
const METADATA: [&str; 5] = ["name", "namespace", "labels", "annotations", "creationTimestamp"];

impl Object {
    fn new(file: &str, key: ObjectKey, node: Node) -> Self {
        let value = node.to_value();
        let mut object = Self {
            file: file.to_owned(),
            key,
            value: Value::Null,
            typed: None,
            problems: Vec::new(),
            node: Arc::new(node),
        };
        object.typed = object.decode(&value);
        object.value = object.stored(value);
        object
    }

    /// An object that was stored before. None when it has no name, which the store never lets happen.
    pub fn from_stored(value: &Value) -> Option<Self> {
        let node = Node::from_value(value);
        let key = identify(&node).ok()?;
        Some(Self::new("the store", key, node))
    }

    /// Notes a problem of a field.
    pub fn problem(
        &mut self,
        path: &FieldPath,
        severity: Severity,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let problem = self.describe(path, severity, message, hint);
        self.problems.push(problem);
    }

    /// A problem of a field of this object, with its place.
    pub fn describe(
        &self,
        path: &FieldPath,
        severity: Severity,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Problem {
        let place = self.node.locate(path);
        Problem {
            file: self.file.clone(),
            line: place.line,
            column: place.column,
            object: self.key.to_string(),
            field: path.to_string(),
            message: clip(message.into(), 400),
            hint: hint.into(),
            severity,
        }
    }

    fn decode(&mut self, value: &Value) -> Option<(ObjectMeta, Spec)> {
        let Value::Object(fields) = value else { return None };
        for name in fields.keys() {
            if !whole::is(self.key.kind)
                && !["apiVersion", "kind", "metadata", "spec", "status"].contains(&name.as_str())
            {
                let near = super::hint::nearest(name, &["metadata", "spec", "status"]);
                let hint = near.map_or("remove it".to_owned(), |near| format!("did you mean {near}?"));
                self.problem(&FieldPath::default().key(name.as_str()), Severity::Error, "unknown field", hint);
            }
        }
        let metadata = self.part::<ObjectMeta>(value, "metadata");
        let spec = match self.key.kind {
            Kind::Namespace if value.get("spec").is_none() => Some(Spec::Namespace),
            Kind::Namespace => self.part::<NamespaceSpec>(value, "spec").map(|_| Spec::Namespace),
            Kind::Service => self.part(value, "spec").map(|spec| Spec::Service(Box::new(spec))),
            Kind::Workload => self.part(value, "spec").map(Spec::Workload),
            Kind::HttpRoute => self.part(value, "spec").map(|spec| Spec::HttpRoute(Box::new(spec))),
            Kind::GrpcRoute => self.part(value, "spec").map(|spec| Spec::GrpcRoute(Box::new(spec))),
            Kind::TcpRoute => self.part(value, "spec").map(|spec| Spec::TcpRoute(Box::new(spec))),
            Kind::ReferenceGrant => self.part(value, "spec").map(Spec::ReferenceGrant),
            Kind::TrafficPolicy => self.part(value, "spec").map(|spec| Spec::TrafficPolicy(Box::new(spec))),
            Kind::GatewayClass => self.part(value, "spec").map(Spec::GatewayClass),
            Kind::Gateway => self.part(value, "spec").map(|spec| Spec::Gateway(Box::new(spec))),
            Kind::ListenerSet => self.part(value, "spec").map(|spec| Spec::ListenerSet(Box::new(spec))),
            Kind::TlsRoute => {
                self.part(&whole::with_hostnames(value), "spec").map(|spec| Spec::TlsRoute(Box::new(spec)))
            }
            Kind::BackendTlsPolicy => self.part(value, "spec").map(Spec::BackendTlsPolicy),
            Kind::Secret => self.whole(value).map(|secret| Spec::Secret(Box::new(secret))),
            Kind::ConfigMap => self.whole(value).map(|map| Spec::ConfigMap(Box::new(map))),
            Kind::EndpointSlice => self.whole(value).map(|slice| Spec::EndpointSlice(Box::new(slice))),
            Kind::Endpoints => self.whole(value).map(|endpoints| Spec::Endpoints(Box::new(endpoints))),
            Kind::AuthorizationPolicy => self.part(value, "spec").map(|spec| Spec::AuthorizationPolicy(Box::new(spec))),
            Kind::JwtProvider => self.part(value, "spec").map(|spec| Spec::JwtProvider(Box::new(spec))),
            Kind::FederatedTrustDomain => {
                self.part(value, "spec").map(|spec| Spec::FederatedTrustDomain(Box::new(spec)))
            }
        };
        Some((metadata?, spec?))
    }

    fn part<T: serde::de::DeserializeOwned>(&mut self, value: &Value, name: &str) -> Option<T> {
        let path = FieldPath::of(name);
        let Some(part) = value.get(name) else {
            self.problem(
                &FieldPath::default(),
                Severity::Error,
                format!("{name} is missing"),
                format!("add `{name}:`"),
            );
            return None;
        };
        let (found, misfits) = decode::decode(part, &path);
        for Misfit { path, message, hint } in misfits {
            self.problem(&path, Severity::Error, message, hint);
        }
        found
    }

    /// An object of a kind that has no `spec`.
    fn whole<T: serde::de::DeserializeOwned>(&mut self, value: &Value) -> Option<T> {
        let (found, misfits) = decode::decode(&whole::bare(value, self.key.kind), &FieldPath::default());
        for misfit in misfits {
            let Misfit { path, message, hint } = whole::masked(self.key.kind, misfit);
            self.problem(&path, Severity::Error, message, hint);
        }
        found
    }

    /// The value as it is stored and shown again.
    fn stored(&self, mut value: Value) -> Value {
        if let Value::Object(fields) = &mut value {
            fields.remove("status");
            if self.key.kind == Kind::Secret {
                whole::join_string_data(fields);
            }
            fields.insert("apiVersion".to_owned(), json!(kinds::api_version(self.key.kind)));
            if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
                metadata.retain(|name, value| METADATA.contains(&name.as_str()) && !value.is_null());
                if self.key.kind.namespaced() {
                    metadata.insert("namespace".to_owned(), json!(self.key.name.namespace));
                }
            }
        }
        value
    }
}
