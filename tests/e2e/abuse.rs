//! Whatever is thrown at a port, both programs stay up, stay small, and serve the others.

use std::net::SocketAddr;
use std::time::Duration;

use leno_tests::mesh::Trio;
use leno_tests::{Load, Mesh, client, tools, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Connections of each kind to each port.
const CONNECTIONS: usize = 60;
/// Rounds of abuse after the first; memory must not grow with their number.
const ROUNDS: usize = 4;
/// What a process may keep from all the rounds: allocators round up, and the load's own report is not in it.
const GROWTH: u64 = 24 << 20;

/// The start of something that every protocol here knows, and that then goes wrong or never goes on.
fn openings() -> Vec<Vec<u8>> {
    let random = (0..fastrand::usize(1..4096)).map(|_| fastrand::u8(..)).collect();
    let mut openings: Vec<Vec<u8>> = vec![
        Vec::new(),
        random,
        b"GET / HT".to_vec(),
        b"GET http://web/ HTTP/1.1\r\nHost: web\r\nContent-Length: 1000\r\n\r\nshort".to_vec(),
        b"POST http://web/ HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), // The start of a ClientHello of 512 bytes.
        b"\x16\x03\x01\xff\xff".to_vec(),                     // A TLS record that is longer than allowed.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x05\0\0\0\x01".to_vec(), // A frame of 16 MiB.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0pingping".to_vec(),
        vec![0; 4096],
        vec![b'\n'; 4096],
    ];
    let mut headers = b"GET / HTTP/1.1\r\n".to_vec();
    headers.extend(std::iter::repeat_n(&b"x-header: and so on and on and on\r\n"[..], 4000).flatten());
    openings.push(headers);
    openings
}

/// Sends an opening and goes away, in good order or not.
async fn random(addr: SocketAddr, opening: Vec<u8>) {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return };
    let _ = stream.write_all(&opening).await;
    match fastrand::u8(..3) {
        0 => drop(stream),
        1 => {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        _ => {
            let _ = stream.shutdown().await;
            let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
        }
    }
}

/// Sends an opening and then holds the connection open and silent.
async fn half_open(addr: SocketAddr, opening: Vec<u8>) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&opening)).await;
    Some(stream)
}

/// Sends an opening byte by byte, for about a second.
async fn slow(addr: SocketAddr, opening: Vec<u8>) {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return };
    for byte in opening.into_iter().take(20) {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One round at every port; all its connections have ended when it returns.
async fn round(ports: &[SocketAddr]) {
    let mut attackers = JoinSet::new();
    let mut held = Vec::new();
    for &port in ports {
        let openings = openings();
        for n in 0..CONNECTIONS {
            let opening = openings[n % openings.len()].clone();
            attackers.spawn(random(port, opening.clone()));
            attackers.spawn(slow(port, opening.clone()));
            held.extend(half_open(port, opening).await);
        }
    }
    while let Some(ended) = attackers.join_next().await {
        ended.unwrap();
    }
}

struct Parts {
    trio: Trio,
    mesh: Mesh,
}

impl Parts {
    fn ports(&self) -> Vec<SocketAddr> {
        let plane = &self.mesh.control_plane;
        let mut ports = vec![plane.xds(), plane.api_addr(), plane.admin(), self.trio.frontend.upstream("store:7000")];
        for sidecar in [&self.trio.frontend, &self.trio.web] {
            ports.extend([sidecar.mesh(), sidecar.http_proxy(), sidecar.admin()]);
        }
        ports
    }

    /// Resident memory and open files of the three programs that are abused.
    fn usage(&mut self) -> [(u64, usize); 3] {
        [self.mesh.control_plane.process(), self.trio.frontend.process(), self.trio.web.process()]
            .map(|process| (process.memory(), process.descriptors()))
    }
}

async fn start() -> Parts {
    let mesh = Mesh::start().await;
    Parts { trio: Trio::start(&mesh).await, mesh }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_half_open_and_slow_connections_on_every_port_crash_nothing_and_harm_nobody() {
    let mut parts = start().await;
    let ports = parts.ports();
    let load =
        Load::new(parts.trio.frontend.http_proxy(), "http://web/").clients(4).pause(Duration::from_millis(5)).start();
    // The first round fills caches and pools; from then on nothing may grow.
    round(&ports).await;
    let (usage_before, ports_len) = (parts.usage(), ports.len());
    for _ in 0..ROUNDS {
        round(&ports).await;
    }
    load.more(200).await;
    let report = load.stop().await;
    report.assert_no_failure();
    assert!(report.slowest() < Duration::from_secs(5), "a request took {:?} meanwhile", report.slowest());

    // What was held open is closed by us now; the programs must let go of it too.
    let most = usage_before.map(|(_, descriptors)| descriptors + ports_len * 4);
    wait::until("descriptors are let go", Duration::from_secs(60), || {
        let usage = parts.usage();
        usage.iter().zip(&most).all(|((_, now), most)| now <= most)
    })
    .await;
    let sizes = |usage: [(u64, usize); 3]| usage.map(|(memory, _)| format!("{:.1}", memory as f64 / 1e6)).join(", ");
    tools::note(&format!(
        "FIGURE abuse: resident MB of control plane, frontend and web: {}, and after {ROUNDS} more rounds {}",
        sizes(usage_before),
        sizes(parts.usage())
    ));
    for ((before, _), (after, _)) in usage_before.iter().zip(parts.usage()) {
        assert!(
            after < before + GROWTH,
            "memory grew from {before} to {after} bytes: {usage_before:?}, {:?}",
            parts.usage()
        );
    }
    for admin in [
        parts.mesh.control_plane.admin(),
        parts.trio.frontend.admin(),
        parts.trio.web.admin(),
        parts.trio.store.admin(),
    ] {
        assert_eq!(client::get_direct(admin, "/live").await.unwrap().status, 200);
        assert_eq!(client::get_direct(admin, "/ready").await.unwrap().status, 200);
    }
    for log in [parts.mesh.control_plane.log(), parts.trio.frontend.log(), parts.trio.web.log()] {
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_does_not_fill_the_memory() {
    let mut parts = start().await;
    parts.mesh.reachable(&parts.trio.frontend, "http://web/").await;
    let before = parts.usage();
    // Pipelined requests whose answers nobody reads: the sidecar must stop reading, not keep answers.
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(parts.trio.frontend.http_proxy()).await.unwrap();
        let requests = b"GET http://web/ HTTP/1.1\r\nHost: web\r\n\r\n".repeat(20_000);
        let _ = tokio::time::timeout(Duration::from_secs(2), stream.write_all(&requests)).await;
        held.push(stream);
    }
    // An echo whose answers nobody reads.
    for _ in 0..16 {
        let mut stream = TcpStream::connect(parts.trio.frontend.upstream("store:7000")).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&vec![b'x'; 16 << 20])).await;
        held.push(stream);
    }
    let after = parts.usage();
    for ((before, _), (after, _)) in before.iter().zip(&after) {
        assert!(*after < before + (48 << 20), "memory grew from {before} to {after} bytes");
    }
    let report = Load::new(parts.trio.frontend.http_proxy(), "http://web/").clients(4).limit(200).run().await;
    report.assert_no_failure();
}
