use leno_certs::{Key, csr, verify};
use leno_runtime::metrics::Registry as Metrics;
use time::OffsetDateTime;

use super::*;
use crate::ca::{CertificateAuthority, Signed, open};
use crate::store::Store;

const DOMAIN: &str = "cluster.local";

struct Scene {
    dir: tempfile::TempDir,
    secrets: JoinSecrets,
    ca: CertificateAuthority,
    _state: tempfile::TempDir,
}

fn scene() -> Scene {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(state.path()).unwrap();
    let root = open(&store, state.path(), DOMAIN, &None, OffsetDateTime::now_utc()).unwrap();
    let ca = CertificateAuthority::new(store, root, Duration::from_secs(3600), &Metrics::new());
    let secrets = JoinSecrets::open(dir.path(), DOMAIN).unwrap();
    Scene { dir, secrets, ca, _state: state }
}

impl Scene {
    fn put(&self, name: &str) -> JoinSecret {
        let secret = JoinSecret::generate().unwrap();
        self.write(name, &secret.to_text());
        secret
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn join(&self, secret: &JoinSecret, account: &str) -> Result<Signed, Refusal> {
        let id = SpiffeId::new(DOMAIN, "default", account).unwrap();
        let csr = csr::create(&Key::generate().unwrap(), &id).unwrap();
        let mac = secret.prove_request(&csr);
        self.ca.join_by_secret(&self.secrets, secret.id(), &mac, &csr, OffsetDateTime::now_utc(), "10.0.0.1:1")
    }

    fn identity(&self, secret: &JoinSecret) -> String {
        self.secrets.find(secret.id()).unwrap().1.to_string()
    }

    fn problems(&self) -> Vec<String> {
        self.secrets.known().problems.iter().cloned().collect()
    }
}

fn copy(secret: &JoinSecret) -> JoinSecret {
    JoinSecret::parse(&secret.to_text()).unwrap()
}

#[test]
fn a_secret_gives_its_identity_a_leaf_again_and_again_until_its_file_is_removed() {
    let scene = scene();
    let secret = scene.put("default.web");
    for _ in 0..3 {
        let signed = scene.join(&secret, "web").unwrap();
        assert_eq!(verify::peer_id(&signed.chain[0]).unwrap().as_str(), "spiffe://cluster.local/ns/default/sa/web");
    }
    fs::remove_file(scene.dir.path().join("default.web")).unwrap();
    assert_eq!(scene.join(&secret, "web").unwrap_err(), Refusal::SecretUnknown);
    assert_eq!(scene.ca.prove(&scene.secrets, secret.id(), &[0; 32]).unwrap_err(), Refusal::SecretUnknown);
}

#[test]
fn a_secret_is_good_for_no_other_identity() {
    let scene = scene();
    let (web, db) = (scene.put("default.web"), scene.put("default.db"));
    assert_eq!(scene.join(&web, "db").unwrap_err().reason(), "wrong_identity");
    // Nor is the proof of one good under the id of the other.
    let id = SpiffeId::new(DOMAIN, "default", "db").unwrap();
    let csr = csr::create(&Key::generate().unwrap(), &id).unwrap();
    let now = OffsetDateTime::now_utc();
    let forged = scene.ca.join_by_secret(&scene.secrets, db.id(), &web.prove_request(&csr), &csr, now, "10.0.0.1:1");
    assert_eq!(forged.unwrap_err(), Refusal::SecretWrong);
    assert!(scene.join(&db, "db").is_ok());
}

#[test]
fn a_wrong_secret_under_a_known_id_is_told_from_an_unknown_id() {
    let scene = scene();
    let right = scene.put("default.web");
    let other = JoinSecret::generate().unwrap();
    assert_eq!(scene.join(&other, "web").unwrap_err(), Refusal::SecretUnknown);
    let text = other.to_text().replace(other.id(), right.id());
    assert_eq!(scene.join(&JoinSecret::parse(&text).unwrap(), "web").unwrap_err(), Refusal::SecretWrong);
    for junk in ["", "0123456789abcdef", "../default.web", &"x".repeat(100_000)] {
        assert!(matches!(scene.secrets.find(junk), Err(Refusal::SecretUnknown)), "{junk}");
    }
}

#[test]
fn a_proof_of_the_root_needs_a_whole_nonce_and_fits_the_secret() {
    let scene = scene();
    let secret = scene.put("default.web");
    for short in [&[][..], &[0; 31], &[0; 33]] {
        assert_eq!(scene.ca.prove(&scene.secrets, secret.id(), short).unwrap_err(), Refusal::ProofMalformed);
    }
    let (root, mac) = scene.ca.prove(&scene.secrets, secret.id(), &[7; 32]).unwrap();
    assert_eq!(root, scene.ca.trust_bundle().root_hash());
    assert!(secret.root_is_proven(&[7; 32], &root, &mac));
}

#[test]
fn a_new_file_counts_at_once_and_a_replaced_one_in_the_place_of_the_old() {
    let scene = scene();
    let old = scene.put("default.web");
    assert!(scene.join(&old, "web").is_ok());
    // As who writes a file whole and renames it into place.
    let new = scene.put("new");
    fs::rename(scene.dir.path().join("new"), scene.dir.path().join("default.web")).unwrap();
    assert!(scene.join(&new, "web").is_ok());
    assert_eq!(scene.join(&old, "web").unwrap_err(), Refusal::SecretUnknown);
}

#[test]
fn unknown_ids_do_not_make_the_folder_be_read_all_the_time() {
    let scene = scene();
    // A folder that nobody has changed for a while.
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    fs::File::open(scene.dir.path()).unwrap().set_modified(long_ago).unwrap();
    assert!(scene.secrets.find("0000000000000000").is_err());
    let first = scene.secrets.known().scanned;
    for n in 0..1000 {
        assert!(scene.secrets.find(&format!("{n:016x}")).is_err());
    }
    let scans = scene.secrets.known().scanned.unwrap() - first.unwrap();
    assert!(scans.is_zero() || scans >= LEAST_BETWEEN_SCANS, "{scans:?}");
    // What is added to it is found at once all the same.
    let secret = scene.put("default.web");
    assert!(scene.join(&secret, "web").is_ok());
}

#[test]
fn a_service_account_may_have_dots_and_a_namespace_may_not() {
    let scene = scene();
    assert_eq!(scene.identity(&scene.put("shop.web.v2")), "spiffe://cluster.local/ns/shop/sa/web.v2");
}

#[test]
fn other_files_are_left_alone_and_bad_ones_are_named_without_their_secret() {
    let scene = scene();
    fs::create_dir(scene.dir.path().join("default.folder")).unwrap();
    std::os::unix::fs::symlink("nowhere", scene.dir.path().join("default.lost")).unwrap();
    scene.write("db_password", "leno2.hunter2");
    scene.write(".gitignore", "*");
    scene.write("notes.txt", "leno is a mesh");
    scene.write("binary.dat", "\u{1}");
    fs::write(scene.dir.path().join("latin1.txt"), [0xff, 0xfe, b'.']).unwrap();
    scene.write("default.cut", "leno2.0123456789abcdef.AAAA");
    let secret = scene.put("default.web");
    scene.write("default.twin", &secret.to_text());
    scene.put("leno-system.control-plane");
    scene.put("default.we b");
    assert_eq!(scene.identity(&secret), "spiffe://cluster.local/ns/default/sa/twin", "the first by name counts");
    let problems = scene.problems();
    let named = ["default.cut", "default.lost", "default.we b", "default.web", "leno-system.control-plane"];
    assert_eq!(problems.len(), named.len(), "{problems:?}");
    for (problem, name) in problems.iter().zip(named) {
        assert!(problem.contains(name) && !problem.contains("AAAA"), "{problem}");
        assert!(!problem.contains(secret.to_text().rsplit('.').next().unwrap()), "{problem}");
    }
    assert_eq!(copy(&secret).id(), secret.id());
}

#[test]
fn a_folder_that_is_not_there_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    assert!(JoinSecrets::open(&dir.path().join("nowhere"), DOMAIN).is_err());
}

