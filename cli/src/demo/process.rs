//! A child process of the demo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::failure::{Exit, Failure};

/// How long a program may take until it serves.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a program may take to end in good order.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How much of a program's log is shown when it fails.
const LOG_LINES: usize = 5;

/// A running program that has said that it serves. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Its ready line.
    pub ready: Value,
    stdin: Option<ChildStdin>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts `program` with its log in `folder`, and waits for its ready line.
    ///
    /// # Errors
    /// It cannot be started, ends, or does not say that it is ready; with the end of its log.
    pub async fn start(folder: &Path, name: &str, program: &Path, args: Vec<OsString>) -> Result<Self, Failure> {
        let log = folder.join(format!("{name}.log"));
        let mut child = spawn(&log, program, args)
            .map_err(|e| Failure::new(Exit::Failed, format!("cannot start {name} ({}): {e}", program.display()), ""))?;
        let stdin = child.stdin.take();
        let lines = child.stdout.take().map(|out| BufReader::new(out).lines());
        let mut process = Self { name: name.to_owned(), child, log, ready: Value::Null, stdin, lines };
        match timeout(READY_PATIENCE, process.read_ready()).await {
            Ok(true) => Ok(process),
            Ok(false) => {
                let status = timeout(STOP_PATIENCE, process.child.wait()).await;
                let status = status.ok().and_then(Result::ok).map(|s| s.to_string()).unwrap_or_default();
                Err(process.failure(&format!("ended before it was ready ({status})")))
            }
            Err(_) => Err(process.failure(&format!("was not ready after {} s", READY_PATIENCE.as_secs()))),
        }
    }

    async fn read_ready(&mut self) -> bool {
        while let Some(lines) = &mut self.lines
            && let Ok(Some(line)) = lines.next_line().await
        {
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["event"] == "ready" {
                self.ready = value;
                return true;
            }
        }
        false
    }

    /// Says what is wrong with it, with the end of its log, since the log goes with the demo.
    pub fn failure(&self, what: &str) -> Failure {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().rev().take(LOG_LINES).collect();
        let tail: Vec<String> = lines.iter().rev().map(|l| format!("  {}", crate::output::printable(l))).collect();
        let todo =
            if tail.is_empty() { String::new() } else { format!("the last lines of its log:\n{}", tail.join("\n")) };
        Failure::new(Exit::Failed, format!("{} {what}", self.name), todo)
    }

    /// A field of the ready line that holds `IP:PORT`.
    ///
    /// # Errors
    /// There is no such field.
    pub fn address(&self, pointer: &str) -> Result<std::net::SocketAddr, Failure> {
        let text = self.ready.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        text.parse().map_err(|_| self.failure(&format!("did not say its address {pointer} in {}", self.ready)))
    }

    /// Its standard input and output, for whoever talks to it; otherwise its output is read and dropped.
    pub fn talk(&mut self) -> (Option<ChildStdin>, Option<Lines<BufReader<ChildStdout>>>) {
        (self.stdin.take(), self.lines.take())
    }

    /// Reads and drops what it prints from now on, so that it never waits for a reader.
    pub fn ignore_output(&mut self) {
        if let Some(mut lines) = self.lines.take() {
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        }
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// Asks it to end (SIGTERM).
    pub fn ask_to_stop(&self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Waits for its end, and kills it when that takes too long.
    pub async fn wait(&mut self) {
        if timeout(STOP_PATIENCE, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }
}

impl Drop for Process {
    /// The kernel is given a moment: once the process is gone, it writes no more into the folder that is removed next.
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn spawn(log: &Path, program: &Path, args: Vec<OsString>) -> std::io::Result<Child> {
    let stderr = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    Command::new(std::env::current_exe()?)
        .args(["demo-app", "guard", "--parent"])
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(program)
        .args(args)
        // What the user has set for their own mesh is not for this one.
        .env_remove("LENO_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr)
        // Ctrl-C in the terminal is for the demo, which then ends its processes in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}
