//! Who is measured, and how each is set up: a pair of proxies with mutual TLS verified on both sides, one thread each.

mod envoy;
mod floor;
mod haproxy;
mod leno;
mod nginx;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cpu;
use crate::process::Running;

pub use envoy::{Carries, envoy};
pub use floor::floor;
pub use haproxy::{haproxy, haproxy_http2, haproxy_tcp};
pub use leno::{HOST, Mesh, leno, leno_http2, leno_tcp, leno_with};
pub use nginx::nginx;

/// How long one may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where contestants find what they share.
pub struct Place<'a> {
    /// A temporary folder with the certificates of [`certificates::write`](crate::certificates::write).
    pub dir: &'a Path,
    /// The core of the proxies.
    pub proxy_core: usize,
    /// The core of everything else.
    pub load_core: usize,
    /// The server behind the pair.
    pub backend: SocketAddr,
}

/// One who is measured.
pub struct Contestant {
    /// Its name in the report.
    pub name: &'static str,
    /// Where the load goes.
    pub target: SocketAddr,
    /// The processes whose time counts; none when there is no proxy.
    pub pair: Vec<Running>,
    /// Processes that it needs besides, and that carry no request.
    pub _others: Vec<Running>,
}

impl Contestant {
    /// No proxy at all.
    pub fn direct(place: &Place<'_>) -> Self {
        Self { name: "direct", target: place.backend, pair: Vec::new(), _others: Vec::new() }
    }

    /// Waits until a request gets through.
    pub fn wait_until_it_answers(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.answers() {
            ensure!(begun.elapsed() < PATIENCE, "{} does not answer", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn answers(&self) -> bool {
        let answered = || {
            let mut stream = TcpStream::connect(self.target)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())?;
            let mut read = [0; 16];
            let n = stream.read(&mut read)?;
            std::io::Result::Ok(read[..n].starts_with(b"HTTP/1.1 200"))
        };
        answered().unwrap_or(false)
    }

    /// What comes of `work`, and the processor time that the pair used for it.
    pub fn pays<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
        let pids = self.pids();
        let before = cpu::used(&pids)?;
        let done = work().with_context(|| self.name.to_owned())?;
        let used = cpu::used(&pids)?.saturating_sub(before);
        ensure!(pids.is_empty() || !used.is_zero(), "{} used no processor time", self.name);
        Ok((done, used))
    }

    /// The process ids whose time counts.
    pub fn pids(&self) -> Vec<u32> {
        self.pair.iter().map(Running::pid).collect()
    }
}

/// `path` as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A file in the common folder as an argument.
fn file(place: &Place<'_>, name: &str) -> PathBuf {
    place.dir.join(name)
}
