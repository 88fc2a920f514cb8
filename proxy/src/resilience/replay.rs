//! Request bodies that can be sent again. What passes is kept, up to a limit, while a retry is still possible; a body beyond the
//! limit streams on unhindered and can no longer be repeated.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use leno_runtime::metrics::Counter;

use super::tap::{BrokenOff, Tapped, Taps};

/// Bytes of a body that are kept at most.
pub const MOST_KEPT: usize = 64 * 1024;

/// Why a request's body broke off.
#[derive(Debug)]
pub enum BodyError<E = hyper::Error> {
    /// The caller broke it off.
    Caller(E),
    /// A later attempt sends it now. An endpoint that answers before it has read a body may still be reading when the request
    /// is tried elsewhere, and two readers would each miss what the other one took.
    Superseded,
    /// A copy that could not keep up.
    Copy(BrokenOff),
}

impl<E: fmt::Display> fmt::Display for BodyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller(error) => write!(f, "the caller broke its request off: {error}"),
            Self::Superseded => f.write_str("a later attempt sends this body"),
            Self::Copy(error) => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for BodyError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Caller(error) => Some(error),
            Self::Superseded => None,
            Self::Copy(error) => Some(error),
        }
    }
}

/// A request's body on its way upstream.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none.
    Empty,
    /// Sent as it comes, once. The counter is for its bytes.
    Once(Incoming, Counter),
    /// Can be sent again, see [`Replay`].
    Repeatable(Attempt),
    /// A copy of another request's, see [`super::tap`].
    Copy(Tapped),
}

/// The body behind all attempts of a request. It is generic over the source for the sake of its tests.
#[derive(Debug)]
pub struct Replay<B = Incoming>(Rc<RefCell<Kept<B>>>);

/// One attempt's view of a [`Replay`].
#[derive(Debug)]
pub struct Attempt<B = Incoming> {
    kept: Rc<RefCell<Kept<B>>>,
    number: u32,
    next: usize,
}

#[derive(Debug)]
struct Kept<B> {
    source: B,
    /// For the bytes that were read, however often they are sent.
    counter: Counter,
    /// Those who get a copy of what is read.
    taps: Taps,
    /// What was read so far; empty once the limit was passed.
    frames: Vec<Bytes>,
    bytes: usize,
    trailers: Option<http::HeaderMap>,
    /// The source has ended, or failed.
    ended: bool,
    /// The limit was passed, or the source failed.
    lost: bool,
    failed: bool,
    /// Number of the latest attempt; earlier ones get nothing more.
    latest: u32,
    /// Of the latest attempt, while it waits for the source.
    waiting: Option<Waker>,
}

impl<B> Replay<B> {
    /// Keeps a body while it is sent.
    pub fn new(source: B, counter: Counter) -> Self {
        Self::tapped(source, counter, Taps::default())
    }

    /// As [`Self::new`]; what is read is copied to others too.
    pub fn tapped(source: B, counter: Counter, taps: Taps) -> Self {
        Self(Rc::new(RefCell::new(Kept {
            source,
            counter,
            taps,
            frames: Vec::new(),
            bytes: 0,
            trailers: None,
            ended: false,
            lost: false,
            failed: false,
            latest: 0,
            waiting: None,
        })))
    }

    /// The body for one attempt. The attempt before gets nothing more of it.
    pub fn attempt(&self) -> Attempt<B> {
        let mut kept = self.0.borrow_mut();
        kept.latest += 1;
        // It is told, so that its stream ends.
        if let Some(waiting) = kept.waiting.take() {
            waiting.wake();
        }
        Attempt { kept: self.0.clone(), number: kept.latest, next: 0 }
    }

    /// Whether the caller broke it off.
    pub fn is_broken_off(&self) -> bool {
        self.0.borrow().failed
    }

    /// Whether all of it that was sent can be sent again.
    pub fn is_repeatable(&self) -> bool {
        !self.0.borrow().lost
    }
}

impl<B: Body<Data = Bytes>> Replay<B> {
    /// The body for an attempt that is made beside the latest one. None: not all of it is here, so two readers would each miss
    /// what the other one took; or it was too long to be kept.
    pub fn beside(&self) -> Option<Attempt<B>> {
        let kept = self.0.borrow();
        let whole = (kept.ended || kept.source.is_end_stream()) && !kept.lost;
        whole.then(|| Attempt { kept: self.0.clone(), number: kept.latest, next: 0 })
    }
}

/// What a body gives next.
type Read<E> = Option<Result<Frame<Bytes>, BodyError<E>>>;

