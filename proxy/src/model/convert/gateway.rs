//! Gateways, TLSRoutes and BackendTLSPolicies from the wire.

use std::sync::Arc;

use leno_certs::tls::edge::{self, BackendName, EdgeCertificate, EdgeClients};
use leno_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{InvalidResource, backend, invalid, port};
use crate::model::gateway::{ListenerProtocol, ListenerTls, RawGateway, RawListener, TlsRoute};
use crate::model::{BackendTls, Hostname};

/// Listeners of one Gateway with those of its ListenerSets.
const MOST_LISTENERS: usize = 1024;
/// What HTTPS clients may choose from.
const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];

impl TryFrom<v1::Gateway> for RawGateway {
    type Error = InvalidResource;

    fn try_from(wire: v1::Gateway) -> Result<Self, InvalidResource> {
        if wire.listeners.len() > MOST_LISTENERS {
            return Err(InvalidResource(format!("more than {MOST_LISTENERS} listeners")));
        }
        let client = match (wire.backend_client_certificate_invalid, wire.backend_client_certificate) {
            (reason, _) if !reason.is_empty() => Some(Err(reason)),
            (_, Some(wire)) => Some(Ok(Arc::new(certificate("the backend client certificate", wire)?))),
            (_, None) => None,
        };
        Ok(Self { listeners: wire.listeners.into_iter().map(listener).collect::<Result<_, _>>()?, client })
    }
}

fn listener(wire: v1::GatewayListener) -> Result<RawListener, InvalidResource> {
    use v1::ListenerProtocol as Wire;
    let protocol = match wire.protocol() {
        Wire::Http => ListenerProtocol::Http,
        Wire::Https => ListenerProtocol::Https,
        Wire::TlsTerminate => ListenerProtocol::Terminate,
        Wire::TlsPassthrough => ListenerProtocol::Passthrough,
        Wire::Tcp => ListenerProtocol::Tcp,
        Wire::Unspecified => return Err(invalid("protocol of the listener", &wire.name)),
    };
    let tls = match protocol {
        ListenerProtocol::Https | ListenerProtocol::Terminate => {
            Some(tls(&wire.name, protocol, wire.certificates, wire.client_validation)?)
        }
        _ => None,
    };
    Ok(RawListener {
        port: port(wire.port)?,
        protocol,
        hostname: Hostname::parse(&wire.hostname),
        tls,
        name: wire.name,
        http_routes: wire.http_routes,
        tls_routes: wire.tls_routes,
        tcp_routes: wire.tcp_routes,
    })
}

fn tls(
    name: &str,
    protocol: ListenerProtocol,
    certificates: Vec<v1::TlsCertificate>,
    validation: Option<v1::ClientValidation>,
) -> Result<ListenerTls, InvalidResource> {
    let certificates = certificates.into_iter().map(|wire| certificate(name, wire));
    let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
    let clients = validation.map(|v| EdgeClients { roots: v.roots, optional: v.allow_insecure_fallback }).map(Arc::new);
    let alpn = if protocol == ListenerProtocol::Https { HTTP } else { &[] };
    let server = edge::edge_server(&certificates, clients.as_deref(), alpn)
        .map_err(|why| InvalidResource(format!("listener {name:?}: {why}")))?;
    Ok(ListenerTls { server: Arc::new(server), clients })
}

fn certificate(of: &str, wire: v1::TlsCertificate) -> Result<EdgeCertificate, InvalidResource> {
    EdgeCertificate::new(wire.chain, &wire.key).map_err(|why| InvalidResource(format!("{of}: {why}")))
}

impl TryFrom<v1::TlsRoute> for TlsRoute {
    type Error = InvalidResource;

    fn try_from(wire: v1::TlsRoute) -> Result<Self, InvalidResource> {
        Ok(Self {
            hostnames: hostnames(&wire.hostnames),
            backends: wire.backends.into_iter().map(backend).collect::<Result<_, _>>()?,
        })
    }
}

/// Without one it is any.
pub(super) fn hostnames(wire: &[String]) -> Vec<Hostname> {
    match wire {
        [] => vec![Hostname::Any],
        some => some.iter().map(|text| Hostname::parse(text)).collect(),
    }
}

/// What cannot be used makes a policy that cannot be met, and not a refused Service: its other ports are none of it.
pub(super) fn backend_tls(wire: v1::BackendTls) -> BackendTls {
    use v1::subject_alt_name::Name;
    let digest = Sha256::digest(wire.encode_to_vec()).into();
    let names: Option<Vec<_>> = wire
        .subject_alt_names
        .into_iter()
        .map(|name| match name.name? {
            Name::Hostname(name) => Some(BackendName::Dns(name)),
            Name::Uri(uri) => Some(BackendName::Uri(uri)),
        })
        .collect();
    let unknown = names.is_none().then(|| "a name of a kind that this sidecar does not know".to_owned());
    BackendTls {
        hostname: wire.hostname,
        roots: wire.roots,
        system_roots: wire.system_roots,
        names: names.unwrap_or_default(),
        invalid: Some(wire.invalid_reason).filter(|reason| !reason.is_empty()).or(unknown),
        client: None,
        digest,
    }
}
