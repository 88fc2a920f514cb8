//! What a request says of itself travels along a chain of services whose apps pass it on, as they do with the fields of traces.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::Method;
use leno_tests::mesh::service;
use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::{Mesh, Reply, client, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PASSED_ON: [&str; 2] = ["leno-timeout-ms", "leno-attempt"];

/// An app that asks the service `back` for whatever it is asked for, and says what it was told.
async fn middle(proxy: Arc<OnceLock<SocketAddr>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass(stream, proxy.clone()));
        }
    });
    addr
}

async fn pass(mut stream: TcpStream, proxy: Arc<OnceLock<SocketAddr>>) -> anyhow::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let told = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let fields: Vec<(&str, &str)> = PASSED_ON.iter().filter_map(|name| Some((*name, told(name)?))).collect();
        let request = client::request(Method::GET, &format!("http://back{path}"), &fields, "");
        let to = *proxy.get().expect("it is asked when everything is there");
        let (status, attempts) = match client::send(to, request).await {
            Ok(reply) => (reply.status, field(&reply, "leno-attempts").to_owned()),
            Err(_) => (502, String::new()),
        };
        let attempts = if attempts.is_empty() { attempts } else { format!("leno-attempts: {attempts}\r\n") };
        let text = format!("HTTP/1.1 {status} Said\r\n{attempts}content-length: 0\r\n\r\n");
        stream.write_all(text.as_bytes()).await?;
    }
}

fn field<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

fn route(name: &str, more: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: {name}, port: 80}}]\n  rules:\n  \
         - backendRefs: [{{name: {name}, port: 80}}]\n{more}---\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_that_is_left_and_the_attempt_travel_from_hop_to_hop() {
    let back = RawApp::start(|_, seen| match seen.path.as_str() {
        "/stall" => vec![Step::Stall],
        "/fails" => answer(503, "", "no"),
        _ => answer(200, "", "done"),
    })
    .await;
    let mesh = Mesh::start().await;
    let retry = "    retry: {attempts: 2, codes: [503], backoff: 1ms}\n";
    let yaml = service("middle", "app: middle", 80, "http")
        + &service("back", "app: back", 80, "http")
        + &route("middle", &format!("    timeouts: {{request: 2s}}\n{retry}"))
        + &route("back", &format!("    timeouts: {{request: 30s}}\n{retry}"));
    mesh.apply(&yaml).await;
    let _back = mesh.sidecar("back", "back").await.port("http", back.addr()).start().await;
    let proxy = Arc::new(OnceLock::new());
    let app = middle(proxy.clone()).await;
    let middle = mesh.sidecar("middle", "middle").await.port("http", app).start().await;
    proxy.set(middle.http_proxy()).unwrap();
    let front = mesh.sidecar("front", "front").await.start().await;
    mesh.connected(3).await;
    wait::eventually("the chain is there", wait::DEADLINE, || async {
        (front.get("http://middle/ready").await.ok()?.status == 200).then_some(())
    })
    .await;

    // The second hop has what the first one left of its 2 s, and not its own 30 s.
    assert_eq!(front.get("http://middle/fine").await.unwrap().status, 200);
    let told = |path: &str, name: &str| back.seen_of(path)[0].field(name).map(str::to_owned);
    let left: u64 = told("/fine", "leno-timeout-ms").unwrap().parse().unwrap();
    assert!((1..=2000).contains(&left), "{left}");
    let late = front.get("http://middle/stall").await.unwrap();
    assert_eq!(late.status, 504, "{late:?}");
    wait::until("the work at the end of the chain is given up", wait::DEADLINE, || back.broken_off() >= 1).await;

    // Three attempts at the first hop and three at the second one would be nine.
    let failed = front.get("http://middle/fails").await.unwrap();
    assert_eq!(failed.status, 503);
    let seen = back.seen_of("/fails");
    assert!((3..=5).contains(&seen.len()), "{} requests for one", seen.len());
    let first = seen.iter().filter(|request| request.field("leno-attempt").is_none()).count();
    assert_eq!(first, 1, "all others are said to be repeated");
}
