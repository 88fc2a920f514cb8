//! The harness: a [`Mesh`] of named parts (control plane, sidecars, apps) that are real processes and sockets on loopback and
//! can each be stopped, killed, paused and started again.
//!
//! Every port is 0 and every folder temporary, so tests run side by side. Nothing here sleeps to wait: [`wait::eventually`]
//! polls a condition with a deadline. Every part is ended when it is dropped.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod app;
pub mod binaries;
pub mod capture;
pub mod client;
pub mod clock;
pub mod collector;
pub mod control_plane;
pub mod docker;
#[path = "../../certs/src/jwt/issuer.rs"]
pub mod issuer;
pub mod key_server;
pub mod light;
pub mod load;
pub mod mesh;
pub mod metrics;
pub mod netns;
pub mod peers;
pub mod process;
pub mod raw;
pub mod sidecar;
pub mod stats;
pub mod tools;
pub mod wait;

pub use app::{Behaviour, HttpApp, TcpEcho};
pub use client::{ProxyConnection, Reply};
pub use control_plane::ControlPlane;
pub use load::{Load, Report};
pub use mesh::Mesh;
pub use process::Process;
pub use sidecar::{Sidecar, SidecarBuilder};
