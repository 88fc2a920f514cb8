//! `leno user`: who else may call the control plane, as what, and until when.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::apply::whole_seconds;
use crate::args::Global;
use crate::client::{Client, read, segment};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table, printable};
use crate::spans::{duration, relative};

/// Make and revoke users of the control plane, each with a role
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Make a user, and write the context that it calls with
    #[command(after_help = EXAMPLES)]
    Create {
        /// A name: a-z, 0-9, '-' and '.'
        name: String,
        /// viewer reads, operator changes objects and lets sidecars join, admin may do everything
        #[arg(long, value_parser = ["viewer", "operator", "admin"])]
        role: String,
        /// How long the user may call: 12h, 90d [default: until it is revoked]
        #[arg(long, value_parser = duration, value_name = "TIME")]
        ttl: Option<Duration>,
        /// Write the context to this file, which must not be there yet [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show the users
    #[command(after_help = EXAMPLES)]
    List,
    /// Revoke a user: its next call is refused
    #[command(after_help = EXAMPLES)]
    Revoke {
        /// The user
        name: String,
        /// Why; stands in the audit log
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
    },
}

const EXAMPLES: &str = "Examples:
  leno user create dashboard --role viewer --ttl 90d --out dashboard.yaml
  leno --context dashboard.yaml status
  leno user list
  leno user revoke dashboard --reason 'replaced'";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Users {
    users: Vec<User>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct User {
    name: String,
    role: String,
    by: String,
    created: String,
    expires: Option<String>,
    expired: bool,
}

/// Runs the command.
///
/// # Errors
/// The control plane refused it or could not be asked, or the file cannot be written.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let context = Context::find(global.context.as_deref())?;
    let client = Client::new(&context)?;
    match args.action {
        Action::Create { name, role, ttl, out } => {
            if let Some(out) = out.as_deref().filter(|out| out.exists()) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{} is there already", out.display()),
                    "choose another --out",
                ));
            }
            let body = json!({"name": name, "role": role, "ttlSeconds": ttl.map(whole_seconds)});
            let answer = client.expect(Method::POST, "/v1/users", Some(&body)).await?;
            if global.output != Format::Table && out.is_none() {
                return output::value(&answer, global.output);
            }
            give(&answer, context, out.as_deref())
        }
        Action::List => list(&client.expect(Method::GET, "/v1/users", None).await?, global.output),
        Action::Revoke { name, reason } => {
            let path = format!("/v1/users/{}/revoke", segment(&name));
            client.expect(Method::POST, &path, Some(&json!({"reason": reason}))).await?;
            output::line(format!("user {} is revoked", printable(&name)))
        }
    }
}

/// The caller's own context with the new user's token in it.
fn give(answer: &Value, context: Context, out: Option<&Path>) -> Result<(), Failure> {
    let Some(token) = answer.get("token").and_then(Value::as_str) else {
        return Err(Failure::new(Exit::Failed, "the control plane gave no token", "see its log"));
    };
    let context = Context { token: token.to_owned(), ..context };
    let text = serde_yaml_ng::to_string(&context).map_err(|e| Failure::new(Exit::Failed, e.to_string(), ""))?;
    let Some(out) = out else { return output::exactly(&text) };
    let written = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| {
        let what = format!("cannot write {}: {e}", out.display());
        Failure::new(Exit::Failed, what, "the user is there: revoke it, and make it again with another --out")
    })?;
    output::line(format!("{} is a context for it; give it to nobody else", out.display()))
}

fn list(answer: &Value, format: Format) -> Result<(), Failure> {
    if format != Format::Table {
        return output::value(answer, format);
    }
    let (all, now): (Users, _) = (read(answer)?, OffsetDateTime::now_utc());
    let mut table = Table::new(&["NAME", "ROLE", "CREATED", "BY", "EXPIRES"]);
    for user in all.users {
        let expires = match (user.expired, user.expires) {
            (true, _) => "expired".to_owned(),
            (false, at) => at.unwrap_or_else(|| "never".to_owned()),
        };
        table.row([user.name, user.role, relative(&user.created, now), user.by, expires]);
    }
    table.print()
}
