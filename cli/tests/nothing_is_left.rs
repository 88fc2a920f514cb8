//! The two helpers by which a demo that is killed leaves nothing behind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LENO: &str = env!("CARGO_BIN_EXE_leno");

fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "not after 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    // A zombie waits for whoever reaps orphans here; it does not run.
    stat.rsplit(')').next().and_then(|s| s.split_whitespace().next()).is_some_and(|state| state != "Z")
}

#[test]
fn a_guarded_program_dies_with_the_demo_however_that_ends() {
    let script = format!("{LENO} demo-app guard --parent $$ -- sleep 600 & echo $!; wait");
    let mut parent = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut pid = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    let pid = pid.trim().to_owned();
    let comm = PathBuf::from("/proc").join(&pid).join("comm");
    until("the guard has become its program", || std::fs::read_to_string(&comm).is_ok_and(|c| c.trim() == "sleep"));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the program is gone", || !is_running(&pid));
}

#[test]
fn a_guard_whose_demo_is_gone_starts_nothing() {
    let status =
        Command::new(LENO).args(["demo-app", "guard", "--parent", "1", "--", "sleep", "600"]).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

fn janitor(folder: &Path) -> Child {
    let mut command = Command::new(LENO);
    command.args(["demo-app", "janitor"]).arg(folder).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn the_janitor_removes_the_folder_once_the_demo_is_gone_and_no_folder_but_a_demos() {
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join("leno-demo-x");
    std::fs::create_dir_all(folder.join("state")).unwrap();
    std::fs::write(folder.join("state/key"), "secret").unwrap();
    let mut child = janitor(&folder);
    assert!(child.try_wait().unwrap().is_none() && folder.exists());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!folder.exists());
    let status = janitor(base.path()).wait_with_output().unwrap().status;
    assert_eq!(status.code(), Some(2));
    assert!(base.path().exists());
}
