//! Connections that cost: slow, half-open, never read, or more than there are descriptors.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::tls;
use leno_tests::{tools, wait};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::field::{ALL, Field, HTTP1, Role, at_each};
use super::frames::{Connection, END_HEADERS, HEADERS, frame, post};

/// Connections of one attack.
const MANY: usize = 400;

async fn held(port: SocketAddr, n: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..n {
        let mut stream = TcpStream::connect(port).await.unwrap();
        let _ = stream.write_all(bytes).await;
        held.push(stream);
    }
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_half_open_connections_in_masses_harm_nobody() {
    let field = Field::start().await;
    let mut all = Vec::new();
    for role in [Role::Outbound, Role::Upstream, Role::EdgeHttp] {
        for half in
            ["", "G", "GET / HTTP/1.1\r\nHost: w", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\na"]
        {
            all.extend(held(field.port(role), MANY / 4, half.as_bytes()).await);
        }
    }
    // A peer that begins a request and does not go on.
    let (mut peers, roles) = (Vec::new(), ALL);
    for role in roles {
        for _ in 0..20 {
            let mut connection = Connection::open(field.connect(role).await).await;
            connection.send(&frame(HEADERS, 0, 1, &post("/slow")[..10])).await;
            peers.push(connection);
        }
    }
    let end = b"GET /beside HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    at_each(&HTTP1, async |role| {
        let got = field.answers(role, end).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{role:?} {got}");
    })
    .await;
    field.unharmed("half-open").await;
    drop((all, peers));
}

/// One request, whose answer is read to its end.
async fn asked(port: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(port).await.unwrap();
    stream.write_all(b"GET /beside HTTP/1.1\r\nHost: web\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") && !String::from_utf8_lossy(&got).contains("\r\n\r\n") {
        let mut bytes = [0; 1024];
        let n = tokio::time::timeout(wait::DEADLINE, stream.read(&mut bytes)).await.expect("an answer").unwrap();
        assert!(n > 0, "it was closed: {}", got.escape_ascii());
        got.extend_from_slice(&bytes[..n]);
    }
    assert!(got.starts_with(b"HTTP/1.1 200"), "{}", got.escape_ascii());
    stream
}

/// More connections than a port has places for, each of which has asked something and keeps its place.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_that_fill_a_port_make_room_for_the_newest() {
    const PLACES: usize = 10_000;
    tools::many_descriptors();
    let field = Field::start().await;
    let port = field.port(Role::EdgeHttp);
    let mut all = Vec::new();
    while all.len() < PLACES + 300 {
        let more: Vec<_> = (0..50).map(|_| tokio::spawn(asked(port))).collect();
        for one in more {
            all.push(one.await.expect("the newest is served"));
        }
    }
    wait::until("those that were not used for the longest have made room", wait::DEADLINE, || ended(&all[0])).await;
    assert!(all[all.len() - 1000..].iter().all(|stream| !ended(stream)), "the newest stay");
    drop(asked(port).await);
    drop(all);
}

/// Handshakes that stall, more of them than are let go on at once: whoever comes behind them is not kept waiting until they have
/// been given up.
#[tokio::test(flavor = "multi_thread")]
async fn stalled_handshakes_keep_nobody_waiting() {
    tools::many_descriptors();
    let field = Field::start().await;
    for role in [Role::Inbound, Role::EdgeTls] {
        let hello = hello(role).await;
        // After nothing, a part of a hello, and a whole one.
        for half in [&b""[..], &hello[..hello.len() / 2], &hello[..]] {
            let stalled = held(field.port(role), STALLED, half).await;
            let mut io = field.connect(role).await;
            drop(io.flush().await);
            // The oldest may have made room. The newest are being waited for.
            assert!(!ended(&stalled[STALLED - 200]), "{role:?}: served only when the stalled ones had been given up");
        }
    }
    field.unharmed("stalled handshakes").await;
}

/// More than the handshakes that a worker has at once on either port.
const STALLED: usize = 1200;

/// What a client says first.
async fn hello(role: Role) -> Vec<u8> {
    let (mut ours, theirs) = tokio::io::duplex(16 * 1024);
    let name = if role == Role::Inbound { "http.h1.leno.internal" } else { "web" };
    let client = tokio_rustls::TlsConnector::from(Arc::new(tls::unproven_client(&[b"h2"]).unwrap()));
    let shaking = tokio::spawn(client.connect(ServerName::try_from(name).unwrap(), theirs));
    let mut hello = vec![0; 16 * 1024];
    let read = ours.read(&mut hello).await.unwrap();
    shaking.abort();
    hello.truncate(read);
    hello
}

