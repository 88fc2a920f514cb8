//! The path of a redirect or a rewrite, by the rules of the Gateway API's HTTPPathModifier.

use serde::Serialize;
use serde_json::Value;

use super::{Of, type_name};
use crate::config::FieldPath;
use crate::model::PathModifier;
use crate::validate::check::Check;
use crate::validate::http_path::has_path_characters;

/// Longest value, as specified.
const MOST: usize = 1024;

/// Redirects and rewrites have types of their own in the crate, written alike.
pub(super) fn modifier<T: Serialize>(
    check: &mut Check<'_>,
    at: &FieldPath,
    of: Of<'_>,
    written: &T,
) -> Option<PathModifier> {
    let written = serde_json::to_value(written).ok()?;
    let kind = written.get("type").map(type_name).unwrap_or_default();
    let (field, other) = match kind.as_str() {
        "ReplaceFullPath" => ("replaceFullPath", "replacePrefixMatch"),
        _ => ("replacePrefixMatch", "replaceFullPath"),
    };
    if written.get(other).is_some() {
        check.error(&at.key(other), format!("a path of type {kind} has no {other}"), "remove it, or change the type");
    }
    let Some(value) = written.get(field).and_then(Value::as_str) else {
        check.error(at, format!("a path of type {kind} needs {field}"), format!("add `{field}:`"));
        return None;
    };
    let path = at.key(field);
    check_value(check, &path, value);
    if field == "replaceFullPath" {
        return Some(PathModifier::Full(value.to_owned()));
    }
    let Some(matched) = of.prefix else {
        let message = "a prefix is replaced only where the rule has exactly one match, of the type PathPrefix";
        check.error(&path, message, "write a rule for each prefix");
        return None;
    };
    Some(PathModifier::Prefix { matched: matched.to_owned(), replacement: value.to_owned() })
}

/// Nothing at all stands for `/`.
fn check_value(check: &mut Check<'_>, path: &FieldPath, value: &str) {
    if value.len() > MOST {
        check.error(path, format!("a path has at most {MOST} characters"), "shorten it");
    } else if !value.is_empty() && !value.starts_with('/') {
        check.error(path, format!("the path {value:?} does not begin with /"), format!("write /{value}"));
    } else if !has_path_characters(value) {
        check.error(path, "the path holds a character that no path has", "write it as %XX");
    }
}
