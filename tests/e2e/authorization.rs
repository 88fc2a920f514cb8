//! AuthorizationPolicy: who may call whom is decided by the called app's sidecar, before the app sees a byte.

use http::Method;
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Sidecar, client, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Each document of `rules` is the end of a policy's spec.
fn policy(name: &str, target: &str, action: &str, rules: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  targetRefs: [{target}]\n  action: {action}\n  rules: {rules}\n---\n"
    )
}

const WEB: &str = "{kind: Service, name: web}";
const EVERYBODY: &str = "{kind: Namespace, name: default}";

struct Scene {
    mesh: Mesh,
    app: HttpApp,
    web: Sidecar,
    friend: Sidecar,
    stranger: Sidecar,
}

impl Scene {
    async fn start() -> Self {
        let mesh = Mesh::start().await;
        let app = HttpApp::start("web").await;
        mesh.apply(&service("web", "app: web", 80, "http")).await;
        let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
        let friend = mesh.sidecar("friend", "friend").await.start().await;
        let stranger = mesh.sidecar("stranger", "stranger").await.start().await;
        mesh.reachable(&friend, "http://web/").await;
        mesh.reachable(&stranger, "http://web/").await;
        Self { mesh, app, web, friend, stranger }
    }
}

async fn status(sidecar: &Sidecar, method: Method, uri: &str, headers: &[(&str, &str)]) -> (u16, Option<String>) {
    let reply = client::send(sidecar.http_proxy(), client::request(method, uri, headers, "")).await.unwrap();
    (reply.status, reply.reason().map(str::to_owned))
}

async fn get(sidecar: &Sidecar, uri: &str) -> (u16, Option<String>) {
    status(sidecar, Method::GET, uri, &[]).await
}

fn denied() -> (u16, Option<String>) {
    (403, Some("denied".to_owned()))
}

fn ok() -> (u16, Option<String>) {
    (200, None)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_is_allowed_reaches_the_app_and_a_denial_is_counted_by_its_rule() {
    let scene = Scene::start().await;
    let friends = "[{name: friends, from: [{serviceAccounts: [friend]}], to: [{methods: [GET], paths: [/open/*]}]}]";
    scene.mesh.apply(&policy("who", WEB, "ALLOW", friends)).await;
    scene.app.forget();
    assert_eq!(get(&scene.friend, "http://web/open/a").await, ok());
    assert_eq!(get(&scene.friend, "http://web/closed").await, denied());
    assert_eq!(status(&scene.friend, Method::POST, "http://web/open/a", &[]).await, denied());
    assert_eq!(get(&scene.stranger, "http://web/open/a").await, denied());
    let unclear = get(&scene.friend, "http://web/open/%2e%2e/closed").await;
    assert_eq!(unclear, (400, Some("unclear_path".to_owned())));
    assert_eq!(scene.app.count(), 1, "the app has seen what was allowed and nothing else");
    for (from, path, said) in [
        ("friend", "/open/a", "allowed: an ALLOW matches: rule friends of AuthorizationPolicy default/who"),
        ("friend", "/closed", "denied: no rule of the ALLOWs"),
        ("stranger", "/open/a", "denied: no rule of the ALLOWs"),
        ("friend", "/open/%2e%2e/closed", "denied: rules look at paths"),
    ] {
        let output = scene.mesh.leno(&["policy", "test", "--from", from, "--to", "web", "--path", path]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.starts_with(said), "{from} {path}: {output:?}");
    }

    let none = [("policy", "none"), ("decision", "denied")];
    assert_eq!(scene.web.metrics().await.sum("leno_authorization_decisions_total", &none), 3.0);
    let failures = [("direction", "inbound"), ("reason", "denied")];
    assert_eq!(scene.web.metrics().await.sum("leno_failures_total", &failures), 2.0);
    // Who may send nothing at all is not told where to, so its own sidecar says no.
    let failures = [("direction", "outbound"), ("reason", "denied")];
    assert_eq!(scene.stranger.metrics().await.sum("leno_failures_total", &failures), 1.0);

    // A DENY goes before it, for every workload of the namespace.
    let admin = "[{name: no-admin, to: [{paths: [/open/admin]}]}]";
    scene.mesh.apply(&policy("no-admin", EVERYBODY, "DENY", admin)).await;
    for path in ["/open/admin", "/open/ADMIN", "/open/%61dmin", "/open/admin/"] {
        assert_eq!(get(&scene.friend, &format!("http://web{path}")).await, denied(), "{path}");
    }
    let by_rule = [("policy", "default/no-admin"), ("rule", "no-admin"), ("decision", "denied")];
    assert_eq!(scene.web.metrics().await.sum("leno_authorization_decisions_total", &by_rule), 4.0);
    assert_eq!(get(&scene.friend, "http://web/open/a").await, ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_counts_what_it_would_deny_and_a_namespace_is_closed_by_one_empty_allow() {
    let scene = Scene::start().await;
    let strangers = "[{name: strangers, from: [{notServiceAccounts: [friend]}]}]";
    scene.mesh.apply(&policy("try", WEB, "AUDIT", strangers)).await;
    assert_eq!((get(&scene.friend, "http://web/").await, get(&scene.stranger, "http://web/").await), (ok(), ok()));
    let would = [("policy", "default/try"), ("rule", "strangers"), ("decision", "audited")];
    assert_eq!(scene.web.metrics().await.sum("leno_authorization_decisions_total", &would), 1.0);

    scene.mesh.apply(&policy("closed", EVERYBODY, "ALLOW", "[]")).await;
    assert_eq!(get(&scene.friend, "http://web/").await, denied());
    scene.mesh.apply(&policy("who", WEB, "ALLOW", "[{from: [{namespaces: [default]}]}]")).await;
    assert_eq!(get(&scene.friend, "http://web/").await, ok());
}

/// Sends back what it is sent.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    addr
}

async fn echoed(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    stream.read_u8().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_connection_is_closed_when_a_policy_denies_it_and_others_do_not_notice() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("store", "app: store", 7000, "tcp")).await;
    let _store = mesh.sidecar("store", "store").await.port("tcp", echo().await).start().await;
    let friend = mesh.sidecar("friend", "friend").await.upstream("store:7000").start().await;
    let stranger = mesh.sidecar("stranger", "stranger").await.upstream("store:7000").start().await;
    mesh.connected(3).await;
    let open = async |sidecar: &Sidecar| {
        wait::eventually("the store answers", wait::DEADLINE, async || {
            let mut stream = TcpStream::connect(sidecar.upstream("store:7000")).await.ok()?;
            echoed(&mut stream).await.ok().map(|()| stream)
        })
        .await
    };
    let (mut of_friend, mut of_stranger) = (open(&friend).await, open(&stranger).await);

    let rules = "[{from: [{serviceAccounts: [friend]}]}]";
    mesh.apply(&policy("who", "{kind: Service, name: store}", "ALLOW", rules)).await;
    let closed = tokio::time::timeout(wait::DEADLINE, of_stranger.read_u8()).await.expect("it is closed by itself");
    assert!(closed.is_err());
    echoed(&mut of_friend).await.expect("the friend's goes on");
    // It may be broken off before the client has seen that it was there.
    let again = async { echoed(&mut TcpStream::connect(stranger.upstream("store:7000")).await?).await };
    assert!(again.await.is_err(), "nor is a new one let in");
    open(&friend).await;
}

/// Answers every request with chunks that do not end.
async fn endless() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(chunks(stream));
        }
    });
    addr
}

