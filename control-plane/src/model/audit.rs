//! The audit log: who changed what, from where, and what came of it. Each entry carries the hash of the one before, so that none can be
//! changed, put in or taken out without breaking the chain behind it.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Most things that one entry names, and the longest text of a field in characters. What is more is counted or cut.
const MOST_NAMED: usize = 100;
const MOST_TEXT: usize = 500;
/// Of the entry before the first one.
const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// The action of an entry that says which old entries were dropped.
pub const ROTATE: &str = "audit.rotate";

/// Who does something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actor {
    /// A user, a SPIFFE ID, or a part of the control plane.
    pub name: String,
    /// What it may do; empty for who is no user.
    pub role: String,
    /// From where; empty for the control plane itself.
    pub address: String,
}

impl<T: Into<String>> From<T> for Actor {
    fn from(name: T) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// Something to be noted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub actor: Actor,
    /// A word, as `apply` or `token.create`.
    pub action: String,
    /// What it concerns.
    pub what: Vec<String>,
    /// The revision that it made; 0: none.
    pub revision: u64,
    /// `done`, or why it was refused.
    pub result: String,
    /// More, for people. Never a secret.
    pub detail: String,
}

impl Event {
    /// Something that was done.
    pub fn done(actor: &Actor, action: &str, what: impl Into<String>) -> Self {
        let (action, what) = (action.to_owned(), vec![what.into()]);
        Self { actor: actor.clone(), action, what, result: "done".to_owned(), ..Self::default() }
    }
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// From 1, without a gap.
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    pub actor: String,
    pub role: String,
    pub address: String,
    pub action: String,
    pub what: Vec<String>,
    pub revision: u64,
    pub result: String,
    pub detail: String,
    /// Hash of the entry before, in hex.
    pub previous: String,
    /// SHA-256 of all the above as JSON, in hex.
    pub hash: String,
}

/// The end of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: BEGINNING.to_owned() }
    }
}

impl Head {
    /// The next entry.
    pub fn next(&self, event: &Event, time: String) -> Entry {
        let mut what: Vec<String> = event.what.iter().take(MOST_NAMED).map(|text| clean(text)).collect();
        if event.what.len() > MOST_NAMED {
            what.push(format!("and {} more", event.what.len() - MOST_NAMED));
        }
        let mut entry = Entry {
            seq: self.seq + 1,
            time,
            actor: clean(&event.actor.name),
            role: clean(&event.actor.role),
            address: clean(&event.actor.address),
            action: clean(&event.action),
            what,
            revision: event.revision,
            result: clean(&event.result),
            detail: clean(&event.detail),
            previous: self.hash.clone(),
            hash: String::new(),
        };
        entry.hash = entry.digest();
        entry
    }
}

impl Entry {
    /// What its hash has to be.
    fn digest(&self) -> String {
        let bare = Self { hash: String::new(), ..self.clone() };
        // A struct of texts and numbers always has a form as JSON.
        hex::encode(Sha256::digest(serde_json::to_vec(&bare).unwrap_or_default()))
    }

    /// The end of the log when this is its last entry.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash.clone() }
    }

    /// The last entry that a rotation has dropped.
    fn dropped(&self) -> Option<u64> {
        let last = self.what.first()?.strip_prefix("entries up to ")?;
        if self.action == ROTATE { last.parse().ok() } else { None }
    }
}

/// What a rotation says that it drops.
pub fn rotation(up_to: u64) -> Event {
    Event::done(&"control-plane".into(), ROTATE, format!("entries up to {up_to}"))
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The first entry that is wrong, by the number that it has or should have.
    pub seq: u64,
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}: {}", self.seq, self.why)
    }
}

/// Looks at a log entry by entry, in its order.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    first: Option<Entry>,
    last: Option<Head>,
    /// Until where rotations have dropped entries.
    dropped: u64,
}

