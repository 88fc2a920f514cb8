//! Opaque connections: through the mesh to an endpoint, and from a peer to the local app.

mod both_ways;

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::detect::Prefixed;
use crate::error::Reason;
use crate::model::{HashKey, Policy, Retry, hash_ip};
use crate::resilience::breaker::Permit;
use crate::resilience::budget::RetryBudget;
use crate::resilience::outlier::Verdict;
use crate::resilience::retry::{self, Outcome};
use crate::routing::{LocalPort, Split};
use crate::telemetry::ServiceMetrics;
use crate::tls::{ReadAhead, Watched};
use crate::upstream::{Choice, InFlight, LocalCluster, SharedDialer, TcpUpstream};

/// An endpoint was reached.
#[derive(Debug)]
pub struct Reached {
    /// The connection to it.
    pub io: TcpUpstream,
    /// What is counted for its service.
    pub metrics: Rc<ServiceMetrics>,
    /// Held as long as the connection lives.
    pub in_flight: Held,
    /// Whose sidecar it leads to.
    pub watched: Option<Watched>,
}

/// What an open connection counts as.
#[derive(Debug)]
pub struct Held(pub InFlight, pub Permit);

/// Dials an endpoint of one of a port's splits, by its weights. One that cannot be reached is replaced by another: nothing of the
/// connection was sent yet, so that is safe; the budget bounds it. `source` is the client's address.
///
/// # Errors
/// Why the last one could not be reached.
pub async fn dial(
    port: &LocalPort,
    split: &Split,
    source: Option<IpAddr>,
    dialer: &SharedDialer,
) -> Result<Reached, Reason> {
    let key = |policy: &Policy| match policy.balancing.hash_key {
        // All that such a connection shows of its client.
        Some(HashKey::SourceIp) => source.map(hash_ip),
        _ => None,
    };
    let (_, cluster) = match split.sticky.as_deref().and_then(key) {
        Some(key) => split.draw_by(key)?,
        None => split.draw()?,
    };
    let key = if cluster.hashes() { key(&cluster.policy()) } else { None };
    dial_cluster(&port.budget(cluster), cluster, &Choice { key, pin: None }, dialer).await
}

/// As [`dial`], for a cluster that was drawn already.
///
/// # Errors
/// As [`dial`].
pub async fn dial_cluster(
    budget: &RetryBudget,
    cluster: &LocalCluster,
    choice: &Choice,
    dialer: &SharedDialer,
) -> Result<Reached, Reason> {
    budget.request();
    let policy = Retry::default();
    let connection = cluster.breaker.connection(&cluster.policy().circuit_breaker)?;
    let mut tried = Vec::new();
    loop {
        let endpoint = cluster.pick(choice, &tried).ok_or(Reason::NoEndpoints)?;
        let in_flight = endpoint.begin();
        let began = cluster.clock();
        let dialled = dialer.tcp(&endpoint.endpoint, cluster.policy().connect_timeout).await;
        // What the caller has used up or may not have is not held against the endpoint.
        if !matches!(dialled, Err(Reason::RateLimited | Reason::Denied | Reason::Revoked)) {
            let verdict = if dialled.is_ok() { Verdict::Good } else { Verdict::Gateway };
            cluster.record(&endpoint, verdict, began);
        }
        match dialled {
            Ok(io) => {
                let in_flight = Held(in_flight, connection);
                let watched = dialer.watched(&io);
                return Ok(Reached { io, metrics: cluster.metrics.clone(), in_flight, watched });
            }
            Err(reason) if !again(budget, cluster, &policy, tried.len(), reason) => return Err(reason),
            Err(_) => tried.push(endpoint),
        }
        cluster.metrics.retries.inc();
        let pause = retry::backoff(&policy, u32::try_from(tried.len()).unwrap_or(u32::MAX), fastrand::f64());
        tokio::time::sleep(pause).await;
    }
}

