use super::*;
use crate::model::Name;

const CALLER: &str = "spiffe://cluster.local/ns/default/sa/frontend";

fn workload(name: &str, labels: &[(&str, &str)]) -> Workload {
    Workload {
        name: Name::new("default", name),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        address: "10.0.0.1".parse().unwrap(),
        mesh_port: Some(15008),
        identity: Some("spiffe://cluster.local/ns/default/sa/web".to_owned()),
        ports: [("http".to_owned(), 8080)].into(),
        healthy: true,
        more_addresses: vec![],
        any_port: false,
        lineage: None,
    }
}

fn edge(peer: v1::edge::Peer, requests: u64, times: Vec<u64>) -> v1::Edge {
    v1::Edge { peer: Some(peer), port: 8080, http: true, requests, times, ..v1::Edge::default() }
}

fn report(edges: Vec<v1::Edge>) -> v1::EdgeReport {
    v1::EdgeReport { workload: "web-1".to_owned(), edges, ..v1::EdgeReport::default() }
}

fn identity(id: &str) -> v1::edge::Peer {
    v1::edge::Peer::Identity(id.to_owned())
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000 + seconds).unwrap()
}

#[test]
fn what_two_alike_workloads_tell_is_one_edge_and_minutes_go_by() {
    let observed = Observed::default();
    for (name, second) in [("web-1", 0), ("web-2", 1), ("web-1", 600)] {
        let workload = workload(name, &[("app", "web")]);
        observed.take(&workload, report(vec![edge(identity(CALLER), 10, vec![9, 0, 1])]), at(second)).unwrap();
    }
    let other = workload("web-3", &[("app", "web"), ("version", "v2")]);
    observed.take(&other, report(vec![edge(identity(CALLER), 1, vec![])]), at(600)).unwrap();
    let seen = observed.seen(60, at(601));
    assert_eq!(seen.iter().map(|edge| edge.counts.requests).collect::<Vec<_>>(), [30, 1]);
    assert_eq!(observed.seen(5, at(601))[0].counts.requests, 10);
    assert_eq!((seen[0].first, seen[0].last), (at(0), at(600)));
    assert_eq!((seen[0].counts.quantile_ms(0.5), seen[0].counts.quantile_ms(0.99)), (Some(0.25), Some(1.0)));
    assert_eq!(seen[1].counts.quantile_ms(0.5), None);
    // After an hour there are no numbers any more, and after a day the edge is forgotten.
    assert_eq!(observed.seen(60, at(600 + 3_700))[0].counts.requests, 0);
    assert!(observed.seen(60, at(600 + 86_400)).is_empty());
}

#[test]
fn edges_and_paths_have_their_bounds_and_the_quietest_edge_makes_room() {
    let observed = Observed::default();
    let workload = workload("web-1", &[]);
    for n in 0..MOST_EDGES as u64 + 10 {
        let id = format!("spiffe://cluster.local/ns/default/sa/c{n}");
        observed.take(&workload, report(vec![edge(identity(&id), 1, vec![])]), at(n as i64)).unwrap();
    }
    let seen = observed.seen(60, at(5_000));
    assert_eq!(seen.len(), MOST_EDGES);
    let first = Source::Identity("spiffe://cluster.local/ns/default/sa/c0".to_owned());
    assert!(seen.iter().all(|edge| edge.key.source != first), "the oldest made room");
    for n in 0..MOST_PATHS + 1 {
        let mut one = edge(identity(CALLER), 1, vec![]);
        one.paths = vec![v1::SeenPath { method: "GET".into(), path: format!("/{n}") }];
        observed.take(&workload, report(vec![one]), at(5_000)).unwrap();
    }
    let seen = observed.seen(60, at(5_000));
    let edge = seen.iter().find(|edge| edge.key.source == Source::Identity(CALLER.to_owned())).unwrap();
    assert_eq!((edge.paths.len(), edge.more_paths), (MOST_PATHS, true));
}

#[test]
fn a_report_that_has_no_meaning_is_refused_as_a_whole() {
    let observed = Observed::default();
    let workload = workload("web-1", &[]);
    let good = || edge(identity(CALLER), 1, vec![]);
    let path = |method: &str, path: &str| v1::SeenPath { method: method.into(), path: path.into() };
    let bad = [
        v1::Edge { peer: None, ..good() },
        edge(identity("spiffe://cluster.local/ns/default"), 1, vec![]),
        edge(v1::edge::Peer::Address("here".into()), 1, vec![]),
        v1::Edge { port: 70_000, ..good() },
        edge(identity(CALLER), 1, vec![0; CLASSES + 1]),
        v1::Edge { paths: vec![path("", "/")], ..good() },
        v1::Edge { paths: vec![path("GET", "a")], ..good() },
        v1::Edge { paths: vec![path("GET", "/\u{1b}[2J")], ..good() },
        v1::Edge { paths: vec![path("GET\n", "/")], ..good() },
        v1::Edge { paths: vec![path("GET", &format!("/{}", "a".repeat(600)))], ..good() },
    ];
    for (n, bad) in bad.into_iter().enumerate() {
        assert!(observed.take(&workload, report(vec![good(), bad]), at(0)).is_err(), "case {n}");
    }
    assert!(observed.take(&workload, report(vec![good(); 1_025]), at(0)).is_err());
    assert!(observed.seen(60, at(0)).is_empty());
}

fn asked(route: &str, requests: u64, retries: u64) -> v1::EdgeReport {
    let rule = v1::RuleTraffic { route: route.to_owned(), requests, retries, ..v1::RuleTraffic::default() };
    let retried = v1::Retried { service: "default/web".to_owned(), retries };
    v1::EdgeReport { rules: vec![rule], retried: vec![retried], ..report(vec![]) }
}

#[test]
fn what_several_callers_ask_for_is_added_up_by_rule_and_by_service() {
    let (observed, caller) = (Observed::default(), workload("web-1", &[]));
    for second in [0, 1, 600] {
        observed.take(&caller, asked("default/split", 10, 2), at(second)).unwrap();
    }
    let told = |minutes, now| {
        let all = observed.traffic().last(minutes, at(now)).into_iter();
        all.map(|(asked, counts)| (asked, counts.requests, counts.retries)).collect::<Vec<_>>()
    };
    let rule = Asked::Rule { route: "default/split".to_owned(), rule: String::new() };
    let service = Asked::Service("default/web".to_owned());
    assert_eq!(told(60, 601), [(rule.clone(), 30, 6), (service.clone(), 0, 6)]);
    assert_eq!(told(5, 601), [(rule, 10, 2), (service, 0, 2)]);
    assert!(told(60, 600 + 3_700).is_empty());
}

#[test]
fn rules_have_their_bound_and_a_name_that_is_none_is_refused() {
    let (observed, caller) = (Observed::default(), workload("web-1", &[]));
    for n in 0..traffic::MOST_ASKED + 10 {
        observed.take(&caller, asked(&format!("default/{n}"), 1, 1), at(n as i64 / 100)).unwrap();
    }
    assert_eq!(observed.traffic().last(60, at(60)).len(), traffic::MOST_ASKED);
    for bad in ["a\nb".to_owned(), "a".repeat(600)] {
        assert!(observed.take(&caller, asked(&bad, 1, 1), at(0)).is_err(), "{bad}");
    }
    let many = v1::EdgeReport { rules: vec![v1::RuleTraffic::default(); 1_001], ..report(vec![]) };
    assert!(observed.take(&caller, many, at(0)).is_err());
}
