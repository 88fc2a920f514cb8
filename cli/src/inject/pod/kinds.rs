//! Which objects have pods, and where in them.

use serde_json::Value;

use super::report::{Report, clip};
use super::tree::{Document, Node};

/// A kind whose objects have a pod, or a template of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub name: &'static str,
    pub api_version: &'static str,
    /// Where the pod's metadata and spec are.
    pub template: &'static [&'static str],
}

const TEMPLATE: &[&str] = &["spec", "template"];

pub(super) const KINDS: [Kind; 8] = [
    Kind { name: "Pod", api_version: "v1", template: &[] },
    Kind { name: "Deployment", api_version: "apps/v1", template: TEMPLATE },
    Kind { name: "StatefulSet", api_version: "apps/v1", template: TEMPLATE },
    Kind { name: "DaemonSet", api_version: "apps/v1", template: TEMPLATE },
    Kind { name: "ReplicaSet", api_version: "apps/v1", template: TEMPLATE },
    Kind { name: "ReplicationController", api_version: "v1", template: TEMPLATE },
    Kind { name: "Job", api_version: "batch/v1", template: TEMPLATE },
    Kind { name: "CronJob", api_version: "batch/v1", template: &["spec", "jobTemplate", "spec", "template"] },
];

/// Deepest nesting of Lists in Lists.
const MOST_LISTS: usize = 8;

/// An object with pods.
#[derive(Debug)]
pub(super) struct Unit<'a> {
    pub kind: &'static Kind,
    pub object: &'a Node,
    /// The document that it is all or a part of.
    pub document: &'a Node,
    /// The indexes in Lists that lead to it from the document.
    pub path: Vec<usize>,
    /// The pod template, or the pod itself.
    pub template: &'a Node,
}

impl Unit<'_> {
    /// `Deployment shop/web`.
    pub(super) fn name(&self) -> String {
        let text = |key| self.object.at(&["metadata", key]).and_then(Node::text);
        let name = text("name").or_else(|| text("generateName")).unwrap_or("without a name");
        match text("namespace") {
            Some(namespace) => format!("{} {}/{}", self.kind.name, clip(namespace, 63), clip(name, 253)),
            None => format!("{} {}", self.kind.name, clip(name, 253)),
        }
    }

    /// The path of a field of the template, for people.
    pub(super) fn field(&self, path: &str) -> String {
        let mut whole = self.kind.template.join(".");
        if !whole.is_empty() {
            whole.push('.');
        }
        whole + path
    }

    /// The object itself in a document's value.
    pub(super) fn object_in<'v>(&self, document: &'v mut Value) -> Option<&'v mut Value> {
        self.path.iter().try_fold(document, |value, index| value.get_mut("items")?.get_mut(*index))
    }
}

/// The objects with pods in a document. What else is in it passes through.
pub(super) fn units<'a>(document: &'a Document, report: &mut Report) -> Vec<Unit<'a>> {
    let mut found = Vec::new();
    collect(document, &document.node, &mut Vec::new(), &mut found, report);
    // A complaint matters only where something is to be changed.
    if let Some(unit) = found.first() {
        report.about(unit);
        for wrong in &document.complaints {
            let at = super::tree::Place { line: wrong.line, column: wrong.column };
            report.error(at, "", wrong.message.clone(), wrong.hint);
        }
    }
    found
}

fn collect<'a>(
    document: &'a Document,
    node: &'a Node,
    path: &mut Vec<usize>,
    found: &mut Vec<Unit<'a>>,
    report: &mut Report,
) {
    let text = |key| node.get(key).and_then(Node::text).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind.ends_with("List") && ["v1", "apps/v1", "batch/v1"].contains(&api_version) && path.len() < MOST_LISTS {
        for (index, item) in node.get("items").map(Node::items).unwrap_or_default().iter().enumerate() {
            path.push(index);
            collect(document, item, path, found, report);
            path.pop();
        }
        return;
    }
    let Some(kind) = KINDS.iter().find(|known| known.name == kind) else { return };
    let Some(template) = node.at(kind.template) else { return missing(kind, node, api_version, report) };
    let unit = Unit { kind, object: node, document: &document.node, path: path.clone(), template };
    if kind.api_version == api_version {
        return found.push(unit);
    }
    // Other groups have kinds of these names, too; these are Kubernetes' own, of the past or misspelt.
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    if ["", "apps", "extensions", "batch"].contains(&group) {
        report.about(&unit);
        let at = node.field("apiVersion").map_or(node.place, |field| field.place);
        let message = format!("{} has no apiVersion {:?}", kind.name, clip(api_version, 80));
        report.error(at, "apiVersion", message, format!("write apiVersion: {}", kind.api_version));
    }
}

fn missing(kind: &'static Kind, node: &Node, api_version: &str, report: &mut Report) {
    if api_version == kind.api_version {
        report.about_kind(kind.name);
        let message = format!("the {} has no {}", kind.name, kind.template.join("."));
        report.error(node.place, &kind.template.join("."), message, "add the pod's template");
    }
}
