//! GatewayClass, Gateway and ListenerSet.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::condition::{condition, judged};
use super::serving::{Port, Serving};
use super::{FEATURES, Inputs};
use crate::model::{CONTROLLER, GATEWAY_GROUP, Kind, Name};
use crate::resolve::{Gateway, Problem, ResolvedListener};

pub(super) fn class(inputs: Inputs<'_>, name: &str) -> Option<Value> {
    let class = inputs.mesh.gateway_classes.get(name).filter(|class| class.controller == CONTROLLER)?;
    let accepted = match class.has_parameters {
        true => condition("Accepted", false, "InvalidParameters", "spec.parametersRef: there are no parameters"),
        false => condition("Accepted", true, "Accepted", ""),
    };
    // The versions are those of the types that objects are read with.
    let version = condition("SupportedVersion", true, "SupportedVersion", "");
    let features: Vec<Value> = FEATURES.iter().map(|name| json!({"name": name})).collect();
    Some(json!({"conditions": [accepted, version], "supportedFeatures": features}))
}

pub(super) fn gateway(inputs: Inputs<'_>, name: &Name) -> Option<Value> {
    let resolved = inputs.resolved.gateways.get(name)?;
    let written = inputs.mesh.gateways.get(name)?;
    let serving = (inputs.serving)(name);
    let own: Vec<&ResolvedListener> = resolved.listeners.iter().filter(|l| l.owner.0 == Kind::Gateway).collect();
    let wanted: Vec<&str> =
        written.addresses.iter().map(|(_, value)| value.as_str()).filter(|v| !v.is_empty()).collect();
    let serving = serving.as_ref();
    let addresses = addresses(&written.addresses, serving.map(Serving::addresses));
    let accepted = accepted(resolved, &own, serving);
    let programmed = match &accepted {
        (false, problem) => condition("Programmed", false, "Invalid", &problem.message),
        (true, _) => programmed(resolved, &own, serving, &wanted),
    };
    let mut conditions = vec![
        condition("Accepted", accepted.0, accepted.1.reason, accepted.1.message),
        programmed,
        resolved_refs(resolved, &own),
    ];
    if resolved.insecure_fallback {
        let message = "clients without a valid certificate are let in (AllowInsecureFallback)";
        conditions.push(condition("InsecureFrontendValidationMode", true, "ConfigurationChanged", message));
    }
    let sets = inputs.mesh.listener_sets.values().filter(|set| set.parent == *name);
    let attached = sets.filter(|set| inputs.resolved.listener_sets.get(&set.name).is_some_and(Result::is_ok)).count();
    let listeners: Vec<Value> = own.iter().map(|l| listener(l, resolved, serving)).collect();
    Some(json!({
        "addresses": addresses,
        "conditions": conditions,
        "listeners": listeners,
        "attachedListenerSets": attached,
    }))
}

/// Those that were asked for and are there, else all that there are.
fn addresses(wanted: &[(String, String)], serving: Option<&[IpAddr]>) -> Vec<Value> {
    let there = serving.unwrap_or_default();
    let one = |kind: &str, value: &str| json!({"type": kind, "value": value});
    let asked: Vec<Value> = wanted
        .iter()
        .filter(|(kind, value)| kind == "Hostname" && !there.is_empty() || is_there(value, there))
        .filter(|(_, value)| !value.is_empty())
        .map(|(kind, value)| one(kind, value))
        .collect();
    if asked.is_empty() && wanted.iter().all(|(_, value)| value.is_empty()) {
        return there.iter().take(16).map(|address| one("IPAddress", &address.to_string())).collect();
    }
    asked
}

fn is_there(value: &str, there: &[IpAddr]) -> bool {
    value.parse::<IpAddr>().is_ok_and(|address| there.contains(&address))
}