#[test]
fn no_more_files_are_looked_at_than_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..=MOST_FILES {
        fs::write(dir.path().join(format!("other{n}")), "").unwrap();
    }
    let secrets = JoinSecrets::open(dir.path(), DOMAIN).unwrap();
    assert_eq!(secrets.known().problems.len(), 1);
}

#[tokio::test]
async fn nobody_joins_by_a_secret_that_a_revoked_sidecar_has_and_whoever_has_joined_by_it_goes_on() {
    use crate::ca::PeerCertificate;
    use crate::model::audit::Actor;
    use crate::model::{Name, Revocation, Target};

    let scene = scene();
    let (secret, other) = (scene.put("default.web"), scene.put("default.db"));
    let peer = |signed: &Signed| PeerCertificate {
        id: signed.id.clone(),
        not_after: signed.not_after,
        lineage: verify::lineage(&signed.chain[0]),
        signed_by: None,
    };
    let (bad, good) = (peer(&scene.join(&secret, "web").unwrap()), peer(&scene.join(&secret, "web").unwrap()));
    let renew = |peer: &PeerCertificate| {
        let csr = csr::create(&Key::generate().unwrap(), &peer.id).unwrap();
        scene.ca.renew(peer, &csr, OffsetDateTime::now_utc())
    };
    let renewed = renew(&bad).unwrap();
    assert_eq!(verify::lineage(&renewed.chain[0]), bad.lineage, "a renewal is the same sidecar");
    let target = Target::Workload { name: Name::new("default", "web-1"), lineages: vec![bad.lineage.unwrap()] };
    let (id, reason, by) = ("a".to_owned(), String::new(), "admin".to_owned());
    let revocation = Revocation { id, target, reason, by, created_unix: 0, expires_unix: None };
    let store = scene.ca.store();
    store.revoke(revocation, &Actor::from("admin")).await.unwrap();
    assert_eq!(renew(&bad).unwrap_err(), Refusal::Revoked);
    assert_eq!(bad.stands(&store.revocations().borrow()), Err(Refusal::Revoked));
    assert_eq!(scene.join(&secret, "web").unwrap_err(), Refusal::SecretRevoked);
    assert!(renew(&good).is_ok() && good.stands(&store.revocations().borrow()).is_ok(), "its sibling goes on");
    assert!(scene.join(&other, "db").is_ok(), "another secret is another");
    let new = scene.put("default.web");
    assert!(scene.join(&new, "web").is_ok(), "a new secret opens again");
}
