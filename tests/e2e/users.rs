//! Users by their tokens: an app's sidecar lets in whom an issuer vouches for, by keys that the control plane has fetched.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use leno_tests::issuer::Issuer;
use leno_tests::key_server::{Answers, KeyServer};
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Reply, Sidecar, client, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const ISSUER: &str = "https://id.example.com";

fn claims(groups: &[&str]) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    json!({"iss": ISSUER, "aud": "shop", "sub": "alice", "exp": now + 600, "groups": groups})
}

fn provider(jwks: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: JwtProvider\nmetadata: {{name: id, namespace: default}}\n\
         spec: {{issuer: '{ISSUER}', audiences: [shop], jwks: {{{jwks}}}}}\n---\n"
    )
}

fn policy(name: &str, action: &str, to: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{targetRefs: [{{kind: Service, name: web}}], action: {action}, rules: [{{to: [{to}]}}]}}\n---\n"
    )
}

const ADMINS: &str = "{paths: [/admin], claims: [{provider: id, name: groups, values: [admin]}]}";
const OPEN: &str = "{paths: [/, /open/*]}";

struct Scene {
    mesh: Mesh,
    app: HttpApp,
    web: Sidecar,
    client: Sidecar,
}

impl Scene {
    async fn start(args: &[&str]) -> Self {
        let mesh = Mesh::start_with(args).await;
        let app = HttpApp::start("web").await;
        mesh.apply(&service("web", "app: web", 80, "http")).await;
        let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
        let client = mesh.sidecar("client", "client").await.start().await;
        mesh.reachable(&client, "http://web/").await;
        Self { mesh, app, web, client }
    }

    async fn reply(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = client::request(Method::GET, &format!("http://web{path}"), headers, "");
        client::send(self.client.http_proxy(), request).await.unwrap()
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, Option<String>) {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let reply = self.reply(path, &headers).await;
        (reply.status, reply.reason().map(str::to_owned))
    }
}

fn is(status: u16, reason: &str) -> (u16, Option<String>) {
    (status, Some(reason.to_owned()))
}

const OK: (u16, Option<String>) = (200, None);

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_let_in_by_what_the_issuer_says_of_him_and_a_bad_token_is_told_from_none() {
    let issuer = Issuer::rs256("a");
    let scene = Scene::start(&[]).await;
    let inline = format!("inline: '{}'", issuer.jwks());
    scene.mesh.apply(&(provider(&inline) + &policy("users", "ALLOW", &format!("{ADMINS}, {OPEN}")))).await;
    let (admin, guest) = (issuer.sign(&claims(&["staff", "admin"])), issuer.sign(&claims(&["staff"])));
    scene.app.forget();
    assert_eq!(scene.get("/admin", Some(&admin)).await, OK);
    assert_eq!(scene.get("/admin", Some(&admin)).await, OK, "again, from memory");
    assert_eq!(scene.get("/open/a", None).await, OK);
    assert_eq!(scene.get("/open/a", Some("x.y.z")).await, OK, "nothing depends on it");
    assert_eq!(scene.app.count(), 4);
    assert_eq!(scene.get("/admin", Some(&guest)).await, is(403, "denied"));
    assert_eq!(scene.get("/admin", None).await, is(403, "denied"));
    let stranger = Issuer::rs256("a").sign(&claims(&["admin"]));
    assert_eq!(scene.get("/admin", Some(&stranger)).await, is(401, "bad_token"));
    let twice = [("authorization", &*format!("Bearer {admin}")), ("authorization", "Bearer x.y.z")];
    let reply = scene.reply("/admin", &twice).await;
    assert_eq!(
        (reply.status, reply.headers["www-authenticate"].as_bytes()),
        (401, &b"Bearer error=\"invalid_token\""[..])
    );
    assert_eq!(scene.app.count(), 4, "the app has seen what was allowed and nothing else");
    let counted = [("direction", "inbound"), ("reason", "bad_token")];
    assert_eq!(scene.web.metrics().await.sum("leno_failures_total", &counted), 2.0);
    let log = scene.web.log() + &scene.client.log();
    assert!(!log.contains(admin.rsplit('.').next().unwrap()), "a token is in the log");

    // A DENY of guests is not got round by a token that cannot be read.
    let guests = "{claims: [{provider: id, name: groups, values: [guest]}]}";
    scene.mesh.apply(&policy("no-guests", "DENY", guests)).await;
    assert_eq!(scene.get("/open/a", Some(&issuer.sign(&claims(&["guest"])))).await, is(403, "denied"));
    assert_eq!(scene.get("/open/a", Some(&stranger)).await, is(401, "bad_token"));
    assert_eq!(scene.get("/open/a", Some(&guest)).await, OK);

    // Another key of the same issuer: what was believed by the old one is not any more.
    let newer = Issuer::es256("b");
    scene.mesh.apply(&provider(&format!("inline: '{}'", newer.jwks()))).await;
    assert_eq!(scene.get("/admin", Some(&admin)).await, is(401, "bad_token"));
    assert_eq!(scene.get("/admin", Some(&newer.sign(&claims(&["admin"])))).await, OK);
    // Without its provider a policy lets nobody in by a token.
    scene.mesh.leno(&["delete", "jwtprovider", "id", "--wait"]).await;
    wait::eventually("no token is right", wait::DEADLINE, async || {
        let answer = scene.get("/admin", Some(&newer.sign(&claims(&["admin"])))).await;
        (answer == is(401, "bad_token")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_fetched_by_the_control_plane_and_outlive_the_server_and_the_control_plane() {
    let (first, second) = (Issuer::es256("a"), Issuer::rs256("b"));
    let server = KeyServer::start(&first.jwks()).await;
    let folder = TempDir::new().unwrap();
    let authority = server.authority_in(folder.path());
    let mut scene = Scene::start(&["--jwks-ca", &authority]).await;
    server.answer(Answers::Failure);
    scene.mesh.apply(&(provider(&format!("url: '{}'", server.url())) + &policy("users", "ALLOW", ADMINS))).await;
    let token = first.sign(&claims(&["admin"]));
    assert_eq!(scene.get("/admin", Some(&token)).await, is(401, "bad_token"), "there never were any keys");
    server.answer(Answers::Set(first.jwks()));
    let deadline = Duration::from_secs(90);
    wait::eventually("the keys are fetched", deadline, async || {
        (scene.get("/admin", Some(&token)).await == OK).then_some(())
    })
    .await;

    // Nobody answers any more, neither to a control plane that has just been started again; nor does that.
    server.answer(Answers::Failure);
    scene.mesh.control_plane.kill();
    scene.mesh.control_plane.start_again().await;
    scene.mesh.connected(2).await;
    assert_eq!(scene.get("/admin", Some(&token)).await, OK);
    scene.mesh.apply(&policy("more", "ALLOW", OPEN)).await;
    assert_eq!(scene.get("/admin", Some(&token)).await, OK);
    scene.mesh.control_plane.kill();
    scene.web.stop().await;
    scene.web.start_again().await;
    wait::eventually("the last keys hold", wait::DEADLINE, async || {
        (scene.get("/admin", Some(&token)).await == OK).then_some(())
    })
    .await;
    let stranger = second.sign(&claims(&["admin"]));
    assert_eq!(scene.get("/admin", Some(&stranger)).await, is(401, "bad_token"));
}