/// A listener that cannot be accepted does not take the others with it.
fn accepted(gateway: &Gateway, own: &[&ResolvedListener], serving: Option<&Serving>) -> (bool, Problem) {
    if let Err(problem) = &gateway.accepted {
        return (false, problem.clone());
    }
    let is_bad = |l: &&&ResolvedListener| l.conflict.is_some() || l.refused.is_some() || failed(l, serving).is_some();
    let bad: Vec<&str> = own.iter().filter(is_bad).map(|l| l.listener.name.as_str()).collect();
    if bad.is_empty() {
        return (true, Problem { reason: "Accepted", message: String::new() });
    }
    let good = own.iter().filter(|l| !bad.contains(&l.listener.name.as_str())).map(|l| l.listener.name.as_str());
    let good: Vec<&str> = good.collect();
    let message = match good.is_empty() {
        true => format!("not accepted: {}", bad.join(", ")),
        false => format!("not accepted: {}; accepted: {}", bad.join(", "), good.join(", ")),
    };
    (!good.is_empty(), Problem { reason: "ListenersNotValid", message })
}

/// Why no sidecar could bind the port of a listener that could be served else.
fn failed<'a>(listener: &ResolvedListener, serving: Option<&'a Serving>) -> Option<&'a str> {
    match serving.filter(|_| listener.holds())?.port(listener.listener.port) {
        Port::Failed(why) => Some(why),
        Port::Open | Port::Pending => None,
    }
}

fn programmed(gateway: &Gateway, own: &[&ResolvedListener], serving: Option<&Serving>, wanted: &[&str]) -> Value {
    let holding: Vec<&ResolvedListener> = gateway.listeners.iter().filter(|listener| listener.holds()).collect();
    if !own.is_empty() && holding.is_empty() {
        return condition("Programmed", false, "Invalid", "no listener can be served");
    }
    let Some(serving) = serving else { return pending() };
    if holding.iter().any(|listener| serving.port(listener.listener.port) == Port::Pending) {
        return unbound();
    }
    if let Some(why) = holding.first().and_then(|listener| failed(listener, Some(serving)))
        && holding.iter().all(|listener| failed(listener, Some(serving)).is_some())
    {
        return condition("Programmed", false, "Invalid", format!("no port could be bound: {why}"));
    }
    let there = serving.addresses();
    let ip = |value: &&&str| value.parse::<IpAddr>().is_ok();
    match wanted.iter().filter(ip).find(|value| !is_there(value, there)) {
        Some(missing) => {
            let message = format!("no sidecar that serves the Gateway has the address {missing}");
            condition("Programmed", false, "AddressNotUsable", message)
        }
        None => condition("Programmed", true, "Programmed", ""),
    }
}

fn pending() -> Value {
    let message = "no sidecar serves it as it is now; start one with --gateway, or see `leno status`";
    condition("Programmed", false, "Pending", message)
}

fn unbound() -> Value {
    condition("Programmed", false, "Pending", "no sidecar has bound the port yet")
}

fn resolved_refs(gateway: &Gateway, own: &[&ResolvedListener]) -> Value {
    let of_backend = gateway.backend_client_certificate.as_ref().and_then(|found| found.as_ref().err());
    let bad: Vec<&str> = own.iter().filter(|l| l.unresolved.is_some()).map(|l| l.listener.name.as_str()).collect();
    let message = format!("references of these listeners do not hold: {}", bad.join(", "));
    let of_listeners = (!bad.is_empty()).then_some(Problem { reason: "ListenersNotResolved", message });
    judged("ResolvedRefs", "ResolvedRefs", of_backend.or(of_listeners.as_ref()))
}

