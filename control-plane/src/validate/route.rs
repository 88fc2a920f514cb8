//! What routes of all kinds have: parents, backends, rule names. The Gateway API's crate has a type of its own for each
//! place; the macros here make one of them.

use std::collections::BTreeSet;

use super::check::{Check, is_dns_label, is_dns_subdomain};
use crate::config::FieldPath;
use crate::model::{Backend, Filter, GATEWAY_GROUP, GatewayParent, Kind, Name, ParentRef};

/// Most entries of the lists of a route, as the Gateway API specifies them.
pub(super) const MOST_PARENTS: usize = 32;
pub(super) const MOST_RULES: usize = 16;
pub(super) const MOST_BACKENDS: usize = 16;
pub(super) const MOST_MATCHES: usize = 64;
/// Of all rules of a route together.
pub(super) const MOST_MATCHES_IN_ALL: usize = 128;
pub(super) const MOST_HOSTNAMES: usize = 16;
/// Largest weight, as specified.
const MOST_WEIGHT: u32 = 1_000_000;

/// `parentRefs[]` of whichever route.
pub(super) struct WrittenParent<'a> {
    pub group: Option<&'a str>,
    pub kind: Option<&'a str>,
    pub name: &'a str,
    pub namespace: Option<&'a str>,
    pub port: Option<i32>,
    pub section: Option<&'a str>,
}

/// `backendRefs[]` of whichever route.
pub(super) struct WrittenBackend<'a> {
    pub group: Option<&'a str>,
    pub kind: Option<&'a str>,
    pub name: &'a str,
    pub namespace: Option<&'a str>,
    pub port: Option<i32>,
    pub weight: Option<i32>,
}

macro_rules! written_parents {
    ($refs:expr) => {
        $refs.iter().flatten().map(|r| $crate::validate::route::WrittenParent {
            group: r.group.as_deref(),
            kind: r.kind.as_deref(),
            name: &r.name,
            namespace: r.namespace.as_deref(),
            port: r.port,
            section: r.section_name.as_deref(),
        })
    };
}

macro_rules! written_backend {
    ($r:expr) => {
        $crate::validate::route::WrittenBackend {
            group: $r.group.as_deref(),
            kind: $r.kind.as_deref(),
            name: &$r.name,
            namespace: $r.namespace.as_deref(),
            port: $r.port,
            weight: $r.weight,
        }
    };
}

/// The backends of an HTTPRoute's or GRPCRoute's rule, each with its filters.
macro_rules! filtered_backends {
    ($check:expr, $path:expr, $of:expr, $written:expr) => {{
        let (path, written) = ($path, $written.as_deref().unwrap_or_default());
        $check.most(&path, written.len(), $crate::validate::route::MOST_BACKENDS);
        let mut backends = Vec::new();
        for (n, written) in written.iter().take($crate::validate::route::MOST_BACKENDS).enumerate() {
            let at = path.index(n);
            let written_filters = written.filters.iter().flatten();
            let filters = $crate::validate::filter::filters($check, &at.key("filters"), $of, written_filters);
            let written = $crate::validate::route::written_backend!(written);
            backends.extend($crate::validate::route::backend($check, &at, $of.route, &written, filters));
        }
        backends
    }};
}

/// The backends of a TCPRoute's or TLSRoute's only rule; `$more` is said of more than one.
macro_rules! opaque_backends {
    ($check:expr, $name:expr, $kind:literal, $rules:expr, $more:literal, $hint:literal) => {{
        let at = $crate::config::FieldPath::of("spec").key("rules");
        match $rules.len() {
            1 => {}
            0 => $check.error(&at, concat!("a ", $kind, " has one rule"), "write `rules: [{backendRefs: […]}]`"),
            n => $check.error(&at, format!(concat!("{} rules; a ", $kind, $more), n), $hint),
        }
        let mut backends = Vec::new();
        if let Some(rule) = $rules.first() {
            let at = at.index(0);
            $crate::validate::route::rule_name($check, &at, rule.name.as_deref(), &mut Default::default());
            let at = at.key("backendRefs");
            if rule.backend_refs.is_empty() {
                let hint = "write `backendRefs: [{name: store, port: 6379}]`";
                $check.error(&at, "has at least one backend", hint);
            }
            $check.most(&at, rule.backend_refs.len(), $crate::validate::route::MOST_BACKENDS);
            let written = rule.backend_refs.iter().take($crate::validate::route::MOST_BACKENDS);
            for (n, written) in written.enumerate() {
                let written = $crate::validate::route::written_backend!(written);
                backends.extend($crate::validate::route::backend($check, &at.index(n), $name, &written, Vec::new()));
            }
        }
        backends
    }};
}

