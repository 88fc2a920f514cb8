//! HTTP/2 to one endpoint: one multiplexed connection, dialled once however many requests wait for it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;

use super::{Io, LocalExec};
use crate::error::Reason;
use crate::resilience::replay::RequestBody;
use crate::telemetry::record::Stages;
use crate::tls::Watched;

/// What one body may have in flight: large enough that it does not wait for updates on a fast network, and the most memory that
/// a body costs whose reader has stopped.
pub const STREAM_WINDOW: u32 = 512 << 10;
/// What all bodies of a connection may have in flight. All requests of a worker to an endpoint share one connection, so bodies
/// whose readers have stopped must not use it up: then every other request would stop with them. This is room for 512.
pub const CONNECTION_WINDOW: u32 = 256 << 20;
/// Largest head of an answer. An app's HTTP/1.1 head may have 128 KiB, and HTTP/2 counts 32 bytes more for each field.
const MOST_HEAD: u32 = 192 * 1024;
/// A peer that answers no ping for this long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A new connection.
pub struct Dialled {
    pub io: Io,
    /// Whose it is, where it is a sidecar's.
    pub watched: Option<Watched>,
    /// Of the identity that was shown on it.
    pub generation: u64,
    /// How long it took.
    pub stages: Stages,
}

/// A handle on the connection.
pub type Http2Sender = SendRequest<RequestBody>;

/// The one connection.
#[derive(Debug, Default)]
pub struct Http2Slot(RefCell<Slot>);

#[derive(Debug, Default)]
enum Slot {
    #[default]
    Empty,
    Dialling(Rc<Dial>),
    Open {
        sender: Http2Sender,
        generation: u64,
    },
}

/// A dial that several requests may wait for.
#[derive(Debug, Default)]
struct Dial {
    done: Notify,
    result: RefCell<Option<Result<(Http2Sender, Stages), Reason>>>,
}

impl Http2Slot {
    /// The open connection, if it may be used.
    pub fn open(&self, generation: u64) -> Option<Http2Sender> {
        match &*self.0.borrow() {
            Slot::Open { sender, generation: of } if *of == generation && !sender.is_closed() => Some(sender.clone()),
            _ => None,
        }
    }

    /// Lets an open connection go; it closes when its last request has ended.
    pub fn release(&self) {
        let mut slot = self.0.borrow_mut();
        if matches!(*slot, Slot::Open { .. }) {
            *slot = Slot::Empty;
        }
    }

    /// Waits for a connection; dials if nobody does yet. A connection of an older identity finishes what it has and is left.
    ///
    /// # Errors
    /// Dialling failed, for everybody who waited for it.
    pub async fn dial<F>(self: &Rc<Self>, dial: F) -> Result<(Http2Sender, Stages), Reason>
    where
        F: Future<Output = Result<Dialled, Reason>> + 'static,
    {
        let waiting = match &*self.0.borrow() {
            Slot::Dialling(waiting) => Some(waiting.clone()),
            _ => None,
        };
        let waiting = waiting.unwrap_or_else(|| self.start(dial));
        loop {
            if let Some(result) = &*waiting.result.borrow() {
                return result.clone();
            }
            // No other task runs between the look and the wait: the worker has one thread.
            waiting.done.notified().await;
        }
    }

    fn start<F>(self: &Rc<Self>, dial: F) -> Rc<Dial>
    where
        F: Future<Output = Result<Dialled, Reason>> + 'static,
    {
        let started = Rc::new(Dial::default());
        *self.0.borrow_mut() = Slot::Dialling(started.clone());
        let (slot, shared) = (self.clone(), started.clone());
        // A task of its own: a request that is broken off must not take the others' connection with it.
        tokio::task::spawn_local(async move {
            let result = open(dial).await;
            *slot.0.borrow_mut() = match &result {
                Ok((sender, generation, _)) => Slot::Open { sender: sender.clone(), generation: *generation },
                Err(_) => Slot::Empty,
            };
            *shared.result.borrow_mut() = Some(result.map(|(sender, _, stages)| (sender, stages)));
            shared.done.notify_waiters();
        });
        started
    }
}

async fn open(dial: impl Future<Output = Result<Dialled, Reason>>) -> Result<(Http2Sender, u64, Stages), Reason> {
    let Dialled { io, watched, generation, stages } = dial.await?;
    let handshake = Builder::new(LocalExec)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(MOST_HEAD)
        .max_concurrent_reset_streams(1000)
        .handshake(TokioIo::new(io))
        .await;
    let (sender, connection) = handshake.map_err(|_| Reason::ConnectFailed)?;
    let mut carrying = tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "upstream connection ended");
        }
    });
    // In a task of its own, so that what comes and goes on the connection does not look each time who was revoked.
    if let Some(watched) = watched {
        tokio::task::spawn_local(async move {
            tokio::select! {
                _ = &mut carrying => {}
                () = watched.revoked() => carrying.abort(),
            }
        });
    }
    Ok((sender, generation, stages))
}
