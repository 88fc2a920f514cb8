use std::time::Duration;

use leno_certs::Authority;

use super::*;
use crate::model::testing::endpoints;
use crate::xds::testing::{DOMAIN, authority, credentials, response, route, service, wire};

const SERVICE: &str = v1::Service::TYPE_URL;
const ENDPOINTS: &str = v1::Endpoints::TYPE_URL;
const ROUTE: &str = v1::HttpRoute::TYPE_URL;

/// A subscriber with an open stream, and what its turns gave.
struct Bench {
    subscriber: Subscriber,
    authority: Arc<Authority>,
    nonces: usize,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = authority();
        let mut subscriber = Subscriber::new(credentials(&authority, folder.path()));
        subscriber.connected(Node::default());
        Self { subscriber, authority, nonces: 0, _folder: folder }
    }

    fn turn(&mut self) -> Turn {
        self.subscriber.commit(Instant::now())
    }

    fn want(&mut self, name: &str) -> Turn {
        self.subscriber.want(Demand::Service(name.into()));
        self.turn()
    }

    /// One response of one resource, as a turn of its own.
    fn says<R: Resource>(&mut self, name: &str, resource: &R) -> Turn {
        self.nonces += 1;
        self.subscriber.receive(response(&format!("n{}", self.nonces), vec![wire(name, resource)]));
        self.turn()
    }

    fn says_absent(&mut self, url: &str, name: &str) -> Turn {
        self.nonces += 1;
        self.subscriber.receive(DeltaDiscoveryResponse {
            type_url: url.into(),
            nonce: format!("n{}", self.nonces),
            removed_resources: vec![name.into()],
            ..Default::default()
        });
        self.turn()
    }

    /// `default/web` without routes, complete.
    fn with_web() -> Self {
        let mut bench = Self::new();
        bench.want("default/web");
        bench.says("default/web", &service("default/web", &[]));
        bench.says("default/web", &endpoints("default/web", "10.0.0.1"));
        bench
    }
}

/// Subscriptions of one type in these requests.
fn subscribed(turn: &Turn, url: &str) -> Vec<String> {
    turn.requests.iter().filter(|r| r.type_url == url).flat_map(|r| r.resource_names_subscribe.clone()).collect()
}

fn acks(turn: &Turn) -> Vec<&str> {
    turn.requests
        .iter()
        .filter(|r| r.error_detail.is_none())
        .map(|r| r.response_nonce.as_str())
        .filter(|n| !n.is_empty())
        .collect()
}

#[tokio::test]
async fn the_first_request_says_who_we_are_and_what_every_sidecar_needs_is_subscribed() {
    let mut bench = Bench::new();
    bench.subscriber.connected(Node { id: "default/web-1".into(), ..Default::default() });
    let turn = bench.turn();
    assert_eq!(turn.requests[0].node.as_ref().unwrap().id, "default/web-1");
    assert!(turn.requests[1..].iter().all(|request| request.node.is_none()));
    assert_eq!(subscribed(&turn, BUNDLE), [DOMAIN]);
    assert_eq!(subscribed(&turn, CONFIG), [SELF]);
    assert!(bench.turn().requests.is_empty());
}

#[tokio::test]
async fn a_demand_subscribes_the_service_and_its_endpoints_in_one_turn() {
    let mut bench = Bench::new();
    bench.turn();
    let turn = bench.want("default/web");
    assert_eq!(subscribed(&turn, SERVICE), ["default/web"]);
    assert_eq!(subscribed(&turn, ENDPOINTS), ["default/web"]);
    assert!(bench.want("default/web").requests.is_empty(), "once is enough");
}

#[tokio::test]
async fn an_idle_destination_is_unsubscribed_and_forgotten() {
    let mut bench = Bench::with_web();
    bench.subscriber.idle(&Demand::Service("default/web".into()));
    let turn = bench.turn();
    let gone: BTreeSet<(&str, &str)> =
        turn.requests.iter().map(|r| (r.type_url.as_str(), r.resource_names_unsubscribe[0].as_str())).collect();
    assert_eq!(gone, [(SERVICE, "default/web"), (ENDPOINTS, "default/web")].into());
    assert!(turn.assembled.unwrap().snapshot.services.is_empty());
    assert_eq!(bench.subscriber.saved().held.iter().count(), 0);
    // One that crossed the unsubscription on its way is answered and not kept.
    let late = bench.says("default/web", &endpoints("default/web", "10.0.0.2"));
    assert_eq!((acks(&late).len(), late.assembled.is_none()), (1, true));
    assert_eq!(bench.subscriber.saved().held.iter().count(), 0);
}

