//! Clocks that run for years, are set, and stand for a day.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use leno_certs::{Key, SpiffeId};

use super::*;
use crate::xds::identity::renew::LOOK;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A clock that goes with tokio's paused one and can be set, by seconds.
fn settable() -> (Clock, Arc<AtomicI64>) {
    let (clock, set) = (paused_clock(), Arc::new(AtomicI64::new(0)));
    let by = set.clone();
    (Arc::new(move || clock() + time::Duration::seconds(by.load(Ordering::Relaxed))), set)
}

/// Signs leaves of a day, and knows a sidecar by a secret or does not.
struct Plane {
    authority: Mutex<Arc<Authority>>,
    clock: Clock,
    secret: bool,
    away: AtomicBool,
    renewed: Mutex<Vec<OffsetDateTime>>,
    joined: Mutex<Vec<OffsetDateTime>>,
    credentials: Credentials,
}

impl Renewal for Arc<Plane> {
    async fn renew(&self, csr: Vec<u8>) -> Result<SignedIdentity, String> {
        if self.away.load(Ordering::Relaxed) {
            return Err("nobody answers".to_owned());
        }
        let (now, leaf) = ((self.clock)(), self.credentials.current().identity);
        if !(leaf.not_before..leaf.not_after).contains(&now) {
            return Err("the leaf is not valid".to_owned());
        }
        self.renewed.lock().unwrap().push(now);
        sign(&self.authority.lock().unwrap(), &csr, now, DAY).map_err(|why| why.to_string())
    }

    async fn join_again(&self) -> Option<Result<Current, String>> {
        if !self.secret {
            return None;
        }
        if self.away.load(Ordering::Relaxed) {
            return Some(Err("nobody answers".to_owned()));
        }
        let now = (self.clock)();
        self.joined.lock().unwrap().push(now);
        let (id, key) = (SpiffeId::new("cluster.local", "default", "web").unwrap(), Key::generate().unwrap());
        let authority = self.authority.lock().unwrap().clone();
        let leaf = authority.issue(&key, &id, &[], now, now + DAY).unwrap();
        Some(Ok(Current::fresh(Identity::new(vec![leaf], key).unwrap(), bundle(&authority))))
    }
}

fn plane(folder: &Path, secret: bool) -> (Arc<Plane>, Arc<AtomicI64>, tokio::task::JoinHandle<()>) {
    let authority = Arc::new(Authority::generate("cluster.local", OffsetDateTime::now_utc() - DAY, 400 * DAY).unwrap());
    let credentials = credentials(&authority, folder);
    let (clock, set) = settable();
    let authority = Mutex::new(authority);
    let (renewed, joined, away) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
    let plane = Arc::new(Plane { authority, clock: clock.clone(), secret, away, renewed, joined, credentials });
    let task = tokio::spawn(keep_fresh(plane.credentials.clone(), clock, plane.clone(), fastrand::f64));
    (plane, set, task)
}

fn is_valid(plane: &Plane) -> bool {
    let leaf = plane.credentials.current().identity;
    (leaf.not_before..leaf.not_after).contains(&(plane.clock)())
}

#[tokio::test(start_paused = true)]
async fn two_years_of_renewals_and_eight_rotations_leave_no_moment_without_a_valid_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let (plane, _, _task) = plane(dir.path(), false);
    let begun = (plane.clock)();
    for day in 1..=730_u64 {
        for _ in 0..4 {
            tokio::time::sleep(DAY / 4).await;
            assert!(is_valid(&plane), "on day {day}");
        }
        if day % 90 == 0 {
            let next = Arc::new(Authority::generate("cluster.local", (plane.clock)(), 400 * DAY).unwrap());
            let both = [next.root_der().to_vec(), plane.authority.lock().unwrap().root_der().to_vec()];
            let roots = |roots: &[Vec<u8>]| TrustBundle::new("cluster.local", roots.to_vec());
            plane.credentials.replace_bundle(roots(&both)).unwrap();
            *plane.authority.lock().unwrap() = next;
            plane.credentials.want_generation(day);
            plane.credentials.want_generation(day + 1);
            tokio::time::sleep(Duration::from_secs(10)).await;
            plane.credentials.replace_bundle(roots(&both[..1])).unwrap();
        }
    }
    assert!((plane.clock)() - begun > 729 * DAY);
    let times = plane.renewed.lock().unwrap().len();
    // At half of a day, a tenth earlier or later.
    assert!((1400..=1800).contains(&times), "{times}");
}

