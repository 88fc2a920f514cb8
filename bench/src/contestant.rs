//! Who is measured, and how each is set up: a pair of proxies with mutual TLS verified on both sides, one thread each.

mod envoy;
mod floor;
mod haproxy;
mod leno;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::process::Running;

pub use envoy::{Carries, envoy};
pub use floor::floor;
pub use haproxy::{haproxy, haproxy_tcp};
pub use leno::{HOST, leno, leno_tcp, leno_with};

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
