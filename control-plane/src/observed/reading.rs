//! Reads a sidecar's report. What a sidecar says is not believed beyond its form: it is shown to people and written into policies.

use leno_certs::SpiffeId;
use leno_proto::v1;

use super::{Asked, CLASSES, Counts, Source};

/// Most edges of one report.
const MOST_EDGES: usize = 1_024;
/// Most paths of one report.
const MOST_PATHS: usize = 2_000;
/// Longest path, in bytes.
const MOST_PATH: usize = 512;
/// Most rules, and most services, of one report.
const MOST_ASKED: usize = 1_000;
/// Longest name of a route, a rule or a service, in bytes.
const MOST_NAME: usize = 512;
/// Longest method.
const MOST_METHOD: usize = 32;

/// An edge as a report has it.
pub(super) struct Told {
    pub(super) source: Source,
    pub(super) port: u16,
    pub(super) http: bool,
    pub(super) counts: Counts,
    pub(super) paths: Vec<(String, String)>,
    pub(super) more_paths: bool,
}

pub(super) fn edges(report: v1::EdgeReport) -> Result<Vec<Told>, String> {
    if report.edges.len() > MOST_EDGES || report.edges.iter().map(|edge| edge.paths.len()).sum::<usize>() > MOST_PATHS {
        return Err(format!("a report has at most {MOST_EDGES} edges and {MOST_PATHS} paths"));
    }
    report.edges.into_iter().map(edge).collect()
}

/// What the report says of the app's own requests. It is taken out of the report.
pub(super) fn asked(report: &mut v1::EdgeReport) -> Result<Vec<(Asked, Counts)>, String> {
    let (rules, retried) = (std::mem::take(&mut report.rules), std::mem::take(&mut report.retried));
    if rules.len() > MOST_ASKED || retried.len() > MOST_ASKED {
        return Err(format!("a report has at most {MOST_ASKED} rules and services"));
    }
    let rules = rules.into_iter().map(|told| {
        let (route, rule) = (name(told.route)?, name(told.rule)?);
        let v1::RuleTraffic { requests, failures, retries, .. } = told;
        let counts = Counts { requests, failures: failures.min(requests), retries, times: classes(&told.times)? };
        Ok((Asked::Rule { route, rule }, counts))
    });
    let retried = retried.into_iter().map(|told| {
        let counts = Counts { retries: told.retries, ..Counts::default() };
        Ok((Asked::Service(name(told.service)?), counts))
    });
    rules.chain(retried).collect()
}

fn name(text: String) -> Result<String, String> {
    match text.len() <= MOST_NAME && !text.chars().any(char::is_control) {
        true => Ok(text),
        false => Err("a name is none".to_owned()),
    }
}

fn classes(told: &[u64]) -> Result<[u64; CLASSES], String> {
    if told.len() > CLASSES {
        return Err(format!("there are {CLASSES} classes of times"));
    }
    let mut times = [0; CLASSES];
    times.iter_mut().zip(told).for_each(|(class, n)| *class = *n);
    Ok(times)
}

fn edge(edge: v1::Edge) -> Result<Told, String> {
    let source = match edge.peer {
        Some(v1::edge::Peer::Identity(id)) => {
            Source::Identity(SpiffeId::parse(&id).map_err(|why| why.to_string())?.to_string())
        }
        Some(v1::edge::Peer::Address(address)) => {
            Source::Plaintext(address.parse().map_err(|_| format!("{address:?} is no address"))?)
        }
        Some(v1::edge::Peer::Others(_)) => Source::Others,
        None => return Err("an edge says nothing of who calls".to_owned()),
    };
    let times = classes(&edge.times)?;
    Ok(Told {
        source,
        port: u16::try_from(edge.port).map_err(|_| format!("{} is no port", edge.port))?,
        http: edge.http,
        counts: Counts { requests: edge.requests, failures: edge.failures.min(edge.requests), retries: 0, times },
        paths: edge.paths.into_iter().map(path).collect::<Result<_, _>>()?,
        more_paths: edge.more_paths,
    })
}

fn path(seen: v1::SeenPath) -> Result<(String, String), String> {
    let method = !seen.method.is_empty()
        && seen.method.len() <= MOST_METHOD
        && seen.method.bytes().all(|b| b.is_ascii_graphic());
    let path = (seen.path == "?" || seen.path.starts_with('/'))
        && seen.path.len() <= MOST_PATH
        && !seen.path.chars().any(char::is_control);
    if method && path { Ok((seen.method, seen.path)) } else { Err("a method or path is none".to_owned()) }
}
