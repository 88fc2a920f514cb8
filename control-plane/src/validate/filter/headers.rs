//! RequestHeaderModifier and ResponseHeaderModifier.

use std::collections::BTreeSet;

use gateway_api::experimental::httproutes::{
    HttpRouteRulesFiltersRequestHeaderModifier, HttpRouteRulesFiltersResponseHeaderModifier,
};
use http::HeaderValue;

use crate::config::FieldPath;
use crate::model::HeaderModifier;
use crate::validate::check::{Check, is_header_name};

/// Most headers of one list, and the longest value of one, as specified.
const MOST_HEADERS: usize = 16;
const MOST_VALUE: usize = 4096;

/// Either modifier.
pub(super) struct Written<'a> {
    set: Vec<(&'a str, &'a str)>,
    add: Vec<(&'a str, &'a str)>,
    remove: &'a [String],
}

macro_rules! from {
    ($type:ty) => {
        impl<'a> From<&'a $type> for Written<'a> {
            fn from(m: &'a $type) -> Self {
                Self {
                    set: m.set.iter().flatten().map(|h| (h.name.as_str(), h.value.as_str())).collect(),
                    add: m.add.iter().flatten().map(|h| (h.name.as_str(), h.value.as_str())).collect(),
                    remove: m.remove.as_deref().unwrap_or_default(),
                }
            }
        }
    };
}

from!(HttpRouteRulesFiltersRequestHeaderModifier);
from!(HttpRouteRulesFiltersResponseHeaderModifier);

pub(super) fn modifier(check: &mut Check<'_>, at: &FieldPath, written: &Written<'_>) -> HeaderModifier {
    // One action a header, as specified, so that their order means nothing.
    let mut seen = BTreeSet::new();
    HeaderModifier {
        set: headers(check, &at.key("set"), &written.set, &mut seen),
        add: headers(check, &at.key("add"), &written.add, &mut seen),
        remove: removed(check, &at.key("remove"), written.remove, &mut seen),
    }
}

fn headers(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: &[(&str, &str)],
    seen: &mut BTreeSet<String>,
) -> Vec<(String, String)> {
    check.most(path, written.len(), MOST_HEADERS);
    for (n, (name, value)) in written.iter().take(MOST_HEADERS).enumerate() {
        let at = path.index(n);
        header_name(check, &at.key("name"), name, seen);
        if value.is_empty() || value.len() > MOST_VALUE || HeaderValue::from_str(value).is_err() {
            let message = "is no value of a header: 1 to 4096 visible characters, spaces and tabs";
            check.error(&at.key("value"), message, "change it");
        }
    }
    written.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect()
}

fn removed(check: &mut Check<'_>, path: &FieldPath, written: &[String], seen: &mut BTreeSet<String>) -> Vec<String> {
    check.most(path, written.len(), MOST_HEADERS);
    for (n, name) in written.iter().take(MOST_HEADERS).enumerate() {
        header_name(check, &path.index(n), name, seen);
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
