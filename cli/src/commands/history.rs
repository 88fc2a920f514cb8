//! `leno history`: who changed what, newest first.

use http::Method;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::args::Global;
use crate::client::{Change, read};
use crate::failure::Failure;
use crate::output::{self, Format, Table};
use crate::spans::relative;

/// Show the revisions: who changed what, newest first
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How many revisions to show at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub limit: u32,
}

const EXAMPLES: &str = "Examples:
  leno history
  leno history --limit 100 -o json";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct History {
    revisions: Vec<Revision>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Revision {
    revision: u64,
    time: String,
    actor: String,
    message: String,
    changes: Vec<Change>,
}

/// Runs the command.
///
/// # Errors
/// The control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let path = format!("/v1/history?limit={}", args.limit);
    let answer = super::client(global)?.expect(Method::GET, &path, None).await?;
    if global.output != Format::Table {
        return output::value(&answer, global.output);
    }
    table(&read(&answer)?, OffsetDateTime::now_utc()).print()
}

fn table(history: &History, now: OffsetDateTime) -> Table {
    let mut table = Table::new(&["REVISION", "TIME", "ACTOR", "CHANGES"]);
    for revision in &history.revisions {
        let changes = changes(&revision.changes);
        let changes = match revision.message.as_str() {
            "" => changes,
            message if changes.is_empty() => message.to_owned(),
            message => format!("{message}: {changes}"),
        };
        table.row([revision.revision.to_string(), relative(&revision.time, now), revision.actor.clone(), changes]);
    }
    table
}

/// The first few changes, and how many more there are.
fn changes(changes: &[Change]) -> String {
    const SHOWN: usize = 4;
    let mut texts: Vec<String> = changes.iter().take(SHOWN).map(|c| format!("{} {}", c.object(), c.action)).collect();
    if changes.len() > SHOWN {
        texts.push(format!("{} more", changes.len() - SHOWN));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_is_a_line_with_its_first_changes() {
        let change = json!({"action": "created", "kind": "Service", "namespace": "default", "name": "web"});
        let history = json!({"revisions": [
            {"revision": 2, "time": "1970-01-01T00:00:50Z", "actor": "admin", "changes": [change, change, change, change, change]},
            {"revision": 1, "time": "1970-01-01T00:00:00Z", "actor": "config-dir", "message": "rollback to 0", "changes": []},
        ]});
        let lines = table(&read(&history).unwrap(), OffsetDateTime::from_unix_timestamp(60).unwrap()).lines();
        assert!(lines[1].starts_with("2          10s ago   admin        service/web created, "), "{}", lines[1]);
        assert!(lines[1].ends_with("1 more"));
        assert!(lines[2].ends_with("rollback to 0"));
    }
}
