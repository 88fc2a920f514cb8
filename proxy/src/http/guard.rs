//! What stands in front of an HTTP/1 connection: requests that two readers could take differently, that are too large or that take
//! too long are replaced by one that says so, before anything else reads them. Costs one look at each byte of a head.

mod requests;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use leno_runtime::metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

pub(super) use self::requests::{Answered, Requests, Seen};
use super::half_close::HalfClose;
use super::scan::{Flaw, Phase, Scanner};
use super::untaken::Place;
use crate::detect::Prefixed;
use crate::error::Reason;
use crate::tcp::Abort;

/// From a head's first byte to its last.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(30);
/// A body of which nothing comes for this long, although it would be read, is given up.
pub(super) const BODY_IDLE: Duration = Duration::from_secs(300);
/// Requests that are let pass at once; the rest of what was read waits.
const MOST_AHEAD: usize = 32;
/// What is still read of a connection that was refused, so that the answer arrives before the reset that unread bytes cause.
const MOST_DRAINED: usize = 1 << 20;
/// What is read at once of a head that did not come whole.
const STEP: usize = 4096;
/// What stands in the place of a request that is refused.
const REFUSED: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// A connection that is read along.
#[derive(Debug)]
pub(super) struct Guard<I> {
    io: I,
    scanner: Scanner,
    requests: Requests,
    /// Bytes that were read and not passed on; up to `ready` they may be.
    held: Vec<u8>,
    ready: usize,
    /// What is held and not ready is the begin of a head, whose rest has to come.
    partial: bool,
    state: State,
    waiting: Option<Waiting>,
    names: Option<HeaderValue>,
    /// Set once the client has closed its way to us.
    half: Option<HalfClose>,
    /// How many requests were begun when something was written last. So it is known whether an answer has begun.
    written: u32,
    /// What was to be written last did not go.
    blocked: bool,
    /// The client is not in the mesh: of answers that it does not take there may be so many, and those that are given up are counted.
    stranger: Option<Counter>,
    /// Held while it takes nothing.
    untaken: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Requests,
    /// Another protocol's bytes.
    Tunnel,
    /// Nothing more is taken; so much was read since.
    Refused(usize),
    /// A body that is none.
    Broken,
}

/// A time that has a bound.
#[derive(Debug)]
struct Waiting {
    head: bool,
    /// Something came meanwhile. The time is then waited once more, which costs less than to set it anew with every byte.
    moved: bool,
    until: Pin<Box<Sleep>>,
}

impl<I> Guard<I> {
    /// `tunnels`: CONNECT opens some.
    pub(super) fn new(io: I, tunnels: bool) -> Self {
        let scanner = if tunnels { Scanner::tunnelling() } else { Scanner::default() };
        let requests = Requests::default();
        let (held, state) = (Vec::new(), State::Requests);
        let (waiting, names, half) = (None, None, None);
        let (written, blocked, stranger, untaken) = (0, false, None, None);
        Self {
            io,
            scanner,
            requests,
            held,
            ready: 0,
            partial: false,
            state,
            waiting,
            names,
            half,
            written,
            blocked,
            stranger,
            untaken,
        }
    }

    /// The same, of a client that is not in the mesh.
    pub(super) fn of_stranger(self, given_up: Option<Counter>) -> Self {
        Self { stranger: given_up, ..self }
    }

    pub(super) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    /// The connection, with everything in front that was read and not used; `read` was passed on.
    pub(super) fn into_inner(self, read: &[u8]) -> Prefixed<I> {
        Prefixed::of(Bytes::from([read, &self.held[..]].concat()), self.io)
    }

