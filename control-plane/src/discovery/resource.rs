//! One resource, encoded once for all who subscribe to it.

use std::sync::Arc;

use leno_proto::{resource::Resource as Typed, v1};
use prost_types::Any;
use sha2::{Digest, Sha256};

use super::readers::Readers;

/// The types of the stream, in the order in which a session sends them: what others lean on goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    TrustBundle,
    Revocations,
    SidecarConfig,
    Endpoints,
    Service,
    TcpRoute,
    HttpRoute,
    TlsRoute,
    Gateway,
    Address,
}

impl ResourceType {
    /// Every type, in sending order.
    pub const ALL: [Self; 10] = [
        Self::TrustBundle,
        Self::Revocations,
        Self::SidecarConfig,
        Self::Endpoints,
        Self::Service,
        Self::TcpRoute,
        Self::HttpRoute,
        Self::TlsRoute,
        Self::Gateway,
        Self::Address,
    ];

    /// The type URL on the wire.
    pub fn url(self) -> &'static str {
        match self {
            Self::TrustBundle => v1::TrustBundle::TYPE_URL,
            Self::Revocations => v1::Revocations::TYPE_URL,
            Self::SidecarConfig => v1::SidecarConfig::TYPE_URL,
            Self::Endpoints => v1::Endpoints::TYPE_URL,
            Self::Service => v1::Service::TYPE_URL,
            Self::TcpRoute => v1::TcpRoute::TYPE_URL,
            Self::HttpRoute => v1::HttpRoute::TYPE_URL,
            Self::TlsRoute => v1::TlsRoute::TYPE_URL,
            Self::Gateway => v1::Gateway::TYPE_URL,
            Self::Address => v1::Address::TYPE_URL,
        }
    }

    /// The type of a URL; none when it is not ours.
    pub fn of_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.url() == url)
    }

    /// The last part of the URL, as metrics and messages name the type.
    pub fn label(self) -> &'static str {
        self.url().rsplit('.').next().unwrap_or_default()
    }
}

/// The first eight bytes of the SHA-256 of a resource's encoding. The same content has the same version in every life of the
/// control plane, so a sidecar that comes back after a crash is sent nothing that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// The version on the wire, 16 hex digits.
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// Reads what a client says it holds; none when no version of ours looks like that.
    pub fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 16 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u64::from_str_radix(hex, 16).ok().map(Self)
    }
}

/// One encoded resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Changes with every change of the content, and only then.
    pub version: Version,
    /// The packed message.
    pub any: Any,
    /// Who may read it. None: whoever asks.
    pub(super) readers: Option<Arc<Readers>>,
}

impl Resource {
    /// Encodes a message.
    pub fn encode<T: Typed>(message: &T) -> Self {
        let any = message.to_any();
        let digest = Sha256::digest(&any.value);
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        Self { version: Version(u64::from_be_bytes(first)), any, readers: None }
    }

    /// The same for some readers only.
    pub(super) fn only_for(self, readers: Option<Arc<Readers>>) -> Self {
        Self { readers, ..self }
    }
}
