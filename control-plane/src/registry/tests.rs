//! What the registry promises.

use std::time::Duration;

use leno_certs::SpiffeId;
use leno_proto::{Registration, WorkloadState};
use leno_runtime::drain;
use tokio::time::{Instant, advance};

use super::entries::Entries;
use super::*;

fn proven() -> SpiffeId {
    SpiffeId::new("cluster.local", "default", "web").unwrap()
}

fn said(name: &str) -> Registration {
    Registration {
        labels: [("app".to_owned(), "web".to_owned())].into(),
        ports: [("http".to_owned(), 8080)].into(),
        ..Registration::local(name, "default", "web", 15008)
    }
}

fn name(text: &str) -> Name {
    Name::new("default", text)
}

struct Scene {
    registry: Registry,
    store: Store,
    dir: tempfile::TempDir,
    drain: drain::Drain,
    task: tokio::task::JoinHandle<()>,
}

const GRACE: Duration = Duration::from_secs(10);

fn scene_in(dir: tempfile::TempDir) -> Scene {
    let store = Store::open(dir.path()).unwrap();
    let registry = Registry::restore(store.clone(), GRACE);
    let (drain, watch) = drain::channel();
    let task = tokio::spawn(registry.clone().run(watch));
    Scene { registry, store, dir, drain, task }
}

fn scene() -> Scene {
    scene_in(tempfile::tempdir().unwrap())
}

impl Scene {
    /// Waits until what is published is these.
    async fn publishes(&self, names: &[&str]) {
        let names: Vec<Name> = names.iter().map(|n| name(n)).collect();
        let mut live = self.registry.subscribe();
        let wait = live.wait_for(|live| live.keys().eq(names.iter()));
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("published in time").unwrap();
    }

    async fn restart(self) -> Scene {
        self.drain.drain(Duration::from_secs(5)).await;
        self.task.await.unwrap();
        drop((self.registry, self.store));
        scene_in(self.dir)
    }
}

#[tokio::test]
async fn a_workload_lives_with_its_lease_and_one_grace_period_longer() {
    let scene = scene();
    let lease = scene.registry.register(&said("web-1"), &proven(), None).unwrap();
    scene.publishes(&["web-1"]).await;
    tokio::time::pause();
    drop(lease);
    advance(GRACE - Duration::from_millis(100)).await;
    assert!(scene.registry.is_alive(&name("web-1")));
    advance(Duration::from_millis(200)).await;
    scene.publishes(&[]).await;
}

#[tokio::test]
async fn the_drop_of_an_older_lease_does_not_touch_a_newer_one() {
    let mut entries = Entries::new(10);
    let (now, later) = (Instant::now(), Instant::now() + GRACE);
    let workload = |port| {
        let said = Registration { mesh_port: port, ..said("web-1") };
        check::workload(&said, &proven(), None).unwrap()
    };
    let old = entries.register(workload(1), WorkloadState::Ready).unwrap();
    let new = entries.register(workload(2), WorkloadState::Ready).unwrap();
    entries.update(old, workload(3), WorkloadState::Draining);
    assert_eq!(entries.live()[&name("web-1")].mesh_port, Some(2));
    entries.release(&name("web-1"), old, now);
    assert!(entries.expire(later).is_empty());
    entries.update(old, workload(3), WorkloadState::Ready);
    assert_eq!(entries.live()[&name("web-1")].mesh_port, Some(2), "the older stream speaks for nobody");

    // Back within the grace period: the expiry of the first absence is forgotten.
    entries.release(&name("web-1"), new, later);
    entries.register(workload(4), WorkloadState::Ready).unwrap();
    assert_eq!(entries.next_expiry(), None);
    assert!(entries.expire(later + GRACE).is_empty());
    assert!(entries.is_alive(&name("web-1")));
}

#[tokio::test]
async fn of_two_sidecars_with_one_name_the_one_that_stays_serves_on() {
    let mut entries = Entries::new(10);
    let workload = |port| {
        let said = Registration { mesh_port: port, ..said("web-1") };
        check::workload(&said, &proven(), None).unwrap()
    };
    let port = |entries: &Entries| entries.live().get(&name("web-1")).and_then(|w| w.mesh_port);
    let stays = entries.register(workload(1), WorkloadState::Ready).unwrap();
    let goes = entries.register(workload(2), WorkloadState::Ready).unwrap();
    assert_eq!(port(&entries), Some(2));
    entries.update(goes, workload(2), WorkloadState::Draining);
    assert_eq!(port(&entries), Some(1), "at once, not only when the other's stream has ended");
    entries.release(&name("web-1"), goes, Instant::now());
    assert_eq!((port(&entries), entries.next_expiry()), (Some(1), None));

    // The same sidecar on a new connection, while the old one is not found dead: there is no older one to go back to.
    let again = entries.register(workload(1), WorkloadState::Ready).unwrap();
    entries.update(again, workload(1), WorkloadState::Draining);
    entries.release(&name("web-1"), stays, Instant::now());
    assert_eq!(port(&entries), None);
}

#[tokio::test]
async fn a_draining_workload_goes_at_once_and_an_unhealthy_one_stays_marked() {
    let scene = scene();
    let lease = scene.registry.register(&said("web-1"), &proven(), None).unwrap();
    scene.publishes(&["web-1"]).await;
    lease.update(&Registration { state: WorkloadState::Unhealthy, ..said("web-1") }).unwrap();
    assert!(!scene.registry.live()[&name("web-1")].healthy);
    lease.update(&Registration { state: WorkloadState::Draining, ..said("web-1") }).unwrap();
    scene.publishes(&[]).await;
    assert!(!scene.registry.is_alive(&name("web-1")));
    drop(lease);
    assert!(scene.registry.live().is_empty());
}

