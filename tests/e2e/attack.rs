//! What an attacker sends does no harm: it is refused, the app behind sees nothing of it, nobody else notices, memory stays flat.
//! Each class is tried on both roles of a sidecar: its local ports, as an app would attack it, and its mesh port, as a peer
//! with a good certificate would.

pub(crate) mod app;
mod field;
mod flood;
mod frames;
mod http1;
mod http2;
mod resources;
mod upgrades;
