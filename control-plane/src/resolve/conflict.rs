//! Listeners that cannot be told apart. Of one object's none wins, as specified; between objects the one that is merged first
//! does (GEP-1713).

use super::ResolvedListener;
use crate::model::{Listener, Protocol, hostnames_meet};

/// Marks the listeners of a Gateway, which are in the order of merging.
pub(super) fn mark(listeners: &mut [ResolvedListener]) {
    for one in 0..listeners.len() {
        for other in 0..listeners.len() {
            let (a, b) = (&listeners[one], &listeners[other]);
            if one == other || a.listener.port != b.listener.port {
                continue;
            }
            let among_themselves = a.owner == b.owner;
            if other > one && !among_themselves {
                continue;
            }
            if let Some(reason) = between(&a.listener, &b.listener) {
                listeners[one].conflict.get_or_insert(reason);
            }
        }
    }
    // Only those that hold are served, so only they can be mistaken for each other.
    for one in 0..listeners.len() {
        let a = &listeners[one];
        listeners[one].overlaps = has_tls(&a.listener)
            && a.conflict.is_none()
            && listeners.iter().enumerate().any(|(other, b)| {
                other != one
                    && has_tls(&b.listener)
                    && b.conflict.is_none()
                    && a.listener.port == b.listener.port
                    && hostnames_meet(&a.listener.hostname, &b.listener.hostname)
            });
    }
}

fn has_tls(listener: &Listener) -> bool {
    matches!(listener.protocol, Protocol::Https | Protocol::Tls)
}

/// The reason why two listeners of one port cannot both be served.
fn between(a: &Listener, b: &Listener) -> Option<&'static str> {
    let same_name = a.hostname == b.hostname;
    match (&a.protocol, &b.protocol) {
        // Nobody serves it, so it stands in nobody's way.
        (Protocol::Other(_), _) | (_, Protocol::Other(_)) => None,
        (Protocol::Tcp, Protocol::Tcp) => Some("HostnameConflict"),
        (a, b) if a == b => same_name.then_some("HostnameConflict"),
        // The server name tells them apart.
        (Protocol::Https, Protocol::Tls) | (Protocol::Tls, Protocol::Https) => same_name.then_some("ProtocolConflict"),
        _ => Some("ProtocolConflict"),
    }
}
