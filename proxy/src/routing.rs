//! From what a caller names to where it goes: authorities, destinations, rules and weights.

mod authority;
mod router;

pub use authority::{ServiceAddress, parse as parse_authority};
pub use router::{
    Captured, Destined, EdgeAddress, EdgeListener, EdgePort, LocalPort, MirrorTarget, Router, Shown, Split,
};
