//! What sidecars tell of the traffic that they see: who calls whom, by the minute, for an hour; and what was asked for, for a day. In memory
//! alone and bounded: a control plane that starts anew begins anew.

mod reading;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leno_proto::v1;
use time::{Duration, OffsetDateTime};

use crate::model::Workload;

pub use traffic::{Asked, Traffic};

/// Edges that are kept. Those of whom nothing was heard for the longest time make room.
pub const MOST_EDGES: usize = 4_096;
/// Methods and paths of one edge.
pub const MOST_PATHS: usize = 256;
/// Minutes that are told apart.
pub const MINUTES: usize = 60;
/// An edge of which nothing was heard for so long is forgotten.
const FORGOTTEN: Duration = Duration::DAY;
/// Classes of the time that requests take, see `proto/leno/v1/reports.proto`.
pub const CLASSES: usize = 16;
/// Where the first class ends, in milliseconds; each further one at twice as much.
const FIRST_CLASS_MS: f64 = 0.25;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// By certificate: a SPIFFE ID.
    Identity(String),
    /// In plaintext, from outside of the mesh.
    Plaintext(IpAddr),
    /// Those for whom a sidecar had no more room.
    Others,
}

/// Who is called: all workloads that are alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    pub namespace: String,
    /// A SPIFFE ID.
    pub identity: String,
    pub labels: BTreeMap<String, String>,
}

/// One caller at one port of alike workloads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EdgeKey {
    pub destination: Destination,
    pub source: Source,
    /// Of the app.
    pub port: u16,
    /// Else bytes that nobody reads.
    pub http: bool,
}

/// Requests, or connections of bytes, and how it went with them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    pub requests: u64,
    pub failures: u64,
    /// Attempts after the first, as far as those tell who made them.
    pub retries: u64,
    times: [u64; CLASSES],
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.retries = self.retries.saturating_add(other.retries);
        for (sum, more) in self.times.iter_mut().zip(other.times) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Requests by the class of their time.
    pub fn times(&self) -> &[u64] {
        &self.times
    }

    /// The time that this share of the requests took at most, in milliseconds: the end of the class that it falls into. None: no
    /// request was timed.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        quantile_ms(&self.times, share)
    }
}

/// [`Counts::quantile_ms`] of requests by the classes of their times, for who adds up what several edges say.
pub fn quantile_ms(times: &[u64], share: f64) -> Option<f64> {
    let all = times.iter().fold(0, |all: u64, n| all.saturating_add(*n));
    let wanted = (all as f64 * share).ceil().max(1.0) as u64;
    let mut below: u64 = 0;
    let class = times.iter().position(|n| {
        below = below.saturating_add(*n);
        below >= wanted
    });
    class.filter(|_| all > 0).map(|class| FIRST_CLASS_MS * 2_f64.powi(class as i32))
}

/// What is known of an edge.
#[derive(Debug, Clone)]
struct Edge {
    first: OffsetDateTime,
    last: OffsetDateTime,
    minutes: Minutes,
    paths: BTreeSet<(String, String)>,
    more_paths: bool,
}

/// An edge as it is shown.
#[derive(Debug, Clone)]
pub struct Seen {
    pub key: EdgeKey,
    pub first: OffsetDateTime,
    pub last: OffsetDateTime,
    /// In the minutes that were asked for.
    pub counts: Counts,
    /// Method, and path as a rule would name it.
    pub paths: BTreeSet<(String, String)>,
    /// There were more.
    pub more_paths: bool,
}

/// A handle; clones share what it holds.
#[derive(Clone, Default)]
pub struct Observed {
    edges: Arc<Mutex<BTreeMap<EdgeKey, Edge>>>,
    traffic: Traffic,
}

