//! Whether processes of an app are there, in the process namespace that the sidecar and the app share: for jobs, whose
//! sidecar ends when the app has ended.
//!
//! A process tells of its end only to its parent, which is outside of the namespace; so `/proc` is looked at, every 10 ms
//! until an app was seen, every 200 ms afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Until an app was seen. Starting a container takes longer than that (25 ms were measured with runc), so that a job that
/// ends at once is not missed.
const BEFORE: Duration = Duration::from_millis(10);
/// While it runs.
const WHILE: Duration = Duration::from_millis(200);
/// Names of container runtimes' processes that become the app, or a health check of ours, in a moment.
const RUNTIMES: [&str; 3] = ["runc:[", "crun", "youki:["];
/// Most containers of ours that are remembered: holder, sidecar, and room to spare.
const MOST_GROUPS: usize = 16;
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

/// Comes back when no other process is left, at the latest after `limit`: a holder that ends takes everybody along, and a
/// sidecar that drains has something to say yet.
pub async fn alone(limit: Duration) {
    let watch = Watch::new(Path::new("/proc"));
    let empty = async {
        while !watch.is_alone() {
            tokio::time::sleep(BEFORE).await;
        }
    };
    let _ = tokio::time::timeout(limit, empty).await;
}

/// What was seen so far.
struct Watch<'a> {
    proc: &'a Path,
    own: String,
    /// Control groups, and so containers, in which processes of ours were seen.
    our_groups: BTreeSet<String>,
    /// Everybody else.
    others: BTreeMap<u32, Seen>,
    app_was_there: bool,
    /// How often in a row nobody was there.
    empty: usize,
}

impl<'a> Watch<'a> {
    fn new(proc: &'a Path) -> Self {
        let own = read(&proc.join("self")).map_or_else(|| "leno-proxy".to_owned(), |seen| seen.name);
        let (our_groups, others) = (BTreeSet::new(), BTreeMap::new());
        Self { proc, own, our_groups, others, app_was_there: false, empty: 0 }
    }

    /// Looks once more. True when the app has ended: twice in a row, since one process may be about to follow another.
    fn look(&mut self) -> bool {
        let mut now = BTreeMap::new();
        for (pid, seen) in self.everybody() {
            if seen.name == self.own {
                self.our_groups.extend(seen.cgroup.filter(|_| self.our_groups.len() < MOST_GROUPS));
            } else if seen.name != PAUSE {
                now.insert(pid, seen);
            }
        }
        let before = std::mem::replace(&mut self.others, now);
        let mut ended = before.iter().filter(|(pid, _)| !self.others.contains_key(pid));
        self.app_was_there |= ended.any(|(_, seen)| self.was_short_app(seen));
        self.app_was_there |= self.others.values().any(|seen| !seen.is_starting());
        self.empty = if self.others.is_empty() { self.empty + 1 } else { 0 };
        self.app_was_there && self.empty >= 2
    }

    /// True when nobody else lives here.
    fn is_alone(&self) -> bool {
        self.everybody().all(|(pid, _)| pid == std::process::id())
    }

    /// A runtime's process that ended between two looks became something that ended at once: a health check of ours when it
    /// was in a container of ours, or not yet in any; the app when it was in another container.
    fn was_short_app(&self, seen: &Seen) -> bool {
        let other = |group: &String| is_container(group) && !self.our_groups.contains(group);
        seen.is_starting() && seen.cgroup.as_ref().is_some_and(other)
    }

    /// All processes but those that are dead.
    fn everybody(&self) -> impl Iterator<Item = (u32, Seen)> + use<'a> {
        let proc = self.proc;
        let entries = fs::read_dir(proc).into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(move |pid| Some((pid, read(&proc.join(pid.to_string()))?)))
    }
}

/// True for the control group of a container, which has the container's id in its name: 64 hexadecimal digits.
fn is_container(group: &str) -> bool {
    group.split(|c: char| !c.is_ascii_hexdigit()).any(|part| part.len() >= 32)
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

    /// The control group of a container.
    fn container(digit: char) -> String {
        format!("0::/../docker-{}.scope", digit.to_string().repeat(64))
    }

    /// A folder that looks like /proc.
    struct Proc(tempfile::TempDir);

    impl Proc {
        fn new() -> Self {
            let proc = Self(tempfile::tempdir().unwrap());
            proc.run("self", "leno-proxy", 'S', "0::/");
            proc.run("1", "leno-proxy", 'S', &container('c'));
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
        proc.run("7", "my (app) x", 'S', &container('a'));
        assert!(!watch.look());
        proc.run("8", "child", 'S', &container('a'));
        proc.run("7", "my (app) x", 'Z', &container('a'));
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
            proc.run("9", "runc:[2:INIT]", 'S', "0::/../../system.slice/containerd.service");
            assert!(!watch.look() && !watch.look());
            proc.end("9");
            assert!(!watch.look() && !watch.look() && !watch.look());
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
    fn a_sidecar_that_starts_beside_the_holder_and_its_checks_are_no_app() {
        let proc = Proc::new();
        let mut watch = Watch::new(proc.0.path());
        for _ in 0..5 {
            proc.run("8", "runc:[2:INIT]", 'S', &container('b'));
            assert!(!watch.look() && !watch.look() && !watch.look());
            proc.run("8", "leno-proxy", 'S', &container('b'));
            assert!(!watch.look() && !watch.look() && !watch.look());
            // A check that was seen only while it started.
            proc.run("9", "runc:[2:INIT]", 'S', &container('b'));
            assert!(!watch.look() && !watch.look() && !watch.look());
            proc.end("9");
            assert!(!watch.look() && !watch.look() && !watch.look());
            proc.end("8");
            assert!(!watch.look() && !watch.look() && !watch.look());
        }
    }

    #[test]
    fn a_draining_sidecar_is_waited_for() {
        let proc = Proc::new();
        proc.end("1");
        proc.run(&std::process::id().to_string(), "leno-proxy", 'S', "0::/");
        proc.run("8", "leno-proxy", 'S', &container('b'));
        let watch = Watch::new(proc.0.path());
        assert!(!watch.is_alone());
        proc.run("8", "leno-proxy", 'Z', &container('b'));
        assert!(watch.is_alone());
    }

    #[test]
    fn an_app_of_which_only_the_start_was_seen_counts() {
        let proc = Proc::new();
        let mut watch = Watch::new(proc.0.path());
        proc.run("9", "runc:[2:INIT]", 'S', &container('a'));
        assert!(!watch.look());
        proc.end("9");
        assert!(!watch.look());
        assert!(watch.look());
    }
}
