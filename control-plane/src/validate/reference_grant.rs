//! `gateway.networking.k8s.io/v1` ReferenceGrant.

use gateway_api::referencegrants::ReferenceGrantSpec;

use super::check::Check;
use crate::config::FieldPath;
use crate::model::{Kind, Name, ReferenceGrant};

/// Most entries of each list, as specified.
const MOST: usize = 16;

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
        match (entry.group.as_str(), Kind::from_exact(&entry.kind)) {
            ("gateway.networking.k8s.io", Some(kind @ (Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute))) => {
                from.push((kind, entry.namespace.clone()));
            }
            _ => {
                let what = format!("a grant to {} of {:?}", entry.kind, entry.group);
                let hint = "write group gateway.networking.k8s.io and kind HTTPRoute, GRPCRoute or TCPRoute";
                check.error(&at.key("kind"), format!("{what} is not supported yet"), hint);
            }
        }
    }
    let mut to = Vec::new();
    for (n, entry) in spec.to.iter().take(MOST).enumerate() {
        let at = to_path.index(n);
        if !entry.group.is_empty() || entry.kind != "Service" {
            let what = format!("a grant on {} of {:?}", entry.kind, entry.group);
            check.error(&at.key("kind"), format!("{what} is not supported yet"), "write `group: \"\", kind: Service`");
        }
        if let Some(name) = &entry.name {
            check.dns_label(&at.key("name"), name);
        }
        to.push(entry.name.clone());
    }
    ReferenceGrant { name, from, to }
}
