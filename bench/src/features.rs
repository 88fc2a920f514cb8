//! The kind `features`: what each feature costs alone. A pair of Leno with it and a pair without take strictly alternating turns (A B B A …)
//! under the load of `http1`; the figure is the ratio of their requests per second of processor time, turn by turn. Many short turns are
//! better than a few long ones, since what the machine's neighbours do moves a turn and not the ratio of two that follow each other.

mod objects;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::chart::{Bar, Panel};
use crate::collector;
use crate::comparison::Comparison;
use crate::contestant::{self, Contestant, Place};
use crate::findings::Findings;
use crate::http1::{self, Turn};
use crate::line_up::Run;
use crate::load::Generator;
use crate::metrics;
use crate::report::{number, refutes};
use crate::summary::{interval, summarise};

/// What a feature that is claimed to cost less than 5 % may leave of the requests per CPU second.
const CLAIMED: f64 = 0.95;
const CONNECTIONS: usize = 64;

/// How the kind `features` is run.
#[derive(Debug, Args)]
#[command(mut_arg("rounds", |arg| arg.default_value("60")), mut_arg("turn", |arg| arg.default_value("0.3")))]
pub struct Settings {
    #[command(flatten)]
    pub run: Run,
    /// This feature alone; may be given again. All by default
    #[arg(long = "feature", value_name = "NAME")]
    only: Vec<String>,
    /// Measure what is claimed alone, and exit 1 when 1,000 rules of AuthorizationPolicies cost more than 5 %
    #[arg(long)]
    check: bool,
}

/// Something that can be switched on.
struct Feature {
    name: &'static str,
    objects: String,
    /// Arguments of both sidecars.
    args: Vec<String>,
    /// Whether somebody reads the metrics of both every second.
    scraped: bool,
    /// Whether it has to cost less than 5 %.
    claimed: bool,
}

impl Feature {
    fn of(name: &'static str, objects: String) -> Self {
        Self { name, objects, args: Vec::new(), scraped: false, claimed: false }
    }

    fn with(name: &'static str, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { args, ..Self::of(name, String::new()) }
    }

    fn claimed(self) -> Self {
        Self { claimed: true, ..self }
    }
}

/// All of them. Access logs go to `dir`, traces to `collector`, copies of requests to `mirror`.
fn features(dir: &Path, collector: &str, mirror: SocketAddr) -> Vec<Feature> {
    let log = dir.join("access.log").display().to_string();
    let log = ["--access-log-file", log.as_str()];
    let one_percent = [&["--access-log", "sampled", "--access-log-percent", "1"][..], &log].concat();
    let traces = |percent| {
        let to = ["--otlp-endpoint", collector, "--otlp-protocol", "http/protobuf"];
        [&to[..], &["--trace-percent", percent, "--traces-per-second", "10000"]].concat()
    };
    vec![
        // The same as the base: how far a ratio can be trusted.
        Feature::of("nothing", String::new()),
        Feature::of("routes-100", objects::routes(100)),
        Feature::of("routes-1000", objects::routes(1_000)),
        Feature::of("retries", objects::retries(3)),
        Feature::of("no-retries", objects::retries(0)),
        Feature::of("rules-of-callers", objects::rules_of_callers()).claimed(),
        Feature::of("rules-of-paths", objects::rules_of_paths()).claimed(),
        Feature { scraped: true, ..Feature::of("metrics", String::new()) },
        Feature::with("access-log-1%", &one_percent),
        Feature::with("access-log-all", &[&["--access-log", "all"][..], &log].concat()),
        Feature::with("traces-1%", &traces("1")),
        Feature::with("log-and-traces-1%", &[one_percent.clone(), traces("1")].concat()),
        Feature::of("mirror", objects::mirror(mirror)),
    ]
}

/// Measures.
pub fn run(settings: &Settings) -> Result<Findings> {
    let run = &settings.run;
    let bin = run.bin()?;
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let (_backend, backend) = http1::start_backend(run.load_core, dir.path(), &[])?;
    let copies = dir.path().join("copies");
    std::fs::create_dir(&copies)?;
    let (_copies, mirror) = http1::start_backend(run.load_core, &copies, &[])?;
    let stage = Stage { run, bin, backend };
    let (base, _) = stage.pair(dir.path(), &Feature::of("base", String::new()))?;
    let collector = format!("http://{}", collector::start()?);
    let mut found = Vec::new();
    for feature in features(dir.path(), &collector, mirror) {
        let asked = settings.only.is_empty() || settings.only.iter().any(|name| name == feature.name);
        if asked && (feature.claimed || !settings.check) {
            found.push(Cost { compared: stage.compare(dir.path(), &feature, &base)?, feature });
        }
    }
    Ok(report(&found, settings.check))
}

/// Where pairs stand.
struct Stage<'a> {
    run: &'a Run,
    bin: PathBuf,
    backend: SocketAddr,
}

