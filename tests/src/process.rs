//! One child process: its output in files, its signals, and its certain end.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait;

/// Lines of a part's log that are shown when its test fails.
const TAIL: usize = 60;

/// A running program. Standard error is kept in `NAME.log` and standard output in `NAME.out`, both in the test's folder.
/// It leads a process group, and the group is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    /// The log, which is shown when the test has failed: its folder may be gone by then.
    log: File,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` as `name`. Its log goes on where an earlier process of the same name ended.
    pub fn spawn(name: &str, command: &mut Command, dir: &Path) -> Self {
        crate::clock::wear(command, dir);
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.log")));
        let log = OpenOptions::new().create(true).append(true).read(true).open(&stderr).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("an output file"))
            .stderr(log.try_clone().expect("one more descriptor"))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {command:?}: {error}"));
        Self { name: name.to_owned(), child, stdout, stderr, log, status: None }
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it wrote to standard error so far, with what earlier processes of its name wrote.
    pub fn log(&self) -> String {
        // By its own descriptor, at the file's beginning wherever the process writes.
        let mut bytes = vec![0; self.log.metadata().map_or(0, |file| file.len()) as usize];
        let read = self.log.read_at(&mut bytes, 0).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Everything it wrote to standard output.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// Waits for the first line on standard output. Panics when the process ends without one.
    pub async fn first_line(&mut self) -> String {
        let deadline = tokio::time::Instant::now() + wait::DEADLINE;
        loop {
            if let Some((line, _)) = self.stdout().split_once('\n') {
                return line.to_owned();
            }
            let ended = self.exited();
            assert!(ended.is_none(), "{} ended without a ready line: {ended:?}\n{}", self.name, self.tail());
            assert!(tokio::time::Instant::now() < deadline, "{} printed no ready line\n{}", self.name, self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("the state of a child");
        }
        self.status
    }

    /// Panics with the log when the process has ended.
    pub fn assert_running(&mut self) {
        let ended = self.exited();
        assert!(ended.is_none(), "{} has ended: {ended:?}\n{}", self.name, self.tail());
    }

    /// Sends `signal` to the process alone.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            kill_process(self.as_pid(), signal).expect("a signal to a child that was not waited for");
        }
    }

    /// Stops it in its tracks; [`resume`](Self::resume) lets it go on.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it as a power cut would (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.status = Some(self.child.wait().expect("a killed child ends"));
    }

    /// Kills the children that it waits for, and not itself.
    pub fn kill_child(&mut self) {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid())).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            let _ = kill_process(child, Signal::KILL);
        }
    }

    /// Asks it to end (SIGTERM) and waits.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(wait::DEADLINE).await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let end = tokio::time::Instant::now() + deadline;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(tokio::time::Instant::now() < end, "waited {deadline:?} for {what}\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    fn as_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The last lines of the log.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        format!("--- {} ({})\n{last}\n---", self.name, self.stderr.display())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The group first: while its leader has not been waited for, the group's number cannot be somebody else's.
        if self.status.is_none() {
            let _ = kill_process_group(self.as_pid(), Signal::KILL);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

fn read(file: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()).into_owned()
}
