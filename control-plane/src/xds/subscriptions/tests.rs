//! What the state machine of a session promises.

use leno_proto::v1::SidecarConfig;

use super::*;
use crate::discovery::WorldBuilder;

fn client() -> Client {
    Client { namespace: "default".to_owned(), identity: "spiffe://cluster.local/ns/default/sa/web".to_owned() }
}

/// A world with services `a`, `b`, … at numbers; zero is absent.
fn world(before: &World, revision: u64, services: &[(&str, u64)]) -> Arc<World> {
    let mut builder = WorldBuilder::after(before);
    for (name, n) in services {
        let resource =
            (*n > 0).then(|| Resource::encode(&SidecarConfig { renew_generation: *n, ..SidecarConfig::default() }));
        builder.set(ResourceType::Service, name, resource);
    }
    builder.finish(revision)
}

fn subscribe(names: &[&str], held: &[(&str, &str)]) -> Request {
    Request {
        kind: ResourceType::Service,
        subscribe: names.iter().map(ToString::to_string).collect(),
        unsubscribe: vec![],
        held: held.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect(),
        answer: None,
    }
}

fn answer(nonce: u64, refused: Option<&str>) -> Request {
    Request { answer: Some(Answer { nonce, refused: refused.map(str::to_owned) }), ..subscribe(&[], &[]) }
}

fn names(outgoing: &Outgoing) -> Vec<&str> {
    outgoing.resources.iter().map(|(name, _)| &**name).collect()
}

fn version(n: u64) -> String {
    Resource::encode(&SidecarConfig { renew_generation: n, ..SidecarConfig::default() }).version.to_hex()
}

#[test]
fn only_what_changed_is_sent() {
    let first = world(&World::default(), 1, &[("a", 1), ("b", 1), ("c", 1)]);
    let mut session = Subscriptions::new(client(), first.clone());
    session.request(subscribe(&["a", "b"], &[])).unwrap();
    let sent = session.next().unwrap();
    assert_eq!(names(&sent), ["a", "b"]);
    assert!(session.next().is_none());
    let second = world(&first, 2, &[("b", 2), ("c", 2)]);
    session.observe(second.clone());
    let sent = session.next().unwrap();
    assert_eq!((names(&sent), sent.nonce, sent.revision), (vec!["b"], 2, 2));
    session.observe(world(&second, 3, &[("c", 3)]));
    assert!(!session.wants_to_send(), "nobody subscribed to c");
}

#[test]
fn a_name_that_does_not_exist_is_answered_as_removed_once_and_sent_when_it_appears() {
    let first = world(&World::default(), 1, &[]);
    let mut session = Subscriptions::new(client(), first.clone());
    session.request(subscribe(&["later"], &[])).unwrap();
    let sent = session.next().unwrap();
    assert_eq!((sent.resources.len(), &*sent.removed[0]), (0, "later"));
    assert!(session.next().is_none());
    let second = world(&first, 2, &[("later", 1)]);
    session.observe(second.clone());
    assert_eq!(names(&session.next().unwrap()), ["later"]);
    session.observe(world(&second, 3, &[("later", 0)]));
    assert_eq!(&*session.next().unwrap().removed[0], "later");
}

#[test]
fn what_a_sidecar_still_holds_is_not_sent_again() {
    let first = world(&World::default(), 1, &[("a", 1), ("b", 1)]);
    let mut session = Subscriptions::new(client(), first);
    let held = [("a", version(1)), ("b", version(7)), ("gone", version(1))];
    let held: Vec<(&str, &str)> = held.iter().map(|(name, v)| (*name, v.as_str())).collect();
    session.request(subscribe(&["a", "b", "gone"], &held)).unwrap();
    let sent = session.next().unwrap();
    assert_eq!((names(&sent), &*sent.removed[0]), (vec!["b"], "gone"));
    assert_eq!(session.resources_sent(), 1);
    // Versions count in the first request of a type only; a name that is subscribed again is sent again.
    let v = version(1);
    session.request(subscribe(&["a"], &[("a", &v)])).unwrap();
    assert_eq!(names(&session.next().unwrap()), ["a"]);
}

#[test]
fn an_unsubscribed_name_is_sent_no_more() {
    let first = world(&World::default(), 1, &[("a", 1)]);
    let mut session = Subscriptions::new(client(), first.clone());
    session.request(subscribe(&["a"], &[])).unwrap();
    session.next().unwrap();
    session.request(Request { unsubscribe: vec!["a".into()], ..subscribe(&[], &[]) }).unwrap();
    session.observe(world(&first, 2, &[("a", 2)]));
    assert!(session.next().is_none());
    assert_eq!(session.names(), 0);
}