impl Verifier {
    /// The number of the entry that comes next.
    pub fn expected(&self) -> u64 {
        self.last.as_ref().map_or(1, |last| last.seq + 1)
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// The chain is broken here.
    pub fn next(&mut self, entry: &Entry) -> Result<(), Broken> {
        let broken = |why: String| Err(Broken { seq: entry.seq, why });
        if let Some(last) = &self.last {
            if entry.seq != last.seq + 1 {
                let why = format!("it is missing: entry {} is followed by entry {}", last.seq, entry.seq);
                return Err(Broken { seq: last.seq + 1, why });
            }
            if entry.previous != last.hash {
                return broken("it does not continue the entry before it".to_owned());
            }
        } else if entry.seq == 1 && entry.previous != BEGINNING {
            return broken("it does not begin the log".to_owned());
        }
        if entry.hash != entry.digest() {
            return broken("it was changed: its hash does not fit what it says".to_owned());
        }
        self.dropped = self.dropped.max(entry.dropped().unwrap_or_default());
        self.first.get_or_insert_with(|| entry.clone());
        self.last = Some(entry.head());
        Ok(())
    }

    /// After the last entry: from where to where the log is whole. `head` is where it has to end.
    ///
    /// # Errors
    /// Entries are missing at its beginning or its end.
    pub fn finish(self, head: Option<&Head>) -> Result<(u64, Head), Broken> {
        let last = self.last.unwrap_or_default();
        let first = self.first.map_or(1, |entry| entry.seq);
        if first > 1 && self.dropped < first - 1 {
            let why = format!(
                "it is missing: the log begins with entry {first}, and no rotation has dropped what was before"
            );
            return Err(Broken { seq: first - 1, why });
        }
        match head {
            Some(head) if *head != last && head.seq > last.seq => {
                Err(Broken { seq: last.seq + 1, why: format!("it is missing: the log ends with entry {}", head.seq) })
            }
            Some(head) if *head != last => {
                Err(Broken { seq: last.seq, why: "it is not the end that the control plane knows".to_owned() })
            }
            _ => Ok((first, last)),
        }
    }
}

/// What anybody said, as it can be shown and kept: cut, and without characters that control.
fn clean(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MOST_TEXT) {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(n: u64) -> Vec<Entry> {
        let mut head = Head::default();
        let entries = (1..=n).map(|n| {
            let event = Event::done(&"admin".into(), "apply", format!("Service default/s{n}"));
            let entry = head.next(&event, "2026-01-01T00:00:00Z".to_owned());
            head = entry.head();
            entry
        });
        entries.collect()
    }

    fn verify(entries: &[Entry], head: Option<&Head>) -> Result<(u64, Head), Broken> {
        let mut verifier = Verifier::default();
        entries.iter().try_for_each(|entry| verifier.next(entry))?;
        verifier.finish(head)
    }

    #[test]
    fn a_whole_chain_is_whole_and_the_first_broken_entry_is_named() {
        let good = chain(5);
        let head = good[4].head();
        assert_eq!(verify(&good, Some(&head)), Ok((1, head.clone())));
        assert_eq!(verify(&[], Some(&Head::default())).unwrap().1.seq, 0);
        let broken = |change: &dyn Fn(&mut Vec<Entry>)| {
            let mut entries = chain(5);
            change(&mut entries);
            verify(&entries, Some(&head)).unwrap_err().seq
        };
        assert_eq!(broken(&|all| all[2].actor = "somebody".to_owned()), 3);
        assert_eq!(broken(&|all| all[2].what.clear()), 3);
        assert_eq!(broken(&|all| drop(all.remove(2))), 3);
        assert_eq!(broken(&|all| all.swap(1, 2)), 2);
        assert_eq!(broken(&|all| drop(all.pop())), 5);
        assert_eq!(broken(&|all| drop(all.remove(0))), 1);
        // Whoever makes a hash that fits has to make all behind it anew, and then the end is another.
        let forged = |all: &mut Vec<Entry>| {
            all[2].actor = "somebody".to_owned();
            all[2].hash = all[2].digest();
        };
        assert_eq!(broken(&forged), 4);
        let anew = |all: &mut Vec<Entry>| {
            all[4].actor = "somebody".to_owned();
            all[4].hash = all[4].digest();
        };
        assert_eq!(broken(&anew), 5);
    }

    #[test]
    fn what_a_rotation_dropped_is_no_gap_and_anything_else_is() {
        let mut entries = chain(5);
        let end = entries[4].head();
        entries.push(end.next(&rotation(3), "2026-01-01T00:00:01Z".to_owned()));
        let head = entries[5].head();
        assert_eq!(verify(&entries[3..], Some(&head)), Ok((4, head.clone())));
        assert_eq!(verify(&entries[4..], Some(&head)).unwrap_err().seq, 4);
    }

    #[test]
    fn an_entry_controls_no_terminal_and_has_a_bound() {
        let mut event = Event::done(&"a\x1b[2Jb\n".into(), "apply", "x".repeat(9999));
        event.what.extend(vec!["y".to_owned(); 999]);
        let entry = Head::default().next(&event, String::new());
        assert_eq!(entry.actor, "a\\u{1b}[2Jb\\n");
        assert_eq!((entry.what.len(), entry.what[0].len()), (MOST_NAMED + 1, MOST_TEXT));
        assert_eq!(entry.what[MOST_NAMED], "and 900 more");
    }
}