/// One listener's status, of a Gateway or of a ListenerSet.
fn listener(resolved: &ResolvedListener, gateway: &Gateway, serving: Option<&Serving>) -> Value {
    // What it is called differs between the two (GEP-1713): a Gateway's own listeners spoil each other, a set's loses.
    let of_set = resolved.owner.0 == Kind::ListenerSet;
    let clash = resolved.conflict.filter(|_| of_set).unwrap_or("Invalid");
    let unusable = (of_set && !resolved.holds()).then_some(()).and(resolved.unresolved.as_ref());
    let accepted = match (resolved.conflict, &resolved.refused, unusable) {
        (Some(conflict), ..) => {
            condition("Accepted", false, clash, format!("it clashes with another listener: {conflict}"))
        }
        (None, Some(problem), _) => judged("Accepted", "Accepted", Some(problem)),
        (None, None, Some(problem)) => condition("Accepted", false, "Invalid", &problem.message),
        (None, None, None) => match failed(resolved, serving) {
            Some(why) => {
                condition("Accepted", false, "PortUnavailable", format!("no sidecar can bind the port: {why}"))
            }
            None => judged("Accepted", "Accepted", None),
        },
    };
    let mut conditions = vec![accepted, listener_programmed(resolved, gateway, serving, clash)];
    conditions.push(judged("ResolvedRefs", "ResolvedRefs", resolved.unresolved.as_ref()));
    conditions.push(match resolved.conflict {
        None => condition("Conflicted", false, "NoConflicts", ""),
        Some(conflict) => condition("Conflicted", true, conflict, "another listener of this port cannot be told apart"),
    });
    if resolved.overlaps {
        let message = "another TLS listener of this port stands for a common name";
        conditions.push(condition("OverlappingTLSConfig", true, "OverlappingHostnames", message));
    }
    let kinds = resolved.kinds.iter().map(|kind| json!({"group": GATEWAY_GROUP, "kind": kind.as_str()}));
    json!({
        "name": resolved.listener.name,
        "supportedKinds": kinds.collect::<Vec<_>>(),
        "attachedRoutes": resolved.attached.len(),
        "conditions": conditions,
    })
}

fn listener_programmed(
    resolved: &ResolvedListener,
    gateway: &Gateway,
    serving: Option<&Serving>,
    clash: &str,
) -> Value {
    if !resolved.holds() || gateway.accepted.is_err() {
        let reason = if resolved.conflict.is_some() { clash } else { "Invalid" };
        return condition("Programmed", false, reason, "it cannot be served");
    }
    match serving.map(|serving| serving.port(resolved.listener.port)) {
        None => pending(),
        Some(Port::Pending) => unbound(),
        Some(Port::Open) => condition("Programmed", true, "Programmed", ""),
        Some(Port::Failed(why)) => {
            condition("Programmed", false, "Invalid", format!("no sidecar can bind the port: {why}"))
        }
    }
}

pub(super) fn listener_set(inputs: Inputs<'_>, name: &Name) -> Option<Value> {
    let outcome = inputs.resolved.listener_sets.get(name)?;
    let set = inputs.mesh.listener_sets.get(name)?;
    let gateway = inputs.resolved.gateways.get(&set.parent);
    let serving = (inputs.serving)(&set.parent);
    let serving = serving.as_ref();
    let own: Vec<&ResolvedListener> = gateway
        .into_iter()
        .flat_map(|gateway| &gateway.listeners)
        .filter(|l| (l.owner.0, &l.owner.1) == (Kind::ListenerSet, name))
        .collect();
    let accepted = outcome.as_ref().map_or_else(|problem| (false, problem.clone()), |()| accepted_set(&own, serving));
    let listeners: Vec<Value> = gateway
        .into_iter()
        .flat_map(|gateway| own.iter().map(move |listener| (gateway, *listener)))
        .map(|(gateway, l)| {
            let mut status = listener(l, gateway, serving);
            if let Some(fields) = status.as_object_mut() {
                fields.insert("port".to_owned(), json!(l.listener.port));
            }
            status
        })
        .collect();
    let (is_accepted, why) = accepted;
    let open = |l: &&ResolvedListener| l.holds() && serving.is_some_and(|s| s.port(l.listener.port) == Port::Open);
    let programmed = match is_accepted {
        false => judged("Programmed", "Programmed", Some(&why)),
        true if own.iter().any(open) => judged("Programmed", "Programmed", None),
        true => pending(),
    };
    let accepted = condition("Accepted", is_accepted, why.reason, why.message);
    Some(json!({"conditions": [accepted, programmed], "listeners": listeners}))
}

/// One listener that can be served is enough; that others cannot is said all the same.
fn accepted_set(own: &[&ResolvedListener], serving: Option<&Serving>) -> (bool, Problem) {
    let is_bad = |l: &&&ResolvedListener| !l.holds() || failed(l, serving).is_some();
    let bad: Vec<&str> = own.iter().filter(is_bad).map(|l| l.listener.name.as_str()).collect();
    let reason = if bad.is_empty() { "Accepted" } else { "ListenersNotValid" };
    let message = if bad.is_empty() { String::new() } else { format!("not accepted: {}", bad.join(", ")) };
    (bad.len() < own.len(), Problem { reason, message })
}