    /// Looks at bytes that follow what was passed on. Gives how many of them may be.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let (mut at, mut heads) = (0, 0);
        self.partial = false;
        while at < bytes.len() {
            match self.scanner.phase() {
                Phase::Upgrade => break,
                Phase::Head if heads == MOST_AHEAD => break,
                Phase::Head => match self.scanner.head(&bytes[at..]) {
                    Ok(Some(n)) => {
                        at += n;
                        heads += 1;
                        self.note();
                    }
                    Ok(None) => {
                        self.partial = true;
                        break;
                    }
                    Err(flaw) => {
                        self.refuse(reason(flaw));
                        break;
                    }
                },
                Phase::Length(_) | Phase::Chunked(_) => match self.scanner.body(&bytes[at..]) {
                    Ok(n) => at += n,
                    Err(flaw) => {
                        let _ = reason(flaw);
                        self.state = State::Broken;
                        break;
                    }
                },
            }
        }
        at
    }

    fn note(&mut self) {
        let names = self.scanner.names();
        // A connection's requests mostly have the same names.
        if self.names.as_ref().map_or(&b""[..], HeaderValue::as_bytes) != names {
            self.names = HeaderValue::from_bytes(names).ok().filter(|names| !names.is_empty());
        }
        let upgrade = self.scanner.asks_upgrade();
        self.requests.lock().seen.push_back(Seen { refused: None, names: self.names.clone(), upgrade });
    }

    fn refuse(&mut self, reason: Reason) {
        self.requests.lock().seen.push_back(Seen { refused: Some(reason), ..Seen::default() });
        self.state = State::Refused(0);
    }

    /// The first `passed` bytes of what is held may go, and behind them, perhaps, the request that stands for a refused one.
    fn looked(&mut self, passed: usize) {
        self.ready = passed;
        if matches!(self.state, State::Refused(_)) {
            self.held.truncate(passed);
            self.held.extend_from_slice(REFUSED);
            self.ready = self.held.len();
        }
    }

    fn look_at_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let passed = self.pass(&held);
        self.held = held;
        self.looked(passed);
    }

    /// Gives what is held and ready.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.ready.min(buf.remaining());
        buf.put_slice(&self.held[..n]);
        self.held.drain(..n);
        self.ready -= n;
        if self.held.is_empty() {
            // Its memory goes, the connection may be idle for long.
            self.held = Vec::new();
        }
    }

    /// Nothing comes. Gives true when that has been so for too long and the request is refused.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let head = self.partial && !self.held.is_empty();
        if !head && !matches!(self.scanner.phase(), Phase::Length(_) | Phase::Chunked(_)) {
            self.waiting = None;
            return Poll::Pending;
        }
        let limit = if head { HEAD_TIME } else { BODY_IDLE };
        if self.waiting.as_ref().is_none_or(|waiting| waiting.head != head) {
            self.waiting = Some(Waiting { head, moved: false, until: Box::pin(tokio::time::sleep(limit)) });
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        loop {
            ready!(waiting.until.as_mut().poll(cx));
            if head {
                self.refuse(Reason::HeadTimeout);
                self.looked(0);
                return Poll::Ready(Ok(()));
            }
            if !std::mem::take(&mut waiting.moved) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            waiting.until.as_mut().reset(Instant::now() + limit);
        }
    }

    fn moved(&mut self) {
        match &mut self.waiting {
            Some(waiting) if waiting.head && !self.partial => self.waiting = None,
            Some(waiting) => waiting.moved = true,
            None => {}
        }
    }
}

/// What a flaw is answered with.
pub(super) fn reason(flaw: Flaw) -> Reason {
    match flaw {
        Flaw::Malformed(what) => {
            tracing::debug!(what, "refused a request");
            Reason::MalformedRequest
        }
        Flaw::Authority => Reason::BadAuthority,
        Flaw::Form => Reason::BadRequest,
        Flaw::TooLarge => Reason::HeadTooLarge,
    }
}

impl<I: AsyncRead + AsyncWrite + Abort + Unpin> Guard<I> {
    fn poll_requests(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ready > 0 {
                self.give(buf);
                return Poll::Ready(Ok(()));
            }
            match self.state {
                State::Requests => {}
                State::Tunnel => return self.poll_tunnel(cx, buf),
                State::Refused(read) => return self.poll_drain(cx, read),
                State::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            if self.scanner.phase() == Phase::Upgrade {
                ready!(self.poll_answered(cx))?;
                continue;
            }
            if !self.held.is_empty() && !self.partial {
                self.look_at_held();
                continue;
            }
            if self.half.is_some() {
                return self.poll_gone(cx);
            }
            let polled = if self.held.is_empty() { self.poll_fresh(cx, buf) } else { self.poll_held(cx) };
            match polled {
                // Between two requests. What was asked before is answered; the service ends the connection behind that.
                Poll::Ready(Ok(Read::Nothing)) if self.scanner.phase() == Phase::Head && self.held.is_empty() => {
                    self.half = Some(HalfClose::new());
                    self.requests.end();
                }
                Poll::Ready(Ok(Read::Nothing)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Read::Some)) => {
                    self.moved();
                    if !buf.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => ready!(self.poll_patience(cx))?,
            }
        }
    }

