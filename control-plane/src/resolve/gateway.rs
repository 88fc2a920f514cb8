//! Gateways and their ListenerSets, one listener at a time.

use std::collections::BTreeSet;

use super::reference::{self, AuthorityReasons};
use super::{ClientValidation, Gateway, Problem, Resolved, ResolvedListener};
use crate::model::{self, GATEWAY_GROUP, Kind, Listener, Mesh, Name, Protocol};

/// Most listeners of a Gateway, those of ListenerSets included.
const MOST_LISTENERS: usize = 1024;

/// Whether TLS ends at a listener.
pub(super) fn terminates(listener: &Listener) -> bool {
    matches!(listener.protocol, Protocol::Https | Protocol::Tls) && !listener.passthrough
}

/// A Gateway with its own listeners.
pub(super) fn resolve(mesh: &Mesh, gateway: &model::Gateway) -> Gateway {
    let owner = (Kind::Gateway, &gateway.name);
    let validations = gateway.port_client_validation.values().flatten().chain(&gateway.client_validation);
    Gateway {
        accepted: accepted(mesh, gateway),
        listeners: gateway.listeners.iter().map(|l| listener(mesh, gateway, owner, l)).collect(),
        backend_client_certificate: gateway
            .backend_client_certificate
            .as_ref()
            .map(|to| reference::key_pair(mesh, owner, to, "InvalidClientCertificateRef")),
        insecure_fallback: validations.into_iter().any(|validation| validation.insecure_fallback),
    }
}

fn accepted(mesh: &Mesh, gateway: &model::Gateway) -> Result<(), Problem> {
    if gateway.has_parameters {
        return Err(Problem::new("InvalidParameters", "infrastructure.parametersRef: there are no parameters"));
    }
    if mesh.gateway_classes.get(&gateway.class).is_some_and(|class| class.has_parameters) {
        return Err(Problem::new("InvalidParameters", format!("the GatewayClass {} has parameters", gateway.class)));
    }
    let known = |kind: &str| matches!(kind, "IPAddress" | "Hostname");
    match gateway.addresses.iter().find(|(kind, _)| !known(kind)) {
        Some((kind, _)) => {
            Err(Problem::new("UnsupportedAddress", format!("an address of the type {kind} is not known")))
        }
        None => Ok(()),
    }
}

/// Merges the ListenerSets in, the oldest first.
pub(super) fn add_listener_sets(mesh: &Mesh, all: &mut Resolved) {
    let mut sets: Vec<_> = mesh.listener_sets.values().collect();
    sets.sort_by_key(|set| (set.created, &set.name));
    for set in sets {
        let Some(gateway) = mesh.gateways.get(&set.parent) else {
            let problem = Problem::new("ParentNotAccepted", format!("there is no Gateway {}", set.parent));
            all.listener_sets.insert(set.name.clone(), Err(problem));
            continue;
        };
        let Some(resolved) = all.gateways.get_mut(&set.parent) else { continue };
        let labels = mesh.namespace_labels(&set.name.namespace);
        let outcome = if !gateway.allowed_listeners.allows(&gateway.name.namespace, &set.name.namespace, &labels) {
            let message = format!("the Gateway {} allows no ListenerSets of {}", gateway.name, set.name.namespace);
            Err(Problem::new("NotAllowed", message))
        } else if let Err(problem) = &resolved.accepted {
            let message = format!("the Gateway {} is not accepted: {}", gateway.name, problem.message);
            Err(Problem::new("ParentNotAccepted", message))
        } else {
            for one in &set.listeners {
                let mut new = listener(mesh, gateway, (Kind::ListenerSet, &set.name), one);
                if resolved.listeners.len() >= MOST_LISTENERS {
                    let message = format!("the Gateway has {MOST_LISTENERS} listeners already");
                    new.refused = Some(Problem::new("TooManyListeners", message));
                }
                resolved.listeners.push(new);
            }
            Ok(())
        };
        all.listener_sets.insert(set.name.clone(), outcome);
    }
}