impl Observed {
    /// What apps have asked for, by rule and by service.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Takes up what the sidecar of a workload tells.
    ///
    /// # Errors
    /// What has no meaning. Nothing of such a report is taken up.
    pub fn take(&self, workload: &Workload, mut report: v1::EdgeReport, now: OffsetDateTime) -> Result<(), String> {
        let identity = workload.identity.clone().ok_or("the workload has no identity")?;
        let namespace = workload.name.namespace.clone();
        let destination = Destination { namespace, identity, labels: workload.labels.clone() };
        let asked = reading::asked(&mut report)?;
        let told = reading::edges(report)?;
        self.traffic.take(asked, now);
        let mut edges = self.edges();
        for told in told {
            let key =
                EdgeKey { destination: destination.clone(), source: told.source, port: told.port, http: told.http };
            if !edges.contains_key(&key) {
                make_room(&mut edges, MOST_EDGES, FORGOTTEN, now);
            }
            let new = || Edge {
                first: now,
                last: now,
                minutes: Minutes::default(),
                paths: BTreeSet::new(),
                more_paths: false,
            };
            let edge = edges.entry(key).or_insert_with(new);
            edge.heard(now, &told.counts);
            edge.more_paths |= told.more_paths;
            for path in told.paths {
                match edge.paths.len() < MOST_PATHS {
                    true => drop(edge.paths.insert(path)),
                    false => edge.more_paths |= !edge.paths.contains(&path),
                }
            }
        }
        Ok(())
    }

    /// All edges, with what was counted in the last so many minutes.
    pub fn seen(&self, minutes: usize, now: OffsetDateTime) -> Vec<Seen> {
        let shown = |(key, edge): (&EdgeKey, &Edge)| {
            let counts = edge.minutes.last(minutes, now);
            let Edge { first, last, paths, more_paths, .. } = edge.clone();
            Seen { key: key.clone(), first, last, counts, paths, more_paths }
        };
        self.edges().iter().filter(|(_, edge)| now - edge.last < FORGOTTEN).map(shown).collect()
    }

    fn edges(&self) -> MutexGuard<'_, BTreeMap<EdgeKey, Edge>> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Edge {
    fn heard(&mut self, now: OffsetDateTime, counts: &Counts) {
        if counts.requests > 0 {
            self.last = self.last.max(now);
        }
        self.minutes.add(now, counts);
    }
}

/// What was counted in the last hour: by the minute since 1970, the latest at the end.
#[derive(Debug, Clone, Default)]
struct Minutes(VecDeque<(i64, Counts)>);

impl Minutes {
    fn add(&mut self, now: OffsetDateTime, counts: &Counts) {
        match self.0.back_mut() {
            // A clock that goes back does not open a minute anew.
            Some((at, sum)) if *at >= minute(now) => sum.add(counts),
            _ => self.0.push_back((minute(now), counts.clone())),
        }
        while self.0.len() > MINUTES || self.0.front().is_some_and(|(at, _)| *at + MINUTES as i64 <= minute(now)) {
            self.0.pop_front();
        }
    }

    /// In the last so many minutes.
    fn last(&self, minutes: usize, now: OffsetDateTime) -> Counts {
        let since = minute(now) - minutes as i64;
        let mut counts = Counts::default();
        self.0.iter().filter(|(at, _)| *at > since).for_each(|(_, of)| counts.add(of));
        counts
    }
}

fn minute(time: OffsetDateTime) -> i64 {
    time.unix_timestamp().div_euclid(60)
}

/// Something of which is known when it was heard of last.
trait Heard {
    fn last(&self) -> OffsetDateTime;
}

impl Heard for Edge {
    fn last(&self) -> OffsetDateTime {
        self.last
    }
}

/// When there are so many, forgets what was not heard of for so long, and when that is nothing, what was not for the longest time.
fn make_room<K: Ord + Clone, V: Heard>(
    all: &mut BTreeMap<K, V>,
    most: usize,
    forgotten: Duration,
    now: OffsetDateTime,
) {
    if all.len() < most {
        return;
    }
    all.retain(|_, one| now - one.last() < forgotten);
    if all.len() >= most {
        let oldest = all.iter().min_by_key(|(_, one)| one.last()).map(|(key, _)| key.clone());
        oldest.into_iter().for_each(|key| drop(all.remove(&key)));
    }
}

#[cfg(test)]
mod tests;
