use std::sync::Arc;

use super::*;
use crate::model::Snapshot;
use crate::state;

struct Bench {
    lookup: Arc<Lookup>,
    writer: state::Writer,
    demands: state::demand::DemandReceiver,
}

fn bench() -> Bench {
    let (writer, reader) = state::channel();
    let (demands, receiver) = state::demand::channel();
    let lookup = Lookup::new("default".into(), reader, demands);
    // Whether this machine has IPv6 is not what is tried here.
    *lookup.ipv6.lock().unwrap() = Some((Instant::now() + Duration::from_secs(100_000), true));
    Bench { lookup: Arc::new(lookup), writer, demands: receiver }
}

fn snapshot(services: &[(&str, Option<&[&str]>)]) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::default();
    for (name, addresses) in services {
        let destination = addresses.map(|addresses| {
            let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
            Arc::new(Destination { name: (*name).to_owned(), addresses, ports: Vec::new(), any_port: None })
        });
        snapshot.services.insert((*name).to_owned(), destination);
    }
    Arc::new(snapshot)
}

const BOTH: Option<&[&str]> = Some(&["240.240.0.7", "fd6c:656e:6f00::7"]);

impl Bench {
    fn look(&self, host: &str, rtype: u16) -> Outcome {
        let mut bytes = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in host.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.extend([0, 0, rtype as u8, 0, 1]);
        self.lookup.look(&Query::parse(&bytes).unwrap())
    }

    fn ask(&self, service: &'static str, ours_alone: bool) -> tokio::task::JoinHandle<Outcome> {
        let lookup = self.lookup.clone();
        tokio::spawn(async move { lookup.ask(service, ours_alone, rtype::A).await })
    }
}

fn v4(address: &str) -> Outcome {
    Outcome::Answer(Answer { v4: address.parse().ok(), zone_labels: usize::MAX, ..Answer::default() })
}

const NO_DATA: Outcome = Outcome::Answer(Answer { rcode: 0, v4: None, v6: None, name: None, zone_labels: usize::MAX });

#[tokio::test]
async fn a_known_service_is_answered_for_every_type_and_in_both_directions() {
    let bench = bench();
    bench.writer.publish(snapshot(&[("default/web", BOTH)]));
    assert_eq!(bench.look("web", rtype::A), v4("240.240.0.7"));
    let Outcome::Answer(v6) = bench.look("web.mesh", rtype::AAAA) else { panic!("no answer") };
    assert_eq!((v6.v4, v6.v6), (None, "fd6c:656e:6f00::7".parse().ok()));
    let Outcome::Answer(any) = bench.look("web", rtype::ANY) else { panic!("no answer") };
    assert!(any.v4.is_some() && any.v6.is_some());
    for other in [15, 16, 33, 65, rtype::PTR, rtype::SOA] {
        assert_eq!(bench.look("web", other), NO_DATA, "{other}");
    }
    let Outcome::Answer(name) = bench.look("7.0.240.240.in-addr.arpa", rtype::PTR) else { panic!("no answer") };
    assert_eq!(name.name.as_deref(), Some("web.default.mesh"));
    let nobody = Outcome::Answer(Answer::code(rcode::NO_SUCH_NAME, 4));
    assert_eq!(bench.look("8.0.240.240.in-addr.arpa", rtype::PTR), nobody);
    assert_eq!(bench.look("4.3.2.1.in-addr.arpa", rtype::PTR), Outcome::Forward);
}

#[tokio::test]
async fn without_ipv6_there_is_no_ipv6_address() {
    let bench = bench();
    bench.writer.publish(snapshot(&[("default/web", BOTH)]));
    *bench.lookup.ipv6.lock().unwrap() = Some((Instant::now(), false));
    assert_eq!(bench.look("web", rtype::AAAA), NO_DATA);
    assert_eq!(bench.look("web", rtype::A), v4("240.240.0.7"));
}

#[tokio::test]
async fn what_the_mesh_does_not_have_goes_on_to_the_original_resolver_unless_it_is_of_the_meshs_zone() {
    let bench = bench();
    bench.writer.publish(snapshot(&[("default/legacy", None), ("default/headless", Some(&[]))]));
    assert_eq!(bench.look("legacy", rtype::A), Outcome::Forward);
    assert_eq!(bench.look("headless", rtype::A), Outcome::Forward);
    assert_eq!(bench.look("headless.mesh", rtype::A), NO_DATA);
    assert_eq!(bench.look("legacy.mesh", rtype::A), Outcome::Answer(Answer::code(rcode::NO_SUCH_NAME, 1)));
    assert_eq!(bench.look("a.b.c.mesh", rtype::A), Outcome::Answer(Answer::code(rcode::NO_SUCH_NAME, 1)));
    assert_eq!(bench.look("example.com", rtype::A), Outcome::Forward);
    let new = Outcome::Ask { service: "default/new".into(), ours_alone: false };
    assert_eq!(bench.look("new", rtype::A), new);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_demanded_and_answered_when_the_control_plane_has_spoken() {
    let mut bench = bench();
    let (web, legacy) = (bench.ask("default/web", false), bench.ask("default/legacy", false));
    for _ in 0..2 {
        let demanded = bench.demands.recv().await.unwrap();
        assert!(matches!(demanded, state::demand::DemandEvent::Want(Demand::Service(_))), "{demanded:?}");
    }
    bench.writer.publish(snapshot(&[("default/web", BOTH), ("default/legacy", None)]));
    assert_eq!(web.await.unwrap(), v4("240.240.0.7"));
    assert_eq!(legacy.await.unwrap(), Outcome::Forward);
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_is_silent_or_away_holds_a_name_up_for_a_bounded_time() {
    let bench = bench();
    let start = Instant::now();
    assert_eq!(bench.ask("default/web", false).await.unwrap(), Outcome::Forward);
    assert_eq!(start.elapsed(), WAIT);

    bench.writer.set_away(true);
    let start = Instant::now();
    assert_eq!(bench.ask("default/web", false).await.unwrap(), Outcome::Forward);
    // Nobody else has the name, and "there is none" might be wrong.
    let failure = Outcome::Answer(Answer::code(rcode::SERVER_FAILURE, 0));
    assert_eq!(bench.ask("default/web", true).await.unwrap(), failure);
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
    // What is known is still answered.
    bench.writer.publish(snapshot(&[("default/web", BOTH)]));
    assert_eq!(bench.look("web", rtype::A), v4("240.240.0.7"));
}

#[tokio::test(start_paused = true)]
async fn names_that_are_looked_up_leave_room_for_what_the_app_connects_to() {
    let bench = bench();
    for n in 0..MOST_ASKED {
        assert!(bench.lookup.keep(&format!("default/{n}")));
    }
    assert!(!bench.lookup.keep("default/one-more"));
    assert!(bench.lookup.keep("default/0"));
    assert_eq!(bench.lookup.ask("default/one-more", false, rtype::A).await, Outcome::Forward);
    assert!(bench.lookup.demands.want(&Demand::Service("default/connected-to".into())).is_some());
    // Names that nobody asks for any more make room.
    tokio::time::advance(FORGET / 2).await;
    assert!(bench.lookup.keep("default/0"));
    tokio::time::advance(FORGET / 2).await;
    assert!(bench.lookup.keep("default/another"));
    assert_eq!(bench.lookup.asked.lock().unwrap().len(), 2);
}
