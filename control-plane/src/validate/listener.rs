//! Listeners, of Gateways and of ListenerSets.

use std::collections::BTreeSet;

use gateway_api::experimental::gateways::{
    GatewayAllowedListenersNamespaces, GatewayAllowedListenersNamespacesFrom as From, GatewayListeners,
    GatewayListenersTls, GatewayListenersTlsMode,
};

use super::check::{Check, is_dns_label, is_dns_subdomain};
use crate::config::FieldPath;
use crate::model::{AllowedFrom, GATEWAY_GROUP, Listener, Name, ObjectRef, Operator, Protocol, Selector};

/// Bounds of lists, as specified.
const MOST_KINDS: usize = 8;
const MOST_CERTIFICATES: usize = 64;
/// Of the expressions of a selector; Kubernetes has no bound.
const MOST_EXPRESSIONS: usize = 32;

/// One type of the crate for another one that is written the same way: it has one for each place where a thing may stand.
pub(super) fn same<T: serde::de::DeserializeOwned>(written: &impl serde::Serialize) -> Option<T> {
    serde_json::from_value(serde_json::to_value(written).ok()?).ok()
}

/// A reference whose group and kind are those of a Secret where they are left out.
pub(super) fn object_ref(
    group: Option<&str>,
    kind: Option<&str>,
    own: &str,
    namespace: Option<&str>,
    name: &str,
) -> ObjectRef {
    ObjectRef {
        group: group.unwrap_or_default().to_owned(),
        kind: kind.unwrap_or("Secret").to_owned(),
        name: Name::new(namespace.unwrap_or(own), name),
    }
}

pub(super) fn all<'a>(
    check: &mut Check<'_>,
    path: &FieldPath,
    owner: &Name,
    written: impl Iterator<Item = &'a GatewayListeners>,
) -> Vec<Listener> {
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for (n, written) in written.enumerate() {
        let at = path.index(n);
        check.dns_subdomain(&at.key("name"), &written.name);
        if !names.insert(&written.name) {
            let message = format!("two listeners have the name {:?}", written.name);
            check.error(&at.key("name"), message, "rename one of them");
        }
        found.extend(one(check, &at, owner, written));
    }
    found
}

fn one(check: &mut Check<'_>, at: &FieldPath, owner: &Name, written: &GatewayListeners) -> Option<Listener> {
    let protocol = match written.protocol.as_str() {
        "HTTP" => Protocol::Http,
        "HTTPS" => Protocol::Https,
        "TLS" => Protocol::Tls,
        "TCP" => Protocol::Tcp,
        other => {
            check.most(&at.key("protocol"), other.len(), 255);
            let message = format!("the protocol {other:?} is not supported; the listener is not accepted");
            check.warn(&at.key("protocol"), message, "write HTTP, HTTPS, TLS or TCP");
            Protocol::Other(other.to_owned())
        }
    };
    let hostname = written.hostname.clone().unwrap_or_default();
    if !hostname.is_empty() {
        check_hostname(check, &at.key("hostname"), &hostname);
        if protocol == Protocol::Tcp {
            check.error(&at.key("hostname"), "TCP says no hostname", "remove it");
        }
    }
    let (passthrough, certificates) = tls(check, &at.key("tls"), owner, &protocol, written.tls.as_ref());
    let allowed = written.allowed_routes.as_ref();
    let kinds = allowed.and_then(|a| a.kinds.as_deref()).unwrap_or_default();
    check.most(&at.key("allowedRoutes").key("kinds"), kinds.len(), MOST_KINDS);
    let kinds = kinds.iter().take(MOST_KINDS);
    let from = match allowed.and_then(|a| a.namespaces.as_ref()) {
        None => AllowedFrom::Same,
        Some(namespaces) => {
            let at = at.key("allowedRoutes").key("namespaces");
            allowed_from(check, &at, namespaces, AllowedFrom::Same)
        }
    };
    Some(Listener {
        name: written.name.clone(),
        port: check.port(&at.key("port"), written.port.into())?,
        protocol,
        hostname,
        passthrough,
        certificates,
        kinds: kinds.map(|k| (k.group.clone().unwrap_or_else(|| GATEWAY_GROUP.to_owned()), k.kind.clone())).collect(),
        from,
    })
}

