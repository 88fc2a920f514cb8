//! Identity: SPIFFE IDs, keys, signing requests, the certificate authority, trust bundles, and the rustls configurations that
//! verify them. This crate knows nothing of files, clocks or networks.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bundle;
mod ca;
pub mod csr;
mod error;
mod identity;
pub mod jwt;
mod key;
pub mod lineage;
mod secret;
mod spiffe;
pub mod tls;
pub mod verify;

pub use bundle::{FederatedRoots, TrustBundle, document as bundle_document};
pub use ca::{Authority, Remote, Signer};
pub use error::CertError;
pub use identity::Identity;
pub use key::{Key, KeyKind};
pub use lineage::Lineage;
pub use secret::{InvalidSecret, JoinSecret, NONCE_BYTES};
pub use spiffe::{InvalidSpiffeId, SpiffeId};
pub use zeroize::Zeroizing;

/// Namespace of the control plane's own identity.
pub const CONTROL_PLANE_NAMESPACE: &str = "leno-system";
/// Service account of the control plane's own identity.
pub const CONTROL_PLANE_ACCOUNT: &str = "control-plane";
