//! Upstream: a worker's own view of clusters and endpoints, their connections, and how one is dialled. Nothing here is shared
//! between workers, so there are no locks.

mod backend_tls;
mod case;
mod cluster;
mod connect;
mod endpoint;
mod http1;
mod http2;

use std::rc::Rc;

pub use case::{CASE_HEADER, Heeded, own as own_case, restore as restore_case};
pub use cluster::{Choice, Clusters, LocalCluster};
pub use connect::{Dialer, Io, TcpUpstream, set_options};
pub use endpoint::{InFlight, LocalEndpoint};
pub use http1::{Http1Pool, Http1Sender, Unanswered as Http1Unanswered, handshake as http1_handshake};
pub use http2::{CONNECTION_WINDOW, Dialled, Http2Sender, Http2Slot, STREAM_WINDOW};

/// Runs hyper's connection tasks on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub struct LocalExec;

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        // As it is, without an async block around it, which would move the whole future once more.
        tokio::task::spawn_local(future);
    }
}

/// What all endpoints of a worker need to be dialled.
pub type SharedDialer = Rc<Dialer>;
