//! Who calls the local app, how often and how it goes: what the control plane is told for `leno edges` and `leno policy suggest`.
//!
//! An edge is one caller at one port of the app. A connection asks for its edge once; a request adds to atomics. Everything is bounded:
//! callers beyond [`MOST_EDGES`] are counted together, and so are paths beyond [`MOST_PATHS`] of an edge.

mod series;

pub use series::Called;
use series::Series;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Callers and ports that are told apart.
pub const MOST_EDGES: usize = 512;
/// Methods and paths of one edge.
pub const MOST_PATHS: usize = 128;
/// Classes of the time that requests take: the first one ends at [`FIRST_CLASS`], each further one at twice as much.
pub const CLASSES: usize = 16;
/// Where the first class of times ends.
pub const FIRST_CLASS: Duration = Duration::from_micros(250);
/// Requests that were seen before are recognised by this many places, one a hash; who loses its place is looked up again.
const PLACES: usize = 64;
/// Stands for a path that can be read in two ways, which no rule names.
pub const UNCLEAR: &str = "?";

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// By certificate: its SPIFFE ID.
    Proven(Arc<str>),
    /// In plaintext, from outside of the mesh.
    Plaintext(IpAddr),
    /// Everybody for whom there was no more room.
    Others,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Spoken {
    /// HTTP, request by request.
    Http,
    /// Bytes that nobody reads: what counts is the connection.
    Bytes,
}

/// One caller at one port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeKey {
    /// Who calls.
    pub peer: Peer,
    /// The app's port.
    pub port: u16,
    /// What is spoken.
    pub spoken: Spoken,
}

/// What is counted of an edge since the process began.
#[derive(Debug)]
pub struct Edge {
    series: Series,
    requests: AtomicU64,
    failures: AtomicU64,
    times: [AtomicU64; CLASSES],
    places: [AtomicU64; PLACES],
    more_paths: AtomicBool,
    paths: Mutex<HashMap<(String, String), u64>>,
}

/// The same at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Requests, or connections of bytes.
    pub requests: u64,
    /// Those that were answered 5xx or refused.
    pub failures: u64,
    /// Requests by the class of the time that they took.
    pub times: [u64; CLASSES],
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            series: Series::default(),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            times: std::array::from_fn(|_| AtomicU64::new(0)),
            places: std::array::from_fn(|_| AtomicU64::new(0)),
            more_paths: AtomicBool::new(false),
            paths: Mutex::default(),
        }
    }
}

