//! A client that has closed its way to us while it waits for an answer (`shutdown(SHUT_WR)`, as `nc -N` does). It gets its answer. But
//! one that is gone altogether looks the same at first: its FIN says only that nothing more comes. What tells them apart is how it
//! takes something that is sent to it: whoever is gone resets the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep};

use crate::tcp::Abort;

/// How often it is looked whether the client has reset the connection meanwhile.
const LOOK: Duration = Duration::from_millis(500);
/// A client of HTTP/1.1 that waits for so long is sent something that every client has to read past (RFC 9110, 15.2).
const ASK_AFTER: u32 = 2;
const ASKED: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What happens once nothing more comes.
#[derive(Debug)]
pub(super) struct HalfClose {
    tick: Pin<Box<Sleep>>,
    looks: u32,
}

impl HalfClose {
    pub(super) fn new() -> Self {
        Self { tick: Box::pin(tokio::time::sleep(LOOK)), looks: 0 }
    }

    /// Waits until the client is gone. `may_ask`: nothing of an answer was written yet.
    pub(super) fn poll_gone<I>(&mut self, io: &mut I, cx: &mut Context<'_>, may_ask: bool) -> Poll<io::Error>
    where
        I: AsyncWrite + Abort + Unpin,
    {
        loop {
            ready!(self.tick.as_mut().poll(cx));
            if io.is_broken() {
                return Poll::Ready(io::ErrorKind::ConnectionReset.into());
            }
            self.looks = self.looks.saturating_add(1);
            if self.looks == ASK_AFTER && may_ask {
                match Pin::new(&mut *io).poll_write(cx, ASKED) {
                    Poll::Ready(Ok(n)) if n == ASKED.len() => {
                        // What cannot be flushed now goes with the answer.
                        let _ = Pin::new(&mut *io).poll_flush(cx);
                    }
                    Poll::Pending => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(error),
                    // A part of it in front of the answer would spoil that.
                    Poll::Ready(Ok(_)) => return Poll::Ready(io::ErrorKind::WriteZero.into()),
                }
            }
            self.tick.as_mut().reset(Instant::now() + LOOK);
        }
    }
}