impl<B: Body<Data = Bytes> + Unpin> Kept<B> {
    fn poll(&mut self, next: &mut usize, cx: &mut Context<'_>) -> Poll<Read<B::Error>> {
        if let Some(bytes) = self.frames.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if self.ended {
            // Trailers come once, after the last frame.
            let trailers = if *next == self.frames.len() { self.trailers.clone() } else { None };
            *next = self.frames.len() + 1;
            return Poll::Ready(trailers.map(|t| Ok(Frame::trailers(t))));
        }
        let Poll::Ready(read) = Pin::new(&mut self.source).poll_frame(cx) else {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let frame = match read {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                (self.ended, self.lost, self.failed) = (true, true, true);
                return Poll::Ready(Some(Err(BodyError::Caller(error))));
            }
            None => {
                self.ended = true;
                self.taps.end(None);
                return Poll::Ready(None);
            }
        };
        match frame.into_data() {
            Ok(bytes) => {
                self.keep(bytes.clone());
                *next = self.frames.len();
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(frame) => {
                self.trailers = frame.trailers_ref().cloned();
                self.ended = true;
                self.taps.end(self.trailers.as_ref());
                *next = self.frames.len() + 1;
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn keep(&mut self, bytes: Bytes) {
        self.counter.add(bytes.len() as u64);
        self.taps.data(&bytes);
        // Nobody asks a body for more that has said that it is at its end.
        if self.source.is_end_stream() {
            self.taps.end(None);
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MOST_KEPT {
            self.lost = true;
            self.frames = Vec::new();
        }
        if !self.lost {
            self.frames.push(bytes);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Attempt<B> {
    type Data = Bytes;
    type Error = BodyError<B::Error>;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self { kept, number, next } = self.get_mut();
        let mut kept = kept.borrow_mut();
        if kept.latest != *number {
            return Poll::Ready(Some(Err(BodyError::Superseded)));
        }
        kept.poll(next, cx)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        if kept.failed || kept.latest != self.number {
            return false;
        }
        let sent = self.next >= kept.frames.len();
        sent && (kept.source.is_end_stream() || kept.ended)
            && (kept.trailers.is_none() || self.next > kept.frames.len())
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        let again: u64 = kept.frames.iter().skip(self.next).map(|b| b.len() as u64).sum();
        let rest = kept.source.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again);
        }
        hint.set_lower(rest.lower() + again);
        hint
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Once(body, bytes) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame {
                    bytes.add(frame.data_ref().map_or(0, |data| data.len() as u64));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Caller)))
            }
            Self::Repeatable(body) => Pin::new(body).poll_frame(cx),
            Self::Copy(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Copy)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Once(body, _) => body.is_end_stream(),
            Self::Repeatable(body) => body.is_end_stream(),
            Self::Copy(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Once(body, _) => body.size_hint(),
            Self::Repeatable(body) => body.size_hint(),
            Self::Copy(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    type Source = StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>>;

    fn source(frames: Vec<Frame<Bytes>>) -> Source {
        StreamBody::new(futures_util::stream::iter(frames.into_iter().map(Ok).collect::<Vec<_>>()))
    }

    #[tokio::test]
    async fn a_second_attempt_sends_the_same_bytes_and_trailers() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "3".parse().unwrap());
        let frames =
            vec![Frame::data(Bytes::from("ab")), Frame::data(Bytes::from("c")), Frame::trailers(trailers.clone())];
        let replay = Replay::new(source(frames), Counter::default());
        // The first attempt breaks off after one frame.
        let mut first = replay.attempt();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        drop(first);
        for _ in 0..2 {
            assert!(replay.is_repeatable());
            let all = replay.attempt().collect().await.unwrap();
            assert_eq!(all.trailers(), Some(&trailers));
            assert_eq!(all.to_bytes(), "abc");
        }
    }

    #[tokio::test]
    async fn an_attempt_gets_nothing_more_once_a_later_one_has_begun() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, Infallible>>();
        let incoming = futures_util::stream::unfold(receiver, |mut r| async { Some((r.recv().await?, r)) });
        let replay = Replay::new(StreamBody::new(Box::pin(incoming)), Counter::default());
        sender.send(Ok(Frame::data(Bytes::from("ab")))).unwrap();
        let mut first = replay.attempt();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        let tasks = tokio::task::LocalSet::new();
        let first = tasks.run_until(async {
            let first = tokio::task::spawn_local(async move { first.frame().await });
            tokio::task::yield_now().await;
            let second = replay.attempt();
            sender.send(Ok(Frame::data(Bytes::from("c")))).unwrap();
            drop(sender);
            assert_eq!(second.collect().await.unwrap().to_bytes(), "abc");
            first.await.unwrap()
        });
        assert!(matches!(first.await, Some(Err(BodyError::Superseded))));
    }

    #[tokio::test]
    async fn two_attempts_beside_each_other_send_the_same_once_all_of_it_is_here() {
        let frames = vec![Frame::data(Bytes::from("ab")), Frame::data(Bytes::from("c"))];
        let replay = Replay::new(source(frames), Counter::default());
        let mut first = replay.attempt();
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert!(replay.beside().is_none(), "there is more to come");
        assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "c");
        assert!(first.frame().await.is_none());
        // The first one is not told to end: what it still sends is the same.
        assert_eq!(replay.beside().unwrap().collect().await.unwrap().to_bytes(), "abc");
        assert!(first.frame().await.is_none());
        let long = Replay::new(source(vec![Frame::data(Bytes::from(vec![7; MOST_KEPT + 1]))]), Counter::default());
        long.attempt().collect().await.unwrap();
        assert!(long.beside().is_none(), "it was not kept");
    }

    #[tokio::test]
    async fn past_the_limit_a_body_streams_on_but_is_not_kept() {
        let chunk = Bytes::from(vec![7; MOST_KEPT / 2 + 1]);
        let replay = Replay::new(
            source(vec![Frame::data(chunk.clone()), Frame::data(chunk.clone()), Frame::data(chunk)]),
            Counter::default(),
        );
        let all = replay.attempt().collect().await.unwrap().to_bytes();
        assert_eq!(all.len(), 3 * (MOST_KEPT / 2 + 1));
        assert!(!replay.is_repeatable());
        assert!(replay.0.borrow().frames.is_empty());
    }
}