fn again(budget: &RetryBudget, cluster: &LocalCluster, policy: &Retry, tried: usize, reason: Reason) -> bool {
    if tried >= policy.attempts as usize || !retry::retryable(policy, true, false, Outcome::Failed(reason)) {
        return false;
    }
    let granted = budget.withdraw(tokio::time::Instant::now());
    if !granted {
        cluster.metrics.retries_denied.inc();
    }
    granted
}

/// Copies both ways until both have ended. A half that ends is passed on as such, so that protocols which close one way first
/// work unchanged; and so is a connection that breaks: what was cut must not look whole to the other end.
pub async fn copy<A, B>(caller: A, app: B, metrics: &ServiceMetrics)
where
    A: AsyncRead + AsyncWrite + Abort + Unpin,
    B: AsyncRead + AsyncWrite + Abort + Unpin,
{
    copy_until(caller, app, metrics, std::future::pending()).await;
}

/// As [`copy`], and breaks both off when `denied` comes back.
pub async fn copy_until<A, B>(mut caller: A, mut app: B, metrics: &ServiceMetrics, denied: impl Future<Output = ()>)
where
    A: AsyncRead + AsyncWrite + Abort + Unpin,
    B: AsyncRead + AsyncWrite + Abort + Unpin,
{
    metrics.tcp_connections.inc();
    let mut counted = Counted { io: &mut caller, metrics };
    let copied = tokio::select! {
        biased;
        copied = both_ways::copy(&mut counted, &mut app) => copied,
        () = denied => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is denied now")),
    };
    if let Err(error) = copied {
        tracing::debug!(%error, "opaque connection broke");
        caller.abort();
        app.abort();
    }
}

/// A connection that can be broken off, so that its other end sees an error (RST) and not an end.
pub trait Abort {
    /// The next drop breaks the connection off.
    fn abort(&self);

    /// Whether the other end has broken it off. Reading does not tell that once the other end has ended its way in good order.
    fn is_broken(&self) -> bool;
}

/// A connection of whatever kind.
pub trait Connection: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static {}

impl<I: AsyncRead + AsyncWrite + Abort + Unpin + Send + 'static> Connection for I {}

impl Abort for TcpStream {
    fn abort(&self) {
        // It fails only when the connection is gone already.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn is_broken(&self) -> bool {
        !matches!(self.take_error(), Ok(None))
    }
}

impl<I: Abort> Abort for ReadAhead<I> {
    fn abort(&self) {
        self.get_ref().abort();
    }

    fn is_broken(&self) -> bool {
        self.get_ref().is_broken()
    }
}

impl<I: Abort> Abort for TlsStream<I> {
    fn abort(&self) {
        self.get_ref().0.abort();
    }

    fn is_broken(&self) -> bool {
        self.get_ref().0.is_broken()
    }
}

impl Abort for TcpUpstream {
    fn abort(&self) {
        match self {
            Self::Plain(io) => io.abort(),
            Self::Tls(io) => io.get_ref().0.abort(),
        }
    }

    fn is_broken(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_broken(),
            Self::Tls(io) => io.get_ref().0.is_broken(),
        }
    }
}

impl<I: Abort> Abort for Prefixed<I> {
    fn abort(&self) {
        self.get_ref().abort();
    }

    fn is_broken(&self) -> bool {
        self.get_ref().is_broken()
    }
}

#[cfg(test)]
impl Abort for tokio::io::DuplexStream {
    fn abort(&self) {}

    fn is_broken(&self) -> bool {
        false
    }
}

/// Counts a caller's bytes as they pass, so that a long connection is seen while it lives.
struct Counted<'a, I> {
    io: &'a mut I,
    metrics: &'a ServiceMetrics,
}

impl<I: AsyncRead + Unpin> AsyncRead for Counted<'_, I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut *this.io).poll_read(cx, buf);
        this.metrics.tcp_sent.add((buf.filled().len() - before) as u64);
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Counted<'_, I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut *this.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = polled {
            this.metrics.tcp_received.add(n as u64);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().io).poll_shutdown(cx)
    }
}