impl Stage<'_> {
    /// The pair with a feature, and its admin ports.
    fn pair(&self, dir: &Path, feature: &Feature) -> Result<(Contestant, Vec<SocketAddr>)> {
        let own = dir.join(feature.name);
        std::fs::create_dir(&own)?;
        let Run { proxy_core, load_core, .. } = *self.run;
        let place = Place { dir: &own, proxy_core, load_core, backend: self.backend };
        let args: Vec<&str> = feature.args.iter().map(String::as_str).collect();
        contestant::leno_with(&place, &self.bin, feature.name, &feature.objects, &args)
    }

    /// The pair with the feature, which lives for this alone, against the one without.
    fn compare(&self, dir: &Path, feature: &Feature, base: &Contestant) -> Result<Comparison> {
        let (with, admins) = self.pair(dir, feature)?;
        let scraper = feature.scraped.then(|| scrape(admins));
        let generator = Generator::choose(self.run.turn);
        let turn = Turn { core: self.run.load_core, connections: CONNECTIONS, length: self.run.turn };
        let pairs = [&with, base];
        for pair in pairs {
            turn.warm_up(&generator, pair)?;
        }
        let names = vec![feature.name, "base"];
        let unit = "requests per proxy CPU second";
        let compared = Comparison::measure(feature.name.to_owned(), unit, 0, self.run.rounds, names, |n| {
            let sample = turn.measure(&generator, pairs[n])?;
            Ok(sample.per_cpu_second().unwrap_or_default())
        });
        drop(scraper);
        compared
    }
}

/// Reads the metrics of all every second, for as long as what it returns is kept.
fn scrape(admins: Vec<SocketAddr>) -> Arc<()> {
    let kept = Arc::new(());
    let watched: Weak<()> = Arc::downgrade(&kept);
    std::thread::spawn(move || {
        while watched.strong_count() > 0 {
            for admin in &admins {
                // One that is going down has nothing to say.
                let _ = metrics::get(*admin, "localhost", "/metrics");
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    kept
}

/// What a feature leaves of the requests per CPU second.
struct Cost {
    feature: Feature,
    compared: Comparison,
}

fn report(costs: &[Cost], check: bool) -> Findings {
    let mut findings = Findings::of("features", Default::default());
    let mut table = format!(
        "features: {CONNECTIONS} connections, 128 B answers; requests per proxy CPU second with it, and the ratio to the pair without \
         (least … greatest) [where its median is, 95 %]\n"
    );
    let (mut results, mut bars) = (Vec::new(), Vec::new());
    for Cost { feature, compared } in costs {
        let ratios = compared.ratios(1);
        let (Some(spread), per_second) =
            (summarise(ratios.iter().copied()), summarise(compared.figures(0).iter().copied()))
        else {
            continue;
        };
        let sure = interval(&ratios);
        let shown = format!("{:.3} ({:.3} … {:.3})", spread.median, spread.min, spread.max);
        let within = sure.map_or_else(String::new, |(low, high)| format!(" [{low:.3} … {high:.3}]"));
        table += &format!("{:<18} {:>10}  {shown}{within}\n", feature.name, number(per_second.map(|s| s.median), 0));
        if check && feature.claimed && refutes(&ratios, |ratio| ratio >= CLAIMED) {
            findings.problems.push(format!("{}: {shown}{within}, at least {CLAIMED} is claimed", feature.name));
        }
        results.push(
            json!({"name": feature.name, "claimed": feature.claimed.then_some(CLAIMED), "measured": compared.json()}),
        );
        bars.push(Bar { name: feature.name.to_owned(), value: spread, digits: 3, ours: true });
    }
    let title = "requests per proxy CPU second with it, as a share of those without".to_owned();
    let panel = Panel { title, unit: "ratio".to_owned(), bars };
    findings.add(table, json!({"title": "features", "features": results}), [panel]);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_feature_that_costs_more_than_a_twentieth_is_a_problem_and_another_is_only_shown() {
        let cost = |name, claimed, left: f64| {
            let figures = vec![vec![100.0 * left; 6], vec![100.0; 6]];
            let compared = Comparison::of(String::new(), "", 0, vec![name, "base"], figures);
            Cost { feature: Feature { claimed, ..Feature::of(name, String::new()) }, compared }
        };
        let costs = [cost("cheap", true, 0.96), cost("dear", true, 0.91), cost("routes", false, 0.5)];
        let findings = report(&costs, true);
        assert!(
            findings.table().contains("cheap                      96  0.960 (0.960 … 0.960)"),
            "{}",
            findings.table()
        );
        assert_eq!(findings.problems, ["dear: 0.910 (0.910 … 0.910) [0.910 … 0.910], at least 0.95 is claimed"]);
        assert_eq!(report(&costs, false).problems, Vec::<String>::new());
    }
}
