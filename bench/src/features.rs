//! The kind `features`: what each feature costs alone. Pairs of Leno with and without it take turns under the load of `http1`; the figure
//! is the ratio of their requests per second of processor time.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::collector;
use crate::contestant::{self, Contestant, Place};
use crate::http1::{self, Turn};
use crate::load::Generator;
use crate::report::{Sample, number, refutes};
use crate::summary::summarise;

/// What 1,000 rules may leave of the requests per CPU second.
const WITH_RULES: f64 = 0.95;
/// A percent of the requests in the access log, and as traces. It has to cost less than 5 %; that is measured and not claimed yet.
const OBSERVED: &str = "log-and-traces";
/// Rules and routes of those that have many.
const MANY: usize = 1_000;

/// How the kind `features` is run.
#[derive(Debug, Args)]
pub struct Settings {
    /// Rounds; in each, every pair has one turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Length of a turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The core of the proxies
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of load and backend
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Folder with leno, leno-proxy and leno-control-plane; without it a release build is made
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Exit 1 when 1,000 rules of AuthorizationPolicies cost more than 5 %
    #[arg(long)]
    check: bool,
}

/// Measures, prints, and says whether what was to be checked held.
pub fn run(settings: &Settings) -> Result<bool> {
    let bin = match &settings.bin_dir {
        Some(dir) => std::path::absolute(dir)?,
        None => http1::build()?,
    };
    let dir = tempfile::TempDir::with_prefix("leno-bench-")?;
    let (_backend, backend) = http1::start_backend(settings.load_core, dir.path(), &[])?;
    let features = [
        ("base", String::new()),
        ("rules-of-callers", rules_of_callers()),
        ("rules-of-paths", rules_of_paths()),
        ("routes", routes()),
    ];
    let mut contestants: Vec<Contestant> = Vec::new();
    for (name, objects) in &features {
        let own = dir.path().join(name);
        std::fs::create_dir(&own)?;
        let place = Place { dir: &own, proxy_core: settings.proxy_core, load_core: settings.load_core, backend };
        contestants.push(contestant::leno(&place, &bin, name, objects)?);
    }
    let own = dir.path().join(OBSERVED);
    std::fs::create_dir(&own)?;
    let place = Place { dir: &own, proxy_core: settings.proxy_core, load_core: settings.load_core, backend };
    let log = own.join("access.log").display().to_string();
    let collector = format!("http://{}", collector::start()?);
    // A percent of all requests, in the log and as traces.
    let sampled = ["--access-log", "sampled", "--access-log-percent", "1", "--access-log-file", &log];
    let traced = ["--otlp-endpoint", &collector, "--otlp-protocol", "http/protobuf", "--trace-percent", "1"];
    let args = [&sampled[..], &traced, &["--traces-per-second", "10000"]].concat();
    contestants.push(contestant::leno_with(&place, &bin, OBSERVED, &args)?);
    let generator = Generator::choose();
    let turn = Turn { core: settings.load_core, connections: 64, seconds: settings.seconds };
    for contestant in &contestants {
        turn.warm_up(&generator, contestant)?;
    }
    let mut rounds: Vec<Vec<Sample>> = Vec::new();
    for round in 0..settings.rounds as usize {
        let mut samples = vec![None; contestants.len()];
        for place in 0..contestants.len() {
            let n = (place + round) % contestants.len();
            samples[n] = Some(turn.measure(&generator, &contestants[n])?);
        }
        rounds.push(samples.into_iter().flatten().collect());
        eprintln!("round {} of {} is done", round + 1, settings.rounds);
    }
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    let (table, problems) = report(&names, &rounds);
    print!("{table}");
    for problem in problems.iter().filter(|_| settings.check) {
        eprintln!("check failed: {problem}");
    }
    Ok(!settings.check || problems.is_empty())
}

