//! Joining by a secret that was shared beforehand: who may be trusted is not known before the first answer.

use leno_certs::JoinSecret;

use super::*;
use crate::xds::testing::Proofs;

/// A control plane that knows a secret, and the secret.
async fn sharing() -> (ControlPlane, JoinSecret) {
    let control_plane = ControlPlane::start().await;
    let secret = JoinSecret::generate().unwrap();
    control_plane.world().secrets.insert(secret.to_text().to_string());
    (control_plane, secret)
}

async fn join(control_plane: &ControlPlane, secret: &JoinSecret) -> Result<Current, Failure> {
    let dir = tempfile::tempdir().unwrap();
    start(control_plane, dir.path(), &["--token", &secret.to_text()]).await
}

async fn denied(control_plane: &ControlPlane, secret: &JoinSecret, why: &str) {
    let failure = join(control_plane, secret).await.expect_err(why);
    assert_eq!(failure.code(), exit::DENIED, "{failure}");
    let line = failure.to_string();
    assert!(line.contains(why) && line.contains("--join-secrets"), "{line}");
    assert!(!line.contains(secret.to_text().rsplit('.').next().unwrap()), "{line}");
}

#[tokio::test]
async fn a_shared_secret_joins_again_and_again_and_its_root_is_trusted() {
    let (control_plane, secret) = sharing().await;
    for _ in 0..3 {
        let joined = join(&control_plane, &secret).await.unwrap();
        assert_eq!(joined.identity.id.to_string(), "spiffe://cluster.local/ns/default/sa/web");
        assert_eq!(joined.bundle.roots, [control_plane.authority.root_der()]);
    }
}

#[tokio::test]
async fn a_restart_goes_on_with_the_saved_identity_and_an_expired_one_joins_with_the_same_secret() {
    let (control_plane, secret) = sharing().await;
    let dir = tempfile::tempdir().unwrap();
    let text = secret.to_text();
    let first = start(&control_plane, dir.path(), &["--token", &text]).await.unwrap();
    let again = start(&control_plane, dir.path(), &["--token", &text]).await.unwrap();
    assert_eq!(again.identity.chain, first.identity.chain);
    let later: Clock = Arc::new(|| OffsetDateTime::now_utc() + Duration::from_secs(7200));
    let anew = obtain(&settings(control_plane.addr, dir.path(), &["--token", &text]), dir.path(), &later).await;
    assert_ne!(anew.unwrap().identity.chain, first.identity.chain);
}

#[tokio::test]
async fn a_control_plane_that_does_not_know_the_secret_is_refused_and_says_why() {
    let (control_plane, _) = sharing().await;
    denied(&control_plane, &JoinSecret::generate().unwrap(), "secret_unknown").await;
}

#[tokio::test]
async fn a_control_plane_with_another_secret_under_the_same_id_is_not_trusted() {
    let (control_plane, theirs) = sharing().await;
    let other = JoinSecret::generate().unwrap();
    let ours = JoinSecret::parse(&other.to_text().replace(other.id(), theirs.id())).unwrap();
    denied(&control_plane, &ours, "does not know the join secret").await;
}

#[tokio::test]
async fn a_man_in_the_middle_who_passes_the_proof_on_gets_no_further() {
    let (real, secret) = sharing().await;
    let middle = ControlPlane::start().await;
    middle.world().proofs = Proofs::Relay(real.addr);
    denied(&middle, &secret, "not the control plane's").await;
    assert_eq!(real.world().proven.len(), 1, "the proof was passed on");
}

#[tokio::test]
async fn a_proof_that_was_given_to_another_is_of_no_use() {
    let (real, secret) = sharing().await;
    join(&real, &secret).await.unwrap();
    let heard = real.world().proven.pop().unwrap();
    // Even the control plane's own certificate does not help: the answer is not to this question.
    real.world().proofs = Proofs::Replay(heard.clone());
    denied(&real, &secret, "does not know the join secret").await;
    for (root, mac) in [(vec![0; 31], heard.mac.clone()), (heard.root_sha256.clone(), vec![]), (vec![], vec![])] {
        real.world().proofs = Proofs::Replay(leno_proto::v1::RootProof { root_sha256: root, mac });
        denied(&real, &secret, "does not know the join secret").await;
    }
}

#[tokio::test]
async fn a_workload_of_the_mesh_that_answers_in_the_control_planes_place_is_not_trusted() {
    let (real, secret) = sharing().await;
    let workload = ControlPlane::start_as(real.authority.clone(), "default", "web").await;
    workload.world().proofs = Proofs::Relay(real.addr);
    denied(&workload, &secret, "not the control plane's").await;
}
