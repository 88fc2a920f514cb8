//! `gateway.networking.k8s.io/v1` GatewayClass, Gateway and ListenerSet.
//!
//! What the specification wants to be taken and shown in `status` (a certificate that is not there, a protocol that nobody
//! knows) is taken here; what a Kubernetes API server would refuse is refused.

use std::collections::{BTreeMap, BTreeSet};

use gateway_api::experimental::gatewayclasses::GatewayClassSpec;
use gateway_api::experimental::gateways::{GatewayAddresses, GatewaySpec, GatewayTls};
use gateway_api::experimental::listenersets::ListenerSetSpec;

use super::check::Check;
use super::listener::{self, object_ref};
use crate::config::FieldPath;
use crate::model::{AllowedFrom, ClientValidation, GATEWAY_GROUP, Gateway, GatewayClass, ListenerSet, Name, ObjectRef};

/// Bounds of lists, as specified.
const MOST_LISTENERS: usize = 64;
const MOST_ADDRESSES: usize = 16;
const MOST_AUTHORITIES: usize = 8;
const MOST_PORTS: usize = 64;

pub(super) fn class(check: &mut Check<'_>, spec: &GatewayClassSpec) -> GatewayClass {
    let path = FieldPath::of("spec");
    if spec.controller_name.is_empty() || spec.controller_name.len() > 253 {
        check.error(
            &path.key("controllerName"),
            "has 1 to 253 characters",
            format!("write {}", crate::model::CONTROLLER),
        );
    }
    if spec.parameters_ref.is_some() {
        check.warn(&path.key("parametersRef"), "there are no parameters; the class is not accepted", "remove it");
    }
    GatewayClass { controller: spec.controller_name.clone(), has_parameters: spec.parameters_ref.is_some() }
}

pub(super) fn gateway(check: &mut Check<'_>, name: Name, spec: &GatewaySpec) -> Gateway {
    let path = FieldPath::of("spec");
    check.dns_subdomain(&path.key("gatewayClassName"), &spec.gateway_class_name);
    if spec.default_scope.is_some() {
        check.not_yet(&path.key("defaultScope"), "defaultScope");
    }
    let at = path.key("listeners");
    check.most(&at, spec.listeners.len(), MOST_LISTENERS);
    let listeners = listener::all(check, &at, &name, spec.listeners.iter().take(MOST_LISTENERS));
    let mut has_parameters = false;
    if let Some(infrastructure) = &spec.infrastructure {
        let at = path.key("infrastructure");
        if let Some(labels) = &infrastructure.labels {
            check.labels(&at.key("labels"), labels.iter());
        }
        has_parameters = infrastructure.parameters_ref.is_some();
        if has_parameters {
            check.warn(&at.key("parametersRef"), "there are no parameters; the Gateway is not accepted", "remove it");
        }
    }
    let allowed = spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    let allowed_listeners = match allowed {
        None => AllowedFrom::None,
        Some(namespaces) => {
            let at = path.key("allowedListeners").key("namespaces");
            listener::allowed_from(check, &at, namespaces, AllowedFrom::None)
        }
    };
    let mut gateway = Gateway {
        addresses: addresses(check, &path.key("addresses"), spec.addresses.as_deref().unwrap_or_default()),
        name,
        created: 0,
        class: spec.gateway_class_name.clone(),
        has_parameters,
        listeners,
        allowed_listeners,
        client_validation: None,
        port_client_validation: BTreeMap::new(),
        backend_client_certificate: None,
    };
    if let Some(written) = &spec.tls {
        tls(check, &path.key("tls"), written, &mut gateway);
    }
    gateway
}

/// Types other than these are taken and shown as not supported, as specified.
fn addresses(check: &mut Check<'_>, path: &FieldPath, written: &[GatewayAddresses]) -> Vec<(String, String)> {
    check.most(path, written.len(), MOST_ADDRESSES);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (n, address) in written.iter().take(MOST_ADDRESSES).enumerate() {
        let at = path.index(n);
        let kind = address.r#type.clone().unwrap_or_else(|| "IPAddress".to_owned());
        let value = address.value.clone().unwrap_or_default();
        if kind == "IPAddress" && !value.is_empty() && value.parse::<std::net::IpAddr>().is_err() {
            check.error(&at.key("value"), format!("{value:?} is no IP address"), "write one, or `type: Hostname`");
        }
        check.most(&at.key("type"), kind.len(), 253);
        check.most(&at.key("value"), value.len(), 253);
        if !value.is_empty() && !seen.insert((kind.clone(), value.clone())) {
            check.error(&at.key("value"), format!("{value} is here twice"), "remove one of them");
        }
        found.push((kind, value));
    }
    found
}