async fn chunks(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_u8().await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    loop {
        stream.write_all(b"1\r\nx\r\n").await?;
        // The pace of a stream, not a wait for anything.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_under_way_is_broken_off_when_its_caller_is_shut_out() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let _web = mesh.sidecar("web", "web").await.port("http", endless().await).start().await;
    let friend = mesh.sidecar("friend", "friend").await.start().await;
    let stranger = mesh.sidecar("stranger", "stranger").await.start().await;
    mesh.connected(3).await;
    let open = async |sidecar: &Sidecar| {
        wait::eventually("the answer has begun", wait::DEADLINE, async || {
            let mut stream = TcpStream::connect(sidecar.http_proxy()).await.ok()?;
            stream.write_all(b"GET http://web/ HTTP/1.1\r\nhost: web\r\n\r\n").await.ok()?;
            let mut begin = [0; 12];
            stream.read_exact(&mut begin).await.ok()?;
            (&begin == b"HTTP/1.1 200").then_some(stream)
        })
        .await
    };
    let (mut of_friend, mut of_stranger) = (open(&friend).await, open(&stranger).await);
    mesh.apply(&policy("who", WEB, "DENY", "[{from: [{serviceAccounts: [stranger]}]}]")).await;
    let mut rest = Vec::new();
    let end = tokio::time::timeout(wait::DEADLINE, of_stranger.read_to_end(&mut rest)).await;
    end.expect("it ends").ok();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "and does not look whole");
    let mut more = vec![0; 4096];
    of_friend.read_exact(&mut more).await.expect("the friend's goes on");
    assert_eq!(get(&stranger, "http://web/").await, denied());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_could_be_taken_in_two_ways_is_refused_with_its_line() {
    let mesh = Mesh::start().await;
    for (spec, said) in [
        ("{targetRefs: [{kind: Service, name: web}], action: ALLOW, rules: [{from: []}]}", "everything or nothing"),
        ("{targetRefs: [{kind: Service, name: web}], action: ALLOW, rules: [{from: [{}]}]}", "everyone or nobody"),
        ("{targetRefs: [{kind: Service, name: web}], action: PERMIT}", "ALLOW, DENY or AUDIT"),
        ("{targetRefs: [{kind: Namespace, name: other}], action: DENY}", "cannot be attached"),
        ("{targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{to: [{paths: ['/a/../b']}]}]}", ". and .."),
        ("{targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{to: [{paths: ['/a%2fb']}]}]}", "decoded"),
        ("{targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{to: [{paths: ['/a*']}]}]}", "whole last"),
        (
            "{targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{from: [{identities: ['spiffe://t/ns/a*']}]}]}",
            "no SPIFFE ID",
        ),
        (
            "{targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{to: [{headers: [{name: Host}]}]}]}",
            "hosts",
        ),
        ("{targetRefs: [{kind: Service, name: web}], action: DENY, rules: [{when: []}]}", "unknown field"),
    ] {
        let yaml = format!(
            "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: default}}\nspec: {spec}\n"
        );
        let output = mesh.apply_output(&yaml).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(said), "{spec}: {errors}");
        assert!(errors.contains(":4:"), "the line is said: {errors}");
    }
}
