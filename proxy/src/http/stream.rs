//! Streams of HTTP/2 that carry bytes both ways (CONNECT, RFC 9113, 8.5). hyper makes a connection of such a stream, but ends it in
//! good order whatever became of it. What was cut must not look whole, so here one end's reset is a reset at the other, both ways.

use std::cell::Cell;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use hyper::rt::Executor;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::tcp::Abort;

/// The task of hyper that sends what a stream is given; no name of it is public.
const SENDS: &str = "UpgradedSendStreamTask";

thread_local! {
    /// Of the stream whose sending task hyper starts next; a worker has one thread.
    static NEXT: Cell<Option<Arc<Cut>>> = const { Cell::new(None) };
}

/// What both ends of a stream know: the connection that is made of it, and the task that sends what is written there.
#[derive(Debug, Default)]
pub struct Cut {
    cut: Notify,
    /// Nothing is sent any more.
    ended: AtomicBool,
}

impl Cut {
    /// Sends, until the stream is cut; it is reset then, since its end was not said.
    async fn carry(self: Arc<Self>, sends: impl Future) {
        let mut sends = pin!(sends);
        tokio::select! {
            biased;
            () = self.cut.notified() => {}
            _ = &mut sends => self.ended.store(true, Relaxed),
        }
    }
}

/// The answer that is given now opens a stream.
pub(super) fn opens(cut: Arc<Cut>) {
    NEXT.set(Some(cut));
}

/// Starts a task of hyper's. Gives it back if it is none that sends for a stream that was opened just now.
pub(super) fn start<F: Future + 'static>(task: F) -> Option<F> {
    match NEXT.take() {
        Some(cut) if std::any::type_name::<F>().contains(SENDS) => {
            tokio::task::spawn_local(cut.carry(task));
            None
        }
        _ => Some(task),
    }
}

/// Runs the tasks of a connection's streams on the worker's own thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        if let Some(task) = start(task) {
            tokio::task::spawn_local(task);
        }
    }
}

/// A stream as a connection.
#[derive(Debug)]
pub struct Http2Stream {
    io: TokioIo<Upgraded>,
    cut: Arc<Cut>,
    /// Its other end says nothing more.
    ends: Ends,
    /// Ours neither.
    shut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    No,
    /// It seems so. After a reset, too.
    Seems,
    Yes,
}

impl Http2Stream {
    /// A stream that was opened with this in its answer.
    pub(super) fn new(io: Upgraded, cut: Arc<Cut>) -> Self {
        Self { io: TokioIo::new(io), cut, ends: Ends::No, shut: false }
    }

    /// Whether the other end has reset it.
    fn is_reset(&self) -> bool {
        self.cut.ended.load(Relaxed) && !self.shut
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ends == Ends::No {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            // A reset wakes the task that sends as well; it has its turn first, and knows.
            this.ends = Ends::Seems;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.ends == Ends::Seems && this.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        this.ends = Ends::Yes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shut = true;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl Abort for Http2Stream {
    fn abort(&self) {
        self.cut.cut.notify_one();
    }

    fn is_broken(&self) -> bool {
        self.is_reset()
    }
}
