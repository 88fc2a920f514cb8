//! A Gateway: `leno-proxy --gateway` serves clients that know nothing of the mesh, as the Gateway API says.

mod backend_tls;
mod grpc;
mod http;
mod life;
mod opaque;
mod policies;
pub(crate) mod support;
mod tls;
mod tools;
