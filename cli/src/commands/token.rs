//! `leno token create`: a join token, by which a new sidecar proves who it is, once.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;

use super::apply::whole_seconds;
use crate::args::Global;
use crate::client::read;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table, printable};
use crate::spans::{duration, relative};

/// Make join tokens for new sidecars
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print a new join token: good once, for one identity, for a while
    #[command(after_help = EXAMPLES)]
    Create {
        /// The service account that the sidecar will be
        #[arg(long, value_name = "NAME")]
        service_account: String,
        /// How long the token can be used: 10m, 1h
        #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
        ttl: Duration,
    },
    /// Show the join tokens, without their secrets, newest first
    #[command(after_help = EXAMPLES)]
    List,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tokens {
    tokens: Vec<Token>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Token {
    id: String,
    identity: String,
    state: String,
    created: String,
    expires: String,
}

const EXAMPLES: &str = "Examples:
  leno token create --service-account web > token
  leno-proxy --control-plane 10.0.0.1:15010 --token-file token --service web --port http=127.0.0.1:8080 --state-dir state
  leno token create --service-account web --namespace shop --ttl 1h
  leno token list                            Then: leno revoke token ID";

/// Runs the command. Only the token goes to standard output, so that it can be piped.
///
/// # Errors
/// The identity is not one, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let Action::Create { service_account, ttl } = args.action else { return list(global).await };
    let request = json!({
        "namespace": global.namespace(), "serviceAccount": service_account, "ttlSeconds": whole_seconds(ttl),
    });
    let answer = super::client(global)?.expect(Method::POST, "/v1/tokens", Some(&request)).await?;
    if global.output != Format::Table {
        return output::value(&answer, global.output);
    }
    let text = |field: &str| answer.get(field).and_then(|v| v.as_str()).map(printable);
    let Some(token) = text("token") else {
        return Err(Failure::new(Exit::Failed, "the control plane gave no token", "see its log"));
    };
    output::line(token)?;
    if std::io::stderr().is_terminal() {
        let (identity, expires) = (text("identity").unwrap_or_default(), text("expires").unwrap_or_default());
        eprintln!("It makes one sidecar {identity}, until {expires}: leno-proxy --token TOKEN, or --token-file FILE.");
    }
    Ok(())
}

async fn list(global: &Global) -> Result<(), Failure> {
    let answer = super::client(global)?.expect(Method::GET, "/v1/tokens", None).await?;
    if global.output != Format::Table {
        return output::value(&answer, global.output);
    }
    let (all, now): (Tokens, _) = (read(&answer)?, OffsetDateTime::now_utc());
    let mut table = Table::new(&["ID", "IDENTITY", "STATE", "CREATED", "EXPIRES"]);
    for token in all.tokens {
        table.row([token.id, token.identity, token.state, relative(&token.created, now), token.expires]);
    }
    table.print()
}