/// A ListenerSet without one listener that holds is not attached.
pub(super) fn judge_listener_sets(all: &mut Resolved) {
    let mut holding: BTreeSet<&Name> = BTreeSet::new();
    for listener in all.gateways.values().flat_map(|gateway| &gateway.listeners) {
        if listener.owner.0 == Kind::ListenerSet && listener.holds() {
            holding.insert(&listener.owner.1);
        }
    }
    for (name, outcome) in &mut all.listener_sets {
        if outcome.is_ok() && !holding.contains(name) {
            *outcome = Err(Problem::new("ListenersNotValid", "none of its listeners can be served"));
        }
    }
}

fn listener(mesh: &Mesh, gateway: &model::Gateway, owner: (Kind, &Name), listener: &Listener) -> ResolvedListener {
    let mut new = ResolvedListener {
        owner: (owner.0, owner.1.clone()),
        listener: listener.clone(),
        conflict: None,
        refused: None,
        unresolved: None,
        certificates: Vec::new(),
        client_validation: None,
        kinds: Vec::new(),
        overlaps: false,
        attached: BTreeSet::new(),
    };
    if let Protocol::Other(protocol) = &listener.protocol {
        let message = format!("the protocol {protocol:?} is not supported");
        new.refused = Some(Problem::new("UnsupportedProtocol", message));
    }
    if terminates(listener) {
        certificates(mesh, owner, &mut new);
        // It is for HTTPS alone, as specified.
        if listener.protocol == Protocol::Https {
            validation(mesh, gateway, &mut new);
        }
    }
    kinds(&mut new);
    new
}

/// The good ones of several certificates are shown.
fn certificates(mesh: &Mesh, owner: (Kind, &Name), new: &mut ResolvedListener) {
    let invalid = "InvalidCertificateRef";
    if new.listener.certificates.is_empty() {
        new.unresolved = Some(Problem::new(invalid, "tls.certificateRefs is empty"));
    }
    for to in &new.listener.certificates {
        match reference::key_pair(mesh, owner, to, invalid) {
            Ok(pair) => new.certificates.push(pair),
            Err(problem) => drop(new.unresolved.get_or_insert(problem)),
        }
    }
}

/// GEP-91: what the Gateway says of the port, else of all. The references are the Gateway's own, also for listeners of
/// ListenerSets.
fn validation(mesh: &Mesh, gateway: &model::Gateway, new: &mut ResolvedListener) {
    let wanted = match gateway.port_client_validation.get(&new.listener.port) {
        Some(of_port) => of_port.as_ref(),
        None => gateway.client_validation.as_ref(),
    };
    let Some(wanted) = wanted else { return };
    let reasons = AuthorityReasons { invalid: "InvalidCACertificateRef", kind: "InvalidCACertificateKind" };
    let mut roots = Vec::new();
    for to in &wanted.authorities {
        match reference::authorities(mesh, (Kind::Gateway, &gateway.name), to, &reasons) {
            Ok(found) => roots.push(found),
            Err(problem) => drop(new.unresolved.get_or_insert(problem)),
        }
    }
    // Nobody could be let in, and everybody must not be.
    if roots.is_empty() {
        let message = "none of the caCertificateRefs of the frontend's validation can be used";
        new.refused = Some(Problem::new("NoValidCACertificate", message));
    }
    new.client_validation = Some(ClientValidation { roots, insecure_fallback: wanted.insecure_fallback });
}

/// What a protocol carries.
fn carried(listener: &Listener) -> &'static [Kind] {
    match listener.protocol {
        Protocol::Http | Protocol::Https => &[Kind::HttpRoute, Kind::GrpcRoute],
        Protocol::Tls if listener.passthrough => &[Kind::TlsRoute],
        Protocol::Tls => &[Kind::TlsRoute, Kind::TcpRoute],
        Protocol::Tcp => &[Kind::TcpRoute],
        Protocol::Other(_) => &[],
    }
}

fn kinds(new: &mut ResolvedListener) {
    let carried = carried(&new.listener);
    if new.listener.kinds.is_empty() {
        new.kinds = carried.to_vec();
    }
    for (group, kind) in &new.listener.kinds {
        let found = carried.iter().find(|known| group == GATEWAY_GROUP && known.as_str() == kind);
        match found {
            Some(found) if !new.kinds.contains(found) => new.kinds.push(*found),
            Some(_) => {}
            None => {
                let message = format!("a listener of this protocol takes no {kind} of group {group:?}");
                new.unresolved.get_or_insert(Problem::new("InvalidRouteKinds", message));
            }
        }
    }
}
