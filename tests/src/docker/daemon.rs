//! The daemon that runs already, or one of our own in a temporary folder, which ends with the last test that uses it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::{text, until};
use crate::{Process, tools};

/// Our images, and the folders of `target/images` that they are made of.
const IMAGES: &[(&str, &str)] = &[("leno-proxy", "proxy"), ("leno-control-plane", "control-plane"), ("leno", "cli")];
/// How long a daemon may take to start or to end.
const DAEMON: Duration = Duration::from_secs(60);

/// The engine, for as long as this is held. Only one test holds it at a time: the tests look at what is left on the
/// host, and publish the control plane's port.
pub struct Docker {
    daemon: Arc<Daemon>,
    _alone: MutexGuard<'static, ()>,
}

struct Daemon {
    /// None: it was there before us.
    own: Option<Own>,
}

struct Own {
    process: Mutex<Process>,
    socket: PathBuf,
    _dir: TempDir,
}

static ALONE: Mutex<()> = Mutex::new(());
static DAEMON_IN_USE: Mutex<Weak<Daemon>> = Mutex::new(Weak::new());

impl Docker {
    /// The engine with our images in it; or why there is none, which is a reason to skip.
    ///
    /// # Errors
    /// What is not installed, not built or not allowed.
    pub fn start() -> Result<Self, String> {
        if !tools::is_root() {
            return Err("Docker and network namespaces need root".to_owned());
        }
        if let Some(program) = tools::missing(&["docker"]) {
            return Err(format!("{program} is not installed"));
        }
        let contexts = contexts()?;
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let docker = Self { daemon: daemon()?, _alone: alone };
        for (image, context) in IMAGES {
            let context = contexts.join(context).display().to_string();
            docker.run(&["build", "--quiet", "--tag", image, &context]);
        }
        Ok(docker)
    }

    /// Runs `docker ARGS`, which must succeed; gives its standard output.
    pub fn run(&self, args: &[&str]) -> String {
        text(&format!("docker {}", args.join(" ")), self.output(args))
    }

    /// Runs `docker ARGS`, whatever comes of it.
    pub fn output(&self, args: &[&str]) -> Output {
        let mut command = self.command(Path::new("docker"));
        command.args(args).output().unwrap_or_else(|error| panic!("docker cannot be run: {error}"))
    }

    /// Bytes of an image.
    pub fn image_size(&self, image: &str) -> u64 {
        let size = self.run(&["image", "inspect", "--format", "{{.Size}}", image]);
        size.trim().parse().unwrap_or_else(|_| panic!("the size of {image}: {size:?}"))
    }

    /// A program that talks to this engine.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some(own) = &self.daemon.own {
            command.env("DOCKER_HOST", format!("unix://{}", own.socket.display()));
        }
        // The classic builder, which needs no plugin.
        command.env("DOCKER_BUILDKIT", "0");
        command
    }
}

/// Where `images/build` has laid out the files of the images.
fn contexts() -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tools::repository().join("target"), PathBuf::from);
    let contexts = target.join("images");
    match IMAGES.iter().find(|(_, context)| !contexts.join(context).join("Dockerfile").is_file()) {
        Some((image, _)) => Err(format!("the image {image} is not built (images/build --quick --no-docker)")),
        None => Ok(contexts),
    }
}

fn daemon() -> Result<Arc<Daemon>, String> {
    let mut in_use = DAEMON_IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(daemon) = in_use.upgrade() {
        return Ok(daemon);
    }
    let answers = Command::new("docker").arg("info").output().is_ok_and(|output| output.status.success());
    let daemon = if answers { Daemon { own: None } } else { Daemon { own: Some(Own::start()?) } };
    let daemon = Arc::new(daemon);
    *in_use = Arc::downgrade(&daemon);
    Ok(daemon)
}

impl Own {
    fn start() -> Result<Self, String> {
        let dockerd = tools::find("dockerd").ok_or("no Docker daemon runs, and dockerd is not installed")?;
        let dir = TempDir::with_prefix("leno-docker-").map_err(|error| error.to_string())?;
        let socket = dir.path().join("docker.sock");
        let mut command = Command::new(dockerd);
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(flag).arg(dir.path().join(name));
        }
        let mut process = Process::spawn("dockerd", &mut command, dir.path());
        let host = format!("unix://{}", socket.display());
        let answers = || {
            process.assert_running();
            let info = Command::new("docker").env("DOCKER_HOST", &host).arg("info").output();
            info.is_ok_and(|output| output.status.success()).then_some(())
        };
        until("the Docker daemon answers", DAEMON, answers, String::new);
        Ok(Self { process: Mutex::new(process), socket, _dir: dir })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Not killed, so that it takes its mounts and its rules with it.
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        process.signal(Signal::TERM);
        let start = std::time::Instant::now();
        while process.exited().is_none() && start.elapsed() < DAEMON {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
