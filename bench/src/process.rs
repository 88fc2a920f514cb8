//! Child processes on a chosen core that never outlive the benchmark.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The environment's name for a folder in which profiles of sidecars are collected (`proxy/profile/train`).
const PROFILES: &str = "LENO_BENCH_PROFILES";
/// How long a contestant may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running program; killed when dropped.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where it writes its profile, and where that is to be kept.
    profile: Option<(PathBuf, PathBuf)>,
}

impl Running {
    /// Starts `program` on `core`. Its standard error is kept in `dir`.
    pub fn start(name: &str, core: usize, program: &Path, args: &[String], dir: &Path) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        Self::spawn(name, pinned(core, program), args, log)
    }

    fn spawn(name: &str, mut command: Command, args: &[String], log: PathBuf) -> Result<Self> {
        let program = command.get_program().to_owned();
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("start {name} by {}", program.display()))?;
        Ok(Self { name: name.to_owned(), child, log, profile: None })
    }

    /// As [`Self::start`], for a program that may write nowhere but below `state`. Where profiles are collected, the one that an
    /// instrumented build writes when it ends is kept.
    pub fn start_sidecar(
        name: &str,
        core: usize,
        program: &Path,
        args: &[String],
        dir: &Path,
        state: &Path,
    ) -> Result<Self> {
        let Some(into) = std::env::var_os(PROFILES) else { return Self::start(name, core, program, args, dir) };
        let mut command = pinned(core, program);
        command.env("LLVM_PROFILE_FILE", state.join("%p.profraw"));
        let mut running = Self::spawn(name, command, args, dir.join(format!("{name}.log")))?;
        running.profile = Some((state.to_owned(), into.into()));
        Ok(running)
    }

    /// The first line on standard output, which programs of ours print when they serve.
    pub fn first_line(&mut self) -> Result<String> {
        let stdout = self.child.stdout.take().context("the first line was read before")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line.is_empty() {
            bail!("{} ended before it served:\n{}", self.name, self.log());
        }
        Ok(line)
    }

    /// Waits until something listens on `addr`.
    pub fn listens(&mut self, addr: SocketAddr) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(addr).is_err() {
            ensure!(self.child.try_wait()?.is_none(), "{} ended before it served:\n{}", self.name, self.log());
            ensure!(start.elapsed() < PATIENCE, "{} does not listen on {addr}:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The process id. `taskset` becomes the program that it starts (and `setpriv` became it), so this is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, as dropping does.
    pub fn kill(&mut self) {
        if let Some((state, into)) = self.profile.take() {
            self.end();
            keep(&state, &into);
        }
        // It may have ended already; there is nothing to do about that here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it end by itself, as long as that does not take too long.
    pub fn end(&mut self) {
        let begun = Instant::now();
        let told =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        while told.is_ok() && matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Keeps the profiles that were written in a sidecar's folder.
fn keep(state: &Path, into: &Path) {
    for file in std::fs::read_dir(state).into_iter().flatten().flatten() {
        let path = file.path();
        // One that is missing is missed when there are none at all.
        if path.extension().is_some_and(|extension| extension == "profraw") {
            let _ = std::fs::copy(&path, into.join(file.file_name()));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets this process, and those that it starts, have as many files open as is allowed.
pub fn raise_open_files() -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// How many that are.
pub fn most_open_files() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// A command that runs on one core only. Where util-linux has `setpriv` the kernel kills it when the thread that starts it ends, so that
/// nothing stays behind a benchmark that was killed.
pub fn pinned(core: usize, program: &Path) -> Command {
    let mut command = match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "taskset"]);
            command
        }
        None => Command::new("taskset"),
    };
    command.arg("-c").arg(core.to_string()).arg(program);
    command
}

/// The path of `program`, when it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The first line with anything on it that `program --version` (or whatever `flag` is) prints.
pub fn version(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output();
    let text = output.map(|out| String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned());
    text.ok().and_then(|text| text.lines().find(|line| !line.trim().is_empty()).map(str::to_owned)).unwrap_or_default()
}

/// A port that was free a moment ago, for programs that cannot choose one and tell.
pub fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
