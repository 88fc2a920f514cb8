//! Connections that cost: slow, half-open, never read, or more than there are descriptors.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use leno_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::field::{BOTH, Field, Role};
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
    for port in [field.frontend.http_proxy(), field.frontend.upstream("web:80")] {
        for half in
            ["", "G", "GET / HTTP/1.1\r\nHost: w", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\na"]
        {
            all.extend(held(port, MANY / 4, half.as_bytes()).await);
        }
    }
    // Handshakes that stall: after nothing, after a part of a hello.
    for half in [&b""[..], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"] {
        all.extend(held(field.web.mesh(), MANY / 2, half).await);
    }
    let reply = field.frontend.get("http://web/beside").await.unwrap();
    assert_eq!(reply.status, 200);
    // A peer that begins a request and does not go on.
    let mut peers = Vec::new();
    for role in BOTH {
        for _ in 0..20 {
            let mut connection = Connection::open(field.connect(role).await).await;
            connection.send(&frame(HEADERS, 0, 1, &post("/slow")[..10])).await;
            peers.push(connection);
        }
    }
    assert_eq!(field.frontend.get("http://web/beside").await.unwrap().status, 200);
    field.unharmed("half-open").await;
    drop((all, peers));
}

/// Heads have 30 s on HTTP/1 and 30 s, by unanswered pings, on HTTP/2; handshakes 10 s, and silence before HTTP/2 begins 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_not_go_on_is_closed_in_time() {
    let field = Field::start().await;
    let start = std::time::Instant::now();
    let mut slow = TcpStream::connect(field.frontend.http_proxy()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nX: ").await.unwrap();
    let mut stalled = TcpStream::connect(field.web.mesh()).await.unwrap();
    let mut silent = field.connect(Role::Inbound).await;
    let mut half = Vec::new();
    for role in BOTH {
        let mut connection = Connection::open(field.connect(role).await).await;
        connection.send(&frame(HEADERS, 0, 1, &post("/slow"))).await;
        // A part of the frame that goes on with it.
        connection.send(&frame(9, END_HEADERS, 1, &[0; 100])[..20]).await;
        half.push(connection);
    }
    let closed = async {
        let mut got = Vec::new();
        slow.read_to_end(&mut got).await.unwrap();
        let got = String::from_utf8_lossy(&got);
        assert!(got.starts_with("HTTP/1.1 408") && got.contains("leno-reason: head_timeout"), "{got}");
        let _ = stalled.read_to_end(&mut Vec::new()).await;
        let _ = silent.read_to_end(&mut Vec::new()).await;
        for connection in &mut half {
            let _ = connection.0.read_to_end(&mut Vec::new()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), closed).await.expect("all of them are closed");
    leno_tests::tools::note(&format!(
        "FIGURE attack timeouts: all closed after {:.0} s",
        start.elapsed().as_secs_f64()
    ));
    assert!(field.app.asked("/slow").is_empty());
    field.unharmed("slow heads").await;
}

/// With few descriptors left: who is connected goes on, and when the attacker leaves new connections are served again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_without_descriptors_recovers() {
    let mut field = Field::start().await;
    for role in BOTH {
        let process = match role {
            Role::Outbound => field.frontend.process(),
            Role::Inbound => field.web.process(),
        };
        let (pid, most) = (process.pid().to_string(), process.descriptors() + 20);
        let limit = format!("--nofile={most}:{most}");
        let before =
            Command::new("prlimit").args(["--pid", &pid, "--nofile", "--noheadings", "--output=SOFT"]).output();
        let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status().unwrap();
        assert!(status.success());
        let attackers = held(field.port(role), 100, b"").await;
        wait::until("it is out of descriptors", wait::DEADLINE, || {
            let log = if role == Role::Outbound { field.frontend.log() } else { field.web.log() };
            log.contains("cannot accept a connection")
        })
        .await;
        drop(attackers);
        wait::eventually("a new connection is served", wait::DEADLINE, async || {
            let open = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(field.port(role)));
            let mut stream = open.await.ok()?.ok()?;
            match role {
                Role::Outbound => {
                    stream.write_all(b"GET /again HTTP/1.1\r\nHost: web\r\n\r\n").await.ok()?;
                    let mut got = [0; 12];
                    tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut got)).await.ok()?.ok()?;
                    (&got == b"HTTP/1.1 200").then_some(())
                }
                Role::Inbound => tokio::time::timeout(Duration::from_secs(5), field.connect(role)).await.ok().map(drop),
            }
        })
        .await;
        let soft = String::from_utf8_lossy(&before.unwrap().stdout).trim().to_owned();
        // A limit that was lowered cannot be raised without privilege; it is large enough again for who is left.
        let _ = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={soft}:{soft}")]).status();
    }
    field.unharmed("descriptors").await;
}
