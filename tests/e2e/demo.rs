//! One command shows a mesh that works, and proves it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use leno_tests::{Process, binaries};
use tempfile::TempDir;

/// What the demo must have verified, by words that its facts use, in any order and letter case.
const FACTS: &[&[&str]] =
    &[&["spiffe"], &["split"], &["retr"], &["plaintext", "refused"], &["control plane killed"], &["tcp"]];

/// Processes of the three programs that belong to the demo in `dir`: their command line or environment names it.
fn processes_of(dir: &Path) -> BTreeSet<u32> {
    let needle = dir.to_string_lossy().into_owned();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        if String::from_utf8_lossy(&text).contains(&needle) {
            found.insert(pid);
        }
    }
    found
}

/// A fresh mesh in which everything the demo leaves would be seen: it has its own TMPDIR, home and working folder.
fn demo(dir: &Path, args: &[&str]) -> Process {
    for name in ["tmp", "home", "work"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let mut command = Command::new(binaries::leno());
    command.arg("demo").args(args).env("TMPDIR", dir.join("tmp")).env("HOME", dir.join("home"));
    for name in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, dir.join("home"));
    }
    // Cargo runs this test; the demo must not take that for `cargo run` and build its programs.
    command.env_remove("CARGO").env_remove("CARGO_MANIFEST_DIR").current_dir(dir.join("work"));
    Process::spawn("demo", &mut command, dir)
}

fn files_in(dir: &Path) -> Vec<String> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().display().to_string());
    names.collect()
}

fn assert_nothing_is_left(dir: &Path) {
    assert_eq!(processes_of(dir), BTreeSet::new(), "processes of the demo are left");
    for name in ["tmp", "home", "work"] {
        assert_eq!(files_in(&dir.join(name)), Vec::<String>::new(), "the demo left files");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_story_proves_it_and_leaves_nothing_behind() {
    let dir = TempDir::with_prefix("leno-demo-test-").unwrap();
    let mut demo = demo(dir.path(), &["--for", "15s"]);
    let status = demo.wait(Duration::from_secs(120)).await;
    let told = demo.stdout();
    assert!(status.success(), "{status}\n{told}\n{}", demo.tail());
    let lower = told.to_lowercase();
    for words in FACTS {
        assert!(words.iter().all(|word| lower.contains(word)), "nothing of {words:?} in:\n{told}");
    }
    let facts: Vec<&str> = told.lines().filter(|line| line.trim_start().starts_with("ok ")).collect();
    assert!(facts.len() >= FACTS.len(), "too few facts:\n{told}");
    for fact in facts {
        assert!(fact.contains(|c: char| c.is_ascii_digit()), "a fact without a count: {fact}");
    }
    assert_nothing_is_left(dir.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_leaves_nothing_behind() {
    let dir = TempDir::with_prefix("leno-demo-test-").unwrap();
    let mut demo = demo(dir.path(), &["--for", "60s"]);
    leno_tests::wait::until("the demo has started processes", Duration::from_secs(60), || {
        demo.assert_running();
        processes_of(dir.path()).len() >= 4
    })
    .await;
    demo.signal(rustix::process::Signal::INT);
    demo.wait(Duration::from_secs(30)).await;
    assert_nothing_is_left(dir.path());
}
