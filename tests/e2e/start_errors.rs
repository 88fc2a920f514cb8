//! What cannot start says in one line what is wrong and what to do, with the exit code for it.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use leno_tests::{Mesh, Process, SidecarBuilder, binaries, peers};
use tempfile::TempDir;

/// sysexits(3): a service is unavailable, a file cannot be created, permission denied.
const UNAVAILABLE: i32 = 69;
const CANNOT_CREATE: i32 = 73;
const DENIED: i32 = 77;
const USAGE: i32 = 2;

/// Waits for the end, and checks the code and the one line; it must contain all of `words`.
async fn assert_fails(mut process: Process, code: i32, words: &[&str]) {
    let status = process.wait(Duration::from_secs(60)).await;
    let log = process.log();
    assert_eq!(status.code(), Some(code), "{}: {status}\n{log}", process.name());
    let errors: Vec<&str> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{}: {} error lines in\n{log}", process.name(), errors.len()) };
    for word in words {
        assert!(error.contains(word), "{}: no {word:?} in: {error}", process.name());
    }
    // What is wrong, then what to do.
    assert!(error.contains("; "), "{}: it does not say what to do: {error}", process.name());
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(process.stdout(), "", "something was printed on standard output");
}

fn control_plane(dir: &TempDir, name: &str, args: &[&str]) -> Process {
    let state = dir.path().join(format!("{name}.state"));
    let mut command = Command::new(binaries::control_plane());
    for flag in ["--xds-addr", "--api-addr", "--admin-addr", "--state-dir"] {
        match args.iter().position(|arg| *arg == flag) {
            Some(at) => command.args([flag, args[at + 1]]),
            None if flag == "--state-dir" => command.arg(flag).arg(&state),
            None => command.args([flag, "127.0.0.1:0"]),
        };
    }
    Process::spawn(name, &mut command, dir.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_planes_port_in_use_is_named_with_its_flag() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for flag in ["--xds-addr", "--api-addr", "--admin-addr"] {
        let process = control_plane(&dir, &format!("plane{flag}"), &[flag, &addr]);
        assert_fails(process, UNAVAILABLE, &[&addr, flag]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecars_port_in_use_is_named_with_its_flag() {
    let mesh = Mesh::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    for flag in ["--mesh-addr", "--http-proxy-addr", "--admin-addr", "--upstream"] {
        let mut command = Command::new(binaries::proxy());
        let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
        command.args(["--control-plane", &mesh.control_plane.xds().to_string(), "--token", &token, "--service", "web"]);
        command.arg("--state-dir").arg(mesh.dir().join(format!("state{flag}")));
        for other in ["--mesh-addr", "--http-proxy-addr", "--admin-addr"] {
            command.args([other, if other == flag { &addr } else { "127.0.0.1:0" }]);
        }
        if flag == "--upstream" {
            command.args([flag, &format!("store:6379={addr}")]);
        }
        let process = Process::spawn(&format!("sidecar{flag}"), &mut command, mesh.dir());
        assert_fails(process, UNAVAILABLE, &[&addr, flag]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_cannot_be_made_is_named() {
    let dir = TempDir::new().unwrap();
    // A file stands where the folder should be; this stops root, too.
    let file = dir.path().join("in-the-way");
    std::fs::write(&file, "").unwrap();
    let below = file.join("state").display().to_string();
    for (n, path) in [file.display().to_string(), below].into_iter().enumerate() {
        let process = control_plane(&dir, &format!("plane-{n}"), &["--state-dir", &path]);
        assert_fails(process, CANNOT_CREATE, &[&path]).await;

        let mut command = Command::new(binaries::proxy());
        command.args(["--control-plane", &peers::free_port().to_string(), "--token", "leno1.x", "--service", "web"]);
        command.args(["--mesh-addr", "127.0.0.1:0", "--http-proxy-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
        command.args(["--state-dir", &path]);
        let process = Process::spawn(&format!("sidecar-{n}"), &mut command, dir.path());
        assert_fails(process, CANNOT_CREATE, &[&path]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_may_not_be_written_is_named() {
    leno_tests::require_tools!("setpriv");
    if !leno_tests::tools::is_root() {
        return leno_tests::tools::skip("only root may become another user");
    }
    // World-readable up to the programs, which another user shall run: copies of them in a folder of our own.
    let dir = TempDir::new().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let program = dir.path().join("leno-control-plane");
    std::fs::copy(binaries::control_plane(), &program).unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap(); // Root's, 0755.
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&program)
        .arg("--state-dir")
        .arg(&state);
    command.args(["--xds-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
    let process = Process::spawn("plane", &mut command, dir.path());
    assert_fails(process, CANNOT_CREATE, &[&state.display().to_string()]).await;
}

fn lonely_sidecar(dir: &TempDir, name: &str, token: &str) -> SidecarBuilder {
    SidecarBuilder::new(dir.path(), name, "web", peers::free_port()).token(token).args(&["--join-timeout", "2s"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_without_a_control_plane_says_where_it_was_looked_for() {
    let dir = TempDir::new().unwrap();
    let token = format!("leno1.{}.{}.{}", "0".repeat(16), "A".repeat(43), "0".repeat(64));
    let addr = peers::free_port();
    let sidecar = SidecarBuilder::new(dir.path(), "web", "web", addr).token(&token).args(&["--join-timeout", "2s"]);
    assert_fails(sidecar.spawn(), UNAVAILABLE, &[&addr.to_string(), "control plane"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_said_to_be() {
    let mesh = Mesh::start().await;
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    let forged = leno_tests::light::Token::parse(&token).unwrap().forged();
    let builder = mesh.sidecar("web", "web").await.token(&forged);
    assert_fails(builder.spawn(), DENIED, &["leno token create"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_without_any_token_is_a_matter_of_usage() {
    let dir = TempDir::new().unwrap();
    let mut process = lonely_sidecar(&dir, "web", "not a token").spawn();
    let status = process.wait(Duration::from_secs(30)).await;
    assert!(matches!(status.code(), Some(USAGE | DENIED)), "{status}\n{}", process.log());
    assert!(process.log().contains("token"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_without_its_control_plane_says_where_it_was_looked_for() {
    let mut mesh = Mesh::start().await;
    mesh.control_plane.kill();
    for command in [&["status"][..], &["get", "services"], &["history"]] {
        let output = mesh.leno(command).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(UNAVAILABLE), "leno {command:?}: {}\n{text}", output.status);
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{text}");
        assert!(lines[0].contains(&mesh.control_plane.api_addr().to_string()), "{text}");
    }
}