#[tokio::test]
async fn a_response_is_acknowledged_once_what_it_led_to_is_in_force() {
    let mut bench = Bench::with_web();
    let web = service("default/web", &["HTTPRoute/default/web"]);
    let turn = bench.says("default/web", &web);
    assert_eq!(subscribed(&turn, ROUTE), ["HTTPRoute/default/web"]);
    assert!(acks(&turn).is_empty(), "the route is not there yet");
    let turn = bench.says("HTTPRoute/default/web", &route("default/web-v1"));
    assert_eq!(subscribed(&turn, ENDPOINTS), ["default/web-v1"]);
    assert!(acks(&turn).is_empty(), "the route's backend is not there yet");
    assert!(acks(&bench.says("default/web-v1", &service("default/web-v1", &[]))).is_empty());
    let turn = bench.says("default/web-v1", &endpoints("default/web-v1", "10.0.0.2"));
    assert_eq!(acks(&turn), ["n3", "n4", "n5", "n6"], "in the order of the responses");
    let assembled = turn.assembled.unwrap();
    assert!(assembled.incomplete == 0 && assembled.snapshot.services["default/web"].as_ref().unwrap().ports[0].routed);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_answer_too() {
    let mut bench = Bench::new();
    bench.want("default/web");
    bench.says_absent(ENDPOINTS, "default/web");
    let turn = bench.says_absent(SERVICE, "default/web");
    assert_eq!(acks(&turn), ["n1", "n2"], "both are in force only now");
    assert!(turn.assembled.unwrap().snapshot.services["default/web"].is_none());
}

#[tokio::test]
async fn a_new_demand_does_not_postpone_an_older_ack() {
    let mut bench = Bench::with_web();
    bench.says("default/web", &service("default/web", &["HTTPRoute/default/web"]));
    bench.want("default/other");
    let turn = bench.says_absent(ROUTE, "HTTPRoute/default/web");
    assert!(acks(&turn).contains(&"n3"), "{:?}", acks(&turn));
}

#[tokio::test(start_paused = true)]
async fn an_ack_is_held_back_for_five_seconds_at_most() {
    let mut bench = Bench::with_web();
    bench.says("default/web", &service("default/web", &["HTTPRoute/default/web"]));
    let deadline = bench.subscriber.deadline().unwrap();
    assert_eq!(deadline - Instant::now(), Duration::from_secs(5));
    tokio::time::advance(Duration::from_millis(4999)).await;
    assert!(acks(&bench.turn()).is_empty() && bench.subscriber.owes());
    tokio::time::advance(Duration::from_millis(1)).await;
    let turn = bench.turn();
    assert_eq!(acks(&turn), ["n3"]);
    assert!(!bench.subscriber.owes() && bench.subscriber.deadline().is_none());
}

#[tokio::test]
async fn a_nack_names_every_bad_resource_and_the_good_ones_are_in_force() {
    let mut bench = Bench::with_web();
    bench.want("default/a");
    bench.want("default/b");
    let mut nonsense = wire("default/a", &endpoints("default/a", "no address"));
    let mut bad = endpoints("default/b", "10.0.0.9");
    bad.endpoints[0].address = "10.0.0.256".into();
    let good = wire("default/web", &endpoints("default/web", "10.0.0.7"));
    bench.subscriber.receive(response("bad", vec![nonsense.clone(), good, wire("default/b", &bad)]));
    let turn = bench.turn();
    let nack = turn.requests.iter().find(|r| r.response_nonce == "bad").unwrap();
    let reason = &nack.error_detail.as_ref().unwrap().message;
    assert!(
        reason.contains("default/a: ") && reason.contains("default/b: ") && !reason.contains("default/web"),
        "{reason}"
    );
    assert_eq!(turn.nacked, std::slice::from_ref(reason));
    let web = turn.assembled.unwrap().snapshot.services["default/web"].clone().unwrap();
    assert!(format!("{web:?}").contains("10.0.0.7"));
    // A resource of another type than its response, and one without content.
    nonsense.resource.as_mut().unwrap().type_url = SERVICE.into();
    let empty = Wire { resource: None, ..wire("default/b", &bad) };
    let mut mixed = response("mixed", vec![nonsense, empty]);
    mixed.type_url = ENDPOINTS.into();
    bench.subscriber.receive(mixed);
    let reasons = bench.turn().nacked.join("");
    assert!(reasons.contains("in a response of type") && reasons.contains("it is empty"), "{reasons}");
}

#[tokio::test]
async fn after_a_nack_the_last_good_version_is_what_a_reconnect_tells() {
    let mut bench = Bench::with_web();
    let good = wire("default/web", &endpoints("default/web", "10.0.0.1")).version;
    assert_eq!(bench.says("default/web", &endpoints("default/web", "nonsense")).nacked.len(), 1);
    bench.subscriber.disconnected();
    bench.subscriber.connected(Node::default());
    let turn = bench.turn();
    let request = turn.requests.iter().find(|r| r.type_url == ENDPOINTS).unwrap();
    assert_eq!(request.initial_resource_versions, [("default/web".to_owned(), good)].into());
}

#[tokio::test]
async fn a_type_that_was_never_subscribed_is_refused() {
    let mut bench = Bench::new();
    bench.subscriber.receive(DeltaDiscoveryResponse {
        type_url: "x/y".into(),
        nonce: "n".into(),
        ..Default::default()
    });
    assert!(bench.turn().nacked[0].contains("never subscribed"));
}

#[tokio::test]
async fn a_reconnect_tells_the_versions_that_are_held_and_waits_for_nothing() {
    let mut bench = Bench::with_web();
    bench.says(SELF, &v1::SidecarConfig { renew_generation: 3, ..v1::SidecarConfig::default() });
    bench.subscriber.disconnected();
    assert!(bench.turn().requests.is_empty());
    bench.subscriber.connected(Node::default());
    let turn = bench.turn();
    let held: BTreeMap<&str, usize> =
        turn.requests.iter().map(|r| (r.type_url.as_str(), r.initial_resource_versions.len())).collect();
    assert_eq!(held, [(SERVICE, 1), (ENDPOINTS, 1), (CONFIG, 1), (BUNDLE, 0), (REVOCATIONS, 0)].into());
    assert_eq!(turn.requests[0].type_url, REVOCATIONS, "nobody is reached or let in before that is known");
    assert!(turn.assembled.is_none(), "nothing changed");
    assert_eq!(turn.requests.last().unwrap().type_url, CONFIG, "then the server knows all that is held");
    // The server is silent about what has not changed; a later change is acknowledged all the same.
    let turn = bench.says("default/web", &endpoints("default/web", "10.0.0.3"));
    assert_eq!(acks(&turn).len(), 1);
    // Only the first request of a type carries versions.
    let turn = bench.want("default/other");
    assert!(turn.requests.iter().all(|r| r.initial_resource_versions.is_empty()));
}

#[tokio::test]
async fn new_roots_are_in_force_before_they_are_acknowledged_and_a_foreign_bundle_is_refused() {
    let mut bench = Bench::new();
    bench.turn();
    let second = authority();
    let both = vec![bench.authority.root_der().to_vec(), second.root_der().to_vec()];
    bench.says(SELF, &v1::SidecarConfig { renew_generation: 1, ..v1::SidecarConfig::default() });
    let turn =
        bench.says(DOMAIN, &v1::TrustBundle { trust_domain: DOMAIN.into(), roots: both.clone(), ..Default::default() });
    assert!(acks(&turn).contains(&"n2"));
    assert_eq!(bench.subscriber.credentials.current().bundle.roots, both);
    for bad in [
        v1::TrustBundle { trust_domain: "elsewhere".into(), roots: both.clone(), ..Default::default() },
        v1::TrustBundle { trust_domain: DOMAIN.into(), roots: vec![], ..Default::default() },
        v1::TrustBundle { trust_domain: DOMAIN.into(), roots: vec![vec![1, 2, 3]], ..Default::default() },
    ] {
        assert_eq!(bench.says(DOMAIN, &bad).nacked.len(), 1);
        assert_eq!(bench.subscriber.credentials.current().bundle.roots, both);
    }
}

#[tokio::test]
async fn what_was_saved_is_in_force_after_a_restart_without_any_stream() {
    let mut bench = Bench::with_web();
    let config = v1::SidecarConfig { renew_generation: 3, registry_only: true, ..v1::SidecarConfig::default() };
    bench.says(SELF, &config);
    let mut saved = bench.subscriber.saved();
    assert!(saved.held.iter().all(|((url, _), _)| *url != BUNDLE), "the roots belong to the identity");
    // An outage may outlast several lives of the sidecar.
    for _ in 0..3 {
        let mut restarted = Subscriber::new(bench.subscriber.credentials.clone());
        restarted.restore(saved);
        let assembled = restarted.commit(Instant::now()).assembled.unwrap();
        assert_eq!(assembled.incomplete, 0);
        assert!(assembled.snapshot.services["default/web"].is_some());
        assert!(assembled.snapshot.posture.registry_only, "the namespace's policy holds");
        assert!(!restarted.held.knows(&(CONFIG, SELF.to_owned())), "the server says it again");
        saved = restarted.saved();
    }
}

#[tokio::test]
async fn a_burst_of_responses_is_assembled_once() {
    let mut bench = Bench::with_web();
    for n in 0..50 {
        let wire = wire("default/web", &endpoints("default/web", &format!("10.0.0.{n}")));
        bench.subscriber.receive(response(&format!("b{n}"), vec![wire]));
    }
    let turn = bench.turn();
    assert!(turn.assembled.is_some());
    assert!(bench.turn().assembled.is_none());
    assert_eq!(bench.subscriber.dump()["endpoints"]["default/web"][0]["address"], "10.0.0.49");
}
