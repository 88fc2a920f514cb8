mod secret;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use leno_certs::Authority;
use time::OffsetDateTime;

use super::*;
use crate::xds::system_clock;
use crate::xds::testing::{ControlPlane, authority, bundle, credentials, identity, settings, sign};

async fn start(control_plane: &ControlPlane, folder: &Path, extra: &[&str]) -> Result<Current, Failure> {
    obtain(&settings(control_plane.addr, folder, extra), folder, &system_clock()).await
}

#[tokio::test]
async fn a_token_is_needed_once_and_a_used_one_is_refused_with_the_servers_reason() {
    let control_plane = ControlPlane::start().await;
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let token = control_plane.token();
    let joined = start(&control_plane, first.path(), &["--token", &token]).await.unwrap();
    assert_eq!(joined.identity.id.to_string(), "spiffe://cluster.local/ns/default/sa/web");
    assert_eq!(joined.bundle.roots, [control_plane.authority.root_der()]);

    // Another sidecar with the same token.
    let refused = start(&control_plane, second.path(), &["--token", &token]).await.unwrap_err();
    assert_eq!(refused.code(), exit::DENIED);
    let line = refused.to_string();
    assert!(line.contains("token_used") && line.contains("leno token create --service-account web"), "{line}");

    // The first one again, with the used-up token and without any.
    for extra in [&["--token", token.as_str()][..], &[]] {
        let again = start(&control_plane, first.path(), extra).await.unwrap();
        assert_eq!(again.identity.chain, joined.identity.chain);
    }
}

#[tokio::test]
async fn the_saved_identity_is_private_and_complete() {
    use std::os::unix::fs::PermissionsExt;
    let control_plane = ControlPlane::start().await;
    let dir = tempfile::tempdir().unwrap();
    start(&control_plane, dir.path(), &["--token", &control_plane.token()]).await.unwrap();
    let path = saved::path(dir.path());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    // Any cut or changed file is told as damaged, without what is in it.
    let text = std::fs::read(&path).unwrap();
    for cut in (0..text.len() - 2).step_by(97) {
        std::fs::write(&path, &text[..cut]).unwrap();
        let why = saved::read(&path).unwrap_err();
        assert!(why.contains("damaged"), "{why}");
    }
}

#[tokio::test]
async fn no_identity_and_no_token_says_how_to_get_one() {
    let control_plane = ControlPlane::start().await;
    let dir = tempfile::tempdir().unwrap();
    let failure = start(&control_plane, dir.path(), &[]).await.unwrap_err();
    assert_eq!(failure.code(), exit::DENIED);
    assert!(failure.to_string().contains("leno token create"), "{failure}");
    let failure = start(&control_plane, dir.path(), &["--token", "leno1.x"]).await.unwrap_err();
    assert_eq!(failure.code(), exit::DENIED);
    assert!(failure.to_string().contains("malformed"), "{failure}");
}

#[tokio::test]
async fn a_state_folder_of_another_workload_or_mesh_is_refused() {
    let control_plane = ControlPlane::start().await;
    let dir = tempfile::tempdir().unwrap();
    start(&control_plane, dir.path(), &["--token", &control_plane.token()]).await.unwrap();
    for extra in [["--namespace", "other"], ["--service-account", "other"]] {
        let failure = start(&control_plane, dir.path(), &extra).await.unwrap_err();
        assert_eq!(failure.code(), exit::CONFIG);
        assert!(failure.to_string().contains("/sa/web, but") && failure.to_string().contains("asked for"), "{failure}");
    }
    let other = ControlPlane::start().await;
    let failure = start(&other, dir.path(), &["--token", &other.token()]).await.unwrap_err();
    assert_eq!(failure.code(), exit::CONFIG);
    assert!(failure.to_string().contains("root certificates differ"), "{failure}");
}

#[tokio::test]
async fn an_expired_identity_needs_a_new_token_and_joins_with_it() {
    let control_plane = ControlPlane::start().await;
    let dir = tempfile::tempdir().unwrap();
    start(&control_plane, dir.path(), &["--token", &control_plane.token()]).await.unwrap();
    let later: Clock = Arc::new(|| OffsetDateTime::now_utc() + Duration::from_secs(7200));
    let failure = obtain(&settings(control_plane.addr, dir.path(), &[]), dir.path(), &later).await.unwrap_err();
    assert_eq!(failure.code(), exit::DENIED);
    assert!(failure.to_string().contains("expired") && failure.to_string().contains("leno token create"), "{failure}");
    let token = control_plane.token();
    assert!(obtain(&settings(control_plane.addr, dir.path(), &["--token", &token]), dir.path(), &later).await.is_ok());
}

