//! Discovery: what is in force (the store) and who is alive (the registry) become the resources of the stream.
//!
//! The [`Engine`] recomputes only what a change touches; the [`World`] it publishes shares everything else with the one
//! before, so that a changed endpoint among thousands of services costs one encoding and one small delta.

mod addresses;
mod attach;
mod authorization;
mod backend_tls;
mod backends;
mod balancing;
mod convert;
mod engine;
mod gateways;
mod health_checks;
mod implicit;
mod inbound;
mod jwt;
mod readers;
mod resource;
mod selection;
mod sidecar_config;
mod table;
mod task;
mod virtual_addresses;
mod world;
mod written_endpoints;

pub use authorization::told as authorization_told;
pub use engine::Engine;
pub use gateways::version as gateway_version;
pub use jwt::told as jwt_providers_told;
pub use resource::{Resource, ResourceType, Version};
pub use task::{Record, spawn};
#[cfg(test)]
pub(crate) use world::WorldBuilder;
pub use world::{Client, World};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::jwks::Published;

/// What every sidecar gets that comes neither from the store nor from the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Globals {
    /// Whose roots these are; the name of the TrustBundle resource.
    pub trust_domain: String,
    /// Root certificates, DER.
    pub roots: Vec<Vec<u8>>,
    /// Roots of other trust domains, DER, by domain.
    pub federated: BTreeMap<String, Arc<[Vec<u8>]>>,
    /// The key sets that were fetched, by URL.
    pub jwks: Arc<Published>,
    /// Counts how often every sidecar was asked to renew its leaf now.
    pub renew_generation: u64,
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
