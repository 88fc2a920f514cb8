//! Copies of a request's body for those that it is mirrored to. What passes is queued for each of them, up to a bound: a copy
//! that cannot keep up breaks off, and the request itself never waits.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

/// Bytes that wait for one copy at most. One frame is always taken.
const MOST_WAITING: usize = 1 << 20;
/// Bytes that wait for all copies of a worker at most.
const MOST_IN_ALL: usize = 32 << 20;

/// What all copies of a worker share: how many bytes wait for them.
#[derive(Debug, Clone, Default)]
pub struct Waiting(Rc<Cell<usize>>);

/// A copy broke off.
#[derive(Debug)]
pub struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the copy of a body could not keep up, or its request broke off")
    }
}

impl std::error::Error for BrokenOff {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Broken,
}

#[derive(Debug)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    waiting: Waiting,
    trailers: Option<HeaderMap>,
    state: State,
    reader: Option<Waker>,
}

impl Queue {
    fn end(&mut self, state: State) {
        if self.state != State::Open {
            return;
        }
        self.state = state;
        if state == State::Broken {
            self.forget();
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn forget(&mut self) {
        self.waiting.0.set(self.waiting.0.get() - self.bytes);
        self.bytes = 0;
        self.frames = VecDeque::new();
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The end that a body's bytes are put into, one for each copy.
#[derive(Debug, Default)]
pub struct Taps(Vec<Rc<RefCell<Queue>>>);

impl Taps {
    /// Whether nobody gets a copy.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Another copy.
    pub fn add(&mut self, waiting: &Waiting) -> Tapped {
        let queue = Queue {
            frames: VecDeque::new(),
            bytes: 0,
            waiting: waiting.clone(),
            trailers: None,
            state: State::Open,
            reader: None,
        };
        let queue = Rc::new(RefCell::new(queue));
        self.0.push(queue.clone());
        Tapped(queue)
    }

    pub(super) fn data(&self, bytes: &Bytes) {
        for queue in &self.0 {
            let mut queue = queue.borrow_mut();
            if queue.state != State::Open {
                continue;
            }
            let all = queue.waiting.0.get() + bytes.len();
            if queue.bytes > 0 && queue.bytes + bytes.len() > MOST_WAITING || all > MOST_IN_ALL {
                queue.end(State::Broken);
                continue;
            }
            queue.waiting.0.set(all);
            queue.bytes += bytes.len();
            queue.frames.push_back(bytes.clone());
            if let Some(reader) = queue.reader.take() {
                reader.wake();
            }
        }
    }

    pub(super) fn end(&self, trailers: Option<&HeaderMap>) {
        for queue in &self.0 {
            let mut queue = queue.borrow_mut();
            if queue.state == State::Open {
                queue.trailers = trailers.cloned();
                queue.end(State::Ended);
            }
        }
    }
}

/// A body that was not read to its end is none.
impl Drop for Taps {
    fn drop(&mut self) {
        self.0.iter().for_each(|queue| queue.borrow_mut().end(State::Broken));
    }
}

/// A copy.
#[derive(Debug)]
pub struct Tapped(Rc<RefCell<Queue>>);

impl Body for Tapped {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let mut queue = self.0.borrow_mut();
        if let Some(bytes) = queue.frames.pop_front() {
            queue.bytes -= bytes.len();
            queue.waiting.0.set(queue.waiting.0.get() - bytes.len());
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match queue.state {
            State::Open => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Ended => Poll::Ready(queue.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
            State::Broken => Poll::Ready(Some(Err(BrokenOff))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let queue = self.0.borrow();
        queue.state == State::Ended && queue.frames.is_empty() && queue.trailers.is_none()
    }
}

/// Whoever reads no more needs no more.
impl Drop for Tapped {
    fn drop(&mut self) {
        self.0.borrow_mut().end(State::Broken);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn each_copy_is_the_whole_body_or_breaks_off() {
        let (waiting, mut taps) = (Waiting::default(), Taps::default());
        let (one, two) = (taps.add(&waiting), taps.add(&waiting));
        taps.data(&Bytes::from("ab"));
        taps.data(&Bytes::from("c"));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "3".parse().unwrap());
        taps.end(Some(&trailers));
        drop(taps);
        let all = one.collect().await.unwrap();
        assert_eq!(all.trailers(), Some(&trailers));
        assert_eq!(all.to_bytes(), "abc");
        assert_eq!(waiting.0.get(), 3, "the other copy waits still");
        drop(two);
        assert_eq!(waiting.0.get(), 0);

        let mut taps = Taps::default();
        let cut = taps.add(&waiting);
        taps.data(&Bytes::from("ab"));
        drop(taps);
        assert!(cut.collect().await.is_err(), "what was cut must not look whole");
    }

    #[tokio::test]
    async fn what_waits_is_bounded_for_each_copy_and_for_all() {
        let (waiting, mut taps) = (Waiting::default(), Taps::default());
        let copy = taps.add(&waiting);
        let half = Bytes::from(vec![7; MOST_WAITING / 2]);
        (0..2).for_each(|_| taps.data(&half));
        assert_eq!(waiting.0.get(), MOST_WAITING);
        taps.data(&Bytes::from("x"));
        assert_eq!(waiting.0.get(), 0, "it cannot keep up");
        taps.end(None);
        assert!(copy.collect().await.is_err());

        let all: Vec<Tapped> = (0..MOST_IN_ALL / MOST_WAITING + 1).map(|_| taps.add(&waiting)).collect();
        (0..2).for_each(|_| taps.data(&half));
        assert!(waiting.0.get() <= MOST_IN_ALL);
        let broken = all.iter().filter(|copy| copy.0.borrow().state == State::Broken).count();
        assert_eq!(broken, 1);
    }
}