#[tokio::test]
async fn a_token_is_shown_to_nobody_but_the_control_plane_it_names() {
    // Another control plane, and a workload of the right mesh that listens at the control plane's address.
    let right = ControlPlane::start().await;
    let wrong = ControlPlane::start().await;
    let workload = ControlPlane::start_as(right.authority.clone(), "default", "web").await;
    for other in [&wrong, &workload] {
        let token = right.token();
        other.world().tokens.insert(token.clone());
        let dir = tempfile::tempdir().unwrap();
        let failure = start(other, dir.path(), &["--token", &token]).await.unwrap_err();
        assert_eq!(failure.code(), exit::DENIED, "{failure}");
        assert!(other.world().tokens.contains(&token), "the token was shown");
    }
}

#[tokio::test]
async fn an_unreachable_control_plane_is_told_after_the_join_timeout() {
    let mut control_plane = ControlPlane::start().await;
    let token = control_plane.token();
    control_plane.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let failure = start(&control_plane, dir.path(), &["--token", &token, "--join-timeout", "300ms"]).await.unwrap_err();
    assert_eq!(failure.code(), exit::UNAVAILABLE);
    assert!(
        failure.to_string().contains(&control_plane.addr.to_string()) && failure.to_string().contains("0.3 s"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_control_plane_that_starts_late_is_joined() {
    let mut control_plane = ControlPlane::start().await;
    let token = control_plane.token();
    control_plane.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let settings = settings(control_plane.addr, dir.path(), &["--token", &token, "--join-timeout", "20s"]);
    let joining = tokio::spawn(async move { obtain(&settings, &path, &system_clock()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    control_plane.start_again().await;
    assert!(joining.await.unwrap().is_ok());
}

/// Signs in memory, on the test's clock; what it is told to answer first comes first.
struct Signer {
    authority: Arc<Authority>,
    clock: Clock,
    first: Mutex<VecDeque<String>>,
    at: Mutex<Vec<OffsetDateTime>>,
}

impl Renewal for Arc<Signer> {
    async fn join_again(&self) -> Option<Result<Current, String>> {
        None
    }

    async fn renew(&self, csr: Vec<u8>) -> Result<SignedIdentity, String> {
        self.at.lock().unwrap().push((self.clock)());
        match self.first.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => {
                sign(&self.authority, &csr, (self.clock)(), Duration::from_secs(3600)).map_err(|why| why.to_string())
            }
        }
    }
}

/// A clock that goes with tokio's paused one.
fn paused_clock() -> Clock {
    let (begin, wall) = (tokio::time::Instant::now(), OffsetDateTime::now_utc());
    Arc::new(move || wall + begin.elapsed())
}

fn renewing(folder: &Path, first: &[&str]) -> (Credentials, Arc<Signer>, tokio::task::JoinHandle<()>) {
    let authority = authority();
    let credentials = credentials(&authority, folder);
    let first = Mutex::new(first.iter().map(|text| (*text).to_owned()).collect());
    let signer = Arc::new(Signer { authority, clock: paused_clock(), first, at: Mutex::default() });
    let task = tokio::spawn(keep_fresh(credentials.clone(), signer.clock.clone(), signer.clone(), || 0.5));
    (credentials, signer, task)
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_renewed_at_half_of_its_life_with_a_new_key_and_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (credentials, signer, _task) = renewing(dir.path(), &[]);
    let first = credentials.current();
    let mut watch = credentials.watch();
    for round in 1..=3 {
        watch.changed().await.unwrap();
        let age = (signer.clock)() - first.identity.not_before;
        let expected = 1800.0 * f64::from(round);
        assert!((age.as_seconds_f64() - expected).abs() < 5.0 * f64::from(round), "round {round} at {age}");
    }
    let now = credentials.current();
    assert_ne!(now.identity.key.to_pkcs8(), first.identity.key.to_pkcs8());
    assert_eq!(saved::read(&saved::path(dir.path())).unwrap().unwrap().identity.chain, now.identity.chain);
    assert_eq!(credentials.tls.generation(), 3);
    assert_eq!(credentials.metrics.leaf_expiry.get(), now.identity.not_after.unix_timestamp() as f64);
}

#[tokio::test]
async fn jitter_moves_a_renewal_by_a_tenth_at_most() {
    let authority = authority();
    let current = Current::fresh(identity(&authority, "default", "web", Duration::from_secs(1000)), bundle(&authority));
    let at = |jitter| (renew::due(&current, jitter) - current.identity.not_before).as_seconds_f64();
    assert!((at(0.0) - 450.0).abs() < 1.0 && (at(0.5) - 500.0).abs() < 1.0 && (at(1.0) - 550.0).abs() < 1.0);
}

#[tokio::test(start_paused = true)]
async fn leaves_that_are_old_when_they_come_are_not_renewed_without_pause() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority();
    let credentials = credentials(&authority, dir.path());
    let clock = paused_clock();
    let behind: Clock = Arc::new({
        let clock = clock.clone();
        move || clock() - Duration::from_secs(3000)
    });
    let signer = Arc::new(Signer { authority, clock: behind, first: Mutex::default(), at: Mutex::default() });
    let _task = tokio::spawn(keep_fresh(credentials, clock, signer.clone(), || 0.5));
    tokio::time::sleep(Duration::from_secs(1800 + 10)).await;
    let asked = signer.at.lock().unwrap().len();
    assert!((5..=11).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_tried_again_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (credentials, signer, _task) = renewing(dir.path(), &["away", "away", "away"]);
    let mut watch = credentials.watch();
    watch.changed().await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!(signer.at.lock().unwrap().len(), 4);
    assert_eq!((credentials.metrics.not_renewed.get(), credentials.metrics.renewed.get()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn the_control_plane_can_have_a_leaf_renewed_now_but_the_first_word_is_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let (credentials, signer, _task) = renewing(dir.path(), &[]);
    let start = (signer.clock)();
    credentials.want_generation(7);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(signer.at.lock().unwrap().is_empty(), "a fresh leaf is as good as generation 7");
    credentials.want_generation(8);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(credentials.current().renew_generation, Some(8));
    assert!((signer.clock)() - start < Duration::from_secs(62));
    // The same word again is none.
    credentials.want_generation(8);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(signer.at.lock().unwrap().len(), 1);
    // A restart remembers the generation: no renewal for one that was followed already.
    assert_eq!(saved::read(&saved::path(dir.path())).unwrap().unwrap().renew_generation, Some(8));
    // A control plane that lost its state counts from the start.
    credentials.want_generation(1);
    credentials.want_generation(2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((signer.at.lock().unwrap().len(), credentials.current().renew_generation), (2, Some(2)));
}

#[tokio::test]
async fn a_signed_identity_that_is_not_what_was_asked_for_is_refused() {
    let authority = authority();
    let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
    let now = OffsetDateTime::now_utc();
    let signed = |id: &SpiffeId, key: &leno_certs::Key| {
        sign(&authority, &leno_certs::csr::create(key, id).unwrap(), now, Duration::from_secs(60)).unwrap()
    };
    let key = || leno_certs::Key::generate().unwrap();
    let mine = key();
    let copy = leno_certs::Key::from_pkcs8(&mine.to_pkcs8()).unwrap();
    assert!(accept(signed(&id, &mine), copy, &id).is_ok());
    let other = SpiffeId::new("cluster.local", "default", "other").unwrap();
    let wrong = key();
    let copy = leno_certs::Key::from_pkcs8(&wrong.to_pkcs8()).unwrap();
    assert!(accept(signed(&other, &wrong), copy, &id).is_err(), "another name");
    assert!(accept(signed(&id, &mine), key(), &id).is_err(), "another key");
    let foreign = SignedIdentity { trust_domain: "elsewhere".into(), ..signed(&id, &mine) };
    let copy = leno_certs::Key::from_pkcs8(&mine.to_pkcs8()).unwrap();
    assert!(accept(foreign, copy, &id).is_err(), "another trust domain");
}

mod clocks;
