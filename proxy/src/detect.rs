//! What a connection speaks, from its first bytes. Nothing is consumed: what was read is given back in front of the rest.

pub mod client_hello;
mod sniff;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

pub use sniff::{Detected, sniff};

/// For how long it is remembered what a destination speaks. A service that changes its protocol is understood again after this.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Who speaks first to a destination, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The client, in HTTP: there is no use in dialling for an opaque connection before it has spoken.
    Http,
    /// The client, in something else, or the server: it is dialled at once.
    Opaque,
}

/// What was learned of one destination.
#[derive(Debug, Default)]
pub struct Learned(Cell<Option<(Manner, Instant)>>);

impl Learned {
    /// The last connection's manner, unless that was long ago.
    pub fn manner(&self) -> Option<Manner> {
        let (manner, since) = self.0.get()?;
        (since.elapsed() < REMEMBERED).then_some(manner)
    }

    /// A connection has shown it.
    pub fn learn(&self, manner: Manner) {
        self.0.set(Some((manner, Instant::now())));
    }
}

/// Reads until [`sniff()`] decides. A connection that ends first is opaque.
///
/// # Errors
/// The connection broke.
pub async fn read<I: AsyncRead + Unpin>(io: &mut I, read: &mut BytesMut) -> io::Result<Detected> {
    loop {
        if !read.is_empty()
            && let Some(detected) = sniff(read)
        {
            return Ok(detected);
        }
        if io.read_buf(read).await? == 0 {
            return Ok(Detected::Unknown);
        }
    }
}

/// The methods by which a connection that only reads differently writes to the one that it is around.
macro_rules! written_to {
    ($io:ident) => {
        fn poll_write(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            buf: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.get_mut().$io).poll_write(cx, buf)
        }

        fn poll_flush(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.get_mut().$io).poll_flush(cx)
        }

        fn poll_shutdown(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::pin::Pin::new(&mut self.get_mut().$io).poll_shutdown(cx)
        }

        fn poll_write_vectored(
            self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
            bufs: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            std::pin::Pin::new(&mut self.get_mut().$io).poll_write_vectored(cx, bufs)
        }

        fn is_write_vectored(&self) -> bool {
            self.$io.is_write_vectored()
        }
    };
}
pub(crate) use written_to;

/// A connection with what was already read from it in front.
#[derive(Debug)]
pub struct Prefixed<I> {
    prefix: Bytes,
    io: I,
}

impl<I> Prefixed<I> {
    /// Puts `prefix` back in front.
    pub fn new(prefix: BytesMut, io: I) -> Self {
        Self { prefix: prefix.freeze(), io }
    }

    /// As [`Self::new`], for bytes that are not to be changed any more.
    pub fn of(prefix: Bytes, io: I) -> Self {
        Self { prefix, io }
    }

    /// The connection itself, and what was in front of it.
    pub fn into_parts(self) -> (Bytes, I) {
        (self.prefix, self.io)
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &I {
        &self.io
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefixed<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.prefix.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let n = this.prefix.len().min(buf.remaining());
        buf.put_slice(&this.prefix[..n]);
        this.prefix.advance(n);
        if this.prefix.is_empty() {
            // Its memory goes now, the connection may live for long.
            this.prefix = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefixed<I> {
    written_to!(io);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_learned_is_forgotten_after_a_while() {
        let learned = Learned::default();
        assert_eq!(learned.manner(), None);
        learned.learn(Manner::Http);
        tokio::time::advance(REMEMBERED - Duration::from_secs(1)).await;
        assert_eq!(learned.manner(), Some(Manner::Http));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(learned.manner(), None);
        learned.learn(Manner::Opaque);
        assert_eq!(learned.manner(), Some(Manner::Opaque));
    }

    #[tokio::test]
    async fn what_was_read_comes_back_in_front() {
        let (mut client, mut server) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut client, b"*1\r\nrest").await.unwrap();
        drop(client);
        let mut read_so_far = BytesMut::new();
        assert_eq!(read(&mut server, &mut read_so_far).await.unwrap(), Detected::Unknown);
        let mut all = Vec::new();
        Prefixed::new(read_so_far, server).read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"*1\r\nrest");
    }
}