impl Edge {
    /// A request was answered.
    pub fn answered(&self, code: u16, took: Duration) {
        self.add(code < 500 && code != 403);
        self.series.answered(code);
        self.times[class(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of bytes was let in, or not.
    pub fn opened(&self, well: bool) {
        self.add(well);
        self.series.opened(well);
    }

    fn add(&self, well: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !well {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether no request with this [hash] was seen lately.
    pub fn is_unseen(&self, hash: u64) -> bool {
        self.place(hash).load(Ordering::Relaxed) != hash
    }

    /// Takes note of the hash; true when that is new, and the request worth to be [noted](Self::note).
    pub fn see(&self, hash: u64) -> bool {
        self.place(hash).swap(hash, Ordering::Relaxed) != hash
    }

    fn place(&self, hash: u64) -> &AtomicU64 {
        &self.places[(hash % PLACES as u64) as usize]
    }

    /// Remembers that such a request was let in and answered; the path is as a rule of a policy has it.
    pub fn note(&self, method: &str, path: &str) {
        let mut paths = self.paths();
        let full = paths.len() >= MOST_PATHS;
        let key = (method.to_owned(), path.to_owned());
        match paths.get_mut(&key) {
            Some(seen) => *seen += 1,
            None if full => self.more_paths.store(true, Ordering::Relaxed),
            None => drop(paths.insert(key, 1)),
        }
    }

    /// How it stands.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            failures: read(&self.failures),
            times: std::array::from_fn(|n| read(&self.times[n])),
        }
    }

    /// The methods and paths that were noted, how often, and whether there were more.
    pub fn noted(&self) -> (HashMap<(String, String), u64>, bool) {
        (self.paths().clone(), self.more_paths.load(Ordering::Relaxed))
    }

    fn paths(&self) -> MutexGuard<'_, HashMap<(String, String), u64>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The class of a time.
pub fn class(took: Duration) -> usize {
    let times = took.as_micros() / FIRST_CLASS.as_micros();
    ((u128::BITS - times.leading_zeros()) as usize).min(CLASSES - 1)
}

/// A hash of method and path, for [`Edge::is_unseen`] (FNV-1a). Who makes two of them collide hides one of its own paths.
pub fn hash(method: &str, path: &str) -> u64 {
    let bytes = method.bytes().chain([b' ']).chain(path.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// All edges of a sidecar; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Edges {
    called: Arc<Called>,
    known: Arc<Mutex<HashMap<EdgeKey, Arc<Edge>>>>,
}

impl Edges {
    /// Of the app that is called, with series of their own.
    pub fn of_app(called: Called) -> Self {
        Self { called: Arc::new(called), known: Arc::default() }
    }

    /// The edge of a caller. Locks, so it is asked for once a connection.
    pub fn of(&self, key: EdgeKey) -> Arc<Edge> {
        let mut edges = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let room = edges.len() < MOST_EDGES;
        let key = match room || edges.contains_key(&key) {
            true => key,
            false => EdgeKey { peer: Peer::Others, port: 0, ..key },
        };
        let made = |key: &EdgeKey| Arc::new(Edge { series: self.called.series(&key.peer), ..Edge::default() });
        edges.entry(key).or_insert_with_key(made).clone()
    }

    /// All of them now.
    pub fn all(&self) -> Vec<(EdgeKey, Arc<Edge>)> {
        let edges = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        edges.iter().map(|(key, edge)| (key.clone(), edge.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u16) -> EdgeKey {
        EdgeKey { peer: Peer::Proven(format!("spiffe://t/ns/a/sa/{n}").into()), port: 80, spoken: Spoken::Http }
    }

    #[test]
    fn callers_beyond_the_bound_are_counted_together() {
        let edges = Edges::default();
        for n in 0..MOST_EDGES as u16 + 100 {
            edges.of(key(n)).opened(true);
        }
        edges.of(EdgeKey { spoken: Spoken::Bytes, ..key(9_999) }).opened(false);
        let all = edges.all();
        assert_eq!(all.len(), MOST_EDGES + 2, "one more for each of what is spoken");
        let others = all.iter().filter(|(key, _)| key.peer == Peer::Others);
        let counts: u64 = others.map(|(_, edge)| edge.counts().requests).sum();
        assert_eq!(counts, 101);
    }

    #[test]
    fn paths_beyond_the_bound_are_not_kept_and_that_is_said() {
        let edge = Edge::default();
        for n in 0..MOST_PATHS {
            edge.note("GET", &format!("/{n}"));
        }
        edge.note("GET", "/0");
        assert!(!edge.noted().1);
        edge.note("GET", "/one-more");
        let (paths, more) = edge.noted();
        assert_eq!((paths.len(), more), (MOST_PATHS, true));
        assert_eq!(paths[&("GET".to_owned(), "/0".to_owned())], 2);
    }

    #[test]
    fn a_request_is_new_once_and_a_time_has_its_class() {
        let edge = Edge::default();
        let (a, b) = (hash("GET", "/a"), hash("GET", "/b"));
        assert_ne!(a, b);
        assert!(edge.is_unseen(a) && edge.see(a) && !edge.is_unseen(a) && !edge.see(a) && edge.is_unseen(b));
        for (micros, expected) in [(0, 0), (249, 0), (250, 1), (499, 1), (500, 2), (1_000, 3), (u64::MAX, CLASSES - 1)]
        {
            assert_eq!(class(Duration::from_micros(micros)), expected, "{micros} µs");
        }
        edge.answered(200, Duration::ZERO);
        edge.answered(503, Duration::ZERO);
        edge.answered(403, Duration::ZERO);
        let counts = edge.counts();
        assert_eq!((counts.requests, counts.failures, counts.times[0]), (3, 2, 3));
    }
}
