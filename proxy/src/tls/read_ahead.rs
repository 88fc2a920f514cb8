//! A connection that is read in larger pieces than TLS asks for. rustls reads 4 KiB at a time, so a full record costs five calls of the
//! kernel; here it costs a part of one, and several small records come with one call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

/// What is read at once while little comes, and while much does.
const LEAST: usize = 4 << 10;
const MOST: usize = 64 << 10;

/// A connection, and what of it was read and not asked for yet.
#[derive(Debug)]
pub struct ReadAhead<I> {
    io: I,
    ahead: BytesMut,
    /// What is read next.
    next: usize,
}

impl<I> ReadAhead<I> {
    /// Of a connection of which nothing was read.
    pub fn new(io: I) -> Self {
        Self { io, ahead: BytesMut::new(), next: LEAST }
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &I {
        &self.io
    }
}

impl<I: AsyncRead + Unpin> ReadAhead<I> {
    /// Reads more, as much as came before twice over. While nothing comes, nothing is held for it.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.ahead.reserve(self.next);
        let polled = poll_read_buf(Pin::new(&mut self.io), cx, &mut self.ahead);
        match &polled {
            Poll::Ready(Ok(n)) => self.next = (2 * n).clamp(LEAST, MOST),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => (self.ahead, self.next) = (BytesMut::new(), self.next.min(MOST / 4)),
        }
        polled
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for ReadAhead<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            ready!(this.poll_more(cx))?;
        }
        let n = this.ahead.len().min(buf.remaining());
        buf.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for ReadAhead<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn all_bytes_come_in_order_whatever_is_asked_for_and_an_end_is_an_end() {
        let (mut far, near) = tokio::io::duplex(200_000);
        let sent: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            for piece in sent.chunks(7_777) {
                far.write_all(piece).await.unwrap();
            }
        });
        let mut ahead = ReadAhead::new(near);
        let mut read = Vec::new();
        for size in [1, 5, 4_096, 100_000].into_iter().cycle() {
            let mut piece = vec![0; size];
            match ahead.read(&mut piece).await.unwrap() {
                0 => break,
                n => read.extend_from_slice(&piece[..n]),
            }
        }
        sending.await.unwrap();
        assert!(read == expected);
    }

    #[tokio::test]
    async fn while_nothing_comes_nothing_is_held_and_pieces_grow_to_their_bound() {
        let (mut far, near) = tokio::io::duplex(1 << 20);
        let mut ahead = ReadAhead::new(near);
        far.write_all(&vec![1; 500_000]).await.unwrap();
        let mut all = vec![0; 500_000];
        ahead.read_exact(&mut all).await.unwrap();
        assert_eq!(ahead.next, MOST);
        assert!(ahead.ahead.capacity() <= 2 * MOST, "{}", ahead.ahead.capacity());
        let waiting = tokio::time::timeout(std::time::Duration::ZERO, ahead.read(&mut [0; 1])).await;
        assert!(waiting.is_err());
        assert_eq!(ahead.ahead.capacity(), 0);
    }
}