#[tokio::test]
async fn a_stream_cannot_become_another_workload() {
    let scene = scene();
    let lease = scene.registry.register(&said("web-1"), &proven(), None).unwrap();
    assert!(matches!(lease.update(&said("web-2")), Err(Refused::Invalid(_))));
    assert!(scene.registry.is_alive(lease.name()));
}

#[tokio::test]
async fn after_a_restart_what_was_alive_is_alive_for_one_grace_period() {
    let before = scene();
    let stays = before.registry.register(&said("web-1"), &proven(), None).unwrap();
    let drains = before.registry.register(&said("web-2"), &proven(), None).unwrap();
    before.publishes(&["web-1", "web-2"]).await;
    drains.update(&Registration { state: WorkloadState::Draining, ..said("web-2") }).unwrap();
    before.publishes(&["web-1"]).await;
    drop((stays, drains));
    let after = before.restart().await;
    assert_eq!(after.registry.live().into_keys().collect::<Vec<_>>(), [name("web-1")]);
    assert_eq!(after.registry.live()[&name("web-1")].identity, Some(proven().to_string()));
    tokio::time::pause();
    advance(GRACE + Duration::from_millis(100)).await;
    after.publishes(&[]).await;
    tokio::time::resume();
    let last = after.restart().await;
    assert!(last.registry.live().is_empty(), "its end was written down too");
}

#[test]
fn a_registration_must_have_a_meaning_and_be_the_callers_own() {
    let refused = |change: &dyn Fn(&mut Registration)| {
        let mut said = said("web-1");
        change(&mut said);
        check::workload(&said, &proven(), None).unwrap_err()
    };
    assert!(matches!(refused(&|r| r.namespace = "other".into()), Refused::NotProven { .. }));
    assert!(matches!(refused(&|r| r.service_account = "admin".into()), Refused::NotProven { .. }));
    let meaningless: &[&dyn Fn(&mut Registration)] = &[
        &|r| r.name = "Web_1".into(),
        &|r| r.name = String::new(),
        &|r| r.name = "a".repeat(300),
        &|r| r.address = "localhost".into(),
        &|r| r.address = "0.0.0.0".into(),
        &|r| r.address = "::".into(),
        &|r| r.address = "224.0.0.1".into(),
        &|r| r.mesh_port = 0,
        &|r| r.ports = [("http".to_owned(), 0)].into(),
        &|r| r.ports = [("a b".to_owned(), 1)].into(),
        &|r| drop(r.labels.insert("app".into(), "a\nb".into())),
        &|r| drop(r.labels.insert(String::new(), "x".into())),
    ];
    for (n, change) in meaningless.iter().enumerate() {
        assert!(matches!(refused(change), Refused::Invalid(_)), "{n}");
    }
    let mut prefixed = said("web-1");
    prefixed.labels.insert("app.kubernetes.io/name".into(), "web".into());
    assert!(check::workload(&prefixed, &proven(), None).is_ok());
}

#[test]
fn a_sidecar_that_only_comes_back_is_news_to_nobody() {
    let mut entries = Entries::new(3);
    let workload = || check::workload(&said("web-1"), &proven(), None).unwrap();
    let lease = entries.register(workload(), WorkloadState::Ready).unwrap();
    let first = entries.take_unpublished().unwrap()[&name("web-1")].clone();
    assert_eq!(entries.take_unsaved().len(), 1);
    entries.release(&name("web-1"), lease, Instant::now());
    let lease = entries.register(workload(), WorkloadState::Ready).unwrap();
    assert!(entries.take_unpublished().is_none() && entries.take_unsaved().is_empty());
    assert!(Arc::ptr_eq(&entries.live()[&name("web-1")], &first));
    entries.update(lease, workload(), WorkloadState::Unhealthy);
    assert!(entries.take_unpublished().is_some());
    assert_eq!(entries.take_unsaved().len(), 1);
}

#[test]
fn a_name_changes_hands_only_when_its_holder_is_gone() {
    let other = SpiffeId::new("cluster.local", "default", "other").unwrap();
    let theirs = || {
        let said = Registration { service_account: "other".into(), ..said("web-1") };
        check::workload(&said, &other, None).unwrap()
    };
    let mut entries = Entries::new(3);
    let lease =
        entries.register(check::workload(&said("web-1"), &proven(), None).unwrap(), WorkloadState::Ready).unwrap();
    assert!(matches!(entries.register(theirs(), WorkloadState::Ready), Err(Refused::Taken { .. })));
    entries.release(&name("web-1"), lease, Instant::now());
    assert!(entries.register(theirs(), WorkloadState::Ready).is_ok());
}

#[test]
fn no_more_workloads_are_taken_than_the_bound_and_a_known_one_may_come_back() {
    let mut entries = Entries::new(3);
    let mut register =
        |n: &str| entries.register(check::workload(&said(n), &proven(), None).unwrap(), WorkloadState::Ready);
    for n in ["a", "b", "c"] {
        register(n).unwrap();
    }
    assert_eq!(register("d"), Err(Refused::Full(3)));
    assert!(register("a").is_ok());
}
