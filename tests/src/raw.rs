//! An HTTP/1.1 server made of bytes, for the failures that no library makes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// The path that is answered 200 and not counted, so that a test can wait until the way is there.
pub const READY: &str = "/ready";

/// What a server does with a request whose head it has read, step by step.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes these bytes.
    Send(String),
    /// Reads the body, by its length or its chunks.
    ReadBody,
    /// Waits until the peer goes.
    Stall,
    /// Waits for so long.
    Wait(Duration),
    /// Resets the connection.
    Reset,
    /// Closes it in good order.
    Close,
}

/// An answer with a body.
pub fn answer(status: u16, fields: &str, body: &str) -> Vec<Step> {
    let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n{fields}\r\n{body}", body.len());
    vec![Step::ReadBody, Step::Send(head)]
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct RawSeen {
    /// When its head was read.
    pub at: Instant,
    /// Its head in lower case.
    pub head: String,
    /// Its path.
    pub path: String,
}

impl RawSeen {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

type Script = dyn Fn(usize, &RawSeen) -> Vec<Step> + Send + Sync;

struct State {
    script: Box<Script>,
    seen: Mutex<Vec<RawSeen>>,
    times: Mutex<HashMap<String, usize>>,
    ready: AtomicUsize,
    broken_off: AtomicUsize,
    body_bytes: AtomicUsize,
}

/// The server.
pub struct RawApp {
    addr: SocketAddr,
    state: Arc<State>,
    accepting: AbortHandle,
}

impl RawApp {
    /// Starts one that asks `script` what to do; it is given how often the path was seen before, and the request.
    pub async fn start(script: impl Fn(usize, &RawSeen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            times: Mutex::default(),
            ready: AtomicUsize::new(0),
            broken_off: AtomicUsize::new(0),
            body_bytes: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                // An error of one connection is what tests ask for.
                tokio::spawn(async move { serve(stream, &state).await.ok() });
            }
        });
        Self { addr, state, accepting: accepting.abort_handle() }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every request so far, but those for [`READY`].
    pub fn seen(&self) -> Vec<RawSeen> {
        self.state.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those for a path.
    pub fn seen_of(&self, path: &str) -> Vec<RawSeen> {
        self.seen().into_iter().filter(|seen| seen.path == path).collect()
    }

    /// Whether a request for [`READY`] has come.
    pub fn is_ready(&self) -> bool {
        self.state.ready.load(SeqCst) > 0
    }

    /// Connections that the peer ended while the server stalled.
    pub fn broken_off(&self) -> usize {
        self.state.broken_off.load(SeqCst)
    }

    /// Bytes of bodies that it has read.
    pub fn body_bytes(&self) -> usize {
        self.state.body_bytes.load(SeqCst)
    }
}

impl Drop for RawApp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let head = read_head(&mut stream).await?.to_lowercase();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let seen = RawSeen { at: Instant::now(), head, path };
        let steps = if seen.path == READY {
            state.ready.fetch_add(1, SeqCst);
            answer(200, "", "ready")
        } else {
            let mut times = state.times.lock().unwrap_or_else(PoisonError::into_inner);
            let times = times.entry(seen.path.clone()).or_default();
            state.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
            *times += 1;
            (state.script)(*times - 1, &seen)
        };
        for step in steps {
            match step {
                Step::Send(bytes) => stream.write_all(bytes.as_bytes()).await?,
                Step::ReadBody => read_body(&mut stream, &seen, state).await?,
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Stall => {
                    let mut rest = [0; 4096];
                    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
                    state.broken_off.fetch_add(1, SeqCst);
                    return Ok(());
                }
                Step::Reset => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
                Step::Close => return stream.shutdown().await,
            }
        }
    }
}

async fn read_body(stream: &mut TcpStream, seen: &RawSeen, state: &State) -> std::io::Result<()> {
    if let Some(length) = seen.field("content-length").and_then(|text| text.parse::<usize>().ok()) {
        let mut left = length;
        let mut part = [0; 4096];
        while left > 0 {
            let n = stream.read(&mut part[..left.min(4096)]).await?;
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            left -= n;
            state.body_bytes.fetch_add(n, SeqCst);
        }
    } else if seen.field("transfer-encoding").is_some() {
        // The tests' chunked bodies have no trailers, so the last chunk ends them.
        let mut end = Vec::new();
        while !end.ends_with(b"0\r\n\r\n") {
            end.push(stream.read_u8().await?);
            state.body_bytes.fetch_add(1, SeqCst);
            if end.len() > 64 {
                end.drain(..32);
            }
        }
    }
    Ok(())
}

/// A message's head as it came, byte by byte, so that nothing behind it is read.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}
