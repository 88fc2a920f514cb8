//! Session persistence as the Gateway API says (GEP-1619): a client stays with the instance that it first got.

use bytes::Bytes;
use http::Method;
use leno_tests::client::{self, Reply};
use leno_tests::mesh::{service, web_services};
use leno_tests::{HttpApp, Mesh, Sidecar, wait};

struct Web {
    frontend: Sidecar,
    _apps: Vec<HttpApp>,
    sidecars: Vec<Sidecar>,
    mesh: Mesh,
}

/// A rule of the route `web` with a session; `session` goes into `sessionPersistence`.
fn rule(path: &str, backends: &str, session: &str) -> String {
    format!(
        "  - matches: [{{path: {{type: PathPrefix, value: {path}}}}}]\n    backendRefs: {backends}\n    \
         sessionPersistence: {{{session}}}\n"
    )
}

fn route(rules: &[String]) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: web, port: 80}}]\n  rules:\n{}---\n",
        rules.concat()
    )
}

/// Instances of `web` with the label `version`, called by their number.
async fn web(versions: &[&str], route: &str) -> Web {
    let mesh = Mesh::start().await;
    mesh.apply(&(web_services() + &service("all", "app: web", 80, "http") + route)).await;
    let (mut apps, mut sidecars) = (Vec::new(), Vec::new());
    for (i, version) in versions.iter().enumerate() {
        let app = HttpApp::start(&i.to_string()).await;
        let builder = mesh.sidecar(&format!("web-{i}"), "web").await.label("version", version);
        sidecars.push(builder.port("http", app.addr()).args(&["--name", &format!("web-{i}")]).start().await);
        apps.push(app);
    }
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(versions.len() + 1).await;
    wait::eventually("every instance answers", wait::DEADLINE, async || {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            seen.insert(frontend.get("http://all/").await.ok()?.text());
        }
        (seen.len() == versions.len()).then_some(())
    })
    .await;
    mesh.reachable(&frontend, "http://web/").await;
    Web { frontend, _apps: apps, sidecars, mesh }
}

impl Web {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let request = client::request(Method::GET, &format!("http://web{path}"), headers, Bytes::new());
        client::send(self.frontend.http_proxy(), request).await.unwrap()
    }

    /// Who answers so many requests with this session; it must be one.
    async fn one(&self, path: &str, headers: &[(&str, &str)], n: usize) -> String {
        let mut answers = std::collections::BTreeSet::new();
        for _ in 0..n {
            let reply = self.get(path, headers).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert!(!reply.headers.contains_key("set-cookie"), "the session was begun anew");
            answers.insert(reply.text());
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.pop_first().unwrap()
    }
}

