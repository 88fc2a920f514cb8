//! What apps ask for, as their own sidecars tell it: by the rule that a request was sent by, and retries by service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};

use super::{Counts, Heard, MINUTES, Minutes, make_room};

/// Rules and services that are kept. Those of which nothing was heard for the longest time make room.
pub const MOST_ASKED: usize = 4_096;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// By a rule of a route.
    Rule { route: String, rule: String },
    /// Of a service, NAMESPACE/NAME.
    Service(String),
}

/// A handle; clones share what it holds.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Mutex<BTreeMap<Asked, Lately>>>);

struct Lately {
    last: OffsetDateTime,
    minutes: Minutes,
}

impl Heard for Lately {
    fn last(&self) -> OffsetDateTime {
        self.last
    }
}

impl Traffic {
    pub(super) fn take(&self, told: Vec<(Asked, Counts)>, now: OffsetDateTime) {
        let mut all = self.lock();
        for (asked, counts) in told {
            if !all.contains_key(&asked) {
                // What was not heard of for that long has no number any more.
                make_room(&mut all, MOST_ASKED, Duration::minutes(MINUTES as i64), now);
            }
            let heard = all.entry(asked).or_insert_with(|| Lately { last: now, minutes: Minutes::default() });
            heard.last = heard.last.max(now);
            heard.minutes.add(now, &counts);
        }
    }

    /// What was asked for in the last so many minutes, and how often.
    pub fn last(&self, minutes: usize, now: OffsetDateTime) -> Vec<(Asked, Counts)> {
        let all = self.lock();
        let counted = all.iter().map(|(asked, heard)| (asked.clone(), heard.minutes.last(minutes, now)));
        counted.filter(|(_, counts)| *counts != Counts::default()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Asked, Lately>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
