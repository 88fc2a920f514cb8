//! What the certificate authority promises.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use leno_certs::{Key, Zeroizing, csr, verify};

use super::*;

const DOMAIN: &str = "cluster.local";

fn web() -> SpiffeId {
    SpiffeId::new(DOMAIN, "default", "web").unwrap()
}

fn open_in(dir: &Path, passphrase: Option<&str>) -> Result<(Store, Opened), OpenError> {
    let store = Store::open(dir).unwrap();
    let passphrase: Passphrase = passphrase.map(|text| Zeroizing::new(text.to_owned()));
    let authority = open(&store, dir, DOMAIN, &passphrase, OffsetDateTime::now_utc())?;
    Ok((store, authority))
}

struct Scene {
    ca: CertificateAuthority,
    dir: tempfile::TempDir,
    now: OffsetDateTime,
}

fn scene_with(ttl: Duration) -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let (store, authority) = open_in(dir.path(), None).unwrap();
    let ca = CertificateAuthority::new(store, authority, ttl, &Metrics::new());
    Scene { ca, dir, now: OffsetDateTime::now_utc() }
}

fn scene() -> Scene {
    scene_with(Duration::from_secs(24 * 3600))
}

impl Scene {
    fn token(&self) -> String {
        self.ca.create_token(&web(), Duration::from_secs(600), self.now, &"admin".into()).unwrap().token.to_string()
    }

    fn join(&self, token: &str, id: &SpiffeId) -> Result<Signed, Refusal> {
        self.ca.join(token, &request(id), self.now, "10.0.0.1:1")
    }
}

fn request(id: &SpiffeId) -> Vec<u8> {
    csr::create(&Key::generate().unwrap(), id).unwrap()
}

#[test]
fn a_token_is_good_for_one_leaf_of_its_identity() {
    let scene = scene();
    let token = scene.token();
    let signed = scene.join(&token, &web()).unwrap();
    assert_eq!(verify::peer_id(&signed.chain[0]).unwrap(), web());
    assert_eq!(verify::validity(&signed.chain[0]).unwrap(), (signed.not_before, signed.not_after));
    assert_eq!(signed.not_after, whole_seconds(scene.now + Duration::from_secs(24 * 3600)));
    assert_eq!(scene.join(&token, &web()).unwrap_err(), Refusal::TokenUsed);
}

#[test]
fn expired_forged_and_malformed_tokens_are_told_apart() {
    let scene = scene();
    let token = scene.token();
    let late = scene.ca.join(&token, &request(&web()), scene.now + Duration::from_secs(601), "10.0.0.1:1");
    assert_eq!(late.unwrap_err(), Refusal::TokenExpired);
    let parts: Vec<&str> = token.split('.').collect();
    let [prefix, id, secret, root] = parts[..] else { panic!("{token}") };
    let other = scene.token();
    let other_secret = other.split('.').nth(2).unwrap();
    for forged in [
        format!("{prefix}.{id}.{other_secret}.{root}"),
        format!("{prefix}.{}.{secret}.{root}", "0".repeat(16)),
        format!("{prefix}.{id}.{secret}.{}", "0".repeat(64)),
    ] {
        assert_eq!(scene.join(&forged, &web()).unwrap_err(), Refusal::TokenUnknown, "{forged}");
    }
    for malformed in
        ["", "leno1", "leno2.a.b.c", &token[1..], &token[..token.len() - 1], &format!("{token}.x"), &"x".repeat(999)]
    {
        assert_eq!(scene.join(malformed, &web()).unwrap_err(), Refusal::TokenMalformed, "{malformed}");
    }
    assert!(scene.join(&token, &web()).is_ok(), "no forgery has spent it");
}

#[test]
fn a_request_for_another_identity_is_refused_and_spends_the_token_and_a_broken_one_does_not() {
    let scene = scene();
    let token = scene.token();
    assert!(matches!(scene.ca.join(&token, b"no request", scene.now, "10.0.0.1:1"), Err(Refusal::CsrInvalid(_))));
    let admin = SpiffeId::new(DOMAIN, "default", "admin").unwrap();
    let refusal = scene.join(&token, &admin).unwrap_err();
    assert_eq!(refusal.reason(), "wrong_identity");
    assert_eq!(scene.join(&token, &web()).unwrap_err(), Refusal::TokenUsed);
}

#[test]
fn a_certificate_renews_its_own_identity_alone_and_not_after_its_end() {
    let scene = scene();
    let peer =
        PeerCertificate { id: web(), not_after: scene.now + Duration::from_secs(5), lineage: None, signed_by: None };
    assert_eq!(scene.ca.renew(&peer, &request(&web()), scene.now).unwrap().id, web());
    let admin = SpiffeId::new(DOMAIN, "default", "admin").unwrap();
    assert_eq!(scene.ca.renew(&peer, &request(&admin), scene.now).unwrap_err().reason(), "wrong_identity");
    let late = scene.ca.renew(&peer, &request(&web()), scene.now + Duration::from_secs(6));
    assert_eq!(late.unwrap_err(), Refusal::CertificateExpired);
}

