//! A request to go on in another protocol is a request like any other until the app has agreed.

use std::time::{Duration, Instant};

use leno_tests::raw::{RawApp, Step, answer};
use leno_tests::{HttpApp, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Web, policy, route};

const AGREED: &str = "HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

async fn app() -> RawApp {
    RawApp::start(|_, seen| match seen.path.rsplit('/').next() {
        Some("agree") => vec![Step::Send(AGREED.into()), Step::Stall],
        // It agrees and goes on for longer than any limit here.
        Some("long") => vec![
            Step::Send(AGREED.into()),
            Step::Wait(Duration::from_secs(3)),
            Step::Send("still here".into()),
            Step::Stall,
        ],
        Some("stall") => vec![Step::Stall],
        Some("slow-no") => {
            vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart".into()), Step::Stall]
        }
        _ => answer(200, "", "done"),
    })
    .await
}

/// Asks, and gives the connection and the head of the answer in lower case.
async fn ask(web: &Web, path: &str, fields: &str) -> (TcpStream, String) {
    let mut caller = TcpStream::connect(web.frontend.http_proxy()).await.unwrap();
    let wish = format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n{fields}\r\n");
    caller.write_all(wish.as_bytes()).await.unwrap();
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(caller.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap().to_lowercase()
    };
    let head = tokio::time::timeout(wait::DEADLINE, read).await.expect("an answer");
    (caller, head)
}

fn is(head: &str, status: u16, reason: &str) -> bool {
    head.starts_with(&format!("http/1.1 {status} ")) && head.contains(&format!("leno-reason: {reason}\r\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_has_to_agree_in_time_and_then_has_all_the_time_it_wants() {
    for timeouts in ["request: 1s", "request: 20s, backendRequest: 1s"] {
        let app = app().await;
        let web = Web::start(&[&app], &route(&format!("    timeouts: {{{timeouts}}}\n"))).await;
        let (_caller, head) = ask(&web, "/said/stall", "").await;
        assert!(is(&head, 504, "timeout"), "{timeouts}: {head}");
        wait::until("the app is left alone", wait::DEADLINE, || app.broken_off() == 1).await;
        let (mut caller, head) = ask(&web, "/said/long", "").await;
        assert!(head.starts_with("http/1.1 101 "), "{timeouts}: {head}");
        let mut said = [0; 10];
        tokio::time::timeout(wait::DEADLINE, caller.read_exact(&mut said)).await.expect("it goes on").unwrap();
        assert_eq!(&said, b"still here");
        // One that does not agree has to be whole in time.
        let (mut caller, head) = ask(&web, "/said/slow-no", "").await;
        assert!(head.starts_with("http/1.1 200 "), "{timeouts}: {head}");
        let mut rest = Vec::new();
        tokio::time::timeout(wait::DEADLINE, caller.read_to_end(&mut rest)).await.expect("it breaks off").ok();
        assert_eq!(rest, b"part");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_own_deadline_holds_until_the_app_has_agreed() {
    let app = app().await;
    let web = Web::start(&[&app], "").await;
    let (_caller, head) = ask(&web, "/agree", "leno-timeout-ms: 0\r\n").await;
    assert!(is(&head, 504, "deadline_expired"), "{head}");
    assert!(app.seen_of("/agree").is_empty());
    let (_caller, head) = ask(&web, "/stall", "leno-timeout-ms: 500\r\n").await;
    assert!(is(&head, 504, "deadline_exceeded"), "{head}");
    let left: u64 = app.seen_of("/stall")[0].field("leno-timeout-ms").unwrap().parse().unwrap();
    assert!((1..=501).contains(&left), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_hold_for_upgrades_and_mirrors_do_not() {
    let (app, copy) = (app().await, HttpApp::start("copy").await);
    let faults = "  faults:\n  - headers: [{name: x-abort, value: \"1\"}]\n    abort: {status: 418}\n  \
                  - headers: [{name: x-slow, value: \"1\"}]\n    delay: 700ms";
    let mirror = "    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copy, port: 80}}}]\n";
    let copies = format!(
        "{}apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: copy-1, namespace: default, labels: {{app: copy}}}}\n\
         spec: {{address: 127.0.0.1, ports: {{http: {}}}}}\n---\n",
        leno_tests::mesh::service("copy", "app: copy", 80, "http"),
        copy.addr().port()
    );
    let web = Web::start(&[&app], &(policy(faults) + &copies + &route(mirror))).await;
    let (_caller, head) = ask(&web, "/other/agree", "x-abort: 1\r\n").await;
    assert!(is(&head, 418, "fault_injected"), "{head}");
    assert!(app.seen_of("/other/agree").is_empty());
    let start = Instant::now();
    let (_caller, head) = ask(&web, "/other/agree", "x-slow: 1\r\n").await;
    assert!(head.starts_with("http/1.1 101 ") && start.elapsed() >= Duration::from_millis(700), "{head}");
    let (_caller, head) = ask(&web, "/said/agree", "").await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert_eq!(web.get("/said/plain").await.status, 200);
    wait::until("the plain request is copied", wait::DEADLINE, || copy.count() == 1).await;
    assert_eq!(copy.seen()[0].path, "/said/plain", "a wish to go on in another protocol was not");
}
