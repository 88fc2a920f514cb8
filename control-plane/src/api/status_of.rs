//! The `status` of the objects that are shown, and the times in it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Shared;
use crate::discovery;
use crate::model::{Kind, Mesh, Name, ObjectKey};
use crate::resolve::Resolved;
use crate::status::{self, Inputs};

/// Most objects whose times are remembered; past that all are forgotten at once. As many as the store takes.
const MOST_OBJECTS: usize = 50_000;
/// What stands in place of a value that is not to be seen.
const HIDDEN: &str = "(hidden)";

/// What is kept between two looks at the mesh.
#[derive(Default)]
pub(super) struct Memory {
    resolved: Mutex<Option<(Arc<Mesh>, Arc<Resolved>)>>,
    /// Since when a condition has its status, by object and by place in its status.
    since: Mutex<HashMap<ObjectKey, HashMap<String, Seen>>>,
}

/// A condition as it was last seen.
#[derive(Clone)]
struct Seen {
    status: String,
    since: String,
}

impl Memory {
    fn resolved(&self, mesh: &Arc<Mesh>) -> Arc<Resolved> {
        let mut kept = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, resolved)) if Arc::ptr_eq(of, mesh) => resolved.clone(),
            _ => {
                let resolved = Arc::new(Resolved::of(mesh));
                *kept = Some((mesh.clone(), resolved.clone()));
                resolved
            }
        }
    }

    /// Writes into every condition since when it is so. What is no longer there is forgotten.
    fn stamp(&self, key: &ObjectKey, status: &mut Value, now: &str) {
        let mut all = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_OBJECTS && !all.contains_key(key) {
            all.clear();
        }
        let before = all.remove(key).unwrap_or_default();
        let mut after = HashMap::new();
        stamp(status, "", &before, &mut after, now);
        all.insert(key.clone(), after);
    }
}

fn stamp(value: &mut Value, at: &str, before: &HashMap<String, Seen>, after: &mut HashMap<String, Seen>, now: &str) {
    match value {
        Value::Array(items) => {
            for item in items {
                let place = format!("{at}/{}", identity(item));
                stamp(item, &place, before, after, now);
            }
        }
        Value::Object(fields) if fields.contains_key("type") && fields.contains_key("reason") => {
            let status = fields.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
            let known = before.get(at).filter(|seen| seen.status == status).cloned();
            let seen = known.unwrap_or_else(|| Seen { status, since: now.to_owned() });
            fields.insert("lastTransitionTime".to_owned(), json!(seen.since));
            after.insert(at.to_owned(), seen);
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                stamp(field, &format!("{at}.{name}"), before, after, now);
            }
        }
        _ => {}
    }
}

/// By what an entry of a list is told from the others: a condition by its type, a listener by its name, a parent or ancestor
/// by its reference.
fn identity(item: &Value) -> String {
    ["type", "name"]
        .iter()
        .find_map(|field| item.get(field).and_then(Value::as_str).map(str::to_owned))
        .or_else(|| ["parentRef", "ancestorRef"].iter().find_map(|field| item.get(field).map(Value::to_string)))
        .unwrap_or_default()
}

/// Puts the status into objects of one kind as they come from the store, and takes secrets out.
pub(super) fn complete(shared: &Shared, kind: Kind, objects: &mut [Value], reveal: bool) {
    if kind == Kind::Secret && !reveal {
        objects.iter_mut().for_each(hide);
    }
    if !status::is_judged(kind) {
        return;
    }
    let committed = shared.parts.store.committed();
    let mesh = &committed.mesh;
    let resolved = shared.memory.resolved(mesh);
    let live = shared.parts.registry.live();
    let has_port = |name: &Name, port: u16| match mesh.services.get(name) {
        Some(service) => Some(service.has_port(port)),
        // Nobody wrote it, and a transparent sidecar stands for it.
        None => live
            .values()
            .any(|w| w.any_port && w.name.namespace == name.namespace && w.labels.get("app") == Some(&name.name))
            .then_some(true),
    };
    let serving = |name: &Name| -> Option<Vec<IpAddr>> {
        let version = discovery::gateway_version(name, resolved.gateways.get(name)?);
        let sidecars = shared.parts.sessions.serving(name, version);
        if sidecars.is_empty() {
            return None;
        }
        Some(sidecars.iter().filter_map(|name| live.get(name)).flat_map(|workload| workload.ips()).collect())
    };
    let inputs = Inputs { mesh, resolved: &resolved, has_port: &has_port, serving: &serving };
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or_else(|_| OffsetDateTime::now_utc());
    let now = now.format(&Rfc3339).unwrap_or_default();
    for object in objects {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = ObjectKey::new(kind, text("namespace"), text("name"));
        let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
        let Some(mut status) = status::of(inputs, &key, generation) else { continue };
        shared.memory.stamp(&key, &mut status, &now);
        if let Some(fields) = object.as_object_mut() {
            fields.insert("status".to_owned(), status);
        }
    }
}

/// The names of a Secret's entries are no secret.
fn hide(secret: &mut Value) {
    if let Some(Value::Object(data)) = secret.get_mut("data") {
        let hidden: Map<String, Value> = data.keys().map(|key| (key.clone(), json!(HIDDEN))).collect();
        *data = hidden;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_as_long_as_its_status_stays() {
        let memory = Memory::default();
        let key = ObjectKey::new(Kind::Gateway, "a", "b");
        let time = |status: &str, now: &str| {
            let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R"});
            let mut value = json!({"conditions": [condition("Accepted", "True"), condition("Programmed", status)],
                "listeners": [{"name": "x", "conditions": [condition("Accepted", "True")]}]});
            memory.stamp(&key, &mut value, now);
            [&value["conditions"][0], &value["conditions"][1], &value["listeners"][0]["conditions"][0]]
                .map(|c| c["lastTransitionTime"].as_str().unwrap().to_owned())
        };
        assert_eq!(time("False", "1"), ["1", "1", "1"]);
        assert_eq!(time("False", "2"), ["1", "1", "1"]);
        assert_eq!(time("True", "3"), ["1", "3", "1"]);
        assert_eq!(time("True", "4"), ["1", "3", "1"]);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let memory = Memory::default();
        for n in 0..=MOST_OBJECTS {
            memory.stamp(&ObjectKey::new(Kind::Gateway, "a", n.to_string()), &mut json!({}), "1");
        }
        assert!(memory.since.lock().unwrap().len() <= MOST_OBJECTS);
    }
}
