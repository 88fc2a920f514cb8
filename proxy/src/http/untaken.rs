//! Answers that their clients do not take, of all connections of one worker with clients that are not in the mesh. Each holds a part of the window
//! of the connection to an app's sidecar, which all clients share, so there is a bound on how many there are. Whoever takes nothing when
//! all places are taken gets that of the one that has taken nothing the longest; it is given up. So no number of them holds anybody else
//! up, and a client that is but slow is not among the oldest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use leno_runtime::metrics::Counter;

use crate::upstream::{CONNECTION_WINDOW, STREAM_WINDOW};

/// Half of what a connection to a sidecar has room for.
pub(super) const MOST: usize = (CONNECTION_WINDOW / STREAM_WINDOW / 2) as usize;

#[derive(Default)]
struct Untaken {
    next: u64,
    /// Those who wait, in the order in which something of theirs was taken last.
    waiting: BTreeMap<u64, Waker>,
}

thread_local! {
    /// A worker has one thread.
    static ALL: RefCell<Untaken> = RefCell::default();
}

/// Of one answer of which nothing is taken. It is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(u64);

impl Place {
    /// One of the places, if need be the oldest one's.
    pub(super) fn take(cx: &Context<'_>) -> Self {
        ALL.with_borrow_mut(|all| {
            if all.waiting.len() >= MOST
                && let Some((_, oldest)) = all.waiting.pop_first()
            {
                oldest.wake();
            }
            all.next += 1;
            all.waiting.insert(all.next, cx.waker().clone());
            Self(all.next)
        })
    }

    /// Something was taken. One that is lost stays so.
    pub(super) fn renew(&mut self) {
        ALL.with_borrow_mut(|all| {
            if let Some(waker) = all.waiting.remove(&self.0) {
                all.next += 1;
                self.0 = all.next;
                all.waiting.insert(self.0, waker);
            }
        });
    }

    /// Comes back when somebody else needed it, which is counted.
    pub(super) fn poll_lost(&self, cx: &Context<'_>, given_up: &Counter) -> Poll<()> {
        ALL.with_borrow_mut(|all| match all.waiting.get_mut(&self.0) {
            Some(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            None => {
                given_up.inc();
                Poll::Ready(())
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The thread may be at its end.
        let _ = ALL.try_with(|all| all.borrow_mut().waiting.remove(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_of_which_nothing_was_taken_for_the_longest_makes_room() {
        let (cx, counter) = (Context::from_waker(Waker::noop()), Counter::default());
        let lost = |place: &Place| place.poll_lost(&cx, &counter).is_ready();
        let mut places: Vec<Place> = (0..MOST).map(|_| Place::take(&cx)).collect();
        assert!(!places.iter().any(lost));
        // The oldest one is slow and not stuck.
        places[0].renew();
        let newest = Place::take(&cx);
        assert_eq!(places.iter().map(lost).filter(|lost| *lost).count(), 1);
        assert!(lost(&places[1]) && !lost(&places[0]) && !lost(&newest));
        places[1].renew();
        assert!(lost(&places[1]));
        // Those that are given back are free.
        places.truncate(10);
        assert_eq!(ALL.with_borrow(|all| all.waiting.len()), 10, "nine of them, and the newest");
        let _more: Vec<Place> = (0..MOST - 10).map(|_| Place::take(&cx)).collect();
        assert!(!lost(&newest) && !lost(&places[0]));
    }
}
