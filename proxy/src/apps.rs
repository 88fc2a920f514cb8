//! Whether processes of an app are there, in the process namespace that the sidecar and the app share: for jobs, whose
//! sidecar ends when the app has ended.
//!
//! A process tells of its end only to its parent, which is outside of the namespace; so `/proc` is looked at, every 50 ms
//! until an app was seen, every 200 ms afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Until an app was seen. It is what a container's start takes at least, so that a job that ends at once is not missed.
const BEFORE: Duration = Duration::from_millis(50);
/// While it runs.
const WHILE: Duration = Duration::from_millis(200);
/// Names of container runtimes' processes that become the app, or a health check of ours, in a moment.
const RUNTIMES: [&str; 3] = ["runc:[", "crun", "youki:["];
/// The process that holds a pod's namespaces in Kubernetes.
const PAUSE: &str = "pause";

/// A process as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    name: String,
    cgroup: Option<String>,
}

impl Seen {
    fn is_starting(&self) -> bool {
        RUNTIMES.iter().any(|runtime| self.name.starts_with(runtime))
    }
}

/// Comes back when processes of an app were there and all have ended.
pub async fn ended() {
    let mut watch = Watch::new(Path::new("/proc"));
    loop {
        if watch.look() {
            return;
        }
        tokio::time::sleep(if watch.app_was_there { WHILE } else { BEFORE }).await;
    }
}

/// What was seen so far.
struct Watch<'a> {
    proc: &'a Path,
    own: Seen,
    others: BTreeMap<u32, Seen>,
    app_was_there: bool,
    /// How often in a row nobody was there.
    empty: usize,
}

impl<'a> Watch<'a> {
    fn new(proc: &'a Path) -> Self {
        let own = read(&proc.join("self")).unwrap_or(Seen { name: "leno-proxy".to_owned(), cgroup: None });
        Self { proc, own, others: BTreeMap::new(), app_was_there: false, empty: 0 }
    }

    /// Looks once more. True when the app has ended: twice in a row, since one process may be about to follow another.
    fn look(&mut self) -> bool {
        let now = self.others_now();
        self.app_was_there |= now.iter().any(|(pid, seen)| self.is_app(*pid, seen));
        self.empty = if now.is_empty() { self.empty + 1 } else { 0 };
        self.others = now;
        self.app_was_there && self.empty >= 2
    }

    fn is_app(&self, pid: u32, seen: &Seen) -> bool {
        // A runtime's process is about to become something: our own health check when it is in our container, the app when
        // it is not. One that has only just come may not be in its container yet.
        !seen.is_starting()
            || (seen.cgroup.is_some() && seen.cgroup != self.own.cgroup && self.others.get(&pid) == Some(seen))
    }

    /// All processes but ours and those that are dead.
    fn others_now(&self) -> BTreeMap<u32, Seen> {
        let entries = fs::read_dir(self.proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let others = pids.filter_map(|pid| Some((pid, read(&self.proc.join(pid.to_string()))?)));
        others.filter(|(_, seen)| seen.name != self.own.name && seen.name != PAUSE).collect()
    }
}

/// A living process; none when it has ended in the meantime, or only waits for its parent to notice that.
fn read(dir: &Path) -> Option<Seen> {
    // `PID (NAME) STATE …`; the name may hold anything, even a parenthesis.
    let stat = fs::read(dir.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(begin + 1..end)?.to_owned();
    let state = stat.get(end + 1..)?.trim_start().chars().next()?;
    let cgroup = fs::read_to_string(dir.join("cgroup")).ok();
    (!matches!(state, 'Z' | 'X' | 'x')).then_some(Seen { name, cgroup })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like /proc.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            let proc = Self(tempfile::tempdir().unwrap());
            proc.run("self", "leno-proxy", 'S', "0::/");
            proc.run("1", "leno-proxy", 'S', "0::/../hold");
            proc
        }

        fn run(&self, pid: &str, name: &str, state: char, cgroup: &str) {
            let dir = self.0.path().join(pid);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("stat"), format!("7 ({name}) {state} 1 1")).unwrap();
            fs::write(dir.join("cgroup"), cgroup).unwrap();
        }

        fn end(&self, pid: &str) {
            fs::remove_dir_all(self.0.path().join(pid)).unwrap();
        }
    }

    #[test]
    fn an_app_that_was_there_and_has_ended_is_noticed() {
        let proc = Proc::new();
        let mut watch = Watch::new(proc.0.path());
        assert!((0..10).all(|_| !watch.look()), "nobody was there yet");
        proc.run("7", "my (app) x", 'S', "0::/../app");
        assert!(!watch.look());
        proc.run("8", "child", 'S', "0::/../app");
        proc.run("7", "my (app) x", 'Z', "0::/../app");
        assert!((0..10).all(|_| !watch.look()), "the child is still there");
        proc.end("8");
        assert!(!watch.look(), "another one may follow");
        assert!(watch.look());
    }

    #[test]
    fn health_checks_and_the_holder_are_no_app() {
        let proc = Proc::new();
        let mut watch = Watch::new(proc.0.path());
        for _ in 0..5 {
            // A check is the runtime's process, first elsewhere and then in our container, then ours, then gone.
            proc.run("9", "runc:[2:INIT]", 'S', "0::/../../docker");
            assert!(!watch.look());
            proc.run("9", "runc:[2:INIT]", 'S', "0::/");
            assert!(!watch.look() && !watch.look());
            proc.run("9", "leno-proxy", 'S', "0::/");
            assert!(!watch.look());
            proc.end("9");
            assert!(!watch.look() && !watch.look() && !watch.look());
        }
        proc.run("1", "pause", 'S', "0::/");
        assert!(!watch.look() && !watch.look() && !watch.look());
    }

    #[test]
    fn an_app_of_which_only_the_start_was_seen_counts() {
        let proc = Proc::new();
        let mut watch = Watch::new(proc.0.path());
        proc.run("9", "runc:[2:INIT]", 'S', "0::/../app");
        assert!(!watch.look() && !watch.look());
        proc.end("9");
        assert!(!watch.look());
        assert!(watch.look());
    }
}
