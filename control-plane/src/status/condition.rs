//! Conditions as Kubernetes writes them.

use serde_json::{Value, json};

use crate::resolve::Problem;

/// A condition without its time.
pub(super) fn condition(kind: &str, holds: bool, reason: &str, message: impl Into<String>) -> Value {
    let message: String = message.into();
    let status = if holds { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

/// True with `good` as its reason, or false with the problem's.
pub(super) fn judged(kind: &str, good: &str, problem: Option<&Problem>) -> Value {
    match problem {
        None => condition(kind, true, good, ""),
        Some(problem) => condition(kind, false, problem.reason, &problem.message),
    }
}

/// Writes into every condition which generation of the object it is about.
pub(super) fn observed(value: &mut Value, generation: u64) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| observed(item, generation)),
        Value::Object(fields) => {
            if fields.contains_key("type") && fields.contains_key("reason") {
                fields.insert("observedGeneration".to_owned(), json!(generation));
            }
            fields.values_mut().for_each(|field| observed(field, generation));
        }
        _ => {}
    }
}
