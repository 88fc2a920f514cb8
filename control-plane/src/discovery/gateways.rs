//! Gateways as their sidecars get them.

use std::collections::BTreeSet;

use leno_proto::v1;

use super::attach::resource_name;
use super::world::Edit;
use super::{Resource, ResourceType, Version};
use crate::model::{KeyPair, Kind, Mesh, Name, Protocol};
use crate::resolve::{ClientValidation, Gateway, Resolved, ResolvedListener};

/// The Gateways that were sent last.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    known: BTreeSet<Name>,
}

impl Gateways {
    /// Brings the resources up to date with a mesh. One whose encoding stays the same is sent to nobody.
    pub(super) fn update(&mut self, mesh: &Mesh, edit: &mut Edit) {
        if self.known.is_empty() && mesh.gateways.is_empty() {
            return;
        }
        let resolved = Resolved::of(mesh);
        for gone in self.known.iter().filter(|name| !resolved.gateways.contains_key(*name)) {
            edit.set(ResourceType::Gateway, &gone.to_string(), None);
        }
        for (name, gateway) in &resolved.gateways {
            let resource = Resource::encode(&convert(name, gateway));
            edit.set(ResourceType::Gateway, &name.to_string(), Some(resource));
        }
        self.known = resolved.gateways.into_keys().collect();
    }
}

/// The version of a Gateway's resource: a sidecar that holds it serves the Gateway as it is now.
pub fn version(name: &Name, gateway: &Gateway) -> Version {
    Resource::encode(&convert(name, gateway)).version
}

/// A Gateway that is not accepted is there and serves nothing.
fn convert(name: &Name, gateway: &Gateway) -> v1::Gateway {
    let listeners = gateway.listeners.iter().filter(|listener| gateway.accepted.is_ok() && listener.holds());
    let certificate = gateway.backend_client_certificate.as_ref().map(Result::as_ref);
    v1::Gateway {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        listeners: listeners.map(listener).collect(),
        backend_client_certificate: certificate.and_then(Result::ok).map(|pair| key_pair(pair)),
        backend_client_certificate_invalid: certificate
            .and_then(Result::err)
            .map(|problem| problem.reason.to_owned())
            .unwrap_or_default(),
    }
}

fn listener(resolved: &ResolvedListener) -> v1::GatewayListener {
    let own = &resolved.listener;
    let routes = |wanted: &[Kind]| -> Vec<String> {
        let attached = resolved.attached.iter().filter(|route| wanted.contains(&route.kind));
        attached.map(|route| resource_name(route.kind, &route.name)).collect()
    };
    v1::GatewayListener {
        name: match &resolved.owner {
            (Kind::ListenerSet, set) => format!("{set}/{}", own.name),
            _ => own.name.clone(),
        },
        port: own.port.into(),
        protocol: protocol(resolved).into(),
        hostname: own.hostname.clone(),
        certificates: resolved.certificates.iter().map(|pair| key_pair(pair)).collect(),
        client_validation: resolved.client_validation.as_ref().map(client_validation),
        http_routes: routes(&[Kind::HttpRoute, Kind::GrpcRoute]),
        tls_routes: routes(&[Kind::TlsRoute]),
        tcp_routes: routes(&[Kind::TcpRoute]),
    }
}

fn protocol(resolved: &ResolvedListener) -> v1::ListenerProtocol {
    match resolved.listener.protocol {
        Protocol::Http => v1::ListenerProtocol::Http,
        Protocol::Https => v1::ListenerProtocol::Https,
        Protocol::Tls if resolved.listener.passthrough => v1::ListenerProtocol::TlsPassthrough,
        Protocol::Tls => v1::ListenerProtocol::TlsTerminate,
        Protocol::Tcp => v1::ListenerProtocol::Tcp,
        // Such a listener does not hold and is never sent.
        Protocol::Other(_) => v1::ListenerProtocol::Unspecified,
    }
}

fn key_pair(pair: &KeyPair) -> v1::TlsCertificate {
    v1::TlsCertificate { chain: pair.chain.clone(), key: pair.key.clone() }
}

fn client_validation(validation: &ClientValidation) -> v1::ClientValidation {
    v1::ClientValidation {
        roots: validation.roots.iter().flat_map(|roots| roots.iter().cloned()).collect(),
        allow_insecure_fallback: validation.insecure_fallback,
    }
}
