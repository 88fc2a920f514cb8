//! The command line as a whole; each command's own arguments stand beside its code.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::output::Format;

/// A service mesh that runs anywhere: see it with `leno demo`, run it with the commands below.
#[derive(Debug, Parser)]
#[command(name = "leno", version, max_term_width = 110, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  leno demo                                  A whole mesh on this machine, to play with
  export LENO_CONTEXT=/var/lib/leno/admin.yaml
  leno apply -f canary.yaml --wait           Change routes and wait until every sidecar has them
  leno status                                Who has which revision, and why not
  leno rollback 11 --wait                    Back to what was in force before

Exit codes:
  0 done   1 refused or failed   2 wrong usage   69 control plane unreachable   77 credential refused
  78 no usable context";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The control plane to talk to: a context file (STATE_DIR/admin.yaml) or the name of an imported context
    #[arg(long, global = true, env = "LENO_CONTEXT", value_name = "FILE", help_heading = "Global options")]
    pub context: Option<PathBuf>,
    /// Namespace of the objects that a command names [default: default]
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub namespace: Option<String>,
    /// A table for people, or exactly what the control plane said for machines
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub output: Format,
}

impl Global {
    /// The namespace that a command means.
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(commands::demo::Args),
    Apply(commands::apply::Args),
    Delete(commands::delete::Args),
    Get(commands::get::Args),
    Validate(commands::validate::Args),
    Policy(commands::policy::Args),
    Status(commands::status::Args),
    Edges(commands::edges::Args),
    Why(commands::why::Args),
    Top(commands::top::Args),
    Tap(commands::tap::Args),
    Check(commands::check::Args),
    History(commands::history::Args),
    Rollback(commands::rollback::Args),
    Token(commands::token::Args),
    Revoke(commands::revoke::Args),
    Ca(commands::ca::Args),
    User(commands::user::Args),
    Audit(commands::audit::Args),
    Inject(commands::inject::Args),
    Uninject(commands::uninject::Args),
    Context(commands::context::Args),
    Completion(commands::completion::Args),
    /// Parts of the demo, each a process of its own.
    #[command(hide = true)]
    DemoApp(crate::demo::app::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_visible_command_has_a_description_and_examples() {
        for command in Cli::command().get_subcommands().filter(|c| !c.is_hide_set()) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
        }
    }

    #[test]
    fn global_options_are_taken_after_the_command_too() {
        let cli = Cli::parse_from(["leno", "get", "routes", "-n", "shop", "-o", "json", "--context", "x.yaml"]);
        assert_eq!(cli.global.namespace(), "shop");
        assert_eq!(cli.global.output, Format::Json);
        assert_eq!(cli.global.context, Some(PathBuf::from("x.yaml")));
    }
}
