//! Bodies and streams that are long: memory stays flat, a slow reader holds its sender, changes of routes touch nothing that goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use leno_tests::mesh::service;
use leno_tests::raw::read_head;
use leno_tests::wait::eventually;
use leno_tests::{Mesh, Sidecar, tools};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::grpc::Call;
use super::place::{Place, host};
use super::server::Speaks;

/// Bytes of a body each way. Ten gigabytes take minutes in a debug build, so `LENO_STREAM_BYTES` says another number.
const BYTES: u64 = 256 << 20;
/// What a sidecar may grow by while bodies pass: the windows of two streams, buffers, and what allocators round up.
const GROWTH: u64 = 24 << 20;
const PIECE: usize = 256 * 1024;

/// `POST` is read to its end and counted, then answered; `GET /N` is answered by N bytes.
async fn app(moved: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, moved.clone()));
        }
    });
    addr
}

async fn serve(mut stream: TcpStream, moved: Arc<AtomicU64>) -> std::io::Result<()> {
    loop {
        let head = read_head(&mut stream).await?.to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok()).unwrap_or(0);
        let mut piece = vec![b'u'; PIECE];
        let mut left = length;
        while left > 0 {
            let n = stream.read(&mut piece).await?;
            if n == 0 {
                return Ok(());
            }
            left -= n as u64;
            moved.fetch_add(n as u64, Relaxed);
        }
        let mut down =
            head.strip_prefix("get /").and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {down}\r\n\r\n").as_bytes()).await?;
        while down > 0 {
            let n = down.min(PIECE as u64);
            stream.write_all(&piece[..n as usize]).await?;
            down -= n;
            moved.fetch_add(n, Relaxed);
        }
    }
}

/// The most memory that two processes had while this lived.
struct Watch {
    most: Arc<[AtomicU64; 2]>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn start(sidecars: [&mut Sidecar; 2]) -> Self {
        let pids = sidecars.map(|sidecar| sidecar.process().pid());
        let (most, stop) = (Arc::new([AtomicU64::new(0), AtomicU64::new(0)]), Arc::new(AtomicBool::new(false)));
        let (m, s) = (most.clone(), stop.clone());
        std::thread::spawn(move || {
            while !s.load(Relaxed) {
                for (pid, most) in pids.iter().zip(m.iter()) {
                    most.fetch_max(resident(*pid), Relaxed);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { most, stop }
    }

    fn most(&self) -> [u64; 2] {
        [self.most[0].load(Relaxed), self.most[1].load(Relaxed)]
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

async fn upload(proxy: SocketAddr, bytes: u64) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let head = format!("POST /up HTTP/1.1\r\nHost: web\r\nContent-Length: {bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let (piece, mut left) = (vec![b'u'; PIECE], bytes);
    while left > 0 {
        let n = left.min(PIECE as u64);
        stream.write_all(&piece[..n as usize]).await.unwrap();
        left -= n;
    }
    let mut got = [0; 12];
    stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 200");
}

async fn begin_download(proxy: SocketAddr, bytes: u64) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(format!("GET /{bytes} HTTP/1.1\r\nHost: web\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", head.escape_ascii());
    stream
}

async fn read(stream: &mut TcpStream, mut left: u64) {
    let mut piece = vec![0; PIECE];
    while left > 0 {
        let most = left.min(PIECE as u64) as usize;
        let n = stream.read(&mut piece[..most]).await.unwrap();
        assert!(n > 0, "it ends {left} bytes early");
        left -= n as u64;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways_in_flat_memory_and_a_slow_reader_holds_the_sender() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let moved = Arc::new(AtomicU64::new(0));
    let mut web = mesh.sidecar("web", "web").await.port("http", app(moved.clone()).await).start().await;
    let mut frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(2).await;
    mesh.reachable(&frontend, "http://web/").await;
    let proxy = frontend.http_proxy();
    let bytes = std::env::var("LENO_STREAM_BYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(BYTES);
    // What buffers are there once some has passed.
    upload(proxy, 8 << 20).await;
    read(&mut begin_download(proxy, 8 << 20).await, 8 << 20).await;

    let before = [frontend.process().memory(), web.process().memory()];
    let (watch, start) = (Watch::start([&mut frontend, &mut web]), Instant::now());
    upload(proxy, bytes).await;
    let up = start.elapsed();
    read(&mut begin_download(proxy, bytes).await, bytes).await;
    let down = start.elapsed() - up;

    // A reader that stops: the app cannot go on sending, and can when the reader does.
    let (sent_before, most) = (moved.load(Relaxed), 64 << 20);
    let mut slow = begin_download(proxy, most).await;
    let mut last = (0, 0);
    let sent = eventually("the sender is held", Duration::from_secs(60), async || {
        let now = moved.load(Relaxed) - sent_before;
        last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        // 50 looks, 20 ms apart.
        (last.1 >= 50).then_some(now)
    })
    .await;
    assert!(sent < most / 2, "{sent} bytes were sent to a reader that reads nothing");
    read(&mut slow, most).await;

    let after = watch.most();
    let mb = |memory: [u64; 2]| memory.map(|bytes| format!("{:.1}", bytes as f64 / 1e6)).join(" and ");
    tools::note(&format!(
        "FIGURE bodies of {bytes} bytes: up {:.1} s, down {:.1} s; MB of both sidecars {} before, {} at most; a reader that stops \
         holds the sender at {sent} bytes",
        up.as_secs_f64(),
        down.as_secs_f64(),
        mb(before),
        mb(after)
    ));
    for (before, after) in before.iter().zip(after) {
        assert!(after < before + GROWTH, "memory grew from {before} to {after} bytes");
    }
}

/// A route to `web`'s server that differs from the last by a header that nobody sends.
fn route(service: &str, n: usize) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: changing, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: {service}, port: 80}}]\n  rules:\n  \
         - matches: [{{headers: [{{name: x-none, value: \"{n}\"}}]}}]\n    backendRefs: [{{name: {service}, port: 80}}]\n  \
         - backendRefs: [{{name: {service}, port: 80}}]\n---\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_changes_of_routes_and_long_silence() {
    let place = Place::start().await;
    let mut streams = Vec::new();
    for pair in [false, true] {
        streams.push(Call::start(&place, &host(Speaks::Two, pair)).await);
    }
    for stream in &mut streams {
        stream.echo_first().await;
    }
    for n in 0..10 {
        for pair in [false, true] {
            place.mesh.apply(&route(&host(Speaks::Two, pair), n)).await;
        }
        for stream in &mut streams {
            stream.echo(&format!("change {n}")).await;
        }
    }
    // Longer than any ping's patience and any pool's: nothing has passed, and nothing is lost.
    tokio::time::sleep(Duration::from_secs(40)).await;
    for mut stream in streams {
        stream.echo("after silence").await;
        assert_eq!(stream.end().await["grpc-status"], "0");
    }
}
