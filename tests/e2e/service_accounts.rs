//! Pods join by the tokens of their service accounts: believed only when the cluster signed them for us, shown only to our control
//! plane, and of no use to whoever steals one.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leno_certs::{Key, SpiffeId, csr};
use leno_proto::v1::SignedIdentity;
use leno_tests::issuer::Issuer;
use leno_tests::key_server::{Answers, KeyServer};
use leno_tests::light::{self, Token};
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, SidecarBuilder, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a pod's token, as kubelet gets them.
fn pod(account: &str, name: &str) -> Value {
    let now = unix_now();
    json!({
        "iss": ISSUER, "aud": ["leno"], "iat": now, "nbf": now, "exp": now + 3600, "jti": name,
        "sub": format!("system:serviceaccount:default:{account}"),
        "kubernetes.io": {
            "namespace": "default", "serviceaccount": {"name": account, "uid": "1"}, "pod": {"name": name, "uid": name},
        },
    })
}

/// A mesh that takes the tokens of a cluster with this key, from a file.
async fn mesh_of(issuer: &Issuer, folder: &TempDir) -> Mesh {
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, issuer.jwks()).unwrap();
    mesh_with(file.to_str().unwrap(), &[]).await
}

async fn mesh_with(jwks: &str, more: &[&str]) -> Mesh {
    let args = ["--service-account-issuer", ISSUER, "--service-account-jwks", jwks];
    Mesh::start_with(&[&args[..], more].concat()).await
}

fn roots(mesh: &Mesh) -> PathBuf {
    let file = mesh.dir().join("ca.crt");
    std::fs::write(&file, mesh.control_plane.roots()).unwrap();
    file
}

/// A sidecar as it is in a pod.
fn sidecar(mesh: &Mesh, name: &str, account: &str, token: &str) -> SidecarBuilder {
    let file = mesh.dir().join(format!("{name}.token"));
    std::fs::write(&file, token).unwrap();
    let roots = roots(mesh);
    SidecarBuilder::new(mesh.dir(), name, account, mesh.control_plane.xds())
        .token_file(&file)
        .args(&["--control-plane-ca", roots.to_str().unwrap()])
}

async fn root_hash(mesh: &Mesh) -> [u8; 32] {
    Token::parse(&mesh.control_plane.api().token("default", "any", 60).await.unwrap()).unwrap().root_hash
}

/// Shows the token with a signing request of this key.
async fn join(mesh: &Mesh, token: &str, key: &Key, account: &str) -> Result<SignedIdentity, Status> {
    let id = SpiffeId::new("cluster.local", "default", account).unwrap();
    let root = root_hash(mesh).await;
    light::join_by_service_account(mesh.control_plane.xds(), root, token, csr::create(key, &id).unwrap()).await
}

