//! The parsers under test, taken from the sidecar file by file: they use the standard library alone, so a target is built in
//! seconds, where the whole sidecar with instrumentation would take minutes. A parser that is to be fuzzed is kept that way.
#![allow(dead_code, unused_imports, missing_docs)]

#[path = "../../proxy/src/detect/client_hello.rs"]
pub mod client_hello;
#[path = "../../proxy/src/dns/message.rs"]
pub mod message;
#[path = "../../proxy/src/dns/resolv_conf.rs"]
pub mod resolv_conf;
#[path = "../../proxy/src/http/scan.rs"]
pub mod scan;
#[path = "../../proxy/src/detect/sniff.rs"]
pub mod sniff;
#[path = "../../proxy/src/http/target.rs"]
pub mod target;
