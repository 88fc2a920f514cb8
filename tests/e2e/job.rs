//! Holders and sidecars of jobs, in process namespaces of their own: they end when the app has ended, and not before.

use std::process::Command;
use std::time::Duration;

use leno_tests::{Mesh, Process, binaries, tools, wait};
use rustix::process::Signal;
use tempfile::TempDir;

/// `leno-proxy hold` as the first process of a process namespace, as in a container.
struct Holder {
    process: Process,
    /// The holder's number outside.
    pid: u32,
}

impl Holder {
    async fn start(dir: &TempDir, flags: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command
            .args(["--fork", "--pid", "--mount-proc", "--kill-child"])
            .arg(binaries::proxy())
            .arg("hold")
            .args(flags);
        let process = Process::spawn("hold", &mut command, dir.path());
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        let pid = wait::eventually("the holder", wait::DEADLINE, async || {
            let pid: u32 = std::fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok()?;
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            // It has a handler for SIGTERM only after it has begun.
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
            let caught = u64::from_str_radix(&caught, 16).ok()?;
            (name.trim() == "leno-proxy" && caught & (1 << 14) != 0).then_some(pid)
        })
        .await;
        Self { process, pid }
    }

    /// Runs something in its process namespace whose parent is outside, as a container's is.
    fn run(&self, name: &str, dir: &std::path::Path, arguments: &[&str]) -> Process {
        let mut command = Command::new("nsenter");
        command.args(["--pid", "--mount", "--target", &self.pid.to_string()]).args(arguments);
        Process::spawn(name, &mut command, dir)
    }

    /// The processes in its namespace, by name and state.
    fn inside(&self) -> Vec<String> {
        let script = "cat /proc/[0-9]*/stat | cut -d' ' -f2,3";
        let pid = self.pid.to_string();
        let output = Command::new("nsenter").args(["-p", "-m", "-t", &pid, "sh", "-c", script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

fn possible() -> bool {
    if let Some(program) = tools::missing(&["unshare", "nsenter"]) {
        tools::skip(&format!("{program} is not installed"));
        return false;
    }
    if !tools::is_root() {
        tools::skip("only root makes process namespaces");
        return false;
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_ends_at_once_when_it_is_told_to_and_takes_leave_of_orphans() {
    if !possible() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let mut holder = Holder::start(&dir, &[]).await;
    // The parent ends at once; its child becomes the holder's, ends a little later, and would stay as a zombie.
    let mut parent = holder.run("parent", dir.path(), &["sh", "-c", "sleep 0.3 & exec true"]);
    assert!(parent.wait(wait::DEADLINE).await.success());
    wait::until("nobody is left", wait::DEADLINE, || {
        let inside = holder.inside();
        assert!(!inside.is_empty());
        !inside.iter().any(|line| line.contains("(sleep)"))
    })
    .await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(holder.pid.cast_signed()).unwrap(), Signal::TERM)
        .unwrap();
    assert!(holder.process.wait(Duration::from_secs(5)).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_holder_ends_with_the_app_and_not_before() {
    if !possible() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let mut holder = Holder::start(&dir, &["--until-apps-end"]).await;
    let mut first = holder.run("first", dir.path(), &["sleep", "infinity"]);
    let mut second = holder.run("second", dir.path(), &["sleep", "1"]);
    assert!(second.wait(wait::DEADLINE).await.success());
    holder.process.assert_running();
    first.kill_child();
    assert!(holder.process.wait(wait::DEADLINE).await.success());
    first.wait(wait::DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_sidecar_drains_and_exits_0_when_the_app_has_ended() {
    if !possible() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let holder = Holder::start(&dir, &[]).await;
    let mesh = Mesh::start().await;
    let token = mesh.control_plane.api().token("default", "job", 60).await.unwrap();
    let state = mesh.dir().join("job.state").display().to_string();
    let (plane, program) = (mesh.control_plane.xds().to_string(), binaries::proxy().display().to_string());
    let mut arguments = vec![program.as_str(), "--control-plane", &plane, "--token", &token, "--service", "job"];
    arguments.extend(["--state-dir", &state, "--mesh-addr", "127.0.0.1:0", "--http-proxy-addr", "127.0.0.1:0"]);
    arguments.extend(["--admin-addr", "127.0.0.1:0", "--exit-with-app"]);
    let mut sidecar = holder.run("sidecar", mesh.dir(), &arguments);
    assert!(sidecar.first_line().await.starts_with("ready "));
    let mut app = holder.run("app", mesh.dir(), &["sleep", "1"]);
    assert!(app.wait(wait::DEADLINE).await.success());
    let status = sidecar.wait(wait::DEADLINE).await;
    assert!(status.success(), "{status}\n{}", sidecar.tail());
    assert!(sidecar.log().contains("the app has ended"), "{}", sidecar.log());
}