#[tokio::test(start_paused = true)]
async fn a_leap_of_a_day_either_way_is_mended_by_a_secret_at_the_next_look_and_never_without() {
    for secret in [true, false] {
        for leap in [DAY.as_secs() as i64, -(DAY.as_secs() as i64)] {
            let dir = tempfile::tempdir().unwrap();
            let (plane, set, _task) = plane(dir.path(), secret);
            tokio::time::sleep(Duration::from_secs(5)).await;
            set.fetch_add(leap, Ordering::Relaxed);
            assert!(!is_valid(&plane));
            tokio::time::sleep(LOOK + Duration::from_secs(2)).await;
            assert_eq!(is_valid(&plane), secret, "{leap}");
            tokio::time::sleep(Duration::from_secs(3600)).await;
            assert_eq!(plane.joined.lock().unwrap().len(), usize::from(secret), "{leap}");
            assert!(secret || plane.credentials.metrics.not_renewed.get() > 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leap_within_the_life_of_a_leaf_renews_it_at_once_and_a_slow_clock_does_not_without_pause() {
    let dir = tempfile::tempdir().unwrap();
    let (plane, set, _task) = plane(dir.path(), false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    set.fetch_add(3000, Ordering::Relaxed);
    tokio::time::sleep(LOOK + Duration::from_secs(2)).await;
    assert_eq!(plane.renewed.lock().unwrap().len(), 1, "half of the hour is over");
    // Back to where it was: the leaf begins later by that.
    set.fetch_sub(3000, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let tries = plane.credentials.metrics.not_renewed.get();
    assert!((1..=200).contains(&tries), "{tries}");
    assert!(is_valid(&plane), "it has become valid by then");
}

/// How many came in the busiest second, and in how many seconds all had come.
fn busiest(times: &[OffsetDateTime], since: OffsetDateTime) -> (usize, i64) {
    let mut seconds = BTreeMap::<i64, usize>::new();
    for time in times {
        *seconds.entry((*time - since).whole_seconds()).or_default() += 1;
    }
    (seconds.values().copied().max().unwrap_or_default(), seconds.keys().copied().max().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn after_a_day_without_a_control_plane_sidecars_do_not_come_back_all_at_once() {
    const SIDECARS: usize = 120;
    // Half of a day: every leaf is valid still. A day: every one has expired, and all have to join anew.
    for (days, expired) in [(0.5, false), (1.0, true)] {
        let dirs: Vec<_> = (0..SIDECARS).map(|_| tempfile::tempdir().unwrap()).collect();
        let all: Vec<_> = dirs.iter().map(|dir| plane(dir.path(), true)).collect();
        // They have started together, and the first leaf is one of an hour.
        tokio::time::sleep(DAY / 4).await;
        all.iter().for_each(|(plane, ..)| plane.away.store(true, Ordering::Relaxed));
        tokio::time::sleep(DAY.mul_f64(days)).await;
        assert_eq!(all.iter().filter(|(plane, ..)| is_valid(plane)).count(), if expired { 0 } else { SIDECARS });
        let back = (all[0].0.clock)();
        for (plane, ..) in &all {
            plane.renewed.lock().unwrap().clear();
            plane.away.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(DAY / 2).await;
        assert!(all.iter().all(|(plane, ..)| is_valid(plane)));
        let first = |plane: &Arc<Plane>| {
            let (renewed, joined) = (plane.renewed.lock().unwrap(), plane.joined.lock().unwrap());
            renewed.iter().chain(joined.iter()).min().copied()
        };
        let firsts: Vec<_> = all.iter().filter_map(|(plane, ..)| first(plane)).collect();
        assert_eq!(firsts.len(), SIDECARS);
        let (busiest, last) = busiest(&firsts, back);
        // Spread over a minute, two come in a second.
        assert!(busiest <= SIDECARS / 10, "{busiest} of {SIDECARS} came in one second");
        assert!(!expired || last <= 120, "the last one came after {last} s");
    }
}
