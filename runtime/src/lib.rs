//! What both long-running programs share: how they log, announce that they are ready, drain, fail, count, and answer on their
//! admin port.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod announce;
pub mod backoff;
pub mod drain;
pub mod failure;
pub mod handshakes;
pub mod limits;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod probe;
pub mod ready;
pub mod sandbox;
pub mod signals;
mod system_roots;

pub use announce::Output;
pub use system_roots::system_roots;
