//! The wire: generated messages, client and server of the stream, and what both ends must agree on.
#![allow(missing_docs, clippy::all, reason = "generated code carries the comments of the .proto files")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod codec;
mod registration;
pub mod resource;

pub use registration::{
    GatewayPort, GatewayPorts, InvalidRegistration, MOST_GATEWAY_PORTS, Registration, WorkloadState,
};

mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                tonic::include_proto!("envoy.config.core.v3");
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                tonic::include_proto!("envoy.service.discovery.v3");
            }
        }
    }
}

mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

mod leno {
    pub mod v1 {
        tonic::include_proto!("leno.v1");
    }
}

/// The transport: incremental aggregated xDS v3.
pub mod discovery {
    pub use super::envoy::config::core::v3::Node;
    pub use super::envoy::service::discovery::v3::*;
    pub use super::google::rpc::Status;
}

/// Leno's own resources and the identity service.
pub mod v1 {
    pub use super::leno::v1::*;
}