/// The cookie of an answer as a client sends it, and its attributes.
fn cookie(reply: &Reply) -> (String, String) {
    let set = reply.headers.get("set-cookie").expect("a session begins").to_str().unwrap();
    let (pair, attributes) = set.split_once(';').unwrap();
    (pair.to_owned(), attributes.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_with_its_instance_across_restarts_and_route_changes_even_at_weight_0() {
    let both = |v1: u32, v2: u32| {
        let backends = format!("[{{name: web-v1, port: 80, weight: {v1}}}, {{name: web-v2, port: 80, weight: {v2}}}]");
        route(&[rule("/", &backends, "sessionName: sid")])
    };
    let mut web = web(&["v1", "v1", "v2"], &both(50, 50)).await;
    let mut sessions = Vec::new();
    for _ in 0..40 {
        let first = web.get("/", &[]).await;
        let (pair, attributes) = cookie(&first);
        assert!(pair.starts_with("sid=") && attributes.contains("Path=/"), "{pair}; {attributes}");
        assert!(!attributes.contains("Max-Age") && !attributes.contains("Expires"), "{attributes}");
        sessions.push((first.text(), pair));
    }
    let instances: std::collections::BTreeSet<_> = sessions.iter().map(|(app, _)| app.clone()).collect();
    assert_eq!(instances.len(), 3, "new sessions follow the weights");
    for (app, pair) in &sessions {
        assert_eq!(web.one("/", &[("cookie", pair)], 5).await, *app);
    }
    // A session takes precedence over the weights, also of 0; new ones do not.
    web.mesh.apply(&both(0, 100)).await;
    for (app, pair) in &sessions {
        assert_eq!(web.one("/", &[("cookie", pair)], 2).await, *app);
    }
    assert_eq!(web.get("/", &[]).await.text(), "2");
    web.frontend.stop().await;
    web.frontend.start_again().await;
    for (app, pair) in &sessions {
        assert_eq!(web.one("/", &[("cookie", pair)], 2).await, *app);
    }
    // What no sidecar gave is no session.
    let forged = web.get("/", &[("cookie", &format!("sid={}", "0".repeat(64)))]).await;
    assert_eq!((forged.status, forged.text().as_str()), (200, "2"));
    cookie(&forged);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_has_sessions_of_its_own_and_a_permanent_cookie_says_how_long() {
    let backends = "[{name: all, port: 80}]";
    let rules = [
        rule("/a", backends, "sessionName: sid"),
        rule("/b", backends, "absoluteTimeout: 5m, cookieConfig: {lifetimeType: Permanent}"),
        rule("/", "[{name: all, port: 80}]", "type: Header, sessionName: X-Session"),
    ];
    let web = web(&["v1", "v1", "v2"], &route(&rules)).await;
    let (a, attributes) = cookie(&web.get("/a/x", &[]).await);
    assert!(attributes.contains("Path=/a;"), "{attributes}");
    let (b, attributes) = cookie(&web.get("/b", &[]).await);
    assert!(attributes.contains("Path=/b;") && attributes.contains("Max-Age=300"), "{attributes}");
    assert_ne!(a.split('=').next(), b.split('=').next(), "a cookie without a name gets one of its own");
    let both = format!("{a}; {b}");
    let (on_a, on_b) = (web.one("/a", &[("cookie", &both)], 30).await, web.one("/b", &[("cookie", &both)], 30).await);
    // Another rule's token means nothing here.
    let renamed = format!("{}={}", b.split('=').next().unwrap(), a.split('=').nth(1).unwrap());
    cookie(&web.get("/b", &[("cookie", &renamed)]).await);
    assert_eq!(
        (web.one("/a", &[("cookie", &both)], 5).await, web.one("/b", &[("cookie", &both)], 5).await),
        (on_a, on_b)
    );

    let first = web.get("/", &[]).await;
    let token = first.headers["x-session"].to_str().unwrap().to_owned();
    assert_eq!(web.one("/", &[("x-session", &token)], 30).await, first.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_instance_is_gone_goes_on_with_another() {
    let mut web = web(&["v1", "v1"], &route(&[rule("/", "[{name: all, port: 80}]", "sessionName: sid")])).await;
    let first = web.get("/", &[]).await;
    let (pair, _) = cookie(&first);
    let gone: usize = first.text().parse().unwrap();
    web.sidecars[gone].stop().await;
    let moved = wait::eventually("another instance answers", wait::DEADLINE, async || {
        let reply = web.get("/", &[("cookie", &pair)]).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        (reply.text() != first.text()).then_some(reply)
    })
    .await;
    let (new, _) = cookie(&moved);
    web.sidecars[gone].start_again().await;
    web.mesh.connected(3).await;
    assert_eq!(web.one("/", &[("cookie", &new)], 30).await, moved.text());
}

/// Each worker balances by itself; a session is known to all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_holds_whichever_worker_of_several_gets_the_request() {
    let backends = "[{name: web-v1, port: 80}, {name: web-v2, port: 80}]";
    let one = web(&["v1", "v1", "v2"], &route(&[rule("/", backends, "sessionName: sid")])).await;
    let caller = one.mesh.sidecar("many", "many").await.args(&["--workers", "3"]).start().await;
    one.mesh.reachable(&caller, "http://web/").await;
    let send = async |headers: &[(&str, &str)]| {
        // A connection of its own each, so that the kernel spreads them over the workers.
        let request = client::request(Method::GET, "http://web/", headers, Bytes::new());
        client::send(caller.http_proxy(), request).await.unwrap()
    };
    for _ in 0..8 {
        let first = send(&[]).await;
        let (pair, _) = cookie(&first);
        for _ in 0..12 {
            let again = send(&[("cookie", pair.as_str())]).await;
            assert_eq!((again.status, again.text()), (200, first.text()));
            assert!(!again.headers.contains_key("set-cookie"), "the session was begun anew");
        }
    }
}