    /// Reads straight to where it is wanted, and takes back what may not pass yet.
    fn poll_fresh(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<Read>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        if read.is_empty() {
            return Poll::Ready(Ok(Read::Nothing));
        }
        let passed = self.pass(read);
        self.held.extend_from_slice(&read[passed..]);
        buf.set_filled(before + passed);
        self.looked(0);
        Poll::Ready(Ok(Read::Some))
    }

    /// Reads on in a head that did not come whole.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let read = ready!(poll_into(&mut self.io, cx, &mut self.held))?;
        if read == 0 {
            return Poll::Ready(Ok(Read::Nothing));
        }
        self.look_at_held();
        Poll::Ready(Ok(Read::Some))
    }

    /// Waits for the answer to a request for another protocol, which wakes us; what comes meanwhile is held, and no more of it
    /// than one piece. Whoever has nothing more to say may still want to hear.
    fn poll_answered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let answered = self.requests.lock().answered.take();
        match answered {
            Some(Answered::Agreed) => self.state = State::Tunnel,
            Some(Answered::Over) => {
                self.held = Vec::new();
                self.state = State::Refused(0);
            }
            // What was sent ahead in the belief to be in another protocol must not be read as requests.
            Some(Answered::Declined) if !self.held.is_empty() => {
                self.refuse(Reason::MalformedRequest);
                self.looked(0);
            }
            Some(Answered::Declined) => {
                self.scanner.go_on();
                if self.half.is_some() {
                    self.requests.end();
                }
            }
            None if self.half.is_some() => return self.poll_gone(cx),
            None if self.held.is_empty() => {
                if ready!(poll_into(&mut self.io, cx, &mut self.held))? == 0 {
                    self.half = Some(HalfClose::new());
                    return self.poll_answered(cx);
                }
                return Poll::Pending;
            }
            None => return Poll::Pending,
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing more comes. Gives an error once the client is gone altogether, which ends what is done for it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let answering = self.written == self.requests.begun();
        let may_ask = !answering && !self.blocked && !self.scanner.is_old();
        let Some(half) = &mut self.half else { return Poll::Pending };
        half.poll_gone(&mut self.io, cx, may_ask).map(Err)
    }

    /// Something was written, or was to be. Gives an error once the client is given up that does not take it.
    fn wrote(&mut self, polled: Poll<io::Result<usize>>, cx: &Context<'_>) -> Poll<io::Result<usize>> {
        self.blocked = polled.is_pending();
        self.written = self.requests.begun();
        let Some(given_up) = self.stranger.as_ref().filter(|_| self.state != State::Tunnel) else { return polled };
        if !self.blocked {
            self.untaken = None;
        } else if self.untaken.get_or_insert_with(|| Place::take(cx)).poll_lost(cx, given_up).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        polled
    }

    fn poll_tunnel(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        self.ready = self.held.len();
        self.give(buf);
        Poll::Ready(Ok(()))
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>, mut read: usize) -> Poll<io::Result<()>> {
        let mut bytes = [0; STEP];
        while read < MOST_DRAINED {
            let mut buf = ReadBuf::new(&mut bytes);
            if ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)).is_err() || buf.filled().is_empty() {
                break;
            }
            read += buf.filled().len();
            self.state = State::Refused(read);
        }
        // The answer ends the connection.
        Poll::Pending
    }
}

/// What came of reading.
enum Read {
    /// The end.
    Nothing,
    Some,
}

fn poll_into<I: AsyncRead + Unpin>(io: &mut I, cx: &mut Context<'_>, held: &mut Vec<u8>) -> Poll<io::Result<usize>> {
    let before = held.len();
    held.resize(before + STEP, 0);
    let mut buf = ReadBuf::new(&mut held[before..]);
    let polled = Pin::new(io).poll_read(cx, &mut buf);
    let read = if polled.is_ready() { buf.filled().len() } else { 0 };
    held.truncate(before + read);
    polled.map_ok(|()| read)
}

impl<I: AsyncRead + AsyncWrite + Abort + Unpin> AsyncRead for Guard<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_requests(cx, buf)
    }
}

impl<I: AsyncRead + AsyncWrite + Abort + Unpin> AsyncWrite for Guard<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(polled, cx)
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
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
