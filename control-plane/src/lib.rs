//! The control plane of Leno: what the users wrote becomes what every sidecar holds.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod app;
pub mod ca;
pub mod config;
pub mod discovery;
pub mod federation;
pub mod fetch;
pub mod jwks;
pub mod model;
pub mod observed;
pub mod questions;
pub mod registry;
pub mod resolve;
pub mod settings;
pub mod status;
pub mod store;
pub mod validate;
pub mod xds;
