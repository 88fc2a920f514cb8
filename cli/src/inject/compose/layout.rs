//! Whether a file is laid out so that it can be edited by lines.

use super::findings::{At, Findings};
use super::node::{Content, Field, Node, Place};
use super::yaml::Document;
use super::{marks, yaml};

/// What to do with a file that is all in brackets.
const BLOCK: &str = "write it in block style, as docker-compose config prints it";

/// Whether nothing stands before `place` in its line.
pub fn begins_line(document: &Document<'_>, place: Place) -> bool {
    let line = document.lines.get(place.line.saturating_sub(1) as usize).copied().unwrap_or_default();
    line.chars().take(place.column.saturating_sub(1) as usize).all(|c| c == ' ')
}

/// Whether the fields of a map can be taken out and others put in, by lines.
pub fn is_editable(document: &Document<'_>, field: &Field) -> bool {
    let Content::Map { fields, flow: false } = &field.value.content else { return false };
    let below = fields.first().is_some_and(|first| first.place.line > field.place.line);
    below && !field.value.alias && fields.iter().all(|field| begins_line(document, field.place))
}

/// The field `services` of a file that can be edited.
pub fn services<'a>(document: &'a Document<'_>, findings: &mut Findings) -> Option<&'a Field> {
    let top = Place { line: 1, column: 1 };
    let whole = |field| At { service: "", field, place: top };
    let Content::Map { fields, flow } = &document.root.content else {
        findings.refuse(whole(""), "a compose file must be a map", "write `services:` and the services below it");
        return None;
    };
    if *flow {
        findings.refuse(whole(""), "the file is in flow style (JSON)", BLOCK);
        return None;
    }
    let Some(found) = fields.iter().find(|field| field.key.text == "services") else {
        let hint = "write `services:` and the services below it; files of version 1 have none";
        findings.refuse(whole("services"), "there are no services", hint);
        return None;
    };
    let at = At { service: "", field: "services", place: found.place };
    if !found.value.is_map() || found.value.fields().is_empty() {
        findings.refuse(at, "services must be a map with at least one service", "write each as `name:` and its fields");
        return None;
    }
    if let Some(merge) = found.value.written().iter().find(|field| field.is_merge()) {
        let at = At { place: merge.place, ..at };
        findings.refuse(at, "a merge key (<<) brings whole services in", "write each service here, as `name: *anchor`");
        return None;
    }
    if !is_editable(document, found) || !begins_line(document, found.place) {
        findings.refuse(at, "services is in flow style, an alias or behind another mark", BLOCK);
        return None;
    }
    Some(found)
}

/// The top-level secrets can be added to, and none has a name that we need.
pub fn check_secrets(root: &Node, ours: &[String], findings: &mut Findings) {
    let Some(secrets) = root.field("secrets").filter(|field| !field.value.is_null()) else { return };
    let at = At { service: "", field: "secrets", place: secrets.place };
    if !secrets.value.is_map() {
        findings.refuse(at, "secrets must be a map", "write each as `name:` and `file:` below it");
    }
    for field in secrets.value.fields().iter().filter(|field| ours.contains(&field.key.text)) {
        let message = format!("the name {:?} is taken: a sidecar's secret has it", field.key.text);
        findings.refuse(At { place: field.place, ..at }, message, "rename this secret");
    }
}

/// A mark within a text is no comment: taking it out would change the text.
pub fn check_marks(text: &str, findings: &mut Findings) {
    // An injected file that cannot be read is replaced in any case.
    let Ok(document) = yaml::read(text) else { return };
    for line in marks::marked(text) {
        if document.texts.iter().any(|(first, last)| (*first..=*last).contains(&line)) {
            let at = At { service: "", field: "", place: Place { line, column: 1 } };
            let message = "this line of a text looks like a mark of `leno inject`";
            findings.refuse(at, message, "change the text: no line of it may begin with `# leno:`");
        }
    }
}
