//! What apps ask for, as their own sidecars tell it: by the rule that a request was sent by, and retries by service.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};

use super::{Counts, MINUTES, Minutes};

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
pub struct Traffic(Arc<Mutex<BTreeMap<Asked, Heard>>>);

struct Heard {
    last: OffsetDateTime,
    minutes: Minutes,
}

impl Traffic {
    pub(super) fn take(&self, told: Vec<(Asked, Counts)>, now: OffsetDateTime) {
        let mut all = self.lock();
        for (asked, counts) in told {
            if !all.contains_key(&asked) && all.len() >= MOST_ASKED {
                make_room(&mut all, now);
            }
            let heard = all.entry(asked).or_insert_with(|| Heard { last: now, minutes: Minutes::default() });
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Asked, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what has no number any more, and when everything has one, that of which nothing was heard for the longest time.
fn make_room(all: &mut BTreeMap<Asked, Heard>, now: OffsetDateTime) {
    let hour = Duration::minutes(MINUTES as i64);
    all.retain(|_, heard| now - heard.last < hour);
    if all.len() >= MOST_ASKED {
        let oldest = all.iter().min_by_key(|(_, heard)| heard.last).map(|(asked, _)| asked.clone());
        oldest.into_iter().for_each(|asked| drop(all.remove(&asked)));
    }
}
