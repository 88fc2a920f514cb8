//! Paths of matches, by the rules of the Gateway API's HTTPPathMatch.

use super::check::Check;
use crate::config::FieldPath;
use crate::model::PathMatch;

/// Longest value, as specified.
const MOST: usize = 1024;

pub(super) fn check(check: &mut Check<'_>, at: &FieldPath, kind: &str, value: Option<&str>) -> Option<PathMatch> {
    let value = value.unwrap_or("/");
    let path = at.key("value");
    if value.len() > MOST {
        check.error(&path, format!("a path has at most {MOST} characters"), "shorten it");
        return None;
    }
    if kind == "RegularExpression" {
        check.regex(&path, value);
        return Some(PathMatch::Regex(value.to_owned()));
    }
    if !value.starts_with('/') {
        check.error(&path, format!("the path {value:?} does not begin with /"), format!("write /{value}"));
    }
    let lower = value.to_ascii_lowercase();
    for part in ["//", "/./", "/../", "%2f", "#"] {
        if lower.contains(part) {
            check.error(
                &path,
                format!("a path of type {kind} does not contain {part}"),
                "remove it, or use type RegularExpression",
            );
        }
    }
    for end in ["/..", "/."] {
        if value.ends_with(end) {
            check.error(&path, format!("a path of type {kind} does not end with {end}"), "remove it");
        }
    }
    if !value.contains('#') && !has_path_characters(value) {
        check.error(&path, "the path holds a character that no path has", "write it as %XX");
    }
    match kind {
        "Exact" => Some(PathMatch::Exact(value.to_owned())),
        _ => Some(PathMatch::Prefix(value.to_owned())),
    }
}

/// The characters of RFC 3986, 3.3, with `%` only before two hexadecimal digits.
pub(super) fn has_path_characters(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.iter().enumerate().all(|(n, byte)| match byte {
        b'%' => bytes.get(n + 1..n + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(byte),
    })
}
