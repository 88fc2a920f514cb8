//! Failures in the log: enough lines that whoever looks sees why requests fail, and never more than can be read.

use std::cell::Cell;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use super::Direction;
use crate::error::{Fault, Reason};

/// Lines in a second for each reason, direction and worker. What is above is counted in the next line.
const MOST_LINES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// What is known of a failure.
#[derive(Debug, Default, Clone, Copy)]
pub struct Told<'a> {
    /// NAMESPACE/NAME of the service that was asked, when that is known.
    pub service: &'a str,
    /// Attempts that were made.
    pub attempts: u32,
    /// What connection it was, when it was no request.
    pub connection: Option<&'a dyn Debug>,
}

/// How much was said of one reason.
#[derive(Debug, Default)]
pub(super) struct Pace {
    began: Cell<Option<Instant>>,
    said: Cell<u32>,
    unsaid: Cell<u64>,
}

impl Pace {
    /// Whether a line may be written; then with how many that were not since the last one.
    fn may_say(&self, now: Instant) -> Option<u64> {
        if self.began.get().is_none_or(|began| now.duration_since(began) >= WINDOW) {
            self.began.set(Some(now));
            self.said.set(0);
        }
        if self.said.get() >= MOST_LINES {
            self.unsaid.set(self.unsaid.get() + 1);
            return None;
        }
        self.said.set(self.said.get() + 1);
        Some(self.unsaid.take())
    }

    /// Says it, in the words of header and metric.
    pub(super) fn tell(&self, direction: Direction, reason: Reason, told: Told<'_>) {
        let Some(unsaid) = self.may_say(Instant::now()) else { return };
        let (hop, fault, unseen) = (direction.label(), reason.fault(), reason.unseen());
        let service = Some(told.service).filter(|service| !service.is_empty());
        let attempts = Some(told.attempts).filter(|attempts| *attempts != 0);
        let connection = told.connection.map(tracing::field::debug);
        let more = Some(unsaid).filter(|unsaid| *unsaid != 0);
        let (reason, label) = (reason.code(), fault.label());
        // What a client does wrong is nobody's alarm here.
        match fault {
            Fault::Downstream => {
                tracing::info!(reason, hop, fault = label, unseen, service, attempts, connection, more, "failed");
            }
            _ => tracing::warn!(reason, hop, fault = label, unseen, service, attempts, connection, more, "failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_failures_is_a_few_lines_a_second_and_the_rest_is_counted() {
        let (pace, start) = (Pace::default(), Instant::now());
        let said: Vec<_> = (0..100).filter_map(|_| pace.may_say(start)).collect();
        assert_eq!(said, vec![0; MOST_LINES as usize]);
        assert_eq!(pace.may_say(start + WINDOW), Some(100 - u64::from(MOST_LINES)));
        assert_eq!(pace.may_say(start + WINDOW), Some(0));
    }
}
