//! What both ends of a connection know of its requests: whoever reads along, and the service that answers them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;

use crate::error::Reason;

/// What was found out of a request before it was read.
#[derive(Debug, Default)]
pub(in crate::http) struct Seen {
    /// It is to be answered by this.
    pub(in crate::http) refused: Option<Reason>,
    /// Its names of fields as they were written.
    pub(in crate::http) names: Option<HeaderValue>,
    /// It may be answered by another protocol, or by a tunnel.
    pub(in crate::http) upgrade: bool,
}

/// How such a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Answered {
    /// Other bytes follow.
    Agreed,
    /// Requests follow.
    Declined,
    /// Nothing that follows can be told from what was meant for a tunnel.
    Over,
}

/// What both ends of a connection's service know: the requests that passed and were not begun yet. They are begun in the order in
/// which they passed. Both ends are of one task, so the lock is never waited for; it is there because hyper's upgraded
/// connections have to be `Send`.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) seen: VecDeque<Seen>,
    /// How the request for another protocol was answered.
    pub(super) answered: Option<Answered>,
    /// Nothing more comes.
    ended: bool,
}

#[derive(Debug, Default)]
struct Both {
    shared: Mutex<Shared>,
    /// Requests that were begun.
    begun: AtomicU32,
    /// Nothing more comes, and the last request was begun.
    over: AtomicBool,
}

/// The service's end.
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Requests(Arc<Both>);

impl Requests {
    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request begins.
    pub(in crate::http) fn begin(&self) -> Seen {
        let mut shared = self.lock();
        let seen = shared.seen.pop_front().unwrap_or_default();
        self.0.begun.store(self.0.begun.load(Relaxed).wrapping_add(1), Relaxed);
        if shared.ended && shared.seen.is_empty() {
            self.0.over.store(true, Relaxed);
        }
        seen
    }

    /// How many were begun.
    pub(super) fn begun(&self) -> u32 {
        self.0.begun.load(Relaxed)
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        let mut shared = self.lock();
        shared.ended = true;
        if shared.seen.is_empty() {
            self.0.over.store(true, Relaxed);
        }
    }

    /// Whether the request that was begun last, if any, is the last one of the connection.
    pub(in crate::http) fn is_over(&self) -> bool {
        self.0.over.load(Relaxed)
    }

    /// A request for another protocol was answered.
    pub(in crate::http) fn answered(&self, how: Answered) {
        self.lock().answered = Some(how);
    }
}
