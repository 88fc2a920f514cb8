//! The demo's configuration is the shipped examples; only the weights of the canary are changed.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure};

/// Services web, web-v1 and web-v2, and the route that splits.
const CANARY: &str = include_str!("../../../examples/canary.yaml");
/// The store.
const TCP: &str = include_str!("../../../examples/tcp.yaml");
/// What callers do about a failing instance.
const POLICY: &str = include_str!("../../../examples/traffic-policy.yaml");

/// The files that are applied at first, as the REST API takes them.
pub fn files() -> Value {
    json!([
        {"name": "canary.yaml", "content": CANARY},
        {"name": "tcp.yaml", "content": TCP},
        {"name": "traffic-policy.yaml", "content": POLICY},
    ])
}

/// The canary's route with `v2` percent for the second version.
///
/// # Errors
/// The example is not what it was when this was written.
pub fn route(v2: u8) -> Result<String, Failure> {
    edited(v2).ok_or_else(|| Failure::new(Exit::Failed, "examples/canary.yaml has no route with two backends", ""))
}

fn edited(v2: u8) -> Option<String> {
    let mut route = serde_yaml_ng::Deserializer::from_str(CANARY)
        .filter_map(|document| Value::deserialize(document).ok())
        .find(|object| object["kind"] == "HTTPRoute")?;
    let backends = route.pointer_mut("/spec/rules/0/backendRefs")?.as_array_mut()?;
    let [first, second] = backends.as_mut_slice() else { return None };
    first["weight"] = json!(100 - v2.min(100));
    second["weight"] = json!(v2.min(100));
    serde_yaml_ng::to_string(&route).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_weights_of_the_shipped_route_change() {
        let route: Value = serde_yaml_ng::from_str(&route(30).unwrap()).unwrap();
        let weights: Vec<u64> = route
            .pointer("/spec/rules/0/backendRefs")
            .unwrap()
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b["weight"].as_u64().unwrap())
            .collect();
        assert_eq!(weights, [70, 30]);
        assert_eq!(route.pointer("/spec/rules/0/retry/attempts"), Some(&json!(2)));
    }
}
