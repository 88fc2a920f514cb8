//! The parsers under test, taken from the sidecar file by file: they use the standard library alone, or what stands here beside them, so
//! a target is built in seconds, where the whole sidecar with instrumentation would take minutes. A parser that is to be fuzzed is
//! kept that way.
#![allow(dead_code, unused_imports, missing_docs)]

#[path = "../../proxy/src/routing/authority.rs"]
pub mod authority;
#[path = "../../proxy/src/detect/client_hello.rs"]
pub mod client_hello;
#[path = "../../proxy/src/error.rs"]
pub mod error;
#[path = "../../proxy/src/dns/message.rs"]
pub mod message;
#[path = "../../proxy/src/upstream/case/names.rs"]
pub mod names;
#[path = "../../proxy/src/resilience/numbers.rs"]
pub mod numbers;
#[path = "../../proxy/src/tls/opaque.rs"]
pub mod opaque;
#[path = "../../proxy/src/tls/port_name.rs"]
pub mod port_name;
#[path = "../../proxy/src/dns/resolv_conf.rs"]
pub mod resolv_conf;
#[path = "../../proxy/src/http/scan.rs"]
pub mod scan;
#[path = "../../proxy/src/detect/sniff.rs"]
pub mod sniff;
#[path = "../../proxy/src/http/target.rs"]
pub mod target;
#[path = "../../proxy/src/http/session/token.rs"]
pub mod token;

#[path = "../../certs/src/jwt/strict.rs"]
mod strict;

/// The JSON of tokens, key sets and trust bundles, of which there is one reading.
pub mod json {
    /// None: it is no object, or is not clear.
    pub fn object(json: &[u8]) -> Option<serde_json::Map<String, serde_json::Value>> {
        super::strict::object(json)
    }
}

#[path = "../../proxy/src/model/demand.rs"]
mod demand;
#[path = "../../proxy/src/model/hash.rs"]
mod hash;

/// What parsers have of the model.
pub mod model {
    pub use super::demand::Demand;
    pub use super::hash::{hash, hash_all, mix};
}
