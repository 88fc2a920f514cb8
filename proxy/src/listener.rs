//! Accepting connections: the mesh port, the ports that the local app is configured for, and redirected connections. Here a
//! connection becomes HTTP or opaque bytes.

mod accept;
mod capture;
mod edge;
mod forward;
mod hello;
mod local;
mod mesh;

pub use accept::accept_loop;
pub use capture::{CaptureListener, InboundListener};
pub use edge::GatewayListener;
pub use forward::Forwarder;
pub use local::{LocalListener, ProxyListener};
pub use mesh::MeshListener;
