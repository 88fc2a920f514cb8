//! `leno apply`: makes objects be as files say.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::report::{Call, WaitArgs};
use crate::args::Global;
use crate::failure::{Exit, Failure};
use crate::sources::Sources;

/// Create or change objects from files
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file, a folder with all that is below it, or - for standard input; may be given several times
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    pub file: Vec<PathBuf>,
    /// Check everything and show what would change, but change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

const EXAMPLES: &str = "Examples:
  leno apply -f canary.yaml                  Takes effect within moments
  leno apply -f canary.yaml --wait           Returns when every sidecar concerned has it in force
  leno apply -f mesh/ --dry-run              Check a folder against what is in force
  kustomize build . | leno apply -f -";

/// Runs the command.
///
/// # Errors
/// An object was refused, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    no_namespace(global)?;
    let sources = Sources::read(&args.file)?;
    let body = body(&sources, args.dry_run, &args.wait);
    let wait = (args.wait.wait && !args.dry_run).then_some(args.wait.timeout);
    Call {
        method: Method::POST,
        path: "/v1/apply",
        body: Some(&body),
        wait,
        dry_run: args.dry_run,
        unread: &sources.problems,
        format: global.output,
    }
    .run(&super::client(global)?)
    .await
}

/// Objects in files say their namespace themselves, so that the same file means the same thing everywhere.
pub(super) fn no_namespace(global: &Global) -> Result<(), Failure> {
    match &global.namespace {
        None => Ok(()),
        Some(_) => Err(Failure::new(
            Exit::Usage,
            "--namespace has no meaning for objects from files",
            "write metadata.namespace in the file; it is default when absent",
        )),
    }
}

pub(super) fn body(sources: &Sources, dry_run: bool, wait: &WaitArgs) -> Value {
    let seconds = whole_seconds(wait.timeout);
    json!({"files": sources.to_json(), "dryRun": dry_run, "wait": wait.wait && !dry_run, "timeoutSeconds": seconds})
}

/// The API counts in seconds; a shorter time is rounded up, since zero would not wait at all.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}
