//! The shipped configuration for Prometheus, read by promtool and by a real Prometheus that scrapes a real mesh.

use std::process::Command;

use leno_tests::mesh::Trio;
use leno_tests::{Behaviour, Load, Mesh, Process, tools, wait};
use serde_json::Value;

/// Whether it is here; else it is said.
fn is_here() -> bool {
    let missing = tools::missing(&["promtool", "prometheus", "curl"]);
    missing.inspect(|program| tools::skip(&format!("{program} is not installed"))).is_none()
}

#[test]
fn the_shipped_configuration_and_rules_are_right_and_every_alert_says_what_to_run_or_look_at() {
    if !is_here() {
        return;
    }
    let dir = tools::repository().join("examples/prometheus");
    for args in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "recording.yaml", "alerts.yaml"],
        &["test", "rules", "alerts-test.yaml"],
    ] {
        let out = Command::new("promtool").args(args).current_dir(&dir).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {said}");
    }
    // Rules and the dashboard ask for series that there are.
    let page = std::fs::read_to_string(tools::repository().join("docs/metrics.md")).unwrap();
    for file in ["recording.yaml", "alerts.yaml", "grafana-dashboard.json"] {
        let rules = std::fs::read_to_string(dir.join(file)).unwrap();
        let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        for name in words.filter(|word| word.starts_with("leno_") && *word != "leno_") {
            let base = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(page.contains(&format!("`{base}`")), "{file} asks for {name}");
        }
    }
}

struct Prometheus {
    process: Process,
    address: String,
}

impl Prometheus {
    /// Scrapes these every second, with the shipped rules.
    fn start(mesh: &Mesh, targets: &[String]) -> Self {
        let dir = mesh.dir().join("prometheus");
        std::fs::create_dir(&dir).unwrap();
        let shipped = tools::repository().join("examples/prometheus");
        for file in ["recording.yaml", "alerts.yaml"] {
            let rules = std::fs::read_to_string(shipped.join(file)).unwrap();
            // The test has no five minutes.
            std::fs::write(dir.join(file), rules.replace("[5m]", "[10s]")).unwrap();
        }
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [recording.yaml, alerts.yaml]\n\
             scrape_configs: [{{job_name: leno-sidecar, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.iter().map(|target| format!("'{target}'")).collect::<Vec<_>>().join(", ")
        );
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new("prometheus");
        command.current_dir(&dir).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address={address}"));
        Self { process: Process::spawn("prometheus", &mut command, mesh.dir()), address }
    }

    fn ask(&self, query: &str) -> Option<Value> {
        let out = Command::new("curl")
            .args(["-s", "--data-urlencode", &format!("query={query}")])
            .arg(format!("http://{}/api/v1/query", self.address))
            .output()
            .ok()?;
        serde_json::from_slice(&out.stdout).ok()
    }

    /// The first value of a query; None: there is none.
    fn value(&self, query: &str) -> Option<f64> {
        let answer = self.ask(query)?;
        answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    }

    async fn eventually(&self, query: &str, is: impl Fn(f64) -> bool) -> f64 {
        wait::eventually(query, wait::DEADLINE, async || self.value(query).filter(|value| is(*value))).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_sees_rates_errors_and_times_of_a_mesh_by_the_shipped_rules() {
    if !is_here() {
        return;
    }
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    let targets = [trio.frontend.admin(), trio.web.admin(), mesh.control_plane.admin()].map(|at| at.to_string());
    let mut prometheus = Prometheus::start(&mesh, &targets);
    let load = Load::new(trio.frontend.http_proxy(), "http://web/").clients(2).start();
    prometheus.eventually("count(up == 1)", |up| up == 3.0).await;
    let of = r#"{service="default/web", direction="outbound"}"#;
    prometheus.eventually(&format!("service:leno_requests:rate5m{of}"), |rate| rate > 1.0).await;
    prometheus.eventually(&format!("service:leno_request_duration_seconds:p99_5m{of}"), |p99| p99 > 0.0).await;
    prometheus.eventually("min(leno_xds_connected)", |connected| connected == 1.0).await;
    trio.app.set(Behaviour::Status(500));
    prometheus.eventually(&format!("service:leno_requests_errors:ratio_rate5m{of}"), |ratio| ratio > 0.5).await;
    let pending = r#"count(ALERTS{alertname="LenoServiceFails", service="default/web"})"#;
    prometheus.eventually(pending, |alerts| alerts >= 1.0).await;
    for (title, query) in dashboard() {
        if MUST_SHOW.contains(&title.as_str()) {
            prometheus.eventually(&query, |value| !value.is_nan()).await;
        }
        assert_eq!(
            prometheus.ask(&query).map(|answer| answer["status"].clone()),
            Some("success".into()),
            "{title}: {query}"
        );
    }
    // What Prometheus counted is what the sidecar says.
    drop(load.stop().await);
    let metrics = trio.frontend.metrics().await;
    let counted = metrics.sum("leno_requests_total", &[("service", "default/web"), ("direction", "outbound")]);
    prometheus.eventually(&format!("sum(leno_requests_total{of})"), |seen| seen == counted).await;
    prometheus.process.kill();
}

/// Panels that show something of this test's mesh.
const MUST_SHOW: [&str; 11] = [
    "Requests a second",
    "Failed share",
    "Time, p50 and p99, as callers see it",
    "Calls a second, by caller",
    "Bytes of answers a second",
    "Connected to the control plane",
    "Leaf certificates: time left of the next to expire",
    "Memory",
    "Processor",
    "Sidecars connected",
    "Revision, and the oldest that a sidecar has",
];

/// Every query of the shipped dashboard with its panel's title, as Grafana would ask it.
fn dashboard() -> Vec<(String, String)> {
    let file = tools::repository().join("examples/prometheus/grafana-dashboard.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let filled = [("$__rate_interval", "10s"), ("$service", ".*"), ("$direction", "outbound")];
            let query = filled.iter().fold(query.to_owned(), |query, (name, value)| query.replace(name, value));
            queries.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    assert!(queries.len() > 20);
    queries
}