fn check_hostname(check: &mut Check<'_>, at: &FieldPath, host: &str) {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let address = host.parse::<std::net::IpAddr>().is_ok();
    if address || !is_dns_subdomain(name) || name.split('.').any(|label| !is_dns_label(label)) {
        let hint = "write a DNS name in lower case without a port, as web.example.com or *.example.com";
        check.error(at, format!("{host:?} is no hostname"), hint);
    }
}

/// Whether TLS passes, and the certificates.
fn tls(
    check: &mut Check<'_>,
    at: &FieldPath,
    owner: &Name,
    protocol: &Protocol,
    written: Option<&GatewayListenersTls>,
) -> (bool, Vec<ObjectRef>) {
    let Some(written) = written else {
        if *protocol == Protocol::Tls {
            check.error(at, "a listener of protocol TLS says what becomes of TLS", "write `tls: {mode: Passthrough}`");
        }
        return (false, Vec::new());
    };
    if matches!(protocol, Protocol::Http | Protocol::Tcp) {
        check.error(at, "HTTP and TCP have no TLS", "remove it, or write `protocol: HTTPS`");
    }
    if let Some(options) = &written.options {
        for key in options.keys() {
            check.not_yet(&at.key("options").key(key.as_str()), &format!("the option {key:?}"));
        }
    }
    let passthrough = written.mode == Some(GatewayListenersTlsMode::Passthrough);
    if passthrough && *protocol == Protocol::Https {
        check.error(&at.key("mode"), "HTTPS ends TLS here", "write `mode: Terminate`, or `protocol: TLS`");
    }
    let refs = written.certificate_refs.as_deref().unwrap_or_default();
    check.most(&at.key("certificateRefs"), refs.len(), MOST_CERTIFICATES);
    let refs = refs
        .iter()
        .take(MOST_CERTIFICATES)
        .map(|r| object_ref(r.group.as_deref(), r.kind.as_deref(), &owner.namespace, r.namespace.as_deref(), &r.name));
    (passthrough, refs.collect())
}

/// `namespaces:` of whichever list; what stands there without `from:` is `default`.
pub(super) fn allowed_from(
    check: &mut Check<'_>,
    at: &FieldPath,
    written: &impl serde::Serialize,
    default: AllowedFrom,
) -> AllowedFrom {
    let Some(written) = same::<GatewayAllowedListenersNamespaces>(written) else { return default };
    match written.from {
        None => default,
        Some(From::All) => AllowedFrom::All,
        Some(From::Same) => AllowedFrom::Same,
        Some(From::None) => AllowedFrom::None,
        Some(From::Selector) => {
            let Some(selector) = &written.selector else {
                check.error(&at.key("selector"), "is missing", "write `selector: {matchLabels: {…}}`, or `from: All`");
                return default;
            };
            let at = at.key("selector").key("matchExpressions");
            let expressions = selector.match_expressions.as_deref().unwrap_or_default();
            check.most(&at, expressions.len(), MOST_EXPRESSIONS);
            let mut found = Selector { labels: selector.match_labels.clone().unwrap_or_default(), expressions: vec![] };
            for (n, written) in expressions.iter().take(MOST_EXPRESSIONS).enumerate() {
                let values = written.values.clone().unwrap_or_default();
                let operator = operator(check, &at.index(n), &written.operator, values.is_empty());
                found.expressions.extend(operator.map(|operator| (written.key.clone(), operator, values)));
            }
            AllowedFrom::Selector(found)
        }
    }
}

fn operator(check: &mut Check<'_>, at: &FieldPath, written: &str, empty: bool) -> Option<Operator> {
    let (operator, wants_values) = match written {
        "In" => (Operator::In, true),
        "NotIn" => (Operator::NotIn, true),
        "Exists" => (Operator::Exists, false),
        "DoesNotExist" => (Operator::DoesNotExist, false),
        other => {
            let hint = "write In, NotIn, Exists or DoesNotExist";
            check.error(&at.key("operator"), format!("{other:?} is no operator"), hint);
            return None;
        }
    };
    if wants_values == empty {
        let what = if empty { "needs at least one value" } else { "takes no values" };
        check.error(&at.key("values"), format!("{written} {what}"), "change it");
    }
    Some(operator)
}
