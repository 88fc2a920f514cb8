//! What holds for every file that was injected, checked without the code that injects.

use std::collections::BTreeMap;

use k8s_openapi::api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{injected, values};
use crate::inject::pod::typed::quantities;
use crate::inject::pod::uninject;

/// All of it.
pub(super) fn hold(name: &str, before: &str, after: &str) {
    assert_eq!(injected(after).text, after, "{name}: injecting again changes something");
    let json = before.trim_start().starts_with('{');
    if json {
        serde_json::from_str::<Value>(after).unwrap_or_else(|why| panic!("{name} is no JSON any more: {why}"));
    } else {
        assert_eq!(uninject(after, name).unwrap(), before, "{name}: it does not come back");
    }
    let (old, new) = (values(before), values(after));
    assert_eq!(old.len(), new.len(), "{name}");
    for (old, new) in old.iter().zip(&new) {
        for (old, new) in objects(old).into_iter().zip(objects(new)) {
            let mut restored = new.clone();
            let mut resolved = old.clone();
            restore(&mut restored);
            resolve(&mut resolved);
            assert_eq!(restored, resolved, "{name}: something was lost or changed");
            assert_eq!(unknown(&new), unknown(&old), "{name}: Kubernetes does not know something that was added");
        }
    }
}

/// The objects of a document, those in Lists included.
fn objects(document: &Value) -> Vec<Value> {
    match document["items"].as_array() {
        Some(items) if document["kind"] == "List" => items.iter().flat_map(objects).collect(),
        _ => vec![document.clone()],
    }
}

/// The pods and templates of pods in documents.
pub(super) fn templates(documents: &[Value]) -> Vec<Value> {
    documents.iter().flat_map(objects).filter_map(|mut object| template(&mut object).cloned()).collect()
}

fn template(object: &mut Value) -> Option<&mut Value> {
    let known = ["v1", "apps/v1", "batch/v1"].contains(&object["apiVersion"].as_str()?);
    let path = match object["kind"].as_str()? {
        "Pod" => "",
        "CronJob" => "/spec/jobTemplate/spec/template",
        _ => "/spec/template",
    };
    object.pointer_mut(path).filter(|_| known)
}

/// The environment of a container, with stand-ins for what comes from the pod.
pub(super) fn environment(container: &Value) -> BTreeMap<String, String> {
    let stand_in = |path: &str| match path {
        "status.podIP" => "10.1.2.3".to_owned(),
        path if path.starts_with("metadata.labels") => "some".to_owned(),
        path => path.rsplit('.').next().unwrap().to_ascii_lowercase(),
    };
    let env = container["env"].as_array().unwrap().iter().map(|entry| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let value = text(&entry["value"]);
        let value = value.unwrap_or_else(|| stand_in(entry["valueFrom"]["fieldRef"]["fieldPath"].as_str().unwrap()));
        (entry["name"].as_str().unwrap().to_owned(), value)
    });
    let mut env: BTreeMap<String, String> = env.collect();
    // The label `app` is the service's name, wherever it is one of the labels.
    let args = container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap());
    let service = args.clone().find_map(|arg| arg.strip_prefix("--service=")).unwrap();
    let app = args.clone().find_map(|arg| arg.strip_prefix("--label=app=$(")?.strip_suffix(')'));
    if let Some(app) = app {
        env.insert(app.to_owned(), service.to_owned());
    }
    env
}

/// Takes away what was added, and puts the probes back from what the sidecar was told.
fn restore(object: &mut Value) {
    let Some(spec) = template(object).and_then(|template| template.get_mut("spec")) else { return };
    let mut told = json!({});
    if let Some(sidecar) =
        spec["initContainers"].as_array().and_then(|all| all.iter().find(|c| c["name"] == "leno-sidecar"))
    {
        told = serde_json::from_str(&environment(sidecar)["LENO_PROBES"].replace("$$", "$")).unwrap();
    }
    for key in ["initContainers", "volumes"] {
        let Some(list) = spec.get_mut(key).and_then(Value::as_array_mut) else { continue };
        list.retain(|item| !item["name"].as_str().unwrap_or_default().starts_with("leno-"));
        if list.is_empty() {
            spec.as_object_mut().unwrap().remove(key);
        }
    }
    for container in containers(spec) {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        for (key, word) in [("livenessProbe", "liveness"), ("readinessProbe", "readiness"), ("startupProbe", "startup")]
        {
            let path = format!("/probe/{name}/{word}");
            let Some(probe) = container.get_mut(key).and_then(Value::as_object_mut) else { continue };
            if probe.get("httpGet") == Some(&json!({"path": path, "port": 15020})) {
                probe.remove("httpGet");
                let mut original: Map<String, Value> = told[format!("{name}/{word}")].as_object().unwrap().clone();
                let timeout = original.remove("timeoutSeconds").unwrap();
                assert_eq!(timeout, probe.get("timeoutSeconds").cloned().unwrap_or(json!(1)));
                probe.extend(original);
            }
        }
    }
}

