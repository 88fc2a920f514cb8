//! Objects of kinds that have their fields beside `metadata` and not in a `spec`: Secret, ConfigMap, EndpointSlice, Endpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::decode::Misfit;
use super::field::Segment;
use super::kinds;
use crate::model::Kind;

/// Whether a kind is one of them.
pub(super) fn is(kind: Kind) -> bool {
    matches!(kind, Kind::Secret | Kind::ConfigMap | Kind::EndpointSlice | Kind::Endpoints)
}

/// What the type reads: `metadata` is read on its own, and `status` is not ours.
pub(super) fn bare(value: &Value, kind: Kind) -> Value {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.remove("status");
        fields.insert("metadata".to_owned(), json!({}));
        fields.insert("apiVersion".to_owned(), json!(kinds::api_version(kind)));
    }
    value
}

/// What is wrong with a Secret's value is said without the value.
pub(super) fn masked(kind: Kind, misfit: Misfit) -> Misfit {
    let at = misfit.path.0.first();
    let secret = matches!(at, Some(Segment::Key(key)) if key == "data" || key == "stringData");
    if kind != Kind::Secret || !secret {
        return misfit;
    }
    let plain = matches!(at, Some(Segment::Key(key)) if key == "stringData");
    let (message, hint) = match plain {
        true => ("is no text", "put it in quotes"),
        false => ("is no base64", "encode it, or write it as it is under `stringData:`"),
    };
    Misfit { path: misfit.path, message: message.to_owned(), hint: hint.to_owned() }
}

/// What `kubectl apply` writes beside an object is a copy of it in plain text.
const COPY: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// `stringData` goes over `data` and is kept there, as Kubernetes does it.
pub(super) fn join_string_data(fields: &mut Map<String, Value>) {
    if let Some(Value::Object(notes)) = fields.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"))
    {
        notes.remove(COPY);
    }
    let Some(plain) = fields.remove("stringData") else { return };
    let Value::Object(plain) = plain else { return };
    if !fields.get("data").is_some_and(Value::is_object) {
        fields.insert("data".to_owned(), json!({}));
    }
    let Some(Value::Object(data)) = fields.get_mut("data") else { return };
    for (key, value) in plain {
        if let Value::String(text) = value {
            data.insert(key, Value::String(STANDARD.encode(text)));
        }
    }
}

/// A TLSRoute of an alpha version may have no hostnames.
pub(super) fn with_hostnames(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(Value::Object(spec)) = value.get_mut("spec") {
        spec.entry("hostnames").or_insert_with(|| json!([]));
    }
    value
}
