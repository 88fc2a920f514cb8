//! The Docker Engine: found or started, with the images of `images/build` in it, and compose projects that are gone when
//! their test is over.

mod daemon;
mod project;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub use daemon::Docker;
pub use project::{Container, Project};

use crate::tools;

/// Path of Compose v2's program, where it is no plugin of Docker's.
const COMPOSE_V2: &str = "LENO_COMPOSE_V2";
/// Where Docker's own plugins are, below `/`.
const PLUGIN_DIRS: &[&str] = &[
    "usr/local/lib/docker/cli-plugins",
    "usr/local/libexec/docker/cli-plugins",
    "usr/lib/docker/cli-plugins",
    "usr/libexec/docker/cli-plugins",
];

/// A version of Compose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    program: PathBuf,
    /// What it says it is.
    pub version: String,
}

impl Compose {
    /// Compose 1.29, the one in Python that distributions ship.
    pub fn v1() -> Option<Self> {
        // Both versions are called docker-compose.
        tools::find_all("docker-compose").into_iter().filter_map(Self::of).find(|c| c.version.starts_with("1."))
    }

    /// Compose 2 or later.
    pub fn v2() -> Option<Self> {
        let named = std::env::var_os(COMPOSE_V2).map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker/cli-plugins"));
        let folders = home.into_iter().chain(PLUGIN_DIRS.iter().map(|dir| Path::new("/").join(dir)));
        let plugins = folders.map(|folder| folder.join("docker-compose"));
        let found = named.into_iter().chain(plugins).chain(tools::find_all("docker-compose"));
        found.filter(|file| file.is_file()).find_map(|file| Self::of(file).filter(|c| !c.version.starts_with("1.")))
    }

    fn of(program: PathBuf) -> Option<Self> {
        let output = Command::new(&program).args(["version", "--short"]).output().ok()?;
        let version = String::from_utf8(output.stdout).ok()?.trim().trim_start_matches('v').to_owned();
        output.status.success().then_some(Self { program, version })
    }
}

/// The text of an output that must be a success.
fn text(what: &str, output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Polls `check` until it gives a value, and panics with `what` and `why` when `deadline` has passed.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    mut check: impl FnMut() -> Option<T>,
    why: impl FnOnce() -> String,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}\n{}", why());
        // Each look is a program that talks to the daemon: not too many of them.
        std::thread::sleep(Duration::from_millis(200));
    }
}
