//! Copies two connections into each other, by buffers that follow the traffic: none while nothing comes, large ones while much does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

/// What is read before it is written, while little comes, and while much does.
const LEAST: usize = 8 << 10;
const MOST: usize = 64 << 10;

/// Copies both ways until both have ended. A half that ends is passed on as such.
///
/// # Errors
/// Whichever connection broke first.
pub(super) async fn copy<A, B>(a: &mut A, b: &mut B) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut there, mut back) = (Way::new(), Way::new());
    std::future::poll_fn(|cx| {
        let there = there.poll(cx, a, b)?;
        let back = back.poll(cx, b, a)?;
        if there.is_ready() && back.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// From one to the other.
struct Way {
    waiting: BytesMut,
    /// So much is gathered before it is written.
    size: usize,
    /// Something was written since the last flush.
    unflushed: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The reader has come to its end.
    Read,
    /// And the writer was told.
    Over,
}

impl Way {
    fn new() -> Self {
        Self { waiting: BytesMut::new(), size: LEAST, unflushed: false, state: State::Open }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, reader: &mut R, writer: &mut W) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            let nothing_comes = self.fill(cx, reader)?;
            while !self.waiting.is_empty() {
                let n = ready!(Pin::new(&mut *writer).poll_write(cx, &self.waiting))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.waiting.advance(n);
                self.unflushed = true;
            }
            if self.unflushed && (nothing_comes || self.state == State::Read) {
                ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                self.unflushed = false;
            }
            match self.state {
                State::Over => return Poll::Ready(Ok(())),
                State::Read => {
                    ready!(Pin::new(&mut *writer).poll_shutdown(cx))?;
                    self.state = State::Over;
                }
                State::Open if nothing_comes => {
                    // Nothing is held for a connection that is silent.
                    (self.waiting, self.size) = (BytesMut::new(), (self.size / 2).max(LEAST));
                    return Poll::Pending;
                }
                State::Open => {}
            }
        }
    }

    /// Reads until there is enough to be written, or nothing more comes now, which is what this says.
    fn fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> io::Result<bool> {
        while self.state == State::Open && self.waiting.len() < self.size {
            self.waiting.reserve(self.size - self.waiting.len());
            match poll_read_buf(Pin::new(&mut *reader), cx, &mut self.waiting) {
                Poll::Ready(Ok(0)) => self.state = State::Read,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(true),
            }
        }
        if self.state == State::Open {
            self.size = (2 * self.size).min(MOST);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_in_order_and_each_half_ends_by_itself() {
        let ((mut client, mut near), (mut far, mut server)) = (duplex(10_000), duplex(3_000));
        let copying = tokio::spawn(async move { copy(&mut near, &mut far).await });
        let sent: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let sending = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
        // The client has ended its way; the answer still goes the other.
        server.write_all(&expected).await.unwrap();
        server.shutdown().await.unwrap();
        assert!(sending.await.unwrap() == expected);
        copying.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_small_goes_on_at_once_and_a_slow_reader_holds_the_writer() {
        let ((mut client, mut near), (mut far, mut server)) = (duplex(1_000), duplex(1_000));
        tokio::spawn(async move { copy(&mut near, &mut far).await });
        client.write_all(b"ping").await.unwrap();
        let mut ping = [0; 4];
        server.read_exact(&mut ping).await.unwrap();
        // Nobody reads: what fits the pipes and one buffer goes in, and no more.
        let mut taken = 0;
        while let Ok(written) = tokio::time::timeout(Duration::from_millis(50), client.write(&[0; 1_000])).await {
            taken += written.unwrap();
        }
        assert!(taken <= 2 * MOST + 2_000, "{taken}");
    }

    #[tokio::test]
    async fn an_end_that_breaks_ends_both_ways_with_its_error() {
        let (_client, mut near) = duplex(10);
        let mut broken = Broken;
        let error = copy(&mut near, &mut broken).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    struct Broken;

    impl AsyncRead for Broken {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
