//! Load through a sidecar's HTTP proxy port: so many clients, each on its own keep-alive connection, until told to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use tokio::task::JoinHandle;

use crate::app::REQUEST_ID;
use crate::client::{self, ProxyConnection};

/// What every client sends, and how often.
#[derive(Debug, Clone)]
pub struct Load {
    proxy: SocketAddr,
    uri: String,
    method: Method,
    body: usize,
    clients: usize,
    limit: usize,
    pause: Duration,
}

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The number it carried, unique in its load.
    pub id: usize,
    /// When it was begun.
    pub started: Instant,
    /// When its answer was read, or it failed.
    pub ended: Instant,
    /// Status and body, or how it failed.
    pub result: Result<(u16, String), String>,
}

impl Outcome {
    /// True when the answer was a 200.
    pub fn is_ok(&self) -> bool {
        matches!(self.result, Ok((200, _)))
    }
}

impl Load {
    /// GETs of `uri` through `proxy` by 8 clients, without end and without a pause.
    pub fn new(proxy: SocketAddr, uri: &str) -> Self {
        let (method, pause) = (Method::GET, Duration::ZERO);
        Self { proxy, uri: uri.to_owned(), method, body: 0, clients: 8, limit: usize::MAX, pause }
    }

    /// How many connections.
    pub fn clients(self, clients: usize) -> Self {
        Self { clients, ..self }
    }

    /// POSTs with a body of so many bytes.
    pub fn post(self, body: usize) -> Self {
        Self { method: Method::POST, body, ..self }
    }

    /// How many requests in all.
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// How long a client waits between two requests.
    pub fn pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Starts the clients.
    pub fn start(self) -> Running {
        let shared = Arc::new(Shared { load: self, next: AtomicUsize::new(0), stop: AtomicBool::new(false) });
        let clients = (0..shared.load.clients).map(|_| tokio::spawn(run(Arc::clone(&shared)))).collect();
        Running { shared, clients }
    }

    /// Sends the limit's number of requests and reports.
    pub async fn run(self) -> Report {
        assert!(self.limit < usize::MAX, "a load without a limit never ends");
        self.start().join().await
    }
}

struct Shared {
    load: Load,
    next: AtomicUsize,
    stop: AtomicBool,
}

/// A load that goes on.
pub struct Running {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Outcome>>>,
}

impl Running {
    /// How many requests have been begun.
    pub fn sent(&self) -> usize {
        self.shared.next.load(Ordering::Relaxed)
    }

    /// Waits until `n` more requests have been begun.
    pub async fn more(&self, n: usize) {
        let target = self.sent() + n;
        crate::wait::until("more requests", Duration::from_secs(60), || self.sent() >= target).await;
    }

    /// Stops after the requests in flight and reports.
    pub async fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.join().await
    }

    /// Waits for the limit and reports.
    pub async fn join(self) -> Report {
        let mut outcomes = Vec::new();
        for client in self.clients {
            outcomes.extend(client.await.expect("a client does not panic"));
        }
        outcomes.sort_by_key(|outcome| outcome.started);
        Report { outcomes }
    }
}

async fn run(shared: Arc<Shared>) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let mut connection = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        if id >= shared.load.limit {
            break;
        }
        let started = Instant::now();
        let result = one(&shared.load, id, &mut connection).await.map_err(|error| format!("{error:#}"));
        outcomes.push(Outcome { id, started, ended: Instant::now(), result });
        if !shared.load.pause.is_zero() {
            tokio::time::sleep(shared.load.pause).await;
        }
    }
    outcomes
}

async fn one(load: &Load, id: usize, slot: &mut Option<ProxyConnection>) -> anyhow::Result<(u16, String)> {
    // Taken out, and put back only after a whole answer: a connection that failed is not used again.
    let mut kept = slot.take();
    if let Some(connection) = &mut kept
        && connection.is_closed().await
    {
        kept = None;
    }
    let mut connection = match kept {
        Some(connection) => connection,
        None => ProxyConnection::open(load.proxy).await?,
    };
    let id = id.to_string();
    let request = client::request(load.method.clone(), &load.uri, &[(REQUEST_ID, &id)], vec![b'x'; load.body]);
    let reply = connection.send(request).await?;
    *slot = Some(connection);
    let mut text = reply.text();
    if let Some(reason) = reply.reason() {
        text = format!("{reason}: {text}");
    }
    Ok((reply.status, text))
}

/// Everything that a load saw, in the order in which the requests were begun.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// One a request.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// How many requests were made.
    pub fn total(&self) -> usize {
        self.outcomes.len()
    }

    /// How many answers were a 200 with this body.
    pub fn answered_by(&self, body: &str) -> usize {
        self.outcomes.iter().filter(|o| matches!(&o.result, Ok((200, b)) if b == body)).count()
    }

    /// Only the requests that were begun after `time`.
    pub fn started_after(&self, time: Instant) -> Self {
        Self { outcomes: self.outcomes.iter().filter(|o| o.started > time).cloned().collect() }
    }

    /// The requests that did not get a 200.
    pub fn failures(&self) -> Vec<&Outcome> {
        self.outcomes.iter().filter(|outcome| !outcome.is_ok()).collect()
    }

    /// Panics unless there were requests and each got a 200.
    pub fn assert_no_failure(&self) {
        assert!(self.total() > 0, "the load sent nothing");
        let failures = self.failures();
        let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
        for failure in &failures {
            *kinds.entry(format!("{:?}", failure.result)).or_default() += 1;
        }
        assert!(failures.is_empty(), "{} of {} requests failed: {kinds:#?}", failures.len(), self.total());
    }

    /// The longest time between a request's begin and its end.
    pub fn slowest(&self) -> Duration {
        self.outcomes.iter().map(|o| o.ended - o.started).max().unwrap_or_default()
    }
}