/// The other end has closed it. What it said before may be there still.
fn ended(stream: &TcpStream) -> bool {
    let mut bytes = [0; 16 * 1024];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(n) if n > 0 => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            _ => return true,
        }
    }
}

/// Heads have 30 s on HTTP/1 and 30 s, by unanswered pings, on HTTP/2; handshakes 10 s, and silence before HTTP/2 begins 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_go_on_is_closed_in_time() {
    let field = Field::start().await;
    let start = std::time::Instant::now();
    let closed = at_each(&ALL, async |role| {
        let mut silent = field.connect(role).await;
        let mut half = Connection::open(field.connect(role).await).await;
        half.send(&frame(HEADERS, 0, 1, &post("/slow"))).await;
        // A part of the frame that goes on with it.
        half.send(&frame(9, END_HEADERS, 1, &[0; 100])[..20]).await;
        let mut stalled = TcpStream::connect(field.port(role)).await.unwrap();
        if HTTP1.contains(&role) {
            let mut slow = field.connect_http1(role).await;
            slow.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nX: ").await.unwrap();
            slow.flush().await.unwrap();
            let mut got = Vec::new();
            slow.read_to_end(&mut got).await.unwrap();
            let got = String::from_utf8_lossy(&got);
            assert!(got.starts_with("HTTP/1.1 408") && got.contains("leno-reason: head_timeout"), "{role:?} {got}");
        }
        // The app's own port waits for an app that is silent; a stranger's does not.
        if !matches!(role, Role::Outbound | Role::Upstream) {
            let _ = stalled.read_to_end(&mut Vec::new()).await;
            let _ = silent.read_to_end(&mut Vec::new()).await;
        }
        let _ = half.io.read_to_end(&mut Vec::new()).await;
    });
    tokio::time::timeout(Duration::from_secs(90), closed).await.expect("all of them are closed");
    tools::note(&format!("FIGURE attack timeouts: all closed after {:.0} s", start.elapsed().as_secs_f64()));
    assert!(field.app.asked("/slow").is_empty());
    field.unharmed("slow heads").await;
}

/// With few descriptors left: who is connected goes on, and when the attacker leaves new connections are served again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_without_descriptors_recovers() {
    let mut field = Field::start().await;
    for role in [Role::Outbound, Role::Inbound, Role::EdgeHttp, Role::EdgeTls] {
        let sidecar = field.sidecar(role);
        let (pid, most) = (sidecar.process().pid().to_string(), sidecar.process().descriptors() + 20);
        let told = |log: String| log.matches("cannot accept a connection").count();
        let before = told(sidecar.log());
        let limit =
            |most: &str| Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={most}:{most}")]).status();
        let soft = Command::new("prlimit").args(["--pid", &pid, "--nofile", "--noheadings", "--output=SOFT"]).output();
        assert!(limit(&most.to_string()).unwrap().success());
        let attackers = held(field.port(role), 100, b"").await;
        wait::until("it is out of descriptors", wait::DEADLINE, || told(field.sidecar(role).log()) > before).await;
        drop(attackers);
        wait::eventually("a new connection is served", wait::DEADLINE, async || {
            let served = async {
                let mut stream = TcpStream::connect(field.port(role)).await.ok()?;
                if matches!(role, Role::Inbound | Role::EdgeTls) {
                    return field.try_connect(role, "h2").await.ok().map(drop);
                }
                stream.write_all(b"GET /again HTTP/1.1\r\nHost: web\r\n\r\n").await.ok()?;
                let mut got = [0; 12];
                stream.read_exact(&mut got).await.ok()?;
                (&got == b"HTTP/1.1 200").then_some(())
            };
            tokio::time::timeout(Duration::from_secs(5), served).await.ok().flatten()
        })
        .await;
        // A limit that was lowered cannot be raised without privilege; it is large enough again for who is left.
        let _ = limit(String::from_utf8_lossy(&soft.unwrap().stdout).trim());
    }
    field.unharmed("descriptors").await;
}
