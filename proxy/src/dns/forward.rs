//! The original resolvers, and asking them. Queries go out as the bytes that came in, but for the number, and answers come back
//! likewise: EDNS, DNSSEC, types that nobody has heard of and errors pass as they are.
//!
//! Over UDP each query has a socket of its own, with a port that the kernel draws and a random number, and an answer counts only
//! when it comes from the resolver that was asked and repeats number and question: who cannot see the query can hardly guess all
//! of that. A client asks the resolvers in their order and each for its `timeout`; since it cannot know here which of them is
//! dead, the next one is asked in addition before the client's first patience ends.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::crypto::SecureRandom;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;

use super::interfaces;
use super::message::{answers, code_of, rcode};
use super::resolv_conf::ResolvConf;

/// The file is looked at again after this.
const CHECK: Duration = Duration::from_secs(1);
/// Most of the file that is read.
const MOST_FILE: u64 = 64 * 1024;
/// Longest answer over UDP.
const MOST_UDP: usize = 65_535;
/// Until the next resolver is asked in addition.
const STEP: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(2);

/// What the original resolvers said.
#[derive(Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// An answer, as it came.
    Answer(Vec<u8>),
    /// None of them has a program that listens.
    Unreachable,
    /// Nothing, for as long as a client would have waited.
    Silence,
}

/// One resolver's part in it.
enum Tried {
    Answer(Vec<u8>),
    Unreachable,
}

/// Knows the original resolvers.
pub struct Forwarder {
    path: PathBuf,
    port: u16,
    /// Never asked: it is us.
    own: Vec<SocketAddr>,
    conf: Mutex<Watched>,
    random: &'static dyn SecureRandom,
    /// Answers are received here one at a time; a buffer for each query in flight could be 64 MiB.
    scratch: Mutex<Vec<u8>>,
    /// Ports of our own queries that are under way.
    ports: OwnPorts,
}

struct Watched {
    checked: Option<Instant>,
    stamp: Option<(i64, i64, u64, u64)>,
    conf: Arc<ResolvConf>,
}

/// By family, since the same port of the other one is somebody else's.
type OwnPorts = Arc<Mutex<HashSet<(bool, u16)>>>;

/// Remembers a port while a query of ours is under way on it.
pub struct OwnPort {
    ports: OwnPorts,
    port: (bool, u16),
}

