//! `gateway.networking.k8s.io/v1` ReferenceGrant.

use gateway_api::referencegrants::ReferenceGrantSpec;

use super::check::Check;
use crate::config::FieldPath;
use crate::model::{GATEWAY_GROUP, GrantFrom, GrantTo, Name, ReferenceGrant};

/// Most entries of each list, as specified.
const MOST: usize = 16;
/// The kinds that refer to others, and those that are referred to. A grant of other kinds is somebody else's, and grants
/// nothing here.
const FROM: [&str; 6] = ["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "Gateway", "ListenerSet"];
const TO: [&str; 3] = ["Service", "Secret", "ConfigMap"];

pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &ReferenceGrantSpec) -> ReferenceGrant {
    let (from_path, to_path) = (FieldPath::of("spec").key("from"), FieldPath::of("spec").key("to"));
    for (path, length) in [(&from_path, spec.from.len()), (&to_path, spec.to.len())] {
        if length == 0 {
            check.error(path, "has at least one entry", "add one");
        }
        check.most(path, length, MOST);
    }
    let mut from = Vec::new();
    for (n, entry) in spec.from.iter().take(MOST).enumerate() {
        let at = from_path.index(n);
        check.dns_label(&at.key("namespace"), &entry.namespace);
        if entry.group != GATEWAY_GROUP || !FROM.contains(&entry.kind.as_str()) {
            let what = format!("a grant to {} of {:?} grants nothing here", entry.kind, entry.group);
            let hint = format!("write group {GATEWAY_GROUP} and one of {}", FROM.join(", "));
            check.warn(&at.key("kind"), what, hint);
        }
        let (group, kind) = (entry.group.clone(), entry.kind.clone());
        from.push(GrantFrom { group, kind, namespace: entry.namespace.clone() });
    }
    let mut to = Vec::new();
    for (n, entry) in spec.to.iter().take(MOST).enumerate() {
        let at = to_path.index(n);
        if !entry.group.is_empty() || !TO.contains(&entry.kind.as_str()) {
            let what = format!("a grant on {} of {:?} grants nothing here", entry.kind, entry.group);
            check.warn(&at.key("kind"), what, format!("write `group: \"\"` and one of {}", TO.join(", ")));
        }
        if let Some(name) = &entry.name {
            check.dns_subdomain(&at.key("name"), name);
        }
        to.push(GrantTo { group: entry.group.clone(), kind: entry.kind.clone(), name: entry.name.clone() });
    }
    ReferenceGrant { name, from, to }
}
