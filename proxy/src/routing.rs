//! From what a caller names to where it goes: authorities, destinations, rules and weights.

mod authority;
mod router;

pub use authority::{ServiceAddress, parse as parse_authority};
pub use router::{Captured, Destined, LocalPort, MirrorTarget, Router, Split};
