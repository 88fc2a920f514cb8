//! Answers that the server waits for. An ACK says that a response is in force on every worker, so it is held back while
//! what the response led to (a new route's backends, their endpoints) is still on its way.

use std::collections::BTreeSet;
use std::time::Duration;

use leno_proto::discovery::{DeltaDiscoveryRequest, Status};
use tokio::time::Instant;
use tonic::Code;

use crate::xds::held::Key;

/// Longest time that an ACK is held back. A dependency that the server never answers would otherwise let every `apply
/// --wait` run into its own timeout, for all sidecars, because of one name: after this long the response is as much in
/// force as it can be, and destinations that miss something keep their previous version.
const MOST_HELD: Duration = Duration::from_secs(5);
/// Most ACKs that are held back at once; a server that sends on and on is answered at once.
const MOST_OWED: usize = 1024;
/// Longest reason of a NACK, in bytes; a thousand bad resources do not make a message that the server refuses.
const MOST_REASON: usize = 16 * 1024;

/// ACK or NACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Ack,
    Nack(String),
}

struct Entry {
    type_url: String,
    nonce: String,
    answer: Answer,
    /// Names that have to be answered first; `None` until the turn that received the response is committed.
    waits_for: Option<BTreeSet<Key>>,
    until: Instant,
}

/// The answers owed on one stream, oldest first.
#[derive(Default)]
pub(super) struct Owed(Vec<Entry>);

impl Owed {
    pub fn add(&mut self, type_url: String, nonce: String, answer: Answer) {
        self.0.push(Entry { type_url, nonce, answer, waits_for: None, until: Instant::now() + MOST_HELD });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|entry| entry.until).min()
    }

    /// The answers to be sent now, in the order in which the responses came.
    ///
    /// A response waits for every name that was pending when its turn ended: what it led to itself, and also what was on
    /// its way before, since a destination it touched may miss just that. It does not wait for names that are subscribed
    /// later, unless those were led to by a name it waits for; so new demands never postpone an old ACK.
    pub fn due(
        &mut self,
        now: Instant,
        pending: &BTreeSet<Key>,
        touched: &BTreeSet<Key>,
        caused: &BTreeSet<Key>,
    ) -> Vec<DeltaDiscoveryRequest> {
        let mut due = Vec::new();
        let crowded = self.0.len() > MOST_OWED;
        self.0.retain_mut(|entry| {
            match &mut entry.waits_for {
                None => entry.waits_for = Some(pending.clone()),
                Some(names) if !names.is_disjoint(touched) => names.extend(caused.iter().cloned()),
                Some(_) => {}
            }
            let waits = entry.waits_for.as_mut().is_some_and(|names| {
                names.retain(|name| pending.contains(name));
                !names.is_empty()
            });
            let hold = waits && entry.answer == Answer::Ack && now < entry.until && !crowded;
            if !hold {
                due.push(entry.request());
            }
            hold
        });
        due
    }
}

impl Entry {
    fn request(&self) -> DeltaDiscoveryRequest {
        let error_detail = match &self.answer {
            Answer::Ack => None,
            Answer::Nack(reason) => {
                Some(Status { code: Code::InvalidArgument as i32, message: shortened(reason), details: Vec::new() })
            }
        };
        DeltaDiscoveryRequest {
            type_url: self.type_url.clone(),
            response_nonce: self.nonce.clone(),
            error_detail,
            ..DeltaDiscoveryRequest::default()
        }
    }
}

fn shortened(reason: &str) -> String {
    if reason.len() <= MOST_REASON {
        return reason.to_owned();
    }
    let end = (0..=MOST_REASON).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    format!("{} … ({} bytes in all)", &reason[..end], reason.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_bound_is_held_back() {
        let pending: BTreeSet<Key> = [("t", "n".to_owned())].into();
        let mut owed = Owed::default();
        (0..MOST_OWED).for_each(|n| owed.add("t".into(), n.to_string(), Answer::Ack));
        assert!(owed.due(Instant::now(), &pending, &BTreeSet::new(), &BTreeSet::new()).is_empty());
        owed.add("t".into(), "last".into(), Answer::Ack);
        let due = owed.due(Instant::now(), &pending, &BTreeSet::new(), &BTreeSet::new());
        assert_eq!((due.len(), owed.len(), owed.deadline()), (MOST_OWED + 1, 0, None));
    }

    #[test]
    fn a_reason_is_cut_at_its_bound() {
        assert_eq!(shortened("é"), "é");
        let long = shortened(&"é".repeat(MOST_REASON));
        assert!(long.len() < MOST_REASON + 64 && long.ends_with("bytes in all)"));
    }
}
