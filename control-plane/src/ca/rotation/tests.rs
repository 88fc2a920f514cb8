//! What a rotation promises of the authority itself; what it promises of the mesh is in `tests/e2e/rotation.rs`.

use std::path::Path;
use std::time::Duration;

use leno_certs::{SpiffeId, csr, verify};

use super::*;
use crate::ca::{PeerCertificate, Refusal, Signed, open};
use crate::store::Store;

const DOMAIN: &str = "cluster.local";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn web() -> SpiffeId {
    SpiffeId::new(DOMAIN, "default", "web").unwrap()
}

fn start_in(dir: &Path) -> CertificateAuthority {
    let store = Store::open(dir).unwrap();
    let opened = open(&store, dir, DOMAIN, &None, now()).unwrap();
    CertificateAuthority::new(store, opened, DAY, &Metrics::new())
}

fn joined(ca: &CertificateAuthority) -> Result<Signed, Refusal> {
    let token = ca.create_token(&web(), Duration::from_secs(60), now(), &"admin".into()).unwrap().token;
    ca.join(&token, &csr::create(&Key::generate().unwrap(), &web()).unwrap(), now(), "10.0.0.1:1")
}

fn peer(signed: &Signed) -> PeerCertificate {
    let leaf = &signed.chain[0];
    let (lineage, signed_by) = (verify::lineage(leaf), verify::authority_key_id(leaf));
    PeerCertificate { id: signed.id.clone(), not_after: signed.not_after, lineage, signed_by }
}

async fn go(ca: &CertificateAuthority, from: Phase) -> u64 {
    ca.advance(from, &[], &"test".into()).await.unwrap()
}

#[tokio::test]
async fn each_step_believes_what_it_must_and_is_there_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let ca = start_in(dir.path());
    let old = ca.trust_bundle().roots[0].clone();
    let before = joined(&ca).unwrap();
    let pinned = ca.create_token(&web(), Duration::from_secs(60), now(), &"admin".into()).unwrap().token;

    let revision = ca.begin_rotation(Start::default(), &"admin".into()).await.unwrap();
    assert_eq!(ca.step(), Step::Known { revision });
    assert_eq!((ca.trust_bundle().roots.len(), &ca.trust_bundle().roots[0]), (2, &old));
    assert_eq!(
        peer(&joined(&ca).unwrap()).signed_by,
        peer(&before).signed_by,
        "nothing is signed under the new root yet"
    );
    drop(ca);

    let ca = start_in(dir.path());
    assert!(matches!(ca.step(), Step::Known { .. }));
    assert!(matches!(ca.begin_rotation(Start::default(), &"admin".into()).await, Err(RotationError::UnderWay(_))));
    go(&ca, Phase::Distributing).await;
    let Step::Renewed { key_id, .. } = ca.step() else { panic!("it is reissuing") };
    let after = joined(&ca).unwrap();
    assert_eq!(peer(&after).signed_by, Some(key_id.clone()));
    assert_eq!(after.chain.len(), 2, "the old root's word is with it");
    assert_eq!(ca.trust_bundle().roots.len(), 2);
    assert_eq!(ca.view().generation, 1);
    drop(ca);

    let ca = start_in(dir.path());
    assert!(matches!(ca.step(), Step::Renewed { key_id: by, .. } if by == key_id));
    go(&ca, Phase::Reissuing).await;
    drop(ca);

    let ca = start_in(dir.path());
    assert_eq!(ca.step(), Step::Idle);
    let bundle = ca.trust_bundle();
    assert!(bundle.roots.len() == 1 && bundle.roots[0] != old);
    assert_eq!(joined(&ca).unwrap().chain.len(), 1);
    // Who was away comes back with its last leaf, and a token of before is good still.
    let believed = ca.state().believed(now());
    assert!(believed.roots.contains(&old));
    assert!(!ca.state().believed(now() + DAY + Duration::from_secs(1)).roots.contains(&old), "but not for ever");
    let renewed = ca.renew(&peer(&before), &csr::create(&Key::generate().unwrap(), &web()).unwrap(), now()).unwrap();
    assert_eq!(peer(&renewed).signed_by, Some(key_id));
    ca.join(&pinned, &csr::create(&Key::generate().unwrap(), &web()).unwrap(), now(), "10.0.0.1:1").unwrap();
}

