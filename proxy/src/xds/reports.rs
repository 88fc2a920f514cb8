//! Tells the control plane who calls the local app, and what the app asks for: what has come up since the last report, and nothing when nothing has.

mod asked;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use asked::Asked;

use leno_proto::v1::{self, reports_client::ReportsClient};
use leno_runtime::metrics::Registry;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::telemetry::edges::Counts;
use crate::telemetry::{Edge, EdgeKey, Edges, Peer, Spoken};

/// Between two reports.
const EVERY: Duration = Duration::from_secs(5);
/// How long the control plane may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most paths of one report; the next one has more.
const MOST_PATHS: usize = 1_000;

/// Reports until the process ends. `channels` has the connection of the stream while there is one.
pub async fn run(edges: Edges, registry: Registry, workload: String, mut channels: watch::Receiver<Option<Channel>>) {
    let (mut told, mut told_asked) = (Told::default(), Asked::default());
    loop {
        tokio::time::sleep(EVERY).await;
        if channels.has_changed().unwrap_or(false) {
            // Another control plane, or the same one after a restart, may know nothing of what was told before.
            told.forget_paths();
        }
        let Some(channel) = channels.borrow_and_update().clone() else { continue };
        let (mut report, then) = told.report(&workload, &edges);
        let asked = Asked::read(&registry);
        (report.rules, report.retried) = asked.since(&told_asked);
        if report.edges.is_empty() && report.rules.is_empty() && report.retried.is_empty() {
            continue;
        }
        match tokio::time::timeout(PATIENCE, ReportsClient::new(channel).report(report)).await {
            Ok(Ok(_)) => (told, told_asked) = (then, asked),
            Ok(Err(status)) => tracing::debug!(code = ?status.code(), "a report was not taken: {}", status.message()),
            Err(_) => tracing::debug!("a report was not taken in time"),
        }
    }
}

/// What the control plane has been told.
#[derive(Debug, Clone, Default, PartialEq)]
struct Told(HashMap<EdgeKey, ToldOf>);

#[derive(Debug, Clone, Default, PartialEq)]
struct ToldOf {
    counts: Counts,
    paths: HashSet<(String, String)>,
    more: bool,
}

impl Told {
    fn forget_paths(&mut self) {
        for told in self.0.values_mut() {
            told.paths.clear();
            told.more = false;
        }
    }

    /// What is new, and what will have been told when the report was taken.
    fn report(&self, workload: &str, edges: &Edges) -> (v1::EdgeReport, Self) {
        let mut then = self.clone();
        let mut room = MOST_PATHS;
        let new = edges.all().into_iter().filter_map(|(key, edge)| {
            let told = then.0.entry(key.clone()).or_default();
            news(&key, &edge, told, &mut room)
        });
        let edges = new.collect();
        let workload = workload.rsplit_once('/').map_or(workload, |(_, name)| name).to_owned();
        (v1::EdgeReport { workload, edges, ..v1::EdgeReport::default() }, then)
    }
}

fn news(key: &EdgeKey, edge: &Edge, told: &mut ToldOf, room: &mut usize) -> Option<v1::Edge> {
    let (counts, (noted, more)) = (edge.counts(), edge.noted());
    let unknown: Vec<_> = noted.into_keys().filter(|path| !told.paths.contains(path)).take(*room).collect();
    if counts == told.counts && unknown.is_empty() && more == told.more {
        return None;
    }
    *room -= unknown.len();
    let grown = |now: u64, before: u64| now.saturating_sub(before);
    let wire = v1::Edge {
        peer: Some(match &key.peer {
            Peer::Proven(id) => v1::edge::Peer::Identity(id.to_string()),
            Peer::Plaintext(address) => v1::edge::Peer::Address(address.to_string()),
            Peer::Others => v1::edge::Peer::Others(true),
        }),
        port: key.port.into(),
        http: key.spoken == Spoken::Http,
        requests: grown(counts.requests, told.counts.requests),
        failures: grown(counts.failures, told.counts.failures),
        times: counts.times.iter().zip(told.counts.times).map(|(now, before)| grown(*now, before)).collect(),
        paths: unknown.iter().cloned().map(|(method, path)| v1::SeenPath { method, path }).collect(),
        more_paths: more,
    };
    told.counts = counts;
    told.paths.extend(unknown);
    told.more = more;
    Some(wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> EdgeKey {
        EdgeKey { peer: Peer::Proven("spiffe://t/ns/a/sa/b".into()), port: 80, spoken: Spoken::Http }
    }

    #[test]
    fn a_report_has_what_is_new_since_the_one_that_was_taken_and_nothing_twice() {
        let (edges, told) = (Edges::default(), Told::default());
        let edge = edges.of(key());
        edge.answered(200, Duration::ZERO);
        edge.note("GET", "/a");
        let (first, then) = told.report("default/web-1", &edges);
        assert_eq!((first.workload.as_str(), first.edges[0].requests, first.edges[0].paths.len()), ("web-1", 1, 1));
        // Not taken: it comes again, with what has come up since.
        edge.answered(503, Duration::ZERO);
        let (again, taken) = told.report("default/web-1", &edges);
        assert_eq!((again.edges[0].requests, again.edges[0].failures), (2, 1));
        assert!(taken.report("default/web-1", &edges).0.edges.is_empty(), "nothing is new");
        edge.answered(200, Duration::ZERO);
        let (next, _) = then.report("default/web-1", &edges);
        assert_eq!((next.edges[0].requests, next.edges[0].paths.len()), (2, 0));
    }

    #[test]
    fn another_control_plane_is_told_the_paths_again_and_not_the_numbers() {
        let edges = Edges::default();
        edges.of(key()).opened(true);
        edges.of(key()).note("GET", "/a");
        let (_, mut told) = Told::default().report("d/w", &edges);
        told.forget_paths();
        let (report, _) = told.report("d/w", &edges);
        assert_eq!((report.edges[0].requests, report.edges[0].paths.len()), (0, 1));
    }

    #[test]
    fn a_report_has_no_more_paths_than_the_bound_and_the_next_one_has_the_rest() {
        let edges = Edges::default();
        for caller in 0..10 {
            let edge = edges.of(EdgeKey { port: caller + 1, ..key() });
            for n in 0..120 {
                edge.note("GET", &format!("/{n}"));
            }
        }
        let paths = |report: &v1::EdgeReport| report.edges.iter().map(|edge| edge.paths.len()).sum::<usize>();
        let (first, then) = Told::default().report("d/w", &edges);
        assert_eq!(paths(&first), MOST_PATHS);
        let (second, then) = then.report("d/w", &edges);
        assert_eq!(paths(&second), 1_200 - MOST_PATHS);
        assert!(then.report("d/w", &edges).0.edges.is_empty());
    }
}
