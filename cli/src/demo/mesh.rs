//! The running mesh of the demo, and everything that can be done to it.

mod joined;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

pub use joined::status;

use super::folder::Folder;
use super::intruder::{self, Outcome};
use super::process::Process;
use super::traffic::Traffic;
use super::{binaries::Programs, scrape, weights};
use crate::client::{Changed, Client, Status, problem_text};
use crate::failure::{Exit, Failure};

/// How long sidecars may take to acknowledge a change.
const ACK_PATIENCE: Duration = Duration::from_secs(15);
/// The instance that is broken when one is.
const VICTIM: &str = "web-v2-1";

/// All of it. Fields are dropped in this order: the processes first, their folder last.
pub struct Mesh {
    /// How the frontend fares.
    pub traffic: Traffic,
    /// What the REST API is asked with.
    pub client: Client,
    sidecars: Vec<Sidecar>,
    webs: Vec<Web>,
    store: Process,
    control_plane: ControlPlane,
    folder: Folder,
}

/// A sidecar process.
struct Sidecar {
    /// Of the workload: `web-v2-1`.
    name: String,
    process: Process,
}

/// A web server.
struct Web {
    instance: String,
    process: Process,
}

struct ControlPlane {
    program: PathBuf,
    /// None while it is stopped.
    process: Option<Process>,
    /// How to start it again on the same ports.
    args: Vec<std::ffi::OsString>,
}

/// How the broken instance is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// It answers 503.
    Refuse,
    /// It resets connections.
    Reset,
    /// It is well again.
    Off,
}

/// How often the broken instance did what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Broken {
    /// Answers of 503.
    pub refused: u64,
    /// Resets.
    pub resets: u64,
}

/// What a change of the weights came to.
#[derive(Debug, Clone, Copy)]
pub struct Applied {
    /// The new revision.
    pub revision: u64,
    /// Sidecars that have it in force.
    pub acked: u64,
}

/// One attempt of an intruder.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// `plaintext` or `TLS without a certificate`.
    pub how: &'static str,
    /// Whose mesh port it was.
    pub at: String,
    /// What came of it.
    pub outcome: Outcome,
}

impl Mesh {
    /// Starts everything, and comes back when every sidecar has joined and holds the current revision.
    ///
    /// # Errors
    /// A part did not come up; the message names it and shows its log.
    pub async fn start(programs: Programs, rate: u32) -> Result<Self, Failure> {
        start::start(programs, rate).await
    }

    /// The context file of its control plane, for a `leno` in another terminal.
    pub fn context_file(&self) -> PathBuf {
        start::context_file(self.folder.path())
    }

    /// How many sidecars there are.
    pub fn sidecars(&self) -> usize {
        self.sidecars.len()
    }

    /// How many processes run: the control plane, sidecars, web servers, the store, the frontend.
    pub fn processes(&mut self) -> usize {
        let control_plane = self.control_plane.process.as_mut().is_some_and(Process::is_running);
        let sidecars = self.sidecars.iter_mut().filter_map(|s| s.process.is_running().then_some(())).count();
        let webs = self.webs.iter_mut().filter_map(|w| w.process.is_running().then_some(())).count();
        let others = [&mut self.store, self.traffic.process()].into_iter().filter_map(|p| p.is_running().then_some(()));
        usize::from(control_plane) + sidecars + webs + others.count()
    }

    /// Sends `v2` percent of the requests to the second version, and waits until every sidecar concerned does that.
    ///
    /// # Errors
    /// The control plane is unreachable, or a sidecar refuses it or does not answer.
    pub async fn split(&self, v2: u8) -> Result<Applied, Failure> {
        apply(&self.client, json!([{"name": "canary.yaml", "content": weights::route(v2)?}])).await
    }

    /// Breaks an instance of the second version, or heals it.
    ///
    /// # Errors
    /// The instance is gone.
    pub async fn break_instance(&self, how: Break) -> Result<(), Failure> {
        let mode = match how {
            Break::Refuse => "503",
            Break::Reset => "reset",
            Break::Off => "off",
        };
        scrape::call(self.victim()?.process.address("/control")?, Method::POST, &format!("/break?mode={mode}")).await?;
        Ok(())
    }

    /// What the broken instance counted.
    ///
    /// # Errors
    /// It is gone.
    pub async fn broken(&self) -> Result<Broken, Failure> {
        let stats = self.victim()?.stats().await?;
        let count = |name: &str| stats[name].as_u64().unwrap_or_default();
        Ok(Broken { refused: count("refused"), resets: count("resets") })
    }

    fn victim(&self) -> Result<&Web, Failure> {
        let found = self.webs.iter().find(|w| w.instance == VICTIM);
        found.ok_or_else(|| Failure::new(Exit::Failed, format!("there is no {VICTIM}"), ""))
    }

    /// Retries that the frontend's sidecar made since it started.
    ///
    /// # Errors
    /// Its admin port does not answer.
    pub async fn retries(&self) -> Result<u64, Failure> {
        self.metric("leno_retries_total", "", |name| name == "frontend").await
    }

    /// Requests that the web servers' sidecars took from their mesh ports since they started.
    ///
    /// # Errors
    /// An admin port does not answer.
    pub async fn inbound(&self) -> Result<u64, Failure> {
        self.metric("leno_requests_total", "direction=\"inbound\"", |name| name.starts_with("web")).await
    }

