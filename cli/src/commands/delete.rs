//! `leno delete`: removes objects, by file or by name.

use std::path::PathBuf;

use http::Method;

use super::apply::{body, no_namespace, whole_seconds};
use super::report::{Call, WaitArgs};
use crate::args::Global;
use crate::client::segment;
use crate::failure::{Exit, Failure};
use crate::sources::Sources;

/// Delete objects, by the files that describe them or by name
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Kind of the object, as in leno get
    #[arg(required_unless_present = "file", conflicts_with = "file", requires = "name")]
    pub kind: Option<String>,
    /// Name of the object
    #[arg(conflicts_with = "file")]
    pub name: Option<String>,
    /// Delete the objects that this file, folder or standard input (-) describes; may be given several times
    #[arg(short, long = "file", value_name = "FILE")]
    pub file: Vec<PathBuf>,
    #[command(flatten)]
    pub wait: WaitArgs,
}

const EXAMPLES: &str = "Examples:
  leno delete httproute web                  By kind and name
  leno delete httproute web -n shop --wait   Returns when no sidecar uses it any more
  leno delete -f canary.yaml                 Everything that the file describes";

/// Runs the command.
///
/// # Errors
/// There is no such object, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let format = global.output;
    let wait = args.wait.wait.then_some(args.wait.timeout);
    if let (Some(kind), Some(name)) = (&args.kind, &args.name) {
        let (kind, namespace, name) = (segment(kind), segment(global.namespace()), segment(name));
        let seconds = whole_seconds(args.wait.timeout);
        let path = format!("/v1/objects/{kind}/{namespace}/{name}?wait={}&timeoutSeconds={seconds}", args.wait.wait);
        let call = Call { method: Method::DELETE, path: &path, body: None, wait, dry_run: false, unread: &[], format };
        return call.run(&super::client(global)?).await;
    }
    if args.file.is_empty() {
        return Err(Failure::new(Exit::Usage, "what is to be deleted?", "give KIND and NAME, or -f FILE"));
    }
    no_namespace(global)?;
    let sources = Sources::read(&args.file)?;
    let body = body(&sources, false, &args.wait);
    let unread = &sources.problems;
    let call =
        Call { method: Method::POST, path: "/v1/delete", body: Some(&body), wait, dry_run: false, unread, format };
    call.run(&super::client(global)?).await
}
