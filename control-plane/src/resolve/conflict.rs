//! Listeners that cannot be told apart. Of one object's none wins, as specified; between objects the one that is merged first
//! does (GEP-1713), and what loses to it stands in nobody's way any more.

use std::ops::Range;

use super::ResolvedListener;
use crate::model::{Listener, Protocol, hostnames_meet};

/// Marks the listeners of a Gateway, which are in the order of merging.
pub(super) fn mark(listeners: &mut [ResolvedListener]) {
    let mut begin = 0;
    while let Some(first) = listeners.get(begin) {
        let count = listeners[begin..].iter().take_while(|listener| listener.owner == first.owner).count();
        let own = begin..begin + count;
        for one in own.clone() {
            listeners[one].conflict = with_any(listeners, one, 0..begin);
        }
        let among_themselves: Vec<_> = own.clone().map(|one| with_any(listeners, one, own.clone())).collect();
        for (listener, conflict) in listeners[own].iter_mut().zip(among_themselves) {
            listener.conflict = listener.conflict.or(conflict);
        }
        begin += count;
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

/// Why a listener cannot be served beside one of others that can.
fn with_any(listeners: &[ResolvedListener], one: usize, others: Range<usize>) -> Option<&'static str> {
    let own = &listeners[one].listener;
    let others = others.filter(|other| *other != one).map(|other| &listeners[other]);
    let others = others.filter(|other| other.conflict.is_none() && other.listener.port == own.port);
    others.into_iter().find_map(|other| between(own, &other.listener))
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
        (one, other) if one == other => same_name.then_some("HostnameConflict"),
        // The server name tells them apart, but from one that takes whatever server is named nothing can be told apart.
        (Protocol::Https, Protocol::Tls) | (Protocol::Tls, Protocol::Https) => {
            (same_name || a.hostname.is_empty() || b.hostname.is_empty()).then_some("ProtocolConflict")
        }
        _ => Some("ProtocolConflict"),
    }
}
