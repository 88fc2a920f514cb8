//! `leno completion`: a script that teaches a shell the command line.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

const EXAMPLES: &str = "Examples:
  leno completion bash > ~/.local/share/bash-completion/completions/leno
  leno completion zsh > \"${fpath[1]}/_leno\"
  leno completion fish > ~/.config/fish/completions/leno.fish";

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "leno", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())
}
