//! The kinds of the Gateway API, and the fields of their types.

use std::collections::BTreeSet;

use gateway_api::experimental as x;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

/// A kind, and how its type is asked.
pub struct Kind {
    pub name: &'static str,
    pub api_version: &'static str,
    /// The paths of all fields of its `spec`.
    pub fields: fn() -> BTreeSet<String>,
    /// A value that fits a field.
    pub value: fn(&str) -> Value,
}

macro_rules! kinds {
    ($($name:literal $version:literal $type:ty;)*) => {
        pub const KINDS: &[Kind] = &[$(Kind {
            name: $name,
            api_version: $version,
            fields: || fields::<$type>(),
            value: |path| value::<$type>(path),
        }),*];
    };
}

kinds! {
    "HTTPRoute" "gateway.networking.k8s.io/v1" x::httproutes::HttpRouteSpec;
    "GRPCRoute" "gateway.networking.k8s.io/v1" x::grpcroutes::GrpcRouteSpec;
    "TCPRoute" "gateway.networking.k8s.io/v1alpha2" x::tcproutes::TcpRouteSpec;
    "TLSRoute" "gateway.networking.k8s.io/v1" x::tlsroutes::TlsRouteSpec;
    "UDPRoute" "gateway.networking.k8s.io/v1alpha2" x::udproutes::UdpRouteSpec;
    "ReferenceGrant" "gateway.networking.k8s.io/v1" gateway_api::referencegrants::ReferenceGrantSpec;
    "Gateway" "gateway.networking.k8s.io/v1" x::gateways::GatewaySpec;
    "GatewayClass" "gateway.networking.k8s.io/v1" x::gatewayclasses::GatewayClassSpec;
    "ListenerSet" "gateway.networking.k8s.io/v1" x::listenersets::ListenerSetSpec;
    "BackendTLSPolicy" "gateway.networking.k8s.io/v1" gateway_api::backendtlspolicies::BackendTlsPolicySpec;
    "XBackendTrafficPolicy" "gateway.networking.x-k8s.io/v1alpha1" x::xbackendtrafficpolicies::XBackendTrafficPolicySpec;
    "XMesh" "gateway.networking.x-k8s.io/v1alpha1" x::xmeshes::XMeshSpec;
}

fn schema<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

fn fields<T: JsonSchema>() -> BTreeSet<String> {
    let root = schema::<T>();
    let mut found = BTreeSet::new();
    walk(&root, &root, "spec", &mut found);
    found
}

/// What a schema says behind references and options.
fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    loop {
        if let Some(to) = schema["$ref"].as_str() {
            schema = root.pointer(to.trim_start_matches('#')).unwrap();
        } else if let Some(several) = schema["anyOf"].as_array().or(schema["allOf"].as_array()) {
            schema = several.iter().find(|one| one["type"] != "null").unwrap();
        } else {
            return schema;
        }
    }
}

fn is(schema: &Value, kind: &str) -> bool {
    schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(|one| one == kind))
}

fn walk(root: &Value, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let schema = resolve(root, schema);
    if is(schema, "array") {
        return walk(root, &schema["items"], &format!("{at}[]"), found);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        walk(root, field, &path, found);
        found.insert(path);
    }
}

fn value<T: JsonSchema>(path: &str) -> Value {
    let root = schema::<T>();
    let mut schema = &root;
    for name in path.split('.').skip(1) {
        schema = &resolve(&root, schema)["properties"][name.trim_end_matches("[]")];
        if name.ends_with("[]") {
            schema = &resolve(&root, schema)["items"];
        }
    }
    fitting(&root, schema)
}

fn fitting(root: &Value, schema: &Value) -> Value {
    let schema = resolve(root, schema);
    if let Some(words) = schema["enum"].as_array() {
        return words[0].clone();
    }
    if let Some(several) = schema["oneOf"].as_array() {
        return several[0]["const"].clone();
    }
    for (kind, value) in [("boolean", json!(true)), ("integer", json!(1)), ("number", json!(1)), ("string", json!("a"))]
    {
        if is(schema, kind) {
            return value;
        }
    }
    if is(schema, "array") {
        return json!([fitting(root, &schema["items"])]);
    }
    let mut object = Map::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        object.insert(name.to_owned(), fitting(root, &schema["properties"][name]));
    }
    Value::Object(object)
}

/// The paths of all fields of a value.
pub fn of_value(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| of_value(item, &format!("{at}[]"), found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = format!("{at}.{name}");
                of_value(field, &path, found);
                found.insert(path);
            }
        }
        _ => {}
    }
}

/// What stands at a path, in the first entry of each list.
pub fn descend<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |value, name| {
        let mut value = value.get_mut(name.trim_end_matches("[]"))?;
        for _ in 0..name.matches("[]").count() {
            value = value.get_mut(0)?;
        }
        Some(value)
    })
}

/// Whether what is behind a path leads further down.
pub fn is_below(rest: &str) -> bool {
    rest.starts_with('.') || rest.starts_with('[')
}

/// `a[3].b` as `a[].b`.
pub fn without_indices(path: &str) -> String {
    path.chars().filter(|c| !c.is_ascii_digit()).collect()
}
