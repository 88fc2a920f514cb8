//! Accepting connections: the mesh port, the HTTP proxy port and the local ports that lead to one service. Here a connection
//! becomes HTTP or opaque bytes.

mod accept;
mod local;
mod mesh;

pub use accept::accept_loop;
pub use local::{LocalListener, ProxyListener};
pub use mesh::MeshListener;
