//! `leno revoke`: takes a workload, an identity or a join token out of the mesh, at once.

use std::time::Duration;

use clap::Subcommand;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::apply::whole_seconds;
use crate::args::Global;
use crate::client::{Wait, read, segment};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table, count, printable};
use crate::spans::{duration, relative};

/// Take a workload, an identity or a join token out of the mesh, at once
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,
}

/// Why, and how long to wait.
#[derive(Debug, clap::Args)]
pub struct Because {
    /// Why; stands in the list and in the history
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub reason: String,
    /// How long to wait at most until every sidecar has it in force; 0s: do not wait
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
}

/// What to revoke.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Revoke the sidecar of one workload; others of its identity go on
    #[command(after_help = EXAMPLES)]
    Workload {
        /// Its name, as `leno get workloads` shows it
        name: String,
        #[command(flatten)]
        because: Because,
    },
    /// Revoke everybody of an identity, until that is undone
    #[command(after_help = EXAMPLES)]
    Identity {
        /// A SPIFFE ID, or NAMESPACE/SERVICE-ACCOUNT
        identity: String,
        #[command(flatten)]
        because: Because,
    },
    /// Make a join token void that was not used yet
    #[command(after_help = EXAMPLES)]
    Token {
        /// Its id, as `leno token list` shows it: the second part of the token
        id: String,
    },
    /// Show what is revoked, newest first
    #[command(after_help = EXAMPLES)]
    List,
    /// Take a revocation back
    #[command(after_help = EXAMPLES)]
    Undo {
        /// The id that the list shows
        id: String,
        #[command(flatten)]
        because: Because,
    },
}

const EXAMPLES: &str = "Examples:
  leno revoke workload web-7f -n shop --reason 'stolen laptop'
  leno revoke identity spiffe://cluster.local/ns/shop/sa/web
  leno revoke token 3f0c5b1e9a7d2468
  leno revoke list
  leno revoke undo 91ab23cd45ef6789 --reason 'reinstalled'";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    revocation: Option<Revocation>,
    revision: Option<u64>,
    renamed: Vec<String>,
    wait: Option<Wait>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    revocations: Vec<Revocation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Revocation {
    id: String,
    kind: String,
    name: String,
    sidecars: u64,
    reason: String,
    by: String,
    created: String,
    expires: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// There is no such thing, a sidecar did not take it in time, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let (path, mut body, because) = match args.action {
        Action::List => return list(global).await,
        Action::Workload { name, because } => {
            let name = if name.contains('/') { name } else { format!("{}/{name}", global.namespace()) };
            ("/v1/revocations".to_owned(), json!({"workload": name}), Some(because))
        }
        Action::Identity { identity, because } => {
            ("/v1/revocations".to_owned(), json!({"identity": identity}), Some(because))
        }
        Action::Token { id } => ("/v1/revocations".to_owned(), json!({"token": id}), None),
        Action::Undo { id, because } => (format!("/v1/revocations/{}/undo", segment(&id)), json!({}), Some(because)),
    };
    let mut wait = Duration::ZERO;
    if let Some(because) = because {
        body["reason"] = because.reason.into();
        body["timeoutSeconds"] = whole_seconds(because.timeout).into();
        wait = because.timeout;
    }
    let answer = super::client(global)?.call(Method::POST, &path, Some(&body), wait).await?;
    let done = answer.status.is_success() || answer.status == StatusCode::GATEWAY_TIMEOUT;
    if !done || answer.body.get("error").is_some() {
        return Err(answer.into_failure());
    }
    show(&answer.body, path.ends_with("/undo"), global.output)
}

fn show(body: &Value, undone: bool, format: Format) -> Result<(), Failure> {
    let answer: Answer = read(body)?;
    if format != Format::Table {
        output::value(body, format)?;
    } else {
        output::line(text(&answer, undone))?;
        for other in &answer.renamed {
            let other = printable(other);
            output::line(format!("note: a sidecar that had this name before is {other} now, and is not revoked"))?;
        }
    }
    let late: Vec<String> =
        answer.wait.iter().flat_map(|wait| wait.missing.iter().map(|name| printable(name))).collect();
    let refused = answer.wait.iter().flat_map(|wait| &wait.nacked);
    let refused: Vec<String> = refused.map(|nack| printable(&format!("{}: {}", nack.sidecar, nack.reason))).collect();
    if late.is_empty() && refused.is_empty() {
        return Ok(());
    }
    let what = format!("some sidecars do not have it in force: {}", [late, refused].concat().join(", "));
    Err(Failure::new(Exit::Failed, what, "they get it when they connect; see `leno status`"))
}

fn text(answer: &Answer, undone: bool) -> String {
    let Some(revocation) = &answer.revocation else { return "the join token is void".to_owned() };
    let name = printable(&format!("{} {}", revocation.kind, revocation.name));
    let mut text = match (undone, answer.revision) {
        (true, _) => format!("the revocation {} of {name} is taken back", revocation.id),
        (false, None) => format!("{name} was revoked before ({})", revocation.id),
        (false, Some(_)) => format!("{name} is revoked ({})", revocation.id),
    };
    if !undone && revocation.kind == "workload" {
        text += &format!(", {}", count(revocation.sidecars, "sidecar"));
    }
    if let Some(wait) = &answer.wait {
        text += &format!("; in force in {} of {}", wait.acked, count(wait.concerned, "sidecar"));
    }
    text
}

async fn list(global: &Global) -> Result<(), Failure> {
    let answer = super::client(global)?.expect(Method::GET, "/v1/revocations", None).await?;
    if global.output != Format::Table {
        return output::value(&answer, global.output);
    }
    let (list, now): (List, _) = (read(&answer)?, OffsetDateTime::now_utc());
    let mut table = Table::new(&["ID", "KIND", "NAME", "REVOKED", "BY", "ENDS", "REASON"]);
    for of in list.revocations {
        let ends = of.expires.map_or_else(|| "undone".to_owned(), |at| at.chars().take(10).collect());
        table.row([of.id, of.kind, of.name, relative(&of.created, now), of.by, ends, of.reason]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_line() {
        let revocation = json!({"id": "a1", "kind": "workload", "name": "default/web-1", "sidecars": 1});
        let wait = json!({"concerned": 3, "acked": 3, "nacked": [], "missing": []});
        let done = json!({"revocation": revocation, "revision": 7, "wait": wait});
        let read = |value: &Value| read::<Answer>(value).unwrap();
        assert_eq!(
            text(&read(&done), false),
            "workload default/web-1 is revoked (a1), 1 sidecar; in force in 3 of 3 sidecars"
        );
        assert_eq!(text(&read(&json!({"revocation": null})), false), "the join token is void");
        assert!(text(&read(&json!({"revocation": revocation})), false).contains("before"));
        let late = json!({"revocation": revocation, "wait": {"missing": ["default/a"]}});
        assert!(show(&late, false, Format::Table).unwrap_err().to_string().contains("default/a"));
    }
}
