//! The kind `push`: so many connected sidecars, and how long a change takes until the last of them has acknowledged it; what the control
//! plane pays for it; and how soon all are back after it was killed. The sidecars are the real stream without traffic.

mod wire;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use leno_proto::resource::Resource;
use leno_proto::v1;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::contestant::Mesh;
use crate::cpu;
use crate::figures::{Figure, Figures};
use crate::findings::Findings;
use crate::line_up::Run;
use crate::progress::Progress;
use crate::summary::percentile;
use wire::{Acked, Api, Joined};

/// Endpoints of the service that rolls.
const ENDPOINTS: usize = 100;
/// Sidecars that connect at a time, before anything is measured.
const AT_ONCE: usize = 32;
const MOST_STORMS: u32 = 3;
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// How the kind `push` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Connected sidecars; may be given again
    #[arg(long = "sidecars", default_values_t = [1_000, 5_000])]
    sidecars: Vec<usize>,
}

/// Measures: the control plane on one core, the sidecars on the other.
pub fn run(settings: &Settings) -> Result<Findings> {
    let bin = settings.run.bin()?;
    let mut findings = Findings::of("push", BTreeMap::new());
    // A thread of their own, since it is kept on a core. The control plane is told its own when it is started.
    let measured: Result<Vec<Figures>> = std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            cpu::pin_this_thread(settings.run.load_core)?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                // What starts the control plane again stays: it would end with its thread.
                .thread_keep_alive(FOR_EVER)
                .build()?;
            settings.sidecars.iter().map(|sidecars| runtime.block_on(measure(settings, &bin, *sidecars))).collect()
        });
        crowd.join().ok().context("the crowd of sidecars failed")?
    });
    measured?.iter().for_each(|figures| figures.found(&mut findings));
    Ok(findings)
}

async fn measure(settings: &Settings, bin: &Path, sidecars: usize) -> Result<Figures> {
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let core = settings.run.proxy_core;
    let mut mesh = Mesh::start(dir.path(), core, bin, &objects())?;
    let token = mesh.token("client")?;
    let api = Api::new(&std::fs::read_to_string(mesh.context())?, &token)?;
    let joined = Arc::new(Joined::by(&token, mesh.xds(), "cluster.local").await?);
    let empty = cpu::pss(mesh.pid())?;
    let (send, mut acked) = mpsc::unbounded_channel();
    for first in (0..sidecars).step_by(AT_ONCE) {
        for sidecar in first..(first + AT_ONCE).min(sidecars) {
            tokio::spawn(joined.clone().live(sidecar, send.clone()));
        }
        joined.all_are_here((first + AT_ONCE).min(sidecars)).await?;
    }
    let mut crowd = Crowd { sidecars, acked: &mut acked, api: &api };
    crowd.settle().await?;
    let mut figures = Figures::new(format!("push, {sidecars} sidecars"));
    let each = (cpu::pss(mesh.pid())? - empty) * 1_024.0 / sidecars as f64;
    figures.push(Figure::one("memory of the control plane a sidecar", "KiB", 1, each));
    figures.push(Figure::one("memory of the control plane, all", "MiB", 1, cpu::pss(mesh.pid())?));
    let mut changes = vec![Change::default(); CHANGES.len()];
    // The first objects are those of round 0.
    let mut round = 0;
    let progress = Progress::of(&format!("push, {sidecars} sidecars"), settings.run.rounds as usize);
    for _ in 0..settings.run.rounds {
        round += 1;
        for (change, of) in changes.iter_mut().zip(CHANGES) {
            change.add(&mut crowd, &of, round, mesh.pid()).await?;
        }
        progress.step();
    }
    for (change, of) in changes.iter().zip(CHANGES) {
        change.show(of.name, sidecars, &mut figures);
    }
    let mut storms = Storms::default();
    for _ in 0..settings.run.rounds.min(MOST_STORMS) {
        mesh = storms.add(mesh, core, &joined, &mut crowd).await?;
        // Who came back hears of changes.
        round += 1;
        crowd.change(&CHANGES[0], round).await?;
    }
    storms.show(&mut figures);
    Ok(figures)
}

/// The control plane is killed, and everybody comes back.
#[derive(Default)]
struct Storms {
    ready: Vec<f64>,
    connected: Vec<f64>,
    healed: Vec<f64>,
    again: Vec<f64>,
    shaken: Vec<f64>,
    /// Processor time: of the control plane, and of all sidecars, which share a core that real ones would not.
    cpu: [Vec<f64>; 2],
}

impl Storms {
    async fn add(&mut self, mesh: Mesh, core: usize, joined: &Joined, crowd: &mut Crowd<'_>) -> Result<Mesh> {
        let (begun, shaken, own) = (Instant::now(), joined.shaken(), cpu::used(&[std::process::id()])?);
        // Elsewhere, since everybody tries to come back in the meantime.
        let restarted = tokio::task::spawn_blocking(move || mesh.restarted(core));
        let mesh = restarted.await??;
        self.ready.push(begun.elapsed().as_secs_f64());
        joined.all_are_here(crowd.sidecars).await?;
        self.connected.push(begun.elapsed().as_secs_f64());
        crowd.api.all_hold_the_revision(crowd.sidecars).await?;
        self.healed.push(begun.elapsed().as_secs_f64());
        let used = [cpu::used(&[mesh.pid()])?, cpu::used(&[std::process::id()])?.saturating_sub(own)];
        self.cpu.iter_mut().zip(used).for_each(|(figure, used)| figure.push(used.as_secs_f64()));
        self.shaken.push((joined.shaken() - shaken) as f64 / crowd.sidecars as f64);
        let again = mesh.metric("leno_xds_resources_sent_total")?;
        self.again.push(again / crowd.sidecars as f64);
        crowd.settle().await?;
        Ok(mesh)
    }