#[test]
fn a_revision_is_held_when_all_that_it_needed_is_answered_and_not_before() {
    let first = world(&World::default(), 1, &[("a", 1)]);
    let mut session = Subscriptions::new(client(), first.clone());
    assert_eq!(session.acked(), 1, "nothing had to be sent");
    session.request(subscribe(&["a"], &[])).unwrap();
    let second = world(&first, 2, &[("a", 2)]);
    session.observe(second.clone());
    assert_eq!(session.acked(), 1);
    let sent = session.next().unwrap();
    assert_eq!(session.acked(), 1);
    // What is sent after it at the same revision does not hold it up.
    session.request(subscribe(&["b"], &[])).unwrap();
    let later = session.next().unwrap();
    session.request(answer(sent.nonce, None)).unwrap();
    assert_eq!(session.acked(), 2);
    // A revision that needs nothing waits for what is on its way before it.
    session.observe(world(&second, 3, &[]));
    assert_eq!(session.acked(), 2);
    session.request(answer(later.nonce, None)).unwrap();
    assert_eq!(session.acked(), 3);
    assert!(!session.waits());
}

#[test]
fn answers_may_come_in_any_order_and_unknown_ones_say_nothing() {
    let first = world(&World::default(), 1, &[("a", 1)]);
    let mut session = Subscriptions::new(client(), first.clone());
    session.request(subscribe(&["a"], &[])).unwrap();
    let one = session.next().unwrap();
    session.observe(world(&first, 2, &[("a", 2)]));
    let two = session.next().unwrap();
    session.request(answer(99, Some("?"))).unwrap();
    session.request(answer(two.nonce, None)).unwrap();
    assert_eq!((session.acked(), session.refused()), (1, None));
    session.request(answer(one.nonce, None)).unwrap();
    assert_eq!(session.acked(), 2);
}

#[test]
fn a_nack_stands_with_its_reason_until_a_better_version_is_acknowledged() {
    let first = world(&World::default(), 1, &[("a", 1)]);
    let mut session = Subscriptions::new(client(), first.clone());
    session.request(subscribe(&["a"], &[])).unwrap();
    let sent = session.next().unwrap();
    session.request(answer(sent.nonce, Some("no such regex"))).unwrap();
    let refused = session.refused().unwrap();
    assert_eq!((refused.reason.as_str(), refused.revision), ("no such regex", 1));
    assert_eq!(refused.resources, ["a"]);
    assert!(session.next().is_none(), "what was refused is not sent again by itself");
    assert_eq!(session.acked(), 1, "it was answered");
    session.observe(world(&first, 2, &[("a", 2)]));
    let sent = session.next().unwrap();
    assert!(session.refused().is_some());
    session.request(answer(sent.nonce, None)).unwrap();
    assert_eq!(session.refused(), None);
}

#[test]
fn a_slow_sidecar_skips_the_states_in_between() {
    let first = world(&World::default(), 1, &[("a", 1)]);
    let mut session = Subscriptions::new(client(), first.clone());
    session.request(subscribe(&["a"], &[])).unwrap();
    let mut now = first;
    for n in 2..=300 {
        now = world(&now, n, &[("a", n)]);
        session.observe(now.clone());
    }
    let sent = session.next().unwrap();
    assert_eq!((sent.revision, sent.resources[0].1.version.to_hex()), (300, version(300)));
    assert!(session.next().is_none());
    // One that saw no world for long compares everything.
    let mut late = Subscriptions::new(client(), world(&World::default(), 1, &[("a", 1)]));
    late.request(subscribe(&["a"], &[])).unwrap();
    late.next().unwrap();
    late.observe(now);
    assert_eq!(late.next().unwrap().revision, 300);
}

#[test]
fn past_the_bounds_a_session_is_refused_or_waits() {
    let first = world(&World::default(), 1, &[("a", 1)]);
    let mut session = Subscriptions::new(client(), first.clone());
    let long = "x".repeat(MOST_NAME_BYTES + 1);
    assert_eq!(session.request(subscribe(&[&long], &[])), Err(Violation::LongName(513)));
    let all: Vec<String> = (0..MOST_NAMES).map(|n| n.to_string()).collect();
    session.request(Request { subscribe: all, ..subscribe(&[], &[]) }).unwrap();
    session.request(subscribe(&["0"], &[])).unwrap();
    assert_eq!(session.request(subscribe(&["one-more"], &[])), Err(Violation::ManyNames));

    let mut silent = Subscriptions::new(client(), first.clone());
    silent.request(subscribe(&["a"], &[])).unwrap();
    let mut now = first;
    let mut messages = 0;
    for n in 1..=2 * MOST_IN_FLIGHT as u64 {
        messages += u64::from(silent.next().is_some());
        now = world(&now, n + 1, &[("a", n + 1)]);
        silent.observe(now.clone());
        assert!(silent.checkpoints.len() <= MOST_IN_FLIGHT + 1);
    }
    assert_eq!(messages, MOST_IN_FLIGHT as u64);
    silent.request(answer(1, None)).unwrap();
    assert!(silent.next().is_some(), "an answer makes room");
}

#[test]
fn a_large_answer_is_cut_into_messages() {
    let names: Vec<String> = (0..2500).map(|n| format!("s{n}")).collect();
    let services: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let mut session = Subscriptions::new(client(), world(&World::default(), 1, &services));
    session.request(Request { subscribe: names.clone(), ..subscribe(&[], &[]) }).unwrap();
    let sizes: Vec<usize> = std::iter::from_fn(|| session.next()).map(|o| o.resources.len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
}
