//! HTTP/1.1 to one address: a pool of idle keep-alive connections, the latest used first.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::case::{self, CASE_HEADER, Heeded, Listener};
use crate::error::Reason;
use crate::model::fields;
use crate::resilience::replay::RequestBody;

/// Idle connections that are kept to one address.
const MOST_IDLE: usize = 512;
/// Largest head of an answer, and most of its fields.
const MOST_HEAD: usize = 128 * 1024;
const MOST_HEADERS: usize = 128;

/// Why there is no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// No byte of the request was sent.
    Unsent(Box<Request<RequestBody>>),
    /// What happened to the connection.
    Failed(hyper::Error),
}

/// A connection that a request is sent on.
#[derive(Debug)]
pub struct Http1Sender {
    sender: SendRequest<RequestBody>,
    listener: Listener,
}

impl Http1Sender {
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request, its fields' names in the case that a header of ours says; the answer says those of its own likewise, and comes
    /// with what it came on. The request is given away at once: what waits for the answer is small, and moved about.
    ///
    /// # Errors
    /// There was no answer.
    pub fn try_send_request(
        mut self,
        mut request: Request<RequestBody>,
    ) -> impl Future<Output = Result<(Response<Incoming>, Self), Unanswered>> {
        let names = fields::find(request.headers(), &CASE_HEADER).cloned();
        if names.is_some() {
            let mut extensions = std::mem::take(request.extensions_mut());
            case::restore(request.headers_mut(), &mut extensions);
            *request.extensions_mut() = extensions;
        }
        self.listener.listen();
        let sending = self.sender.try_send_request(request);
        async move {
            let mut response = sending.await.map_err(|error| unanswered(error, names))?;
            // From an app the header itself is hearsay.
            match self.listener.names() {
                Some(names) => response.headers_mut().insert(CASE_HEADER, names),
                None => fields::remove(response.headers_mut(), &CASE_HEADER),
            };
            Ok((response, self))
        }
    }
}

fn unanswered(mut error: TrySendError<Request<RequestBody>>, names: Option<HeaderValue>) -> Unanswered {
    let Some(mut unsent) = error.take_message() else { return Unanswered::Failed(error.into_error()) };
    // It goes on another connection.
    if let Some(names) = names {
        unsent.headers_mut().insert(CASE_HEADER, names);
    }
    Unanswered::Unsent(Box::new(unsent))
}

/// Idle connections to one address.
#[derive(Debug)]
pub struct Http1Pool {
    idle: RefCell<VecDeque<(Http1Sender, Instant)>>,
    timeout: Duration,
}

impl Http1Pool {
    /// Connections that were idle for `timeout` are not used again: many apps close theirs after 5 s, and a request that meets
    /// the close on its way is lost.
    pub fn new(timeout: Duration) -> Rc<Self> {
        Rc::new(Self { idle: RefCell::default(), timeout })
    }

    /// An idle connection that is still open.
    pub fn take(&self, now: Instant) -> Option<Http1Sender> {
        let mut idle = self.idle.borrow_mut();
        while let Some((sender, since)) = idle.pop_back() {
            if now.duration_since(since) >= self.timeout {
                // Those below it are older still.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    /// Gives a connection back when its answer has been read. It may take a moment until it is ready again.
    pub fn give_back(self: &Rc<Self>, mut sender: Http1Sender) {
        if sender.is_ready() {
            return self.push(sender);
        }
        if sender.sender.is_closed() {
            return;
        }
        let pool = self.clone();
        tokio::task::spawn_local(async move {
            if sender.sender.ready().await.is_ok() {
                pool.push(sender);
            }
        });
    }

    fn push(&self, sender: Http1Sender) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MOST_IDLE {
            idle.push_back((sender, Instant::now()));
        }
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.idle
            .borrow_mut()
            .retain(|(sender, since)| now.duration_since(*since) < self.timeout && !sender.sender.is_closed());
    }
}

/// Speaks HTTP/1.1 on a new connection.
///
/// # Errors
/// The connection ended at once.
pub async fn handshake<I>(io: I) -> Result<Http1Sender, Reason>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    handshake_with(io, ()).await
}

/// As [`handshake`]; `kept` is dropped when the connection ends.
pub(super) async fn handshake_with<I, K>(io: I, kept: K) -> Result<Http1Sender, Reason>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    K: 'static,
{
    let listener = Listener::default();
    let io = TokioIo::new(Heeded::new(io, listener.clone()));
    let handshake =
        Builder::new().max_headers(MOST_HEADERS).max_buf_size(MOST_HEAD).title_case_headers(true).handshake(io).await;
    let (sender, connection) = handshake.map_err(|_| Reason::ConnectFailed)?;
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
        drop(kept);
    });
    Ok(Http1Sender { sender, listener })
}
