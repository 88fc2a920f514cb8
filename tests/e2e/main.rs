//! The promises that Leno makes, each tried with real processes and sockets; one file a promise.
#![allow(clippy::unwrap_used)]

mod abuse;
mod attack;
mod bad_config;
mod balancing;
mod cli;
mod compose;
mod conformance;
mod control_plane_loss;
mod demo;
mod filters;
mod gateway_cases;
mod gateway_status;
mod health_checks;
mod identity;
mod ingress;
mod intercept;
mod job;
mod lifecycle;
mod many_sidecars;
mod observe;
mod probes;
mod protocols;
mod real_peers;
mod renewal;
mod resilience;
mod retries;
mod routes;
mod sessions;
mod soak;
mod split;
mod stalled_bodies;
mod start_errors;
mod tcp;
mod transparent;
mod upgrade;
