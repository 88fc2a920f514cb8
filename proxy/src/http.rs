//! HTTP: the servers that apps and peers talk to, and what happens to a request on its way. `outbound` and `inbound` are the
//! two orders of layers, each in one place.

mod account;
mod attempt;
mod authorizer;
mod body;
mod edge;
mod exchange;
mod failing;
mod filters;
mod gate;
mod guard;
mod half_close;
mod headers;
mod inbound;
mod message;
mod outbound;
mod patience;
mod respond;
mod room;
mod scan;
mod server;
mod session;
mod stream;
mod target;
mod tie;
mod tunnel;
mod untaken;
mod upgrade;
mod watched;
mod websocket;

pub use authorizer::{Authorizer, Caller};
pub use body::ResponseBody;
pub use edge::Edge;
pub use gate::Gate;
pub use inbound::{AppPort, AppPorts, Inbound};
pub use outbound::{Outbound, Via};
pub use patience::MOST_UNTAKEN;
pub use room::Room;
pub use server::{Protocol, Server};
pub use stream::Http2Stream;
pub use tunnel::{Carrier, Tunnel};
