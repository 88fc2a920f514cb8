//! `leno inject` and `leno uninject` as people run them, on the compose files in `compose/`, with both generations of docker-compose as
//! judges of the result.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const LENO: &str = env!("CARGO_BIN_EXE_leno");

fn corpus() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn leno(folder: &Path, args: &[&str]) -> Output {
    Command::new(LENO).args(args).current_dir(folder).env_remove("LENO_CONTEXT").output().unwrap()
}

/// Standard output of a run that must end well.
fn good(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The docker-compose of a generation: Debian's is 1.29; version 2 is a package of many names, so it may be named by
/// `LENO_COMPOSE_V2` (as for the end-to-end tests) or stand behind the other in PATH.
fn docker_compose(generation: char) -> Option<PathBuf> {
    let named = std::env::var_os("LENO_COMPOSE_V2").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|folder| folder.join("docker-compose"));
    named.into_iter().chain(in_path).filter(|file| file.is_file()).find(|file| {
        let version = Command::new(file).args(["version", "--short"]).output();
        version.is_ok_and(|out| {
            String::from_utf8_lossy(&out.stdout).trim().trim_start_matches('v').starts_with(generation)
        })
    })
}

/// As the end-to-end tests skip (tests/src/tools.rs): out loud, and not where everything must be installed.
fn skip(reason: &str) {
    assert!(std::env::var("LENO_NO_SKIP").as_deref() != Ok("1"), "this test may not be skipped, but {reason}");
    let thread = std::thread::current();
    // Not captured by the test runner.
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {reason}", thread.name().unwrap_or("a test"));
}

fn is_accepted_by(generation: char) {
    let Some(program) = docker_compose(generation) else {
        return skip(&format!("docker-compose {generation} is not installed"));
    };
    for file in corpus() {
        let dir = tempfile::tempdir().unwrap();
        // Version 1 wants the folders that it is to build.
        for folder in ["mesh", "vote", "result", "worker", "seed-data"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let text = fs::read_to_string(&file).unwrap();
        fs::write(dir.path().join("docker-compose.yml"), &text).unwrap();
        good(leno(dir.path(), &["inject", "docker-compose.yml", "--write"]));
        let profiles = if generation == '2' { "*" } else { "debug,tools,seed" };
        let config =
            Command::new(&program).arg("config").current_dir(dir.path()).env("COMPOSE_PROFILES", profiles).output();
        let config = config.unwrap();
        let errors = String::from_utf8_lossy(&config.stderr);
        assert!(config.status.success(), "{}: {errors}", file.display());
        // What nobody set would be a variable of ours that was meant to be a text.
        assert!(!errors.contains("LENO"), "{}: {errors}", file.display());
        let config = String::from_utf8(config.stdout).unwrap();
        assert!(config.contains("leno-proxy:latest") && config.contains("service:"), "{config}");
    }
}

#[test]
fn every_injected_file_is_accepted_by_docker_compose_1() {
    is_accepted_by('1');
}

#[test]
fn every_injected_file_is_accepted_by_docker_compose_2() {
    is_accepted_by('2');
}

#[test]
fn a_file_is_written_whole_with_its_secrets_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let text = "services:\n  web:\n    image: web # mine\n    ports: ['80:80']\n";
    let file = dir.path().join("docker-compose.yml");
    fs::write(&file, text).unwrap();

    let printed = good(leno(dir.path(), &["inject", "docker-compose.yml"]));
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "printing writes nothing");
    assert!(!dir.path().join(".leno").exists());

    let said = good(leno(dir.path(), &["inject", "-f", "docker-compose.yml", "--write"]));
    assert!(said.contains("injected, 1 secret made"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), printed, "what is written is what is printed");
    let secret = dir.path().join(".leno/secrets/default.web");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(secret).unwrap();
    assert!(secret.starts_with("leno2.") && !printed.contains(secret.trim()) && !said.contains(secret.trim()));

    let said = good(leno(dir.path(), &["inject", "docker-compose.yml", "--write"]));
    assert!(said.contains("unchanged, 0 secrets made"), "{said}");
    good(leno(dir.path(), &["uninject", "docker-compose.yml", "--write"]));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_refused_file_is_left_alone_and_every_problem_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.yml");
    let text = "services:\n  web:\n    image: web\n    network_mode: host\n    scale: 2\n";
    fs::write(&file, text).unwrap();
    let output = leno(dir.path(), &["inject", "c.yml", "--write"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in
        ["c.yml:4:5: service web: network_mode", "c.yml:5:5: service web: scale", "2 problems; nothing was written"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no secret was made");
}

#[test]
fn what_is_no_compose_file_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).unwrap();
    write("latin1.yml", b"services:\n  web:\n    image: \xe4\n");
    write("large.yml", &[b'#'; (1 << 20) + 1]);
    write("other.yml", b"a: 1\n");
    std::os::unix::fs::symlink("circle.yml", dir.path().join("circle.yml")).unwrap();
    for (args, what) in [
        (vec!["inject", "latin1.yml"], "not UTF-8"),
        (vec!["inject", "large.yml"], "larger than 1 MiB"),
        (vec!["inject", "other.yml"], "neither a compose file nor a Kubernetes manifest"),
        (vec!["inject", "circle.yml"], "circle.yml"),
        (vec!["inject", "missing.yml"], "missing.yml"),
        (vec!["inject", "."], "is a folder"),
        (vec!["inject", "-", "--write"], "standard input"),
        (vec!["uninject", "latin1.yml"], "not UTF-8"),
    ] {
        let output = leno(dir.path(), &args);
        assert!(!output.status.success(), "{args:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(what), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?} printed something");
    }
}

#[test]
fn a_pipe_is_injected_and_taken_out_again() {
    let run = |command: &str, text: &str| {
        let mut child = Command::new(LENO)
            .args([command, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        good(child.wait_with_output().unwrap())
    };
    let text = "services:\r\n  web: {image: web}";
    let injected = run("inject", text);
    assert!(injected.contains("web-sidecar:\r\n"));
    assert_eq!(run("uninject", &injected), text);
}

#[test]
fn a_manifest_is_told_from_a_compose_file() {
    let pods = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pods");
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(pods.join("01-deployment.yaml")).unwrap();
    let file = dir.path().join("deployment.yaml");
    fs::write(&file, &text).unwrap();
    let printed = good(leno(dir.path(), &["inject", "-f", "deployment.yaml", "--image", "registry/proxy:1"]));
    assert!(printed.contains("leno-sidecar") && printed.contains("registry/proxy:1"), "{printed}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    good(leno(dir.path(), &["inject", "-f", "deployment.yaml", "--write"]));
    good(leno(dir.path(), &["uninject", "-f", "deployment.yaml", "--write"]));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);

    // JSON cannot hold the marks.
    let json = good(leno(&pods, &["inject", "08-json.json"]));
    assert!(json.contains("leno-sidecar"), "{json}");
    fs::write(&file, json).unwrap();
    let output = leno(dir.path(), &["uninject", "deployment.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("made from"));

    fs::write(&file, "services:\n  web: {image: web}\n").unwrap();
    assert_eq!(leno(dir.path(), &["inject", "deployment.yaml", "--image", "x"]).status.code(), Some(2));
}
