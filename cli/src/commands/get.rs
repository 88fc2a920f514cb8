//! `leno get`: objects, as a table or as they are.

mod columns;

use http::Method;
use serde_json::Value;

use crate::args::Global;
use crate::client::segment;
use crate::failure::Failure;
use crate::output::{self, Format};

/// Show objects and their status: services, workloads, gateways, httproutes, trafficpolicies, …
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Their kind, in any of the usual spellings: HTTPRoute, httproutes, svc, workloads, tp
    pub kind: String,
    /// One object by name
    pub name: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    pub all_namespaces: bool,
    /// Show what is in Secrets
    #[arg(long)]
    pub show_secrets: bool,
}

const EXAMPLES: &str = "Examples:
  leno get workloads                         What runs, with and without a sidecar
  leno get httproute web -o yaml             One object as it is in force, and its status
  leno get services -A                       Of all namespaces";

/// Runs the command.
///
/// # Errors
/// There is no such kind or object, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let client = super::client(global)?;
    let (kind, namespace) = (segment(&args.kind), segment(global.namespace()));
    let path = match &args.name {
        Some(name) => format!("/v1/objects/{kind}/{namespace}/{}", segment(name)),
        None if args.all_namespaces => format!("/v1/objects/{kind}"),
        None => format!("/v1/objects/{kind}?namespace={namespace}"),
    };
    let path = match args.show_secrets {
        true => format!("{path}{}reveal=true", if path.contains('?') { '&' } else { '?' }),
        false => path,
    };
    let answer = client.expect(Method::GET, &path, None).await?;
    if global.output != Format::Table {
        return output::value(&answer, global.output);
    }
    let objects: Vec<Value> = match answer.get("items") {
        Some(Value::Array(items)) => items.clone(),
        _ => vec![answer],
    };
    if objects.is_empty() {
        let place =
            if args.all_namespaces { "any namespace".to_owned() } else { format!("namespace {}", global.namespace()) };
        eprintln!("There are no {} in {place}.", args.kind);
        return Ok(());
    }
    columns::table(&objects, args.all_namespaces).print()
}
