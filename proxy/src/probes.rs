//! The health port: kubelet asks it, and the sidecar asks the app from inside the pod. Under strict mutual TLS kubelet's own
//! plaintext would be refused.
//!
//! The port takes plaintext from anyone who can reach the pod, since kubelet proves no identity. What it gives away is
//! whether a check passes; what it does on request is fixed by the pod's own specification, and several that ask for
//! one check at the same moment share it, so nobody can make the app be asked more often than one check at a time.

mod connect;
mod grpc;
mod health;
mod http;
mod places;
mod run;
mod server;
mod tls;

pub use health::{App, watch};
pub use run::Checks;
pub use server::{Health, serve};

/// Why a check failed, for people.
type Reason = String;

#[cfg(test)]
mod tests;
