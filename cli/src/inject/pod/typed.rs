//! Whether an object is what Kubernetes takes: every value of the type that its field has. Fields that this version does not
//! know are left alone.

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core};
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use super::kinds::Unit;
use super::report::Report;
use super::tree::{Node, Place};

/// Most wrong values that are named of one object.
const MOST: usize = 32;

/// One step of the way to a field.
enum Step {
    Key(String),
    Index(usize),
}

/// Notes every value that is of the wrong type.
pub(super) fn check(unit: &Unit<'_>, report: &mut Report) {
    let mut value = unit.object.to_value();
    quantities(&mut value);
    for _ in 0..MOST {
        let Some((steps, message)) = misfit(unit.kind.name, &value) else { return };
        let (place, field) = locate(unit.object, &steps);
        report.error(place, &field, message.clone(), hint(&message));
        // Taken out, so that the next one shows. An element of a list stays where it is, since the indexes of the others
        // would change.
        if !cut(&mut value, &steps) {
            return;
        }
    }
}

fn misfit(kind: &str, value: &Value) -> Option<(Vec<Step>, String)> {
    match kind {
        "Pod" => decode::<core::Pod>(value),
        "Deployment" => decode::<apps::Deployment>(value),
        "StatefulSet" => decode::<apps::StatefulSet>(value),
        "DaemonSet" => decode::<apps::DaemonSet>(value),
        "ReplicaSet" => decode::<apps::ReplicaSet>(value),
        "ReplicationController" => decode::<core::ReplicationController>(value),
        "Job" => decode::<batch::Job>(value),
        _ => decode::<batch::CronJob>(value),
    }
}

fn decode<T: DeserializeOwned>(value: &Value) -> Option<(Vec<Step>, String)> {
    use serde_path_to_error::Segment;
    let error = serde_path_to_error::deserialize::<_, T>(value).err()?;
    let steps = error.path().iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    Some((steps.collect(), error.inner().to_string()))
}

fn locate(object: &Node, steps: &[Step]) -> (Place, String) {
    let (mut node, mut place, mut field) = (Some(object), object.place, String::new());
    for step in steps {
        match step {
            Step::Key(key) => {
                let next = node.and_then(|node| node.field(key));
                place = next.map_or(place, |field| field.place);
                node = next.map(|field| &field.value);
                if !field.is_empty() {
                    field.push('.');
                }
                field.push_str(key);
            }
            Step::Index(index) => {
                node = node.and_then(|node| node.items().get(*index));
                place = node.map_or(place, |node| node.place);
                field.push_str(&format!("[{index}]"));
            }
        }
    }
    (place, field)
}

fn cut(value: &mut Value, steps: &[Step]) -> bool {
    let Some((Step::Key(last), parents)) = steps.split_last() else { return false };
    let parent = parents.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key.as_str()),
        Step::Index(index) => value.get_mut(*index),
    });
    parent.and_then(Value::as_object_mut).is_some_and(|fields| fields.remove(last).is_some())
}

fn hint(message: &str) -> &'static str {
    let expected = message.split("expected ").nth(1).unwrap_or_default();
    if message.starts_with("missing field") {
        "add it"
    } else if expected.contains("string") && !message.contains("map") && !message.contains("sequence") {
        "put it in quotes"
    } else if expected.contains("sequence") {
        "write a list: each entry begins with `- `"
    } else if expected.contains("boolean") {
        "write true or false"
    } else if expected.starts_with('i') || expected.starts_with('u') {
        "write a whole number without quotes"
    } else {
        "look the field up: `kubectl explain` shows what it takes"
    }
}

/// Amounts may be written as numbers (`cpu: 1`), which Kubernetes takes and its published types do not.
pub(super) fn quantities(value: &mut Value) {
    let text = |value: &mut Value| {
        if let Value::Number(number) = value {
            *value = Value::String(Number::to_string(number));
        }
    };
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                match (key.as_str(), inner) {
                    ("limits" | "requests" | "overhead" | "capacity" | "hard", Value::Object(amounts)) => {
                        amounts.values_mut().for_each(text);
                    }
                    ("sizeLimit" | "divisor", amount) => text(amount),
                    (_, inner) => quantities(inner),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(quantities),
        _ => {}
    }
}
