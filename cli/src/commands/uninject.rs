//! `leno uninject`: the file as it was before `leno inject`.

use super::inject::Input;
use crate::failure::{Exit, Failure};
use crate::inject::marks;

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
    let text = marks::remove(&input.text).map_err(|broken| {
        Failure::new(Exit::Failed, format!("{}:{}: {}", input.name, broken.line, broken.message), broken.hint)
    })?;
    if text == input.text {
        eprintln!("{}: nothing was injected", input.name);
    }
    input.put(&text, args.write)
}