pub(super) use {filtered_backends, opaque_backends, written_backend, written_parents};

/// What a route is attached to: Services (GAMMA, GEP-1426), and Gateways and ListenerSets.
pub(super) fn parents<'a>(
    check: &mut Check<'_>,
    route: &Name,
    written: impl Iterator<Item = WrittenParent<'a>>,
) -> (Vec<ParentRef>, Vec<GatewayParent>) {
    let path = FieldPath::of("spec").key("parentRefs");
    let (mut services, mut gateways) = (Vec::new(), Vec::new());
    let mut count = 0;
    for (n, parent) in written.enumerate() {
        count = n + 1;
        let at = path.index(n);
        if count > MOST_PARENTS {
            continue;
        }
        let namespace = parent.namespace.unwrap_or(&route.namespace);
        if let Some(namespace) = parent.namespace {
            check.dns_label(&at.key("namespace"), namespace);
        }
        let name = Name::new(namespace, parent.name);
        // Kind and group of Gateway are the defaults.
        match (parent.group, parent.kind) {
            // The group may be left out for a Service, since no other group has that kind.
            (None | Some(""), Some("Service")) => service_parent(check, &at, &parent, name, &mut services),
            // Left out, the group is the Gateway API's, but no other group than "" has that kind.
            (Some(GATEWAY_GROUP), Some("Service")) => {
                let message = format!("there is no Service in the group {GATEWAY_GROUP:?}");
                check.error(&at.key("group"), message, "write `group: \"\"`");
            }
            (None | Some(GATEWAY_GROUP), None | Some("Gateway")) => {
                gateway_parent(check, &at, &parent, (n, Kind::Gateway, name), &mut gateways);
            }
            (None | Some(GATEWAY_GROUP), Some("ListenerSet")) => {
                gateway_parent(check, &at, &parent, (n, Kind::ListenerSet, name), &mut gateways);
            }
            // Its controller answers for it; the route's other parents are ours all the same.
            (Some(group), kind) if !group.is_empty() && group != GATEWAY_GROUP => {
                let kind = kind.unwrap_or("Gateway");
                let message = format!("{kind} of group {group:?} is another controller's; nothing is done for it here");
                check.warn(&at, message, "remove it, where there is no such controller");
            }
            (group, kind) => {
                // Somebody else's, who says in the status what came of it.
                let (kind, group) = (kind.unwrap_or("Gateway"), group.unwrap_or(GATEWAY_GROUP));
                let hint = "write `kind: Gateway`, or `group: \"\"` and `kind: Service`";
                let message =
                    format!("{kind} of group {group:?} is no parent of ours, and the route means nothing there");
                check.warn(&at, message, hint);
            }
        }
    }
    check.most(&path, count, MOST_PARENTS);
    if count == 0 {
        let hint = "write `parentRefs: [{group: \"\", kind: Service, name: web, port: 80}]`";
        check.warn(&path, "the route is attached to nothing", hint);
    }
    (services, gateways)
}

fn service_parent(
    check: &mut Check<'_>,
    at: &FieldPath,
    parent: &WrittenParent<'_>,
    service: Name,
    parents: &mut Vec<ParentRef>,
) {
    if let Some(section) = parent.section {
        check.dns_subdomain(&at.key("sectionName"), section);
    }
    check.dns_label(&at.key("name"), parent.name);
    let port = parent.port.and_then(|port| check.port(&at.key("port"), port.into()));
    let says_namespace = parent.namespace.is_some();
    let new = ParentRef { service, port, section: parent.section.map(str::to_owned), says_namespace };
    let whole = |parent: &ParentRef| parent.port.is_none() && parent.section.is_none();
    let same = |other: &ParentRef| (other.port, &other.section) == (new.port, &new.section);
    if parents.iter().any(|other| other.service == new.service && (same(other) || whole(other) || whole(&new))) {
        let hint = "remove one of them, or name a port in each";
        check.error(at, "the route is attached to this Service and port twice", hint);
    }
    parents.push(new);
}

