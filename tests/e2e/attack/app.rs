//! An app that reads HTTP/1.1 by hand and keeps what it saw, byte by byte and connection by connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use leno_tests::raw::read_head;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The number of its connection.
    pub connection: usize,
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// The values of all fields of this name, written exactly so.
    pub fn exactly(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| *n == name).map(|(_, value)| value).collect()
    }
}

/// The body of the answer to `/large`.
const LARGE: usize = 4 << 20;
static PIECE: [u8; 64 * 1024] = [b'a'; 64 * 1024];

/// It answers 200 `ok`; `/early` before it has read the body; `/large` by a large body; `/switch` by a 101 that nobody asked for; `/head` by odd fields.
pub struct RawApp {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl RawApp {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                tokio::spawn(serve(stream, connection, kept.clone()));
            }
        });
        Self { addr, seen }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests whose head or body has this text.
    pub fn having(&self, text: &str) -> Vec<Seen> {
        let has = |seen: &Seen| seen.head.contains(text) || String::from_utf8_lossy(&seen.body).contains(text);
        self.seen().into_iter().filter(has).collect()
    }

    /// No connection that has carried a request for this path has carried another one since.
    pub fn assert_last_of_its_connection(&self, path: &str) {
        let seen = self.seen();
        for (at, last) in seen.iter().enumerate().filter(|(_, seen)| seen.head.split(' ').nth(1) == Some(path)) {
            let again = seen[at + 1..].iter().find(|later| later.connection == last.connection);
            assert!(again.is_none(), "used again after {path}: {again:?}");
        }
    }

    /// Requests for this path.
    pub fn asked(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.head.split(' ').nth(1) == Some(path)).collect()
    }
}

async fn serve(mut stream: TcpStream, connection: usize, kept: Arc<Mutex<Vec<Seen>>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let head = read_head(&mut stream).await?;
        let keep = |body: Vec<u8>| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(Seen { connection, head: head.clone(), body });
        };
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == "/early" {
            keep(Vec::new());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await?;
            continue;
        }
        keep(body(&mut stream, &head).await?);
        if path == "/large" {
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await?;
            for _ in 0..LARGE / PIECE.len() {
                stream.write_all(&PIECE).await?;
            }
            continue;
        }
        let answer: &[u8] = match path {
            "/switch" => b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            "/head" => {
                b"HTTP/1.1 200 Fine\r\nX-CaSe: 1\r\nx-case: 2\r\nContent-Length: 2\r\nleno-reason: no_route\r\nleno-header-case: eTAG\r\nETag: \"a\"\r\n\r\nok"
            }
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        };
        stream.write_all(answer).await?;
    }
}

async fn body(stream: &mut TcpStream, head: &str) -> std::io::Result<Vec<u8>> {
    let head = head.to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let mut body = Vec::new();
    if field("transfer-encoding").is_some() {
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await?);
        }
    } else if let Some(length) = field("content-length") {
        body.resize(length.trim().parse().unwrap(), 0);
        stream.read_exact(&mut body).await?;
    }
    Ok(body)
}