async fn refused(mesh: &Mesh, reason: &str, token: &str) {
    let count = async || mesh.control_plane.metrics().await.sum("leno_identity_refusals_total", &[("reason", reason)]);
    let before = count().await;
    let status = join(mesh, token, &Key::generate().unwrap(), "web").await.expect_err(reason);
    assert!(status.message().starts_with(&format!("{reason}: ")), "{status:?}");
    assert_eq!(count().await, before + 1.0, "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_joins_by_the_token_of_its_service_account_and_needs_it_no_more() {
    let issuer = Issuer::rs256("cluster-1");
    let folder = TempDir::new().unwrap();
    let mesh = mesh_of(&issuer, &folder).await;
    let app = HttpApp::start("web").await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let mut web =
        sidecar(&mesh, "web", "web", &issuer.sign(&pod("web", "web-1"))).port("http", app.addr()).start().await;
    let client = sidecar(&mesh, "client", "client", &issuer.sign(&pod("client", "client-1"))).start().await;
    mesh.reachable(&client, "http://web/").await;
    let status = String::from_utf8(mesh.leno(&["status", "-o", "json"]).await.stdout).unwrap();
    assert!(status.contains("spiffe://cluster.local/ns/default/sa/web"), "{status}");
    assert!(!web.state_dir().join("identity/joining.pem").exists(), "the key is in the identity now");

    // Kubelet has put another token into the file by then, or none.
    std::fs::write(mesh.dir().join("web.token"), "x.y.z").unwrap();
    web.kill();
    web.start_again().await;
    mesh.reachable(&client, "http://web/").await;
    let log = mesh.control_plane.log();
    assert!(log.contains("web-1") && !log.contains(&issuer.sign(&pod("web", "x"))[..40]), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_the_first_key_alone_over_kill_9_and_restart() {
    let issuer = Issuer::es256("cluster-1");
    let folder = TempDir::new().unwrap();
    let mut mesh = mesh_of(&issuer, &folder).await;
    let token = issuer.sign(&pod("web", "web-1"));
    let (own, thief) = (Key::generate().unwrap(), Key::generate().unwrap());
    join(&mesh, &token, &own, "web").await.expect("the first");
    join(&mesh, &token, &own, "web").await.expect("its answer may have been lost");
    let status = join(&mesh, &token, &thief, "web").await.expect_err("stolen");
    assert!(status.code() == Code::Unauthenticated && status.message().starts_with("jwt_replayed"), "{status:?}");
    mesh.control_plane.kill();
    mesh.control_plane.start_again().await;
    let status = join(&mesh, &token, &thief, "web").await.expect_err("stolen, after kill -9");
    assert!(status.message().starts_with("jwt_replayed"), "{status:?}");
    join(&mesh, &token, &own, "web").await.expect("the same key");
    join(&mesh, &issuer.sign(&pod("web", "web-2")), &thief, "web").await.expect("another pod's token");

    // Of many who come at once one gets something.
    let token = issuer.sign(&pod("web", "web-3"));
    let keys: Vec<Key> = (0..8).map(|_| Key::generate().unwrap()).collect();
    let all = futures_util::future::join_all(keys.iter().map(|key| join(&mesh, &token, key, "web"))).await;
    assert_eq!(all.iter().filter(|joined| joined.is_ok()).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_did_not_sign_for_us_and_now_is_refused_with_its_reason() {
    let (issuer, other) = (Issuer::rs256("cluster-1"), Issuer::rs256("cluster-2"));
    let folder = TempDir::new().unwrap();
    let mesh = mesh_of(&issuer, &folder).await;
    let with = |name: &str, value: Value| {
        let mut claims = pod("web", "web-1");
        claims[name] = value;
        issuer.sign(&claims)
    };
    let good = issuer.sign(&pod("web", "web-1"));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let unsigned = json!({"alg": "none"}).to_string();
    for (reason, token) in [
        ("jwt_audience", with("aud", json!(["https://kubernetes.default.svc"]))),
        ("jwt_issuer", with("iss", json!("https://evil.example"))),
        ("jwt_expired", with("exp", json!(unix_now() - 60))),
        ("jwt_not_yet_valid", with("nbf", json!(unix_now() + 600))),
        ("jwt_long_lived", with("exp", json!(unix_now() + 400 * 24 * 3600))),
        ("jwt_claims", with("sub", json!("system:serviceaccount:default:admin"))),
        ("jwt_unknown_key", other.sign(&pod("web", "web-1"))),
        ("jwt_algorithm", issuer.sign_as(&json!({"alg": "HS256", "kid": "cluster-1"}), &pod("web", "web-1"))),
        ("jwt_signature", format!("{signed}AA.{signature}")),
        ("jwt_malformed", "eyJhbGciOiJSUzI1NiJ9.x".to_owned()),
        ("jwt_too_long", format!("{signed}.{}", "A".repeat(9_000))),
        ("jwt_algorithm", issuer.sign_raw(&unsigned, &pod("web", "web-1").to_string())),
    ] {
        refused(&mesh, reason, &token).await;
    }
    // No refusal has spent it, and it is no token of another account.
    let status = join(&mesh, &good, &Key::generate().unwrap(), "store").await.expect_err("another account");
    assert!(status.code() == Code::PermissionDenied, "{status:?}");
    assert!(!mesh.control_plane.log().contains(signature), "a token is in the log");

    // Without the flags nobody joins so.
    let plain = Mesh::start().await;
    refused(&plain, "jwt_not_taken", &issuer.sign(&pod("web", "web-2"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_to_nobody_but_the_control_plane_of_the_given_root() {
    let issuer = Issuer::rs256("cluster-1");
    let folder = TempDir::new().unwrap();
    let (mesh, other) = (mesh_of(&issuer, &folder).await, mesh_of(&issuer, &folder).await);
    // Somebody else answers at the control plane's address: here, another mesh's, which would take the token.
    let builder = SidecarBuilder::new(mesh.dir(), "web", "web", other.control_plane.xds());
    let token = issuer.sign(&pod("web", "web-1"));
    let ended = async |builder: SidecarBuilder| {
        let mut process = builder.spawn();
        let status = process.wait(wait::DEADLINE).await;
        (status.code(), process.log())
    };
    let roots = roots(&mesh);
    let with_roots = builder.clone().token(&token).args(&["--control-plane-ca", roots.to_str().unwrap()]);
    let (code, log) = ended(with_roots).await;
    assert!(code == Some(77) && log.contains("not the control plane's"), "{code:?} {log}");
    let (code, log) = ended(builder.token(&token)).await;
    assert!(code == Some(77) && log.contains("--control-plane-ca"), "{code:?} {log}");
    join(&other, &token, &Key::generate().unwrap(), "web").await.expect("nobody has shown it before");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_url_are_fetched_again_for_a_new_one_and_hold_while_nobody_answers() {
    let (first, second) = (Issuer::rs256("a"), Issuer::es256("b"));
    let server = KeyServer::start(&first.jwks()).await;
    let folder = TempDir::new().unwrap();
    let bearer = folder.path().join("token");
    std::fs::write(&bearer, "of-this-pod\n").unwrap();
    let (url, authority) = (server.url(), server.authority_in(folder.path()));
    let more = ["--jwks-ca", &authority, "--service-account-jwks-token-file", bearer.to_str().unwrap()];
    let mut mesh = mesh_with(&url, &more).await;
    let new = || Key::generate().unwrap();
    join(&mesh, &first.sign(&pod("web", "1")), &new(), "web").await.expect("a token");
    assert_eq!(server.requests(), [Some("Bearer of-this-pod".to_owned())]);

    // The cluster has a new key, and whoever names one that nobody has does not make us ask without end.
    server.answer(Answers::Set(second.jwks()));
    wait::eventually("the new key is known", Duration::from_secs(60), async || {
        join(&mesh, &second.sign(&pod("web", "2")), &new(), "web").await.ok()
    })
    .await;
    let asked = server.requests().len();
    let stranger = Issuer::es256("c");
    futures_util::future::join_all((0..20).map(async |n| {
        let token = stranger.sign(&pod("web", &n.to_string()));
        join(&mesh, &token, &new(), "web").await.expect_err("a key of nobody's")
    }))
    .await;
    assert!(server.requests().len() <= asked + 2, "asked {asked} times, then {}", server.requests().len());

    // What was fetched holds, after a restart too; a redirect leads nowhere.
    let trap = KeyServer::start(&stranger.jwks()).await;
    for (name, answers) in [("3", Answers::Failure), ("4", Answers::Redirect(trap.url()))] {
        server.answer(answers);
        mesh.control_plane.kill();
        mesh.control_plane.start_again().await;
        join(&mesh, &second.sign(&pod("web", name)), &new(), "web").await.expect("held keys");
    }
    wait::until("the redirect was met", wait::DEADLINE, || {
        mesh.control_plane.log().contains("no redirect is followed")
    })
    .await;
    assert_eq!(trap.requests(), [] as [Option<String>; 0]);
    assert!(!mesh.control_plane.log().contains("of-this-pod"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keys_nobody_joins() {
    let issuer = Issuer::rs256("a");
    let server = KeyServer::start(&issuer.jwks()).await;
    // Its certificate is of an authority that the control plane does not know.
    let mesh = mesh_with(&server.url(), &[]).await;
    let status = join(&mesh, &issuer.sign(&pod("web", "1")), &Key::generate().unwrap(), "web").await.unwrap_err();
    assert!(status.code() == Code::Unavailable && status.message().starts_with("jwks_unavailable"), "{status:?}");
    let missing = mesh_with("/nonexistent/jwks.json", &[]).await;
    let status = join(&missing, &issuer.sign(&pod("web", "1")), &Key::generate().unwrap(), "web").await.unwrap_err();
    assert!(status.message().starts_with("jwks_unavailable"), "{status:?}");
}
