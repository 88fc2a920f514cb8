//! Filters: those that work are converted, every other is refused by name.

use std::collections::BTreeSet;

use http::HeaderValue;

use super::check::{Check, is_header_name};
use crate::config::FieldPath;
use crate::model::{Filter, HeaderModifier};

/// Most filters of a rule or backend, and most headers of one list, as specified.
pub(super) const MOST_FILTERS: usize = 16;
const MOST_HEADERS: usize = 16;
/// Longest value of a header, as specified.
const MOST_VALUE: usize = 4096;

/// `requestHeaderModifier` and its like of whichever route.
pub(super) struct WrittenModifier<'a> {
    pub set: Vec<(&'a str, &'a str)>,
    pub add: Vec<(&'a str, &'a str)>,
    pub remove: &'a [String],
}

/// A filter of whichever route: its type by name, and the fields that are set.
pub(super) struct WrittenFilter<'a> {
    pub kind: String,
    pub request: Option<WrittenModifier<'a>>,
    pub response: Option<WrittenModifier<'a>>,
    /// Other fields that are set.
    pub others: Vec<&'static str>,
}

macro_rules! written_modifier {
    ($modifier:expr) => {
        $modifier.as_ref().map(|m| $crate::validate::filter::WrittenModifier {
            set: m.set.iter().flatten().map(|h| (h.name.as_str(), h.value.as_str())).collect(),
            add: m.add.iter().flatten().map(|h| (h.name.as_str(), h.value.as_str())).collect(),
            remove: m.remove.as_deref().unwrap_or_default(),
        })
    };
}

/// `$other` are the fields that no filter that works has, with their names in YAML.
macro_rules! written_filter {
    ($filter:expr, $($other:ident = $name:literal),*) => {
        $crate::validate::filter::WrittenFilter {
            kind: $crate::validate::filter::type_name(&$filter.r#type),
            request: $crate::validate::filter::written_modifier!($filter.request_header_modifier),
            response: $crate::validate::filter::written_modifier!($filter.response_header_modifier),
            others: [$($filter.$other.is_some().then_some($name)),*].into_iter().flatten().collect(),
        }
    };
}

pub(super) use {written_filter, written_modifier};

/// The type's name as it is written in YAML.
pub(super) fn type_name<T: serde::Serialize>(kind: &T) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Checks and converts the filters of a rule or a backend.
pub(super) fn filters<'a>(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: impl Iterator<Item = WrittenFilter<'a>>,
) -> Vec<Filter> {
    let mut found = Vec::new();
    let mut count = 0;
    for (n, filter) in written.enumerate() {
        count = n + 1;
        if count > MOST_FILTERS {
            continue;
        }
        let at = path.index(n);
        let (field, modifier, other) = match filter.kind.as_str() {
            "RequestHeaderModifier" => ("requestHeaderModifier", &filter.request, &filter.response),
            "ResponseHeaderModifier" => ("responseHeaderModifier", &filter.response, &filter.request),
            kind => {
                check.not_yet(&at.key("type"), &format!("the filter {kind}"));
                continue;
            }
        };
        if other.is_some() || !filter.others.is_empty() {
            check.error(&at, format!("a filter of type {} has only {field}", filter.kind), "remove the other fields");
        }
        let Some(modifier) = modifier else {
            check.error(&at, format!("a filter of type {} needs {field}", filter.kind), format!("add `{field}:`"));
            continue;
        };
        let converted = modify(check, &at.key(field), modifier);
        let filter = match field {
            "requestHeaderModifier" => Filter::RequestHeaders(converted),
            _ => Filter::ResponseHeaders(converted),
        };
        // The Gateway API takes each type once: nobody could say in which order they apply.
        if found.iter().any(|other| std::mem::discriminant(other) == std::mem::discriminant(&filter)) {
            check.error(&at, format!("the filter {field} is here twice"), "join them");
        }
        found.push(filter);
    }
    check.most(path, count, MOST_FILTERS);
    found
}

fn modify(check: &mut Check<'_>, at: &FieldPath, written: &WrittenModifier<'_>) -> HeaderModifier {
    HeaderModifier {
        set: headers(check, &at.key("set"), &written.set),
        add: headers(check, &at.key("add"), &written.add),
        remove: removed(check, &at.key("remove"), written.remove),
    }
}

fn headers(check: &mut Check<'_>, path: &FieldPath, written: &[(&str, &str)]) -> Vec<(String, String)> {
    check.most(path, written.len(), MOST_HEADERS);
    let mut seen = BTreeSet::new();
    for (n, (name, value)) in written.iter().take(MOST_HEADERS).enumerate() {
        let at = path.index(n);
        header_name(check, &at.key("name"), name, &mut seen);
        if value.is_empty() || value.len() > MOST_VALUE || HeaderValue::from_str(value).is_err() {
            let message = "is no value of a header: 1 to 4096 visible characters, spaces and tabs";
            check.error(&at.key("value"), message, "change it");
        }
    }
    written.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect()
}

fn removed(check: &mut Check<'_>, path: &FieldPath, written: &[String]) -> Vec<String> {
    check.most(path, written.len(), MOST_HEADERS);
    let mut seen = BTreeSet::new();
    for (n, name) in written.iter().take(MOST_HEADERS).enumerate() {
        header_name(check, &path.index(n), name, &mut seen);
    }
    written.iter().map(|name| name.to_ascii_lowercase()).collect()
}

/// Headers that belong to the connection or the framing are the proxy's own (RFC 9110, 7.6.1).
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn header_name(check: &mut Check<'_>, path: &FieldPath, name: &str, seen: &mut BTreeSet<String>) {
    let lower = name.to_ascii_lowercase();
    if !is_header_name(name) {
        check.error(path, format!("{name:?} is no name of a header"), "write letters, digits and -");
    } else if FRAMING.contains(&lower.as_str()) {
        check.error(path, format!("{name} belongs to the connection and cannot be modified"), "remove it");
    }
    if !seen.insert(lower) {
        check.error(path, format!("{name} is here twice (headers have no case)"), "remove one of them");
    }
}
