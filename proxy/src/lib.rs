//! The sidecar: everything that is between a service's app and the mesh. ARCHITECTURE.md tells the life of a request.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod app;
pub mod apps;
pub mod balance;
pub mod commands;
pub mod detect;
pub mod dns;
pub mod error;
pub mod http;
pub mod intercept;
pub mod listener;
pub mod model;
pub mod policy;
pub mod probes;
pub mod resilience;
pub mod routing;
pub mod settings;
pub mod state;
pub mod tcp;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod xds;
