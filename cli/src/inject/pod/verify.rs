//! The last word before a result leaves: it is read again, and has to mean what was asked for. The text was edited in many small
//! steps; this is what makes sure that none of them lost or changed a field.

use leno_control_plane::config::Problem;
use serde_json::{Value, json};

use super::added::Added;
use super::item::Item;
use super::kinds::Unit;
use super::probes::Rewritten;
use super::tree;

/// Makes of a document's value what it has to be when the unit is injected.
pub(super) fn expect(unit: &Unit<'_>, added: &Added, probes: &[Rewritten<'_>], document: &mut Value) {
    let template = unit
        .object_in(document)
        .and_then(|object| unit.kind.template.iter().try_fold(object, |value, key| value.get_mut(*key)));
    let Some(template) = template else { return };
    for probe in probes {
        let container = container(template, &probe.container);
        if let Some(Value::Object(fields)) = container.and_then(|container| container.get_mut(probe.key)) {
            fields.remove(&probe.handler.key);
            fields.insert("httpGet".to_owned(), probe.http_get().to_value());
        }
    }
    for (key, items) in [("initContainers", &added.init_containers), ("volumes", &added.volumes)] {
        if let Some(Value::Object(spec)) = template.get_mut("spec") {
            let mut all: Vec<Value> = items.iter().map(Item::to_value).collect();
            if let Some(Value::Array(own)) = spec.remove(key) {
                all.extend(own);
            }
            spec.insert(key.to_owned(), json!(all));
        }
    }
}

/// What stands at `spec.containers[0]`.
fn container<'v>(template: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let (list, index) = path.strip_prefix("spec.")?.strip_suffix(']')?.split_once('[')?;
    template.get_mut("spec")?.get_mut(list)?.get_mut(index.parse::<usize>().ok()?)
}

/// Whether a text means exactly this.
pub(super) fn same(text: &str, file: &str, expected: &[Value]) -> Result<(), Vec<Problem>> {
    let hint = "write the pod in plain block style, one field a line, and report the file as a defect of Leno";
    let wrong = |message: String| Err(vec![Problem::of_file(file, message, hint)]);
    match tree::documents(text) {
        Err(why) => wrong(format!("the file cannot be edited as it is written ({}, line {})", why.message, why.line)),
        Ok(documents) if documents.iter().map(|document| document.node.to_value()).eq(expected.iter().cloned()) => {
            Ok(())
        }
        Ok(_) => wrong("the file cannot be edited as it is written".to_owned()),
    }
}
