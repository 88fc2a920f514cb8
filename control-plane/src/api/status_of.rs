//! The `status` of the objects that are shown, and the times in it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Shared;
use super::error::{ApiError, blocking};
use crate::discovery;
use crate::model::{Kind, Mesh, Name, ObjectKey};
use crate::resolve::Resolved;
use crate::status::{self, Inputs, Serving};
use crate::store::Store;

/// What stands in place of a value that is not to be seen.
const HIDDEN: &str = "(hidden)";

/// What is kept between two looks at the mesh.
#[derive(Default)]
pub(super) struct Memory {
    resolved: Mutex<Option<(Arc<Mesh>, Arc<Resolved>)>>,
}

/// Since when the conditions of an object have their status, by their place in it.
type Times = BTreeMap<String, Seen>;

/// What is remembered of an object.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Record {
    generation: u64,
    times: Times,
}

/// A condition as it was last seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// An object's status before its times are in it.
struct Judged {
    key: ObjectKey,
    generation: u64,
    status: Value,
}

/// Writes into every condition since when it is so, and remembers it: a restart is no transition. As long as sidecars are
/// `awaited` that were there before it, what they served counts as served. What cannot be remembered is shown all the same.
fn remember(store: &Store, statuses: &mut [Judged], awaited: bool, now: &str) {
    let keys: Vec<ObjectKey> = statuses.iter().map(|judged| judged.key.clone()).collect();
    let known = store.status_times(&keys).unwrap_or_else(|error| {
        tracing::error!(%error, "since when conditions hold cannot be read");
        Vec::new()
    });
    let mut changed = Vec::new();
    for (n, Judged { key, generation, status }) in statuses.iter_mut().enumerate() {
        let record = known.get(n).and_then(Option::as_deref);
        let before: Record = record.and_then(|record| serde_json::from_slice(record).ok()).unwrap_or_default();
        if awaited && before.generation == *generation {
            await_sidecars(status, "", &before.times);
        }
        let mut after = Record { generation: *generation, times: Times::new() };
        stamp(status, "", &before.times, &mut after.times, now);
        if before != after {
            changed.extend(serde_json::to_vec(&after).ok().map(|record| (key.clone(), record)));
        }
    }
    if !changed.is_empty()
        && let Err(error) = store.set_status_times(&changed)
    {
        tracing::error!(%error, "since when conditions hold cannot be remembered");
    }
}

/// What was programmed, and is only not known to be, stays so.
fn await_sidecars(value: &mut Value, at: &str, before: &Times) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| {
            let place = format!("{at}/{}", identity(item));
            await_sidecars(item, &place, before);
        }),
        Value::Object(fields) if fields.contains_key("type") && fields.contains_key("reason") => {
            let was = before.get(at).is_some_and(|seen| seen.status == "True");
            if was && fields["reason"] == "Pending" {
                let kept =
                    [("status", "True"), ("reason", "Programmed"), ("message", "as before the control plane started")];
                fields.extend(kept.map(|(field, text)| (field.to_owned(), json!(text))));
            }
        }
        Value::Object(fields) => {
            fields.iter_mut().for_each(|(name, field)| await_sidecars(field, &format!("{at}.{name}"), before));
        }
        _ => {}
    }
}

fn stamp(value: &mut Value, at: &str, before: &Times, after: &mut Times, now: &str) {
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
pub(super) async fn complete(
    shared: &Shared,
    kind: Kind,
    mut objects: Vec<Value>,
    reveal: bool,
) -> Result<Vec<Value>, ApiError> {
    if kind == Kind::Secret && !reveal {
        objects.iter_mut().for_each(hide);
    }
    if !status::is_judged(kind) {
        return Ok(objects);
    }
    let mut statuses = judge(shared, kind, &objects);
    let (store, awaited) = (shared.parts.store.clone(), shared.parts.sessions.awaited());
    let statuses = blocking(move || {
        let now = OffsetDateTime::now_utc();
        let now = now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default();
        remember(&store, &mut statuses, awaited, &now);
        Ok(statuses)
    });
    let statuses = statuses.await?.into_iter();
    let mut statuses: HashMap<ObjectKey, Value> = statuses.map(|judged| (judged.key, judged.status)).collect();
    for object in &mut objects {
        let status = statuses.remove(&key_of(kind, object));
        if let (Some(fields), Some(status)) = (object.as_object_mut(), status) {
            fields.insert("status".to_owned(), status);
        }
    }
    Ok(objects)
}

fn key_of(kind: Kind, object: &Value) -> ObjectKey {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    ObjectKey::new(kind, text("namespace"), text("name"))
}

/// The status of each object that has one, without its times.
fn judge(shared: &Shared, kind: Kind, objects: &[Value]) -> Vec<Judged> {
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
    let serving = |name: &Name| -> Option<Serving> {
        let version = discovery::gateway_version(name, resolved.gateways.get(name)?);
        let sidecars = shared.parts.sessions.serving(name, version);
        let mut serving = None::<Serving>;
        for (name, ports) in sidecars {
            let addresses: Vec<IpAddr> = live.get(&name).iter().flat_map(|workload| workload.ips()).collect();
            serving.get_or_insert_default().add(&addresses, ports);
        }
        serving
    };
    let inputs = Inputs { mesh, resolved: &resolved, has_port: &has_port, serving: &serving };
    let judged = objects.iter().filter_map(|object| {
        let key = key_of(kind, object);
        let generation = object["metadata"]["generation"].as_u64().unwrap_or_default();
        let status = status::of(inputs, &key, generation)?;
        Some(Judged { key, generation, status })
    });
    judged.collect()
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
        let mut times = Times::new();
        let mut time = |status: &str, now: &str| {
            let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R"});
            let mut value = json!({"conditions": [condition("Accepted", "True"), condition("Programmed", status)],
                "listeners": [{"name": "x", "conditions": [condition("Accepted", "True")]}]});
            let before = std::mem::take(&mut times);
            stamp(&mut value, "", &before, &mut times, now);
            [&value["conditions"][0], &value["conditions"][1], &value["listeners"][0]["conditions"][0]]
                .map(|c| c["lastTransitionTime"].as_str().unwrap().to_owned())
        };
        assert_eq!(time("False", "1"), ["1", "1", "1"]);
        assert_eq!(time("False", "2"), ["1", "1", "1"]);
        assert_eq!(time("True", "3"), ["1", "3", "1"]);
        assert_eq!(time("True", "4"), ["1", "3", "1"]);
    }

    #[test]
    fn what_was_programmed_stays_so_while_its_sidecars_are_awaited_and_nothing_else() {
        let seen = |status: &str| Seen { status: status.to_owned(), since: "1".to_owned() };
        let before =
            Times::from([(".conditions/A".to_owned(), seen("True")), (".conditions/B".to_owned(), seen("False"))]);
        let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "False", "reason": reason});
        let of = |reason: &str| {
            let conditions = ["A", "B", "C"].map(|kind| condition(kind, reason));
            let mut value = json!({"conditions": conditions});
            await_sidecars(&mut value, "", &before);
            [0, 1, 2].map(|n| value["conditions"][n]["status"].as_str().unwrap().to_owned())
        };
        assert_eq!(of("Pending"), ["True", "False", "False"]);
        assert_eq!(of("Invalid"), ["False"; 3]);
    }
}
