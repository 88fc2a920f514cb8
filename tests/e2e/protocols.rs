//! Every protocol of HTTP, from every client to every server, through one sidecar and through a pair: the same suite.

mod events;
mod grpc;
mod long;
mod names;
mod place;
mod server;
mod suite;
mod tools;
