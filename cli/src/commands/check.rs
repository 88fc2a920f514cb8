//! `leno check`: what is wrong with the mesh, or soon will be, and the command that mends it.

mod findings;
mod machine;
mod objects;

use http::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::args::Global;
use crate::client::{Edges, Status, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Paint, count, printable};
use findings::{Finding, Severity};

/// Find what is wrong with the mesh, or soon will be, and how to mend it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// End with 1 for warnings, too
    #[arg(long)]
    pub strict: bool,
    /// Look at this machine and not at the mesh: whether ports are taken, and what a sidecar or control plane may not do here
    #[arg(long)]
    pub machine: bool,
}

const EXAMPLES: &str = "Examples:
  leno check                                 0 without errors, 1 with one
  leno check --strict                        In a pipeline that lets no warning pass
  leno check --machine                       Before the first start: needs no control plane
  leno check -o json | jq '.findings[] | select(.code == \"plaintext\")'   Who still sends plaintext";

/// Kinds of which the status is looked at.
const JUDGED: [&str; 8] = [
    "gateways",
    "httproutes",
    "grpcroutes",
    "tcproutes",
    "tlsroutes",
    "trafficpolicies",
    "authorizationpolicies",
    "backendtlspolicies",
];

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked, or something is wrong.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let (mut findings, well) = if args.machine { (machine::findings(), on_machine()) } else { mesh(global).await? };
    findings.sort_by(|a, b| (a.severity, a.code, &a.what).cmp(&(b.severity, b.code, &b.what)));
    print(&findings, &well, global.output)?;
    let worst = findings.iter().map(|finding| finding.severity).min();
    let fails = worst.is_some_and(|worst| worst == Severity::Error || args.strict && worst == Severity::Warning);
    if fails { Err(Failure::reported(Exit::Failed)) } else { Ok(()) }
}

/// Of what was looked at: what is said when nothing is wrong, and the end of what is said else.
struct Looked {
    well: String,
    with: String,
}

fn on_machine() -> Looked {
    Looked { well: "a control plane and sidecars can start here".to_owned(), with: "on this machine".to_owned() }
}

async fn mesh(global: &Global) -> Result<(Vec<Finding>, Looked), Failure> {
    let client = super::client(global)?;
    let ask = async |path: &str| client.expect(Method::GET, path, None).await;
    let status: Status = read(&ask("/v1/status").await?)?;
    let now = OffsetDateTime::now_utc();
    let mut findings = findings::of_status(&status, now);
    let edges: Edges = read(&ask("/v1/edges?minutes=60").await?)?;
    findings.extend(findings::of_edges(&edges));
    let items = async |kind: &str| {
        let answer = ask(&format!("/v1/objects/{kind}")).await?;
        Ok::<_, Failure>(answer["items"].as_array().cloned().unwrap_or_default())
    };
    for kind in JUDGED {
        findings.extend(items(kind).await?.iter().flat_map(objects::judged));
    }
    findings.extend(objects::services(&items("services").await?, &items("workloads").await?));
    let sidecars = count(status.sidecars.len() as u64, "sidecar");
    let well = format!("{sidecars} at revision {}", status.control_plane.revision);
    Ok((findings, Looked { well, with: format!("with {sidecars}") }))
}

fn print(findings: &[Finding], looked: &Looked, format: Format) -> Result<(), Failure> {
    if format != Format::Table {
        return output::value(
            &json!({ "findings": findings.iter().map(Finding::value).collect::<Vec<Value>>() }),
            format,
        );
    }
    let paint = Paint::stdout();
    for finding in findings {
        let word = match finding.severity {
            Severity::Error => paint.bad("error"),
            Severity::Warning => paint.warn("warning"),
            Severity::Info => "info".to_owned(),
        };
        output::line(format!("{word} {}: {}", finding.code, printable(&finding.what)))?;
        if !finding.mend.is_empty() {
            output::line(format!("  mend: {}", printable(&finding.mend)))?;
        }
    }
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count() as u64;
    let (errors, warnings) = (count(of(Severity::Error), "error"), count(of(Severity::Warning), "warning"));
    output::line(match findings.is_empty() {
        true => paint.good(&format!("Nothing is wrong: {}.", looked.well)),
        false => format!("{errors} and {warnings}, {}.", looked.with),
    })
}