impl Drop for OwnPort {
    fn drop(&mut self) {
        lock(&self.ports).remove(&self.port);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Forwarder {
    /// Asks the resolvers that the file `path` names, on `port`, but never `own`, where we listen ourselves.
    pub fn new(path: PathBuf, port: u16, own: Vec<SocketAddr>) -> Self {
        let conf = Arc::new(ResolvConf::parse("", port, |_| None));
        Self {
            path,
            port,
            own,
            conf: Mutex::new(Watched { checked: None, stamp: None, conf }),
            random: rustls::crypto::aws_lc_rs::default_provider().secure_random,
            scratch: Mutex::new(vec![0; MOST_UDP]),
            ports: Arc::default(),
        }
    }

    /// Whether a query from this address is one of ours that came back: the rules that lead the namespace's DNS here lead our own
    /// queries here, too.
    pub fn is_own(&self, from: SocketAddr) -> bool {
        lock(&self.ports).contains(&(from.is_ipv4(), from.port()))
    }

    /// What the file says now. When it cannot be read, what it said before stays.
    pub fn conf(&self) -> Arc<ResolvConf> {
        let now = Instant::now();
        let mut watched = lock(&self.conf);
        if watched.checked.is_some_and(|at| now.duration_since(at) < CHECK) {
            return watched.conf.clone();
        }
        watched.checked = Some(now);
        let stamp = std::fs::metadata(&self.path).ok().map(|m| (m.mtime(), m.mtime_nsec(), m.ino(), m.size()));
        if stamp.is_some() && stamp != watched.stamp {
            match self.read() {
                Ok(conf) => {
                    tracing::info!(servers = ?conf.servers, path = %self.path.display(), "the original resolvers");
                    watched.conf = Arc::new(conf);
                    watched.stamp = stamp;
                }
                Err(error) => tracing::warn!(%error, path = %self.path.display(), "the resolvers cannot be read anew"),
            }
        }
        watched.conf.clone()
    }

    fn read(&self) -> io::Result<ResolvConf> {
        let mut text = Vec::new();
        std::fs::File::open(&self.path)?.take(MOST_FILE).read_to_end(&mut text)?;
        let addresses = interfaces::read();
        let interface = |name: &str| interfaces::index_of(&addresses, name);
        let mut conf = ResolvConf::parse(&String::from_utf8_lossy(&text), self.port, interface);
        conf.servers.retain(|server| !self.own.contains(server));
        Ok(conf)
    }

    /// Asks over UDP.
    pub async fn udp(&self, query: &[u8]) -> Forwarded {
        let conf = self.conf();
        let count = u32::try_from(conf.servers.len().max(1)).unwrap_or(1);
        let step = (conf.timeout / count).clamp(*STEP.start(), *STEP.end());
        let deadline = Instant::now() + conf.timeout;
        let mut rest = conf.servers.iter();
        let mut tries = FuturesUnordered::new();
        let mut next = Instant::now();
        let (mut failure, mut asks_now) = (None, true);
        loop {
            if asks_now && let Some(server) = rest.next() {
                tries.push(self.ask(*server, query));
                next = Instant::now() + step;
            }
            if tries.is_empty() && rest.len() == 0 {
                return failure.map_or(Forwarded::Unreachable, Forwarded::Answer);
            }
            asks_now = tokio::select! {
                Some(tried) = tries.next() => match tried {
                    // As the C library does: a server that cannot is no reason not to ask another one.
                    Tried::Answer(answer) if is_failure(&answer) => {
                        failure.get_or_insert(answer);
                        true
                    }
                    Tried::Answer(answer) => return Forwarded::Answer(answer),
                    Tried::Unreachable => true,
                },
                () = tokio::time::sleep_until(next), if rest.len() > 0 => true,
                () = tokio::time::sleep_until(deadline) => {
                    return failure.map_or(Forwarded::Silence, Forwarded::Answer);
                }
            };
        }
    }

    async fn ask(&self, server: SocketAddr, query: &[u8]) -> Tried {
        match self.exchange(server, query).await {
            Ok(answer) => Tried::Answer(answer),
            Err(error) => {
                tracing::debug!(%error, %server, "the resolver cannot be asked");
                Tried::Unreachable
            }
        }
    }

    async fn exchange(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind(any(server)).await?;
        let _own = self.own_port(socket.local_addr()?);
        socket.connect(server).await?;
        let mut sent = query.to_vec();
        self.random.fill(&mut sent[..2]).map_err(|_| io::Error::other("no random numbers"))?;
        socket.send(&sent).await?;
        loop {
            // With ERROR, or a resolver that nobody listens at would look like a silent one.
            let received = socket.async_io(Interest::READABLE | Interest::ERROR, || {
                let mut scratch = lock(&self.scratch);
                let n = (&*SockRef::from(&socket)).read(&mut scratch)?;
                Ok(answers(&sent, &scratch[..n]).then(|| scratch[..n].to_vec()))
            });
            // What is no answer is somebody's guess, or an old one.
            if let Some(mut answer) = received.await? {
                answer[..2].copy_from_slice(&query[..2]);
                return Ok(answer);
            }
        }
    }

    /// A connection to the first resolver that takes one.
    pub async fn tcp(&self) -> Option<(TcpStream, OwnPort)> {
        let conf = self.conf();
        for server in &conf.servers {
            match tokio::time::timeout(conf.timeout, self.connect(*server)).await {
                Ok(Ok(connected)) => return Some(connected),
                Ok(Err(error)) => tracing::debug!(%error, %server, "the resolver takes no connection"),
                Err(_) => tracing::debug!(%server, "the resolver takes no connection in time"),
            }
        }
        None
    }

    async fn connect(&self, server: SocketAddr) -> io::Result<(TcpStream, OwnPort)> {
        let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // Bound before it is connected, so that its port is known before the connection could come back to us.
        socket.bind(any(server))?;
        let own = self.own_port(socket.local_addr()?);
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        Ok((stream, own))
    }

    fn own_port(&self, local: SocketAddr) -> OwnPort {
        let port = (local.is_ipv4(), local.port());
        lock(&self.ports).insert(port);
        OwnPort { ports: self.ports.clone(), port }
    }
}

fn is_failure(answer: &[u8]) -> bool {
    [rcode::SERVER_FAILURE, rcode::NOT_IMPLEMENTED, rcode::REFUSED].contains(&code_of(answer))
}

/// Any address and port of the family of `server`.
fn any(server: SocketAddr) -> SocketAddr {
    let ip = if server.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}

#[cfg(test)]
mod tests;