    fn show(self, figures: &mut Figures) {
        let name = "the control plane was killed";
        figures.push(Figure::of(&format!("{name}: it is ready again"), "s", 2, self.ready));
        figures.push(Figure::of(&format!("{name}: all are connected"), "s", 2, self.connected));
        figures.push(Figure::of(&format!("{name}: all have acknowledged all"), "s", 2, self.healed));
        let [control_plane, sidecars] = self.cpu;
        figures.push(Figure::of(&format!("{name}: its processor time until then"), "s", 2, control_plane));
        figures.push(Figure::of(&format!("{name}: that of all sidecars, on one core"), "s", 2, sidecars));
        figures.push(Figure::of(&format!("{name}: handshakes that a sidecar began"), "", 2, self.shaken));
        figures.push(Figure::of(&format!("{name}: resources sent again a sidecar"), "", 2, self.again));
    }
}

/// What is changed, and of which type sidecars hear then.
struct Kind {
    name: &'static str,
    type_url: &'static str,
    yaml: fn(usize) -> String,
}

const CHANGES: [Kind; 3] = [
    Kind { name: "one endpoint changes", type_url: v1::Endpoints::TYPE_URL, yaml: |round| workloads(0..1, round) },
    Kind {
        name: "100 endpoints roll",
        type_url: v1::Endpoints::TYPE_URL,
        yaml: |round| workloads(0..ENDPOINTS, round),
    },
    Kind { name: "a route changes", type_url: v1::HttpRoute::TYPE_URL, yaml: route },
];

/// The sidecars, and who changes what they hear of.
struct Crowd<'a> {
    sidecars: usize,
    acked: &'a mut UnboundedReceiver<Acked>,
    api: &'a Api,
}

impl Crowd<'_> {
    /// Waits until nothing more comes.
    async fn settle(&mut self) -> Result<()> {
        while tokio::time::timeout(Duration::from_millis(500), self.acked.recv()).await.is_ok() {}
        Ok(())
    }

    async fn change(&mut self, of: &Kind, round: usize) -> Result<Vec<Duration>> {
        let since = self.api.apply(&(of.yaml)(round)).await?;
        wire::all_acked(self.acked, self.sidecars, of.type_url, since).await.context(of.name)
    }
}

/// What all rounds of one kind of change gave.
#[derive(Debug, Clone, Default)]
struct Change {
    p50: Vec<f64>,
    p99: Vec<f64>,
    last: Vec<f64>,
    cpu: Vec<f64>,
}

impl Change {
    async fn add(&mut self, crowd: &mut Crowd<'_>, of: &Kind, round: usize, pid: u32) -> Result<()> {
        let before = cpu::used(&[pid])?;
        let times = crowd.change(of, round).await?;
        self.cpu.push((cpu::used(&[pid])? - before).as_secs_f64() * 1e3);
        for (figure, percent) in [(&mut self.p50, 50.0), (&mut self.p99, 99.0), (&mut self.last, 100.0)] {
            figure.push(percentile(&times, percent).context("a time")?.as_secs_f64() * 1e3);
        }
        Ok(())
    }

    fn show(&self, name: &str, sidecars: usize, figures: &mut Figures) {
        for (what, values) in [("p50", &self.p50), ("p99", &self.p99), ("the last", &self.last)] {
            figures.push(Figure::of(&format!("{name}: ACK, {what}"), "ms", 1, values.clone()));
        }
        let each = self.cpu.iter().map(|ms| ms * 1e3 / sidecars as f64).collect();
        figures.push(Figure::of(&format!("{name}: processor time a sidecar"), "us", 1, each));
    }
}

fn objects() -> String {
    let service = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec: {{selector: {{app: {name}}}, \
             ports: [{{name: http, port: 80, targetPort: http}}]}}\n---\n"
        )
    };
    ["web", "web-v1", "web-v2"].map(service).concat() + &workloads(0..ENDPOINTS, 0) + &route(0)
}

/// Endpoints of `web`, elsewhere in each round.
fn workloads(which: std::ops::Range<usize>, round: usize) -> String {
    let port = 1_024 + round % 60_000;
    which
        .map(|n| {
            format!(
                "apiVersion: leno.dev/v1alpha1\nkind: Workload\nmetadata: {{name: web-{n}, namespace: default, labels: {{app: web}}}}\n\
                 spec: {{address: 127.0.0.1, ports: {{http: {}}}}}\n---\n",
                // The one endpoint is elsewhere than when all rolled.
                port + n % 7 + 1
            )
        })
        .collect()
}

fn route(round: usize) -> String {
    let weight = 1 + round % 90;
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: web, namespace: default}}\nspec:\n  \
         parentRefs: [{{kind: Service, group: \"\", name: web, port: 80}}]\n  rules: [{{backendRefs: \
         [{{name: web-v1, port: 80, weight: {}}}, {{name: web-v2, port: 80, weight: {weight}}}]}}]\n---\n",
        100 - weight
    )
}