fn report(names: &[&str], rounds: &[Vec<Sample>]) -> (String, Vec<String>) {
    let mut table =
        "features: 64 connections, 128 B answers; requests per proxy CPU second, and the ratio to the pair without\n"
            .to_owned();
    let mut problems = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let per_second = summarise(rounds.iter().filter_map(|round| round[n].per_cpu_second()));
        let ratio = |round: &Vec<Sample>| Some(round[n].per_cpu_second()? / round[0].per_cpu_second()?);
        let ratios: Vec<f64> = rounds.iter().filter_map(ratio).collect();
        let spread = summarise(ratios.iter().copied());
        let shown = spread.map_or_else(String::new, |s| format!("{:.3} ({:.3} … {:.3})", s.median, s.min, s.max));
        // Writing to a string does not fail.
        let _ = writeln!(table, "{name:<18} {:>10}  {shown}", number(per_second.map(|s| s.median), 0));
        if name.starts_with("rules") && refutes(&ratios, |ratio| ratio >= WITH_RULES) {
            problems.push(format!("{name}: {shown}, at least {WITH_RULES} is claimed"));
        }
    }
    (table, problems)
}

fn policy(rules: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: many, namespace: default}}\n\
         spec:\n  targetRefs: [{{group: \"\", kind: Service, name: web}}]\n  action: ALLOW\n  rules:\n{rules}"
    )
}

/// Most are for other callers.
fn rules_of_callers() -> String {
    let rule = |n| format!("  - {{from: [{{serviceAccounts: [caller-{n}]}}], to: [{{paths: [\"/things-{n}/*\"]}}]}}\n");
    let mut rules: String = (1..MANY).map(rule).collect();
    rules.push_str("  - {from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/]}]}\n");
    policy(&rules)
}

/// All are for the caller, and the last one lets it in.
fn rules_of_paths() -> String {
    let rule = |n| {
        format!(
            "  - {{from: [{{serviceAccounts: [frontend]}}], to: [{{methods: [GET], paths: [\"/api/v1/things-{n}/*\"]}}]}}\n"
        )
    };
    let mut rules: String = (1..MANY).map(rule).collect();
    rules.push_str("  - {from: [{serviceAccounts: [frontend]}], to: [{methods: [GET], paths: [/]}]}\n");
    policy(&rules)
}

/// Routes of the service, none of which is the request's.
fn routes() -> String {
    let route = |n: usize| {
        let rule = |m| {
            format!(
                "  - {{matches: [{{path: {{type: PathPrefix, value: /route-{n}/{m}}}}}], backendRefs: [{{name: web, port: 80}}]}}\n"
            )
        };
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{n}, namespace: default}}\nspec:\n  \
             parentRefs: [{{group: \"\", kind: Service, name: web, port: 80}}]\n  rules:\n{}---\n",
            (0..10).map(rule).collect::<String>()
        )
    };
    let mut routes: String = (0..MANY / 10).map(route).collect();
    // Where a Service has routes, what none of them matches is 404.
    routes.push_str(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: rest, namespace: default}\nspec:\n  \
         parentRefs: [{group: \"\", kind: Service, name: web, port: 80}]\n  rules: [{backendRefs: [{name: web, port: 80}]}]\n",
    );
    routes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::Measured;

    #[test]
    fn rules_that_cost_more_than_a_twentieth_are_a_problem_and_routes_are_only_shown() {
        let sample = |cpu| {
            let measured = Measured { requests: 1000, seconds: 3.0, p50_us: 1.0, p99_us: 2.0 };
            Sample { measured, cpu: Some(Duration::from_millis(cpu)) }
        };
        let rounds = vec![vec![sample(100), sample(104), sample(110), sample(200)]; 6];
        let (table, problems) = report(&["base", "rules-of-callers", "rules-of-paths", "routes"], &rounds);
        assert!(table.contains("rules-of-callers         9615  0.962"), "{table}");
        assert_eq!(problems, ["rules-of-paths: 0.909 (0.909 … 0.909), at least 0.95 is claimed"]);
    }
}