#[tokio::test]
async fn it_is_held_and_goes_on_and_is_taken_back_at_each_step() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, by) = (start_in(dir.path()), Actor::from("admin"));
    let first = ca.trust_bundle();
    assert!(matches!(ca.abort_rotation(&by).await, Err(RotationError::Idle)));
    assert!(matches!(ca.hold(true, &by).await, Err(RotationError::Idle)));
    ca.begin_rotation(Start { force_after: Some(1), ..Start::default() }, &by).await.unwrap();
    assert_eq!(ca.progress(now()), (Phase::Distributing, false, false));
    assert_eq!(ca.progress(now() + Duration::from_secs(2)), (Phase::Distributing, false, true), "its time is over");
    ca.hold(true, &by).await.unwrap();
    assert!(ca.progress(now()).1);
    ca.hold(false, &by).await.unwrap();
    ca.abort_rotation(&by).await.unwrap();
    assert_eq!((ca.step(), ca.trust_bundle()), (Step::Idle, first.clone()));

    ca.begin_rotation(Start::default(), &by).await.unwrap();
    go(&ca, Phase::Distributing).await;
    assert!(matches!(ca.advance(Phase::Distributing, &[], &by).await, Err(RotationError::UnderWay(_))), "once");
    ca.abort_rotation(&by).await.unwrap();
    let state = ca.state();
    assert_eq!(state.current.root_der(), first.roots[0], "the first one signs again");
    assert_eq!((state.record.phase, state.record.generation), (Phase::Reissuing, 2), "and all renew once more");
    go(&ca, Phase::Reissuing).await;
    assert_eq!(ca.trust_bundle(), first);
}

#[tokio::test]
async fn a_stolen_key_vouches_for_nothing_and_lets_nobody_back_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, by) = (start_in(dir.path()), Actor::from("admin"));
    let old = ca.trust_bundle().roots[0].clone();
    ca.begin_rotation(Start { compromised: true, ..Start::default() }, &by).await.unwrap();
    go(&ca, Phase::Distributing).await;
    assert_eq!(joined(&ca).unwrap().chain.len(), 1);
    go(&ca, Phase::Reissuing).await;
    assert!(!ca.state().believed(now()).roots.contains(&old));
    assert!(!ca.state().behind_own_leaf().contains(&old));
    assert!(ca.view().authorities.iter().all(|one| one.role == "signs"));
}

#[tokio::test]
async fn no_more_roots_of_before_are_kept_than_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, by) = (start_in(dir.path()), Actor::from("admin"));
    for _ in 0..6 {
        ca.begin_rotation(Start::default(), &by).await.unwrap();
        go(&ca, Phase::Distributing).await;
        go(&ca, Phase::Reissuing).await;
    }
    let state = ca.state();
    assert_eq!((state.record.current.vouched.len(), state.record.retired.len()), (MOST_VOUCHED, MOST_RETIRED));
}

#[tokio::test]
async fn what_was_written_by_the_first_version_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let ca = start_in(dir.path());
    let root = ca.trust_bundle();
    let record = ca.state().record.clone();
    let super::super::record::KeptKey::Sealed(sealed) = record.current.key else { panic!("it is sealed") };
    ca.store().set_authority(&serde_json::to_vec(&sealed).unwrap()).unwrap();
    drop((ca, sealed));
    let again = start_in(dir.path());
    assert_eq!((again.trust_bundle(), again.step()), (root, Step::Idle));
}

#[tokio::test]
async fn an_import_that_does_not_fit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, by) = (start_in(dir.path()), Actor::from("admin"));
    let before = (ca.trust_bundle(), ca.store().committed().revision);
    let other = Authority::generate(DOMAIN, now(), 365 * DAY).unwrap();
    let root = pem::encode(&pem::Pem::new("CERTIFICATE", other.root_der()));
    let key = |der: &[u8]| Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", der)));
    let wrong = key(&Key::generate().unwrap().to_pkcs8());
    let mine = key(&ca.authority().key_pkcs8().unwrap());
    let own = ca.trust_bundle().to_pem();
    let nobody = KeyAt::Signer(dir.path().join("nobody.sock"));
    for (chain, key) in [
        (root.clone(), KeyAt::Here(wrong.clone())),
        (root.clone(), KeyAt::Here(Zeroizing::new("no key".to_owned()))),
        ("no certificate".to_owned(), KeyAt::Here(wrong.clone())),
        (format!("{root}{}", *wrong), KeyAt::Here(wrong)),
        (root, nobody),
        (own, KeyAt::Here(mine)),
    ] {
        let start = Start { import: Some(Import { chain, key }), ..Start::default() };
        assert!(matches!(ca.begin_rotation(start, &by).await, Err(RotationError::Unfit(_))));
    }
    assert_eq!((ca.trust_bundle(), ca.store().committed().revision), before);
}
