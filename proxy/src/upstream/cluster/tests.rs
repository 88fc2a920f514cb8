//! What a cluster promises.

use std::time::Duration;

use super::*;
use crate::model::{AppProtocol, BalancePolicy, Balancing};
use crate::resilience::outlier::Verdict;

fn clusters() -> Clusters {
    Clusters::new(Registry::new(), Locality { region: "eu".into(), zone: "eu-1".into() })
}

fn cluster(addresses: &[&str]) -> Arc<Cluster> {
    let endpoint = |a: &&str| {
        let address = a.parse().unwrap();
        Arc::new(Endpoint {
            workload: (*a).to_owned(),
            address,
            peer: Peer::App,
            healthy: true,
            locality: Locality::default(),
        })
    };
    Arc::new(Cluster {
        service: "default/web".into(),
        port: 80,
        pinned: None,
        protocol: AppProtocol::Http1,
        policy: Arc::default(),
        endpoints: addresses.iter().map(endpoint).collect(),
    })
}

#[test]
fn an_endpoint_that_stays_keeps_its_history() {
    let clusters = clusters();
    let local = clusters.local(&cluster(&["1.1.1.1:1", "1.1.1.2:1"]));
    let kept = local.endpoints.borrow()[1].clone();
    let again = clusters.local(&cluster(&["1.1.1.2:1", "1.1.1.3:1"]));
    assert!(Rc::ptr_eq(&local, &again));
    assert!(Rc::ptr_eq(&kept, &local.endpoints.borrow()[0]));
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_is_ejected_and_comes_back_and_never_all_of_them() {
    let clusters = clusters();
    let local = clusters.local(&cluster(&["1.1.1.1:1", "1.1.1.2:1"]));
    let both = local.endpoints.borrow().clone();
    for endpoint in &both {
        (0..5).for_each(|_| local.record(endpoint, Verdict::Failed, None));
    }
    assert!(both[0].outlier.is_ejected(Instant::now()) && !both[1].outlier.is_ejected(Instant::now()));
    assert!((0..50).all(|_| Rc::ptr_eq(&local.pick(&Choice::default(), &[]).unwrap(), &both[1])));
    // The other one was tried already: an ejected one is better than none.
    assert!(Rc::ptr_eq(&local.pick(&Choice::default(), &[both[1].clone()]).unwrap(), &both[0]));
    tokio::time::advance(Duration::from_secs(11)).await;
    assert!((0..200).any(|_| Rc::ptr_eq(&local.pick(&Choice::default(), &[]).unwrap(), &both[0])));
    assert_eq!(local.metrics.ejected.get(), 0.0);
}

#[test]
fn an_endpoint_that_was_tried_is_not_tried_again_while_there_is_another() {
    let clusters = clusters();
    let local = clusters.local(&cluster(&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1"]));
    let all = local.endpoints.borrow().clone();
    let tried = [all[0].clone(), all[2].clone()];
    assert!((0..50).all(|_| Rc::ptr_eq(&local.pick(&Choice::default(), &tried).unwrap(), &all[1])));
    assert!(clusters.local(&cluster(&[])).pick(&Choice::default(), &[]).is_none());
}

/// Endpoints by address, whether they are healthy, and zone.
fn cluster_with(endpoints: &[(&str, bool, &str)], balancing: Balancing) -> Arc<Cluster> {
    let mut made = Cluster {
        service: "default/web".into(),
        port: 80,
        pinned: None,
        protocol: AppProtocol::Http1,
        policy: Arc::new(Policy { balancing, ..Policy::default() }),
        endpoints: Vec::new(),
    };
    for (address, healthy, zone) in endpoints {
        made.endpoints.push(Arc::new(Endpoint {
            workload: (*address).to_owned(),
            address: address.parse().unwrap(),
            peer: Peer::App,
            healthy: *healthy,
            locality: Locality { region: "eu".into(), zone: (*zone).to_owned() },
        }));
    }
    Arc::new(made)
}

const ONE: &str = "1.1.1.1:1";
const TWO: &str = "1.1.1.2:1";
const THREE: &str = "1.1.1.3:1";
const FOUR: &str = "1.1.1.4:1";

/// How often each of them is picked, of 1,000 times.
fn hits(local: &LocalCluster, of: &[&str]) -> Vec<usize> {
    let picked: Vec<String> =
        (0..1000).filter_map(|_| Some(local.pick(&Choice::default(), &[])?.endpoint.workload.clone())).collect();
    of.iter().map(|name| picked.iter().filter(|picked| picked == name).count()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_health_changes_keeps_its_connections_and_gets_nothing_while_it_is_ill() {
    let clusters = clusters();
    let local = clusters.local(&cluster_with(&[(ONE, true, ""), (TWO, true, "")], Balancing::default()));
    let kept = local.endpoints.borrow()[1].clone();
    clusters.local(&cluster_with(&[(ONE, true, ""), (TWO, false, "")], Balancing::default()));
    assert!(Rc::ptr_eq(&kept, &local.endpoints.borrow()[1]));
    assert_eq!(hits(&local, &[ONE, TWO]), [1000, 0]);
    clusters.local(&cluster_with(&[(ONE, true, ""), (TWO, true, "")], Balancing::default()));
    assert!(hits(&local, &[ONE, TWO])[1] > 300);
}

#[tokio::test(start_paused = true)]
async fn below_the_panic_threshold_all_are_used() {
    let balancing = Balancing { panic_percent: 50, ..Balancing::default() };
    let clusters = clusters();
    let local = clusters.local(&cluster_with(
        &[(ONE, true, ""), (TWO, true, ""), (THREE, false, ""), (FOUR, false, "")],
        balancing.clone(),
    ));
    assert_eq!(hits(&local, &[THREE, FOUR]), [0, 0], "half of them are well");
    clusters
        .local(&cluster_with(&[(ONE, true, ""), (TWO, false, ""), (THREE, false, ""), (FOUR, false, "")], balancing));
    assert!(hits(&local, &[ONE, TWO, THREE, FOUR]).iter().all(|n| *n > 150));
}

#[tokio::test(start_paused = true)]
async fn the_last_endpoint_that_is_well_is_never_ejected() {
    let clusters = clusters();
    let mut shared = cluster_with(&[(ONE, true, ""), (TWO, false, "")], Balancing::default()).policy.as_ref().clone();
    shared.max_ejected_percent = 100;
    let made = |healthy: bool| {
        let other = cluster_with(&[(ONE, true, ""), (TWO, healthy, "")], Balancing::default());
        let policy = Arc::new(shared.clone());
        Arc::new(Cluster { policy, service: other.service.clone(), endpoints: other.endpoints.clone(), ..*other })
    };
    let local = clusters.local(&made(false));
    let one = local.endpoints.borrow()[0].clone();
    (0..50).for_each(|_| local.record(&one, Verdict::Gateway, None));
    assert!(one.is_usable(Instant::now()));
    clusters.local(&made(true));
    (0..5).for_each(|_| local.record(&one, Verdict::Gateway, None));
    assert!(!one.is_usable(Instant::now()), "now there is another");
}

#[tokio::test(start_paused = true)]
async fn a_new_endpoints_share_grows_over_the_window() {
    let balancing = Balancing { slow_start: Duration::from_secs(100), ..Balancing::default() };
    let clusters = clusters();
    let local = clusters.local(&cluster_with(&[(ONE, true, ""), (TWO, true, "")], balancing.clone()));
    assert!(local.plain.get(), "those that were there first are not new");
    clusters.local(&cluster_with(&[(ONE, true, ""), (TWO, true, ""), (THREE, true, "")], balancing));
    let mut before = 0;
    for (second, least, most) in [(1, 10, 80), (50, 100, 260), (90, 200, 360), (101, 270, 400)] {
        tokio::time::advance(Duration::from_secs(second) - Duration::from_secs(before)).await;
        before = second;
        let share = hits(&local, &[THREE])[0];
        assert!((least..most).contains(&share), "{share} of 1,000 after {second} s");
    }
    assert!(local.plain.get(), "and then nothing is special any more");
}

#[tokio::test(start_paused = true)]
async fn near_endpoints_go_before_far_ones_and_far_ones_help_out() {
    let balancing = Balancing { prefer_close: true, ..Balancing::default() };
    let clusters = clusters();
    let near_and_far = [(ONE, true, "eu-1"), (TWO, true, "eu-1"), (THREE, true, "eu-2")];
    let local = clusters.local(&cluster_with(&near_and_far, balancing.clone()));
    let shares = hits(&local, &[ONE, TWO, THREE]);
    assert!(shares[2] == 0 && shares[0] > 400 && shares[1] > 400, "{shares:?}");
    clusters
        .local(&cluster_with(&[(ONE, true, "eu-1"), (TWO, false, "eu-1"), (THREE, true, "eu-2")], balancing.clone()));
    let shares = hits(&local, &[ONE, TWO, THREE]);
    assert!(shares[1] == 0 && (630..770).contains(&shares[0]), "{shares:?}");
    // Ejected ones are out as well, and what was tried is not tried again while there is another.
    let one = local.endpoints.borrow()[0].clone();
    assert!(
        (0..50).all(|_| local.pick(&Choice::default(), std::slice::from_ref(&one)).unwrap().endpoint.workload == THREE)
    );
    clusters.local(&cluster_with(&[(ONE, false, "eu-1"), (TWO, false, "eu-1"), (THREE, true, "eu-2")], balancing));
    assert_eq!(hits(&local, &[THREE]), [1000]);
}

#[tokio::test(start_paused = true)]
async fn a_key_stays_where_it_is_while_other_endpoints_come_and_go() {
    for policy in [BalancePolicy::RingHash, BalancePolicy::Maglev] {
        let balancing = Balancing { policy, ..Balancing::default() };
        let all: Vec<String> = (1..=10).map(|n| format!("1.1.1.{n}:1")).collect();
        let of = |n: usize, ill: usize| {
            let listed: Vec<_> = all[..n].iter().enumerate().map(|(i, a)| (a.as_str(), i != ill, "")).collect();
            cluster_with(&listed, balancing.clone())
        };
        let clusters = clusters();
        let owners = |shared: Arc<Cluster>| -> Vec<String> {
            let local = clusters.local(&shared);
            let pick = |n: u64| local.pick(&Choice { key: Some(crate::model::mix(n)), pin: None }, &[]).unwrap();
            (0..2000).map(|n| pick(n).endpoint.workload.clone()).collect()
        };
        let before = owners(of(10, 99));
        assert_eq!(before, owners(of(10, 99)));
        // One that is ill: only its own keys go elsewhere, and come back.
        let ill = owners(of(10, 3));
        assert!(before.iter().zip(&ill).all(|(b, i)| b == i || *b == all[3]), "{policy:?}");
        assert_eq!(before, owners(of(10, 99)));
        let fewer = owners(of(9, 99));
        let moved = before.iter().zip(&fewer).filter(|(b, f)| b != f && **b != all[9]).count();
        assert!(moved <= 100, "{policy:?}: {moved} of 2,000 keys of other endpoints moved");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_stays_with_its_endpoint_while_that_is_well() {
    let clusters = clusters();
    let local = clusters.local(&cluster_with(&[(ONE, true, ""), (TWO, true, "")], Balancing::default()));
    let one = local.endpoints.borrow()[0].clone();
    assert!(Rc::ptr_eq(&local.endpoint(one.id).unwrap(), &one));
    let pinned = Choice { key: None, pin: Some(one.clone()) };
    assert!((0..50).all(|_| Rc::ptr_eq(&local.pick(&pinned, &[]).unwrap(), &one)));
    assert_eq!(local.pick(&pinned, std::slice::from_ref(&one)).unwrap().endpoint.workload, TWO);
    (0..5).for_each(|_| local.record(&one, Verdict::Gateway, None));
    assert_eq!(local.pick(&pinned, &[]).unwrap().endpoint.workload, TWO);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_slower_or_fails_more_than_the_others_is_ejected() {
    let balancing = Balancing { success_rate_percent: 90, latency_factor: 3, ..Balancing::default() };
    let clusters = clusters();
    let local = clusters.local(&cluster_with(&[(ONE, true, ""), (TWO, true, ""), (THREE, true, "")], balancing));
    let all = local.endpoints.borrow().clone();
    for n in 0..400_u32 {
        tokio::time::advance(Duration::from_millis(30)).await;
        let began = local.clock().map(|now| now - Duration::from_millis(10));
        local.record(&all[0], if n.is_multiple_of(5) { Verdict::Failed } else { Verdict::Good }, began);
        local.record(&all[1], Verdict::Good, began);
        local.record(&all[2], Verdict::Good, began);
    }
    let ejected = |i: usize| all[i].outlier.holds_ejection();
    assert!(ejected(0) && !ejected(1) && !ejected(2));
}
