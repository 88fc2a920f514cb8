//! `leno rollback`: brings the objects of an earlier revision back, as a new revision.

use http::Method;
use serde_json::json;

use super::apply::whole_seconds;
use super::report::{Call, WaitArgs};
use crate::args::Global;
use crate::failure::Failure;

/// Bring back the objects of an earlier revision, as a new revision
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The revision to go back to, as leno history shows it
    pub revision: u64,
    #[command(flatten)]
    pub wait: WaitArgs,
}

const EXAMPLES: &str = "Examples:
  leno history                               Find the revision that was good
  leno rollback 11 --wait                    Go back to it";

/// Runs the command.
///
/// # Errors
/// There is no such revision, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let body = json!({"wait": args.wait.wait, "timeoutSeconds": whole_seconds(args.wait.timeout)});
    let wait = args.wait.wait.then_some(args.wait.timeout);
    let path = format!("/v1/rollback/{}", args.revision);
    let (method, format) = (Method::POST, global.output);
    let call = Call { method, path: &path, body: Some(&body), wait, dry_run: false, unread: &[], format };
    call.run(&super::client(global)?).await
}