/// Several references to one Gateway name a section or a port each, as specified.
fn gateway_parent(
    check: &mut Check<'_>,
    at: &FieldPath,
    parent: &WrittenParent<'_>,
    (index, kind, name): (usize, Kind, Name),
    parents: &mut Vec<GatewayParent>,
) {
    check.dns_subdomain(&at.key("name"), parent.name);
    if let Some(section) = parent.section {
        check.dns_subdomain(&at.key("sectionName"), section);
    }
    let port = parent.port.and_then(|port| check.port(&at.key("port"), port.into()));
    let section = parent.section.map(str::to_owned);
    let same = |other: &&GatewayParent| (other.kind, &other.name) == (kind, &name);
    let whole = |section: &Option<String>, port: &Option<u16>| section.is_none() && port.is_none();
    if parents.iter().filter(same).any(|other| {
        (&other.section, &other.port) == (&section, &port)
            || whole(&other.section, &other.port)
            || whole(&section, &port)
    }) {
        let hint = "remove one of them, or name a sectionName or a port in each";
        check.error(at, format!("the route is attached to this {kind} twice"), hint);
    }
    parents.push(GatewayParent { index, kind, name, section, port, says_namespace: parent.namespace.is_some() });
}

fn service_name(check: &mut Check<'_>, at: &FieldPath, name: &str, namespace: Option<&str>) {
    check.dns_label(&at.key("name"), name);
    if let Some(namespace) = namespace {
        check.dns_label(&at.key("namespace"), namespace);
    }
}

/// One backend. A reference to something that is no Service is kept, as the Gateway API says: its share is answered
/// 500.
pub(super) fn backend(
    check: &mut Check<'_>,
    at: &FieldPath,
    route: &Name,
    written: &WrittenBackend<'_>,
    filters: Vec<Filter>,
) -> Option<Backend> {
    let group = written.group.unwrap_or_default();
    let kind = written.kind.unwrap_or("Service");
    let service = group.is_empty() && kind == "Service";
    if service {
        service_name(check, at, written.name, written.namespace);
    } else {
        let message = format!("{kind} of group {group:?} is no backend that is known; its share is answered 500");
        check.warn(&at.key("kind"), message, "write `kind: Service`");
        check.most(&at.key("name"), written.name.len(), 253);
    }
    let port = match written.port {
        Some(port) => check.port(&at.key("port"), port.into()),
        None if service => {
            check.error(&at.key("port"), "a Service as backend needs a port", "add `port:`");
            None
        }
        None => Some(0),
    };
    let weight = match written.weight {
        None => Some(1),
        Some(weight) => check.number(&at.key("weight"), weight.into(), 0, MOST_WEIGHT),
    };
    Some(Backend {
        service: Name::new(written.namespace.unwrap_or(&route.namespace), written.name),
        port: port?,
        weight: weight?,
        invalid_reason: if service { String::new() } else { "InvalidKind".to_owned() },
        filters,
    })
}

/// The names of rules are DNS labels and unique in their route (GEP-995).
pub(super) fn rule_name(
    check: &mut Check<'_>,
    at: &FieldPath,
    name: Option<&str>,
    seen: &mut BTreeSet<String>,
) -> String {
    let Some(name) = name else { return String::new() };
    let path = at.key("name");
    check.dns_subdomain(&path, name);
    if !seen.insert(name.to_owned()) {
        check.error(&path, format!("two rules have the name {name:?}"), "rename one of them");
    }
    name.to_owned()
}

/// A precise name, or `*.` and a suffix; never an address.
pub(super) fn hostnames(check: &mut Check<'_>, written: &[String]) -> Vec<String> {
    let path = FieldPath::of("spec").key("hostnames");
    check.most(&path, written.len(), MOST_HOSTNAMES);
    for (n, host) in written.iter().take(MOST_HOSTNAMES).enumerate() {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let address = host.parse::<std::net::IpAddr>().is_ok();
        if address || !is_dns_subdomain(name) || name.split('.').any(|label| !is_dns_label(label)) {
            let hint = "write a DNS name in lower case without a port, as web.example.com or *.example.com";
            check.error(&path.index(n), format!("{host:?} is no hostname"), hint);
        }
    }
    written.to_vec()
}
