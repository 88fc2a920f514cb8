//! What a connection speaks, from its first bytes. Nothing is consumed: what was read is given back in front of the rest.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What HTTP/2 clients send first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest request line that is waited for. What is longer is not taken for HTTP.
const MOST_LINE: usize = 16 * 1024;
/// Longest method name. All registered ones are shorter.
const MOST_METHOD: usize = 24;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Anything else.
    Opaque,
}

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

/// Looks at the first bytes. None: more are needed.
pub fn sniff(bytes: &[u8]) -> Option<Detected> {
    if bytes.len() >= PREFACE.len() && bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    if let Some(end) = bytes.iter().take(MOST_LINE).position(|b| *b == b'\n') {
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        let http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
        return Some(if http && may_be_request_line(line) { Detected::Http1 } else { Detected::Opaque });
    }
    if bytes.len() < MOST_LINE && may_be_request_line(bytes) { None } else { Some(Detected::Opaque) }
}

/// Whether a line could go on to be a request line: a method, and after a space no control characters.
fn may_be_request_line(line: &[u8]) -> bool {
    let method = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    let (method, rest) = line.split_at(method);
    let method_fits = method.len() <= MOST_METHOD && method.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    method_fits && !method.is_empty() && rest.iter().all(|b| *b >= b' ' && *b != 0x7f || *b == b'\r')
}

/// Reads until [`sniff`] decides. A connection that ends first is opaque.
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
            return Ok(Detected::Opaque);
        }
    }
}

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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (bytes, detected) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Some(Detected::Http1)),
            (b"M-SEARCH * HTTP/1.0\n", Some(Detected::Http1)),
            (b"GET / HT", None),
            (b"", None),
            (b"PRI * HT", None),
            (PREFACE, Some(Detected::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Detected::Opaque)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Detected::Opaque)),
            (b"PING\r\n", Some(Detected::Opaque)),
            (b"GET foo\r\n", Some(Detected::Opaque)),
            (b"\x16\x03\x01", Some(Detected::Opaque)),
            (b"\0", Some(Detected::Opaque)),
            (b" GET / HTTP/1.1\r\n", Some(Detected::Opaque)),
        ] {
            assert_eq!(sniff(bytes), detected, "{:?}", bytes.escape_ascii().to_string());
        }
        assert_eq!(sniff(&[b'a'; MOST_METHOD + 1]), Some(Detected::Opaque));
        let endless: Vec<u8> = b"GET /".iter().copied().chain(std::iter::repeat_n(b'a', MOST_LINE)).collect();
        assert_eq!(sniff(&endless), Some(Detected::Opaque));
    }

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
        assert_eq!(read(&mut server, &mut read_so_far).await.unwrap(), Detected::Opaque);
        let mut all = Vec::new();
        Prefixed::new(read_so_far, server).read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"*1\r\nrest");
    }
}
