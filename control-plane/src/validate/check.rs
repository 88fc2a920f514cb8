//! What the checks of all kinds share: a list of problems, and the rules for names, ports, durations and expressions.

use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::config::{FieldPath, Object, Problem, Severity};
use crate::model::{Kind, ObjectKey};

/// Most bytes of a compiled expression; the sidecar compiles it again under its own bound.
const MOST_REGEX: usize = 256 << 10;
/// Most labels of an object or a selector.
const MOST_LABELS: usize = 64;

const SERVICE_NAME: &str =
    "a Service's name has 1 to 63 of a-z, 0-9 and -, begins with a letter and does not end with - (RFC 1035)";
const DNS_LABEL: &str =
    "must have 1 to 63 of a-z, 0-9 and -, and begin and end with a letter or digit (RFC 1123 label)";
const DNS_SUBDOMAIN: &str =
    "must have 1 to 253 of a-z, 0-9, - and ., and begin and end with a letter or digit (RFC 1123 subdomain)";
const LABEL_NAME: &str = "is no label name: [prefix/]name of at most 63 of A-Z, a-z, 0-9, -, _ and .";
const LABEL_VALUE: &str =
    "the value of a label has at most 63 of A-Z, a-z, 0-9, -, _ and ., and begins and ends with a letter or digit";

/// The problems of one object as they are found.
pub(super) struct Check<'a> {
    object: &'a Object,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    pub fn new(object: &'a Object) -> Self {
        Self { object, problems: Vec::new() }
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub fn key(&self) -> &ObjectKey {
        &self.object.key
    }

    pub fn error(&mut self, path: &FieldPath, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(self.object.describe(path, Severity::Error, message, hint));
    }

    pub fn warn(&mut self, path: &FieldPath, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(self.object.describe(path, Severity::Warning, message, hint));
    }

    /// Refuses by name what is specified but does not work yet, since ignoring it would be a lie.
    pub fn not_yet(&mut self, path: &FieldPath, what: &str) {
        self.error(path, format!("{what} is not supported yet"), "remove it");
    }

    /// Refuses a list that is longer than specified.
    pub fn most(&mut self, path: &FieldPath, found: usize, most: usize) {
        if found > most {
            self.error(path, format!("has {found} entries; at most {most} are taken"), "split it");
        }
    }

    /// The object's own names and labels.
    pub fn metadata(&mut self, metadata: &ObjectMeta) {
        let path = FieldPath::of("metadata");
        let key = self.key().clone();
        let (name, name_path) = (&key.name.name, path.key("name"));
        match key.kind {
            Kind::Namespace => self.dns_label(&name_path, name),
            // A Service's name is a DNS label that begins with a letter (RFC 1035).
            Kind::Service => {
                if !is_dns_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
                    self.error(&name_path, SERVICE_NAME, "rename it");
                }
            }
            _ => self.dns_subdomain(&name_path, name),
        }
        match &metadata.namespace {
            Some(_) if !key.kind.namespaced() => {
                self.error(&path.key("namespace"), format!("a {} is in no namespace", key.kind), "remove it");
            }
            Some(namespace) => self.dns_label(&path.key("namespace"), namespace),
            None => {}
        }
        if let Some(labels) = &metadata.labels {
            self.labels(&path.key("labels"), labels.iter());
        }
    }

    pub fn dns_label(&mut self, path: &FieldPath, text: &str) {
        if !is_dns_label(text) {
            self.error(path, DNS_LABEL, "rename it");
        }
    }

    pub fn dns_subdomain(&mut self, path: &FieldPath, text: &str) {
        if !is_dns_subdomain(text) {
            self.error(path, DNS_SUBDOMAIN, "rename it");
        }
    }

    /// Kubernetes' rules for label keys and values.
    pub fn labels<'l>(&mut self, path: &FieldPath, labels: impl ExactSizeIterator<Item = (&'l String, &'l String)>) {
        self.most(path, labels.len(), MOST_LABELS);
        for (key, value) in labels {
            let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(p, n)| (Some(p), n));
            let at = path.key(key.as_str());
            if !is_label_text(name) || name.is_empty() || prefix.is_some_and(|p| !is_dns_subdomain(p)) {
                self.error(&at, LABEL_NAME, "rename it");
            }
            if !is_label_text(value) {
                self.error(&at, LABEL_VALUE, "change it");
            }
        }
    }

    pub fn port(&mut self, path: &FieldPath, number: i64) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            self.error(path, format!("{number} is no port"), "write a number from 1 to 65535");
        }
        port
    }

    /// A number from `least` to `most`.
    pub fn number(&mut self, path: &FieldPath, number: i64, least: u32, most: u32) -> Option<u32> {
        let found = u32::try_from(number).ok().filter(|n| (least..=most).contains(n));
        if found.is_none() {
            self.error(path, format!("{number} is out of range"), format!("write a number from {least} to {most}"));
        }
        found
    }

    /// A duration as the Gateway API writes it (GEP-2257), in milliseconds.
    pub fn duration(&mut self, path: &FieldPath, text: &str) -> Option<u64> {
        match gateway_api::Duration::from_str(text) {
            Ok(duration) => u64::try_from(duration.as_millis()).ok(),
            Err(_) => {
                let hint = "write numbers with units h, m, s or ms and no fraction, as 1m30s or 500ms (GEP-2257)";
                self.error(path, format!("{text:?} is no duration"), hint);
                None
            }
        }
    }

    /// A duration that is more than zero and fits the wire.
    pub fn positive_duration(&mut self, path: &FieldPath, text: &str) -> Option<u32> {
        let millis = self.duration(path, text)?;
        let found = u32::try_from(millis).ok().filter(|ms| *ms > 0);
        if found.is_none() {
            self.error(path, format!("{text} is out of range"), "write a duration from 1ms to 1193h");
        }
        found
    }

    /// An expression that compiles within the bound.
    pub fn regex(&mut self, path: &FieldPath, text: &str) {
        let built = regex::RegexBuilder::new(text).size_limit(MOST_REGEX).nest_limit(64).build();
        match built {
            Ok(_) => {}
            Err(regex::Error::CompiledTooBig(_)) => {
                self.error(path, "the expression needs too much memory", "use fewer or smaller repetitions");
            }
            Err(error) => {
                // The last line of the crate's drawing says what is wrong.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
                self.error(
                    path,
                    format!("is no regular expression: {reason}"),
                    "look-around and back-references are not supported",
                );
            }
        }
    }
}

/// An RFC 1123 label: 1 to 63 of a-z, 0-9 and -, neither first nor last a -.
pub fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// An RFC 1123 subdomain as Kubernetes takes it: labels joined by dots, at most 253 characters.
pub fn is_dns_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

fn is_label_text(text: &str) -> bool {
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with(['-', '_', '.'])
        && !text.ends_with(['-', '_', '.'])
}

/// The name of a port: an IANA service name (RFC 6335, 5.1) in lower case.
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.contains(|c: char| c.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// A header's name, a token of RFC 9110, 5.6.2.
pub(super) fn is_header_name(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
