//! The kind `config`: a mesh of so many services, of which the app uses three. What its sidecar holds of memory, how soon it is ready, and
//! how much it was sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;

use crate::contestant::Mesh;
use crate::figures::{Figure, Figures};
use crate::findings::Findings;
use crate::line_up::Run;
use crate::progress::Progress;
use crate::{cpu, http1, metrics};

/// Services that the app uses.
const USED: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// How the kind `config` is run.
#[derive(Debug, Args)]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// Services of the mesh; may be given again
    #[arg(long = "services", default_values_t = [10, 1_000, 5_000])]
    services: Vec<usize>,
}

/// Measures.
pub fn run(settings: &Settings) -> Result<Findings> {
    let (bin, mut findings) = (settings.run.bin()?, Findings::of("config", BTreeMap::new()));
    for services in &settings.services {
        of_size(settings, &bin, *services)?.found(&mut findings);
    }
    Ok(findings)
}

fn of_size(settings: &Settings, bin: &Path, services: usize) -> Result<Figures> {
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let core = settings.run.proxy_core;
    let (_backend, backend) = http1::start_backend(settings.run.load_core, dir.path(), &[])?;
    let mesh = Mesh::start(dir.path(), settings.run.load_core, bin, &objects(services, backend))?;
    let relay = Relay::before(mesh.xds())?;
    let mesh = mesh.reached_at(relay.addr);
    let mut turns = Vec::new();
    let progress = Progress::of(&format!("config, {services} services"), settings.run.rounds as usize);
    for n in 0..settings.run.rounds {
        let token = mesh.token("frontend")?;
        let (begun, before) = (Instant::now(), relay.passed());
        let mut sidecar = mesh.sidecar(core, "frontend", &format!("frontend-{n}"), &token, &[])?;
        let first = begun.elapsed();
        let (proxy, admin) = (sidecar.address("http_proxy")?, sidecar.address("admin")?);
        for used in 0..USED {
            until_it_answers(proxy, &format!("service-{used}"))?;
        }
        let answered = begun.elapsed();
        let bytes = relay.passed() - before;
        let memory = cpu::pss(sidecar.running.pid())?;
        let received = metrics::sum(admin, "leno_xds_resources_received_total")?;
        // Once more, with the identity that it has now.
        drop(sidecar.running);
        let begun = Instant::now();
        sidecar = mesh.sidecar(core, "frontend", &format!("frontend-{n}"), &token, &[])?;
        let again = begun.elapsed();
        turns.push([memory, ms(first), ms(again), ms(answered), bytes as f64 / 1_024.0, received]);
        drop(sidecar);
        progress.step();
    }
    let mut figures = Figures::new(format!("config, {USED} services are used of {services}"));
    let names = [
        ("sidecar", "MiB", 2),
        ("first start to ready", "ms", 1),
        ("start again to ready", "ms", 1),
        ("first start to the first answers of all that are used", "ms", 1),
        ("received from the control plane, TLS and all", "KiB", 1),
        ("resources received", "", 0),
    ];
    for (at, (name, unit, digits)) in names.into_iter().enumerate() {
        figures.push(Figure::of(name, unit, digits, turns.iter().map(|turn| turn[at]).collect()));
    }
    Ok(figures)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Passes connections on, and counts the bytes of the answers.
struct Relay {
    addr: SocketAddr,
    passed: Arc<AtomicU64>,
}

impl Relay {
    fn before(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (addr, passed) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = passed.clone();
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                // Who is not reached is told so by the end of his connection.
                let _ = relay(&from, to, &counted);
            }
        });
        Ok(Self { addr, passed })
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

fn relay(from: &TcpStream, to: SocketAddr, counted: &Arc<AtomicU64>) -> Result<()> {
    let to = TcpStream::connect(to)?;
    let (asks, answers) = ((from.try_clone()?, to.try_clone()?), (to, from.try_clone()?));
    let (counted, nobody) = (counted.clone(), Arc::new(AtomicU64::new(0)));
    std::thread::spawn(move || pass(asks.0, asks.1, &nobody));
    std::thread::spawn(move || pass(answers.0, answers.1, &counted));
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream, counted: &AtomicU64) {
    let mut buffer = [0; 16 << 10];
    while let Ok(n) = from.read(&mut buffer)
        && n > 0
    {
        counted.fetch_add(n as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    // One that is gone already is shut.
    let _ = to.shutdown(Shutdown::Write);
}

/// Services, each with an instance that has no sidecar.
fn objects(services: usize, backend: SocketAddr) -> String {
    let mut text = String::new();
    for n in 0..services {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: service-{n}, namespace: default}}\nspec:\n  selector: {{app: app-{n}}}\n  \
             ports: [{{name: http, port: 80, targetPort: http}}]\n---\napiVersion: leno.dev/v1alpha1\nkind: Workload\n\
             metadata: {{name: app-{n}, namespace: default, labels: {{app: app-{n}}}}}\nspec: {{address: {}, ports: {{http: {}}}}}\n---\n",
            backend.ip(),
            backend.port()
        );
    }
    text
}

fn until_it_answers(proxy: SocketAddr, host: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = metrics::get(proxy, host, "/")?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{host} is not reached: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