fn tls(check: &mut Check<'_>, path: &FieldPath, written: &GatewayTls, gateway: &mut Gateway) {
    if let Some(reference) = written.backend.as_ref().and_then(|backend| backend.client_certificate_ref.as_ref()) {
        gateway.backend_client_certificate = Some(object_ref(
            reference.group.as_deref(),
            reference.kind.as_deref(),
            &gateway.name.namespace,
            reference.namespace.as_deref(),
            &reference.name,
        ));
    }
    let Some(frontend) = &written.frontend else { return };
    let path = path.key("frontend");
    let namespace = gateway.name.namespace.clone();
    let validation = frontend.default.validation.as_ref();
    gateway.client_validation =
        validation.and_then(|v| client_validation(check, &path.key("default").key("validation"), &namespace, v));
    let ports = frontend.per_port.as_deref().unwrap_or_default();
    let path = path.key("perPort");
    check.most(&path, ports.len(), MOST_PORTS);
    for (n, written) in ports.iter().take(MOST_PORTS).enumerate() {
        let at = path.index(n);
        let Some(port) = check.port(&at.key("port"), written.port.into()) else { continue };
        let validation = written.tls.validation.as_ref();
        let validation =
            validation.and_then(|v| client_validation(check, &at.key("tls").key("validation"), &namespace, v));
        if gateway.port_client_validation.insert(port, validation).is_some() {
            check.error(&at.key("port"), format!("port {port} is here twice"), "remove one of them");
        }
    }
}

/// The crate has a type of this for each place where it stands; they are written the same way.
fn client_validation(
    check: &mut Check<'_>,
    path: &FieldPath,
    namespace: &str,
    written: &impl serde::Serialize,
) -> Option<ClientValidation> {
    use gateway_api::experimental::gateways::{
        GatewayTlsFrontendDefaultValidation, GatewayTlsFrontendDefaultValidationMode as Mode,
    };
    let written: GatewayTlsFrontendDefaultValidation = listener::same(written)?;
    let at = path.key("caCertificateRefs");
    if written.ca_certificate_refs.is_empty() {
        check.error(
            &at,
            "has at least one entry",
            "write `caCertificateRefs: [{group: \"\", kind: ConfigMap, name: ca}]`",
        );
    }
    check.most(&at, written.ca_certificate_refs.len(), MOST_AUTHORITIES);
    let authorities = written.ca_certificate_refs.iter().take(MOST_AUTHORITIES).map(|r| ObjectRef {
        group: r.group.clone(),
        kind: r.kind.clone(),
        name: Name::new(r.namespace.as_deref().unwrap_or(namespace), &r.name),
    });
    Some(ClientValidation {
        authorities: authorities.collect(),
        insecure_fallback: written.mode == Some(Mode::AllowInsecureFallback),
    })
}

pub(super) fn listener_set(check: &mut Check<'_>, name: Name, spec: &ListenerSetSpec) -> ListenerSet {
    let path = FieldPath::of("spec");
    let parent = &spec.parent_ref;
    let at = path.key("parentRef");
    if parent.group.as_deref().is_some_and(|group| group != GATEWAY_GROUP)
        || parent.kind.as_deref().is_some_and(|kind| kind != "Gateway")
    {
        check.error(&at, "the parent of a ListenerSet is a Gateway", "write `parentRef: {name: …}`");
    }
    let at_listeners = path.key("listeners");
    if spec.listeners.is_empty() {
        check.error(&at_listeners, "has at least one entry", "add one, or remove the ListenerSet");
    }
    check.most(&at_listeners, spec.listeners.len(), MOST_LISTENERS);
    let written: Vec<_> = spec.listeners.iter().take(MOST_LISTENERS).filter_map(listener::same).collect();
    ListenerSet {
        parent: Name::new(parent.namespace.as_deref().unwrap_or(&name.namespace), &parent.name),
        listeners: listener::all(check, &at_listeners, &name, written.iter()),
        name,
        created: 0,
    }
}
