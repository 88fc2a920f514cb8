//! One accepted connection, with what is known of its peer and how long it may be idle.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::ca::PeerCertificate;

/// In this time the peer has to begin to speak HTTP/2; pings find it dead only after that.
const PREFACE_IN: Duration = Duration::from_secs(10);
/// Bytes of the HTTP/2 client preface (RFC 9113, 3.4).
const PREFACE_BYTES: usize = 24;
/// How long a peer without a certificate may stay. It can do nothing but join.
const STRANGER_LIFE: Duration = Duration::from_secs(60);

/// Who is at the other end; each request of the connection carries it.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// None: no certificate was shown, which is enough to join.
    pub(super) certificate: Option<PeerCertificate>,
    /// Closes the connection, with whatever is still unsent.
    pub(super) closer: CancellationToken,
}

pub(super) struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
    preface_left: usize,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        tls: TlsStream<TcpStream>,
        address: SocketAddr,
        certificate: Option<PeerCertificate>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let peer = Peer { address, certificate, closer: CancellationToken::new() };
        Self {
            tls,
            closed: Box::pin(peer.closer.clone().cancelled_owned()),
            peer,
            deadline: Some(Box::pin(sleep(PREFACE_IN))),
            preface_left: PREFACE_BYTES,
            _place: place,
        }
    }

    /// Wakes and fails the reader once the connection has to go.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by the session"));
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the peer took too long"));
        }
        Ok(())
    }

    fn spoke(&mut self, bytes: usize) {
        if self.preface_left == 0 || bytes == 0 {
            return;
        }
        self.preface_left = self.preface_left.saturating_sub(bytes);
        if self.preface_left > 0 {
            return;
        }
        match (&self.peer.certificate, &mut self.deadline) {
            (None, Some(deadline)) => deadline.as_mut().reset(Instant::now() + STRANGER_LIFE),
            _ => self.deadline = None,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tls).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.spoke(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
