//! `leno uninject`: the file as it was before `leno inject`.

use super::inject::{Input, refused};
use crate::failure::{Exit, Failure};
use crate::inject::{Kind, kind, marks, pod};

/// Take out what leno inject put into a file: what was there before comes back byte for byte, later changes stay
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub input: Input,
    /// Write the file instead of printing it
    #[arg(long)]
    pub write: bool,
}

const EXAMPLES: &str = "Examples:
  leno uninject docker-compose.yml            Print the file as it was
  leno uninject docker-compose.yml --write    Write it; the secrets in .leno stay until you remove them";

/// Runs the command.
///
/// # Errors
/// The marks of the injection are damaged, or the file cannot be read or written.
pub fn run(args: Args) -> Result<(), Failure> {
    let input = args.input.read(args.write)?;
    let text = match kind(&input.text, &input.name) {
        Ok(Kind::Kubernetes) => pod::uninject(&input.text, &input.name).map_err(refused)?,
        // Whatever else it is: the marks are comments.
        _ => marks::remove(&input.text).map_err(|broken| {
            Failure::new(Exit::Failed, format!("{}:{}: {}", input.name, broken.line, broken.message), broken.hint)
        })?,
    };
    if pod::is_unmarked(&text, &input.name) {
        let what = format!("{}: what was injected into JSON or brackets cannot be told from the rest", input.name);
        return Err(Failure::new(Exit::Failed, what, "go back to the file that it was made from"));
    }
    if text == input.text {
        eprintln!("{}: nothing was injected", input.name);
    }
    input.put(&text, args.write)
}
