//! HTTP: the servers that apps and peers talk to, and what happens to a request on its way. `outbound` and `inbound` are the
//! two orders of layers, each in one place.

mod attempt;
mod authority;
mod body;
mod headers;
mod inbound;
mod outbound;
mod respond;
mod router;
mod server;

pub use authority::{ServiceAddress, parse as parse_authority};
pub use body::ResponseBody;
pub use inbound::{AppPort, Inbound};
pub use outbound::{Outbound, Via};
pub use router::{LocalPort, Router, Split};
pub use server::{Protocol, Server};
