//! The kind `config`: a mesh of so many services, of which the app uses three. What its sidecar holds of memory, how soon it is ready, and
//! how many resources it was sent.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::contestant::Mesh;
use crate::line_up::Run;
use crate::report::number;
use crate::summary::{Summary, summarise};
use crate::{cpu, http1};

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

/// What came of one size.
pub struct Row {
    services: usize,
    figures: [(&'static str, usize, Option<Summary>); 4],
}

/// Measures.
pub fn run(settings: &Settings) -> Result<Vec<Row>> {
    let bin = settings.run.bin()?;
    settings.services.iter().map(|services| row(settings, &bin, *services)).collect()
}

fn row(settings: &Settings, bin: &Path, services: usize) -> Result<Row> {
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let (_backend, backend) = http1::start_backend(settings.run.load_core, dir.path())?;
    let mesh = Mesh::start(dir.path(), settings.run.load_core, bin, &objects(services, backend))?;
    let mut turns = Vec::new();
    for n in 0..settings.run.rounds {
        let token = mesh.token("frontend")?;
        let begun = Instant::now();
        let mut sidecar = mesh.sidecar(settings.run.proxy_core, "frontend", &format!("frontend-{n}"), &token, &[])?;
        let first = begun.elapsed();
        let (proxy, admin) = (sidecar.address("http_proxy")?, sidecar.address("admin")?);
        for used in 0..USED {
            until_it_answers(proxy, &format!("service-{used}"))?;
        }
        let memory = cpu::pss(sidecar.running.pid())?;
        let received = received(admin)?;
        // Once more, with the identity that it has now.
        drop(sidecar.running);
        let begun = Instant::now();
        sidecar = mesh.sidecar(settings.run.proxy_core, "frontend", &format!("frontend-{n}"), &token, &[])?;
        turns.push([memory, first.as_secs_f64() * 1e3, begun.elapsed().as_secs_f64() * 1e3, received]);
        drop(sidecar);
    }
    let of = |at: usize| summarise(turns.iter().map(|turn| turn[at]));
    Ok(Row {
        services,
        figures: [
            ("sidecar, MiB", 2, of(0)),
            ("first start to ready, ms", 1, of(1)),
            ("start again to ready, ms", 1, of(2)),
            ("resources received", 0, of(3)),
        ],
    })
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

fn get(at: SocketAddr, host: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn until_it_answers(proxy: SocketAddr, host: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        let answer = get(proxy, host, "/")?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{host} is not reached: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Over the stream, of every kind.
fn received(admin: SocketAddr) -> Result<f64> {
    let page = get(admin, "localhost", "/metrics")?;
    let lines = page.lines().filter(|line| line.starts_with("leno_xds_resources_received_total"));
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.reduce(|a, b| a + b).context("no count of resources")
}

/// For people.
pub fn table(rows: &[Row]) -> String {
    let mut table = format!("config: {USED} services are used of so many, median (least … greatest)\n");
    for row in rows {
        let _ = writeln!(table, "  {} services", row.services);
        for (name, digits, summary) in &row.figures {
            let shown = summary.map_or_else(String::new, |s| {
                let [median, min, max] = [s.median, s.min, s.max].map(|n| number(Some(n), *digits));
                format!("{median} ({min} … {max})")
            });
            let _ = writeln!(table, "    {name:<28} {shown:>26}");
        }
    }
    table
}

/// For machines.
pub fn json(rows: &[Row]) -> Value {
    let figure = |(name, _, summary): &(&'static str, usize, Option<Summary>)| json!({"name": name, "median": summary.map(|s| s.median), "min": summary.map(|s| s.min), "max": summary.map(|s| s.max)});
    let row =
        |row: &Row| json!({"services": row.services, "figures": row.figures.iter().map(figure).collect::<Vec<_>>()});
    rows.iter().map(row).collect()
}