#[test]
fn tokens_outside_the_bounds_are_not_made() {
    let scene = scene();
    let make = |id: &SpiffeId, seconds| {
        scene.ca.create_token(id, Duration::from_secs(seconds), scene.now, &"admin".into()).err()
    };
    assert!(matches!(make(&web(), 0), Some(TokenError::Ttl(_))));
    assert!(matches!(make(&web(), 30 * 24 * 3600 + 1), Some(TokenError::Ttl(_))));
    assert!(make(&web(), 30 * 24 * 3600).is_none());
    let own = SpiffeId::new(DOMAIN, "leno-system", "control-plane").unwrap();
    assert!(matches!(make(&own, 60), Some(TokenError::Reserved)));
    let foreign = SpiffeId::new("example.org", "default", "web").unwrap();
    assert!(matches!(make(&foreign, 60), Some(TokenError::TrustDomain { .. })));
}

#[test]
fn a_short_leaf_begins_only_a_little_early_and_none_outlives_the_root() {
    let scene = scene_with(Duration::from_secs(10));
    let signed = scene.join(&scene.token(), &web()).unwrap();
    assert_eq!(signed.not_before, whole_seconds(scene.now - Duration::from_secs(1)));
    assert_eq!(signed.not_after, whole_seconds(scene.now + Duration::from_secs(10)));
    let end = scene.ca.root_not_after();
    let (_, not_after) = scene.ca.life(&scene.ca.authority(), end - Duration::from_secs(3));
    assert_eq!(not_after, end);
}

#[test]
fn the_root_survives_a_restart_under_its_key_file_which_nobody_else_may_read() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = open_in(dir.path(), None).unwrap();
    let root = first.authority().root_der().to_vec();
    let record = store.authority().unwrap().unwrap();
    let key = first.authority().key_pkcs8().unwrap();
    assert!(!record.windows(32).any(|w| key.windows(32).any(|k| k == w)), "the key is not in the store in the clear");
    drop(store);
    assert_eq!(open_in(dir.path(), None).unwrap().1.authority().root_der(), root);

    let key_file = dir.path().join("ca.key");
    assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(open_in(dir.path(), None), Err(OpenError::KeyFile(..))));
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(open_in(dir.path(), Some("words")), Err(OpenError::PassphraseNotUsed)));
    std::fs::write(&key_file, [7; 32]).unwrap();
    assert!(matches!(open_in(dir.path(), None), Err(OpenError::WrongKeyFile(_))));
    std::fs::remove_file(&key_file).unwrap();
    assert!(matches!(open_in(dir.path(), None), Err(OpenError::KeyFile(..))), "no new root is made in its place");
}

#[test]
fn a_passphrase_opens_the_root_and_a_wrong_or_missing_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let root = open_in(dir.path(), Some("four sheer words here")).unwrap().1.authority().root_der().to_vec();
    assert!(!dir.path().join("ca.key").exists());
    assert_eq!(open_in(dir.path(), Some("four sheer words here")).unwrap().1.authority().root_der(), root);
    assert!(matches!(open_in(dir.path(), Some("four sheer words")), Err(OpenError::WrongPassphrase)));
    assert!(matches!(open_in(dir.path(), None), Err(OpenError::PassphraseNeeded)));
}

#[test]
fn another_trust_domain_or_a_damaged_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open_in(dir.path(), None).unwrap();
    let other = open(&store, dir.path(), "example.org", &None, OffsetDateTime::now_utc());
    assert!(matches!(other, Err(OpenError::TrustDomain { .. })));
    let mut record = store.authority().unwrap().unwrap();
    let at = record.len() / 2;
    record[at] = if record[at] == b'A' { b'B' } else { b'A' };
    store.set_authority(&record).unwrap();
    assert!(open(&store, dir.path(), DOMAIN, &None, OffsetDateTime::now_utc()).is_err());
}

#[test]
fn the_admin_token_stays_the_same_and_the_context_is_its_owners_alone() {
    let scene = scene();
    let store = &scene.ca.0.store;
    let token = AdminToken::open(store).unwrap();
    let bundle = scene.ca.trust_bundle();
    let context = Context::new("0.0.0.0:15012".parse().unwrap(), "127.0.0.1:15010".parse().unwrap(), &bundle, &token);
    context.write(scene.dir.path()).unwrap();
    let path = context.write(scene.dir.path()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let read: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(read["server"], "https://127.0.0.1:15012");
    assert_eq!(read["xdsAddress"], "127.0.0.1:15010");
    assert_eq!((&read["kind"], &read["trustDomain"]), (&"Context".into(), &DOMAIN.into()));
    assert!(read["certificateAuthority"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    let shown = read["token"].as_str().unwrap();
    let again = AdminToken::open(store).unwrap();
    assert!(again.matches(shown) && !again.matches(&shown[1..]) && !again.matches(""));
}
