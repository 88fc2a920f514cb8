//! `leno context`: the control planes that this user knows by name.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::args::Global;
use crate::client::Client;
use crate::context::{Config, Context, origin};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table};

/// Keep several control planes and choose one
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with contexts.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show all contexts; the current one has a star
    #[command(after_help = EXAMPLES)]
    List,
    /// Make a context the current one
    #[command(after_help = EXAMPLES)]
    Use {
        /// Its name
        name: String,
    },
    /// Print the root certificates of the mesh (PEM), as --control-plane-ca and the ConfigMap leno-root have them
    #[command(after_help = EXAMPLES)]
    Ca,
    /// Keep a context file (STATE_DIR/admin.yaml) under a name and make it current
    #[command(after_help = EXAMPLES)]
    Import {
        /// The file
        file: PathBuf,
        /// The name to keep it under [default: the host of its address]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
}

const EXAMPLES: &str = "Examples:
  leno context import /var/lib/leno/admin.yaml --name staging
  leno context list
  leno context use staging
  leno context ca > ca.crt && kubectl create configmap leno-root --from-file=ca.crt
  leno --context production status           A name works wherever a file does";

/// Runs the command.
///
/// # Errors
/// The configuration file or the context is unusable.
pub fn run(args: Args, global: &Global) -> Result<(), Failure> {
    if let Action::Ca = args.action {
        return output::exactly(&Context::find(global.context.as_deref())?.certificate_authority);
    }
    let mut config = Config::load()?;
    match args.action {
        Action::Ca => Ok(()),
        Action::List => list(&config, global),
        Action::Use { name } => {
            config.named(&name)?;
            config.current = Some(name.clone());
            config.save()?;
            output::line(format!("{name} is the current context"))
        }
        Action::Import { file, name } => {
            let context = Context::load(&file)?;
            // Whatever cannot be used is not kept.
            Client::new(&context)?;
            let name = name.unwrap_or_else(|| host(&context.server));
            check_name(&name)?;
            let server = context.server.clone();
            config.contexts.insert(name.clone(), context);
            config.current = Some(name.clone());
            let path = config.save()?;
            output::line(format!("{name} ({server}) is the current context, kept in {}", path.display()))
        }
    }
}

fn list(config: &Config, global: &Global) -> Result<(), Failure> {
    if global.output != Format::Table {
        let contexts: Vec<_> = config
            .contexts
            .iter()
            .map(|(name, c)| {
                let current = config.current.as_ref() == Some(name);
                json!({"name": name, "server": c.server, "trustDomain": c.trust_domain, "current": current})
            })
            .collect();
        return output::value(&json!({ "contexts": contexts }), global.output);
    }
    let mut table = Table::new(&["CURRENT", "NAME", "SERVER", "TRUST-DOMAIN"]);
    for (name, context) in &config.contexts {
        let star = if config.current.as_ref() == Some(name) { "*" } else { " " };
        table.row([star.to_owned(), name.clone(), context.server.clone(), context.trust_domain.clone()]);
    }
    table.print()?;
    match &global.context {
        Some(_) => output::line(format!("In force now is {}", origin(global.context.as_ref()))),
        None => Ok(()),
    }
}

fn host(server: &str) -> String {
    let uri: Option<http::Uri> = server.parse().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or("default").replace(['[', ']'], "");
    host.replace(':', "-")
}

/// A name must be usable as `--context NAME`, so it is no path and no option.
fn check_name(name: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 63 || name.starts_with(['-', '.']) || !name.chars().all(good) {
        let what = format!("{name:?} cannot be the name of a context");
        return Err(Failure::new(Exit::Usage, what, "use up to 63 letters, digits, -, _ and ., as in --name staging"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_is_the_host() {
        assert_eq!(host("https://mesh.example:15012"), "mesh.example");
        assert_eq!(host("https://[::1]:15012"), "--1");
    }

    #[test]
    fn a_name_is_no_path_and_no_option() {
        for wrong in ["", "-x", "a/b", ".hidden", "a b", &"x".repeat(64)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        assert!(check_name("eu-1.prod_a").is_ok());
    }
}