/// The original in the form that [`restore`] gives: names of ports are numbers, lists without items are not there.
fn resolve(object: &mut Value) {
    let Some(spec) = template(object).and_then(|template| template.get_mut("spec")) else { return };
    for key in ["initContainers", "volumes"] {
        if spec.get(key).is_some_and(|list| list.is_null() || list.as_array().is_some_and(Vec::is_empty)) {
            spec.as_object_mut().unwrap().remove(key);
        }
    }
    for container in containers(spec) {
        let ports = container["ports"].as_array().cloned().unwrap_or_default();
        for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
            for handler in ["httpGet", "tcpSocket", "grpc"] {
                let Some(port) = container.pointer_mut(&format!("/{key}/{handler}/port")) else { continue };
                let named = ports.iter().find(|p| p["name"] == *port).map(|p| p["containerPort"].clone());
                let number = port.as_str().and_then(|text| text.parse::<u16>().ok()).map(Value::from);
                if let Some(number) = named.or(number) {
                    *port = number;
                }
            }
        }
    }
}

fn containers(spec: &mut Value) -> Vec<&mut Value> {
    let lists = spec
        .as_object_mut()
        .unwrap()
        .iter_mut()
        .filter(|(key, _)| ["initContainers", "containers"].contains(&key.as_str()));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten().collect()
}

/// The fields that the types of Kubernetes do not have. On the way the object goes through its type and back, and nothing else
/// may be missing then.
fn unknown(object: &Value) -> Vec<String> {
    match (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()) {
        ("v1", "Pod") => through::<core::Pod>(object),
        ("apps/v1", "Deployment") => through::<apps::Deployment>(object),
        ("apps/v1", "StatefulSet") => through::<apps::StatefulSet>(object),
        ("apps/v1", "DaemonSet") => through::<apps::DaemonSet>(object),
        ("apps/v1", "ReplicaSet") => through::<apps::ReplicaSet>(object),
        ("v1", "ReplicationController") => through::<core::ReplicationController>(object),
        ("batch/v1", "Job") => through::<batch::Job>(object),
        ("batch/v1", "CronJob") => through::<batch::CronJob>(object),
        _ => Vec::new(),
    }
}

fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Vec<String> {
    let mut object = object.clone();
    quantities(&mut object);
    let mut unknown = Vec::new();
    let typed: T = serde_ignored::deserialize(&object, |path| unknown.push(path.to_string())).unwrap();
    if unknown.is_empty() {
        let mut back = serde_json::to_value(&typed).unwrap();
        bare(&mut object);
        bare(&mut back);
        lost("", &object, &back);
    }
    unknown
}

/// Everything of the one is in the other. Types add what they know anyway, such as the kind of a claim's template.
fn lost(path: &str, object: &Value, back: &Value) {
    match (object, back) {
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().for_each(|(key, value)| lost(&format!("{path}.{key}"), value, &back[key]));
        }
        (Value::Array(items), Value::Array(others)) => {
            assert_eq!(items.len(), others.len(), "{path}");
            items
                .iter()
                .zip(others)
                .enumerate()
                .for_each(|(n, (item, other))| lost(&format!("{path}[{n}]"), item, other));
        }
        _ => assert_eq!(object, back, "{path} is lost on the way through Kubernetes' types"),
    }
}

/// Without what means nothing: null, and collections without members.
fn bare(value: &mut Value) {
    let empty = |value: &Value| {
        value.is_null() || value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(bare);
            fields.retain(|_, value| !empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(bare),
        _ => {}
    }
}