    /// TLS handshakes on all mesh ports that ended well, and those that were refused.
    ///
    /// # Errors
    /// An admin port does not answer.
    pub async fn handshakes(&self) -> Result<(u64, u64), Failure> {
        let name = "leno_tls_handshakes_total";
        Ok((
            self.metric(name, "result=\"ok\"", |_| true).await?,
            self.metric(name, "result=\"failed\"", |_| true).await?,
        ))
    }

    /// The sum of a metric over the sidecars that are meant.
    async fn metric(&self, metric: &str, label: &str, is_meant: impl Fn(&str) -> bool) -> Result<u64, Failure> {
        let mut sum = 0.0;
        for sidecar in self.sidecars.iter().filter(|s| is_meant(&s.name)) {
            let metrics = scrape::call(sidecar.process.address("/admin")?, Method::GET, "/metrics").await?;
            sum += scrape::sum(&metrics, metric, &[label]);
        }
        Ok(sum as u64)
    }

    /// What the control plane says.
    ///
    /// # Errors
    /// It is unreachable.
    pub async fn status(&self) -> Result<Status, Failure> {
        joined::status(&self.client).await
    }

    /// Waits until every sidecar is connected, ready and at the current revision.
    ///
    /// # Errors
    /// That takes too long; the message says what is missing.
    pub async fn joined(&self) -> Result<Status, Failure> {
        joined::wait(&self.client, self.sidecars.len()).await
    }

    /// Kills the control plane, as `kill -9` does.
    pub async fn kill_control_plane(&mut self) {
        if let Some(mut process) = self.control_plane.process.take() {
            process.kill().await;
        }
    }

    /// Starts it again, on its old ports and its old state.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_control_plane(&mut self) -> Result<(), Failure> {
        if self.control_plane.process.is_none() {
            let plane = &mut self.control_plane;
            let mut process =
                Process::start(self.folder.path(), "control-plane", &plane.program, plane.args.clone()).await?;
            process.ignore_output();
            plane.process = Some(process);
        }
        Ok(())
    }

    /// Tries every mesh port of web and store, in plaintext and over TLS without a certificate.
    ///
    /// # Errors
    /// A sidecar did not say where its mesh port is.
    pub async fn intrude(&self) -> Result<Vec<Attempt>, Failure> {
        let mut attempts = Vec::new();
        for sidecar in self.sidecars.iter().filter(|s| s.name != "frontend") {
            let mesh = sidecar.process.address("/mesh")?;
            let at = sidecar.name.clone();
            attempts.push(Attempt { how: "plaintext", at: at.clone(), outcome: intruder::plaintext(mesh).await });
            let outcome = intruder::without_certificate(mesh).await;
            attempts.push(Attempt { how: "TLS without a certificate", at, outcome });
        }
        Ok(attempts)
    }

    /// How many requests of the intruder reached a web server.
    ///
    /// # Errors
    /// A web server is gone.
    pub async fn intruders_seen(&self) -> Result<u64, Failure> {
        let mut seen = 0;
        for web in &self.webs {
            seen += web.stats().await?["intruders"].as_u64().unwrap_or_default();
        }
        Ok(seen)
    }

    /// Ends everything in good order: nobody asks any more, then the sidecars drain, then the rest.
    pub async fn stop(mut self) {
        self.traffic.process().kill().await;
        for process in self.all() {
            process.ask_to_stop();
        }
        for process in self.all() {
            process.wait().await;
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Process> {
        let sidecars = self.sidecars.iter_mut().map(|s| &mut s.process);
        let webs = self.webs.iter_mut().map(|w| &mut w.process);
        sidecars.chain(self.control_plane.process.as_mut()).chain(webs).chain([&mut self.store])
    }
}

impl Web {
    async fn stats(&self) -> Result<Value, Failure> {
        let text = scrape::call(self.process.address("/control")?, Method::GET, "/stats").await?;
        serde_json::from_str(&text).map_err(|e| self.process.failure(&format!("does not tell its counts: {e}")))
    }
}

/// Applies files and waits until every sidecar concerned has them in force.
async fn apply(client: &Client, files: Value) -> Result<Applied, Failure> {
    let body = json!({"files": files, "dryRun": false, "wait": true, "timeoutSeconds": ACK_PATIENCE.as_secs()});
    let answer = client.call(Method::POST, "/v1/apply", Some(&body), ACK_PATIENCE).await?;
    if answer.body.get("changes").is_none() {
        return Err(answer.into_failure());
    }
    let changed: Changed = answer.read()?;
    if let Some(problem) = changed.problems.iter().find(|p| p.is_error()) {
        return Err(Failure::new(Exit::Failed, problem_text(problem), ""));
    }
    let wait = changed.wait.unwrap_or_default();
    if let Some(nack) = wait.nacked.first() {
        return Err(Failure::new(Exit::Failed, format!("{} refuses it: {}", nack.sidecar, nack.reason), ""));
    }
    if !answer.status.is_success() {
        let missing = wait.missing.join(", ");
        let what = format!("not in force everywhere ({}), missing: {missing}", answer.status);
        return Err(Failure::new(Exit::Failed, what, ""));
    }
    Ok(Applied { revision: changed.revision, acked: wait.acked })
}
