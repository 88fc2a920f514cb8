//! Local rate limits, enforced by the sidecar of the service.

use leno_tests::raw::{RawApp, Step, answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Web, field, policy, route, rule_policy};

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_has_its_own_limit_and_is_told_of_it() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&app], "").await;
    let other = web.mesh.sidecar("other", "other").await.start().await;
    web.mesh.reachable(&other, "http://web/ready").await;
    web.mesh.apply(&policy("  rateLimits: [{requests: 3, per: 1h, by: Caller}]")).await;
    for left in ["2", "1", "0"] {
        let reply = web.get("/a").await;
        assert_eq!(reply.status, 200);
        assert_eq!(field(&reply, "ratelimit-policy"), Some("\"default\";q=3;w=3600"));
        assert!(field(&reply, "ratelimit").unwrap().starts_with(&format!("\"default\";r={left};t=")), "{reply:?}");
    }
    let refused = web.get("/a").await;
    assert_eq!((refused.status, refused.reason()), (429, Some("rate_limited")));
    assert_eq!((field(&refused, "leno-hop"), field(&refused, "leno-fault")), (Some("inbound"), Some("downstream")));
    let wait: u64 = field(&refused, "retry-after").unwrap().parse().unwrap();
    assert!((1..=1200).contains(&wait), "{wait}");
    let grpc = web.post("/a", &[("content-type", "application/grpc")]).await;
    assert_eq!((grpc.status, field(&grpc, "grpc-status")), (200, Some("8")));
    assert_eq!(app.seen_of("/a").len(), 3);
    assert_eq!(other.get("http://web/a").await.unwrap().status, 200, "another identity has its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_has_a_limit_of_its_own_and_the_other_rules_have_none() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let limits = "  rateLimits: [{name: said, requests: 1, per: 1h, burst: 2}]";
    let web = Web::start(&[&app], &(route("") + &rule_policy("said", limits))).await;
    let statuses = async |path: &str| {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.push(web.get(path).await.status);
        }
        all
    };
    assert_eq!(statuses("/said/a").await, [200, 200, 429, 429]);
    assert_eq!(statuses("/other").await, [200; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_connection_is_one_request_to_the_limit_of_its_service() {
    let app = RawApp::start(|_, _| {
        let agreed = "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        vec![Step::Send(agreed.into()), Step::Stall]
    })
    .await;
    let web = Web::start(&[&app], "").await;
    web.mesh.apply(&policy("  rateLimits: [{requests: 1, per: 1h, by: Caller}]")).await;
    let mut open = Vec::new();
    for expected in ["HTTP/1.1 101 ", "HTTP/1.1 429 "] {
        let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
        let wish = "GET /ws HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        caller.write_all(wish.as_bytes()).await.unwrap();
        let mut start = [0; 13];
        caller.read_exact(&mut start).await.unwrap();
        assert_eq!(std::str::from_utf8(&start).unwrap(), expected);
        open.push(caller);
    }
    assert_eq!(app.seen_of("/ws").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_every_service_that_selects_an_instance_hold_for_it() {
    let app = RawApp::start(|_, _| answer(200, "", "done")).await;
    let web = Web::start(&[&app], "").await;
    let front = leno_tests::mesh::service("front", "app: web", 80, "http");
    let other = leno_tests::mesh::service("other", "app: other", 80, "http");
    web.mesh.apply(&(front + &other)).await;
    web.mesh.reachable(&web.frontend, "http://front/ready").await;
    let limits = |of: &str, requests: u32| {
        let limit = format!("  rateLimits: [{{name: {of}, requests: {requests}, per: 1h, by: Caller}}]");
        policy(&limit).replace("name: web", &format!("name: {of}"))
    };
    web.mesh.apply(&(limits("front", 3) + &limits("other", 1))).await;
    let mut said = Vec::new();
    for uri in ["http://front/a", "http://web/a", "http://front/a", "http://front/a", "http://web/a"] {
        let reply = web.frontend.get(uri).await.unwrap();
        said.push((reply.status, field(&reply, "ratelimit-policy").map(str::to_owned)));
    }
    let policy_of = || Some("\"front\";q=3;w=3600".to_owned());
    assert_eq!(said, [200, 200, 200, 429, 429].map(|status| (status, policy_of())));
}
