//! `leno audit`: who changed what, from where, and what came of it; and the proof that nothing of that was changed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use http::Method;
use leno_control_plane::model::audit::{Broken, Entry, Head, Verifier};
use serde::Deserialize;

use crate::args::Global;
use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Table, count, thousands};

/// Longest line of a file that is read, in bytes; an entry is much shorter.
const LONGEST_LINE: usize = 1 << 20;
/// Entries that are asked for at a time.
const PAGE: usize = 5_000;

/// Show who changed what, and prove that the log is whole
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub action: Option<Action>,
    #[command(flatten)]
    pub list: List,
}

/// Which entries to show.
#[derive(Debug, Default, clap::Args)]
pub struct List {
    /// How many of the newest entries to look at
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
    /// Only what this user or identity did
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Only actions that begin so: apply, token, revoke, join …
    #[arg(long, value_name = "WORD")]
    pub action: Option<String>,
    /// Only what was refused
    #[arg(long)]
    pub refused: bool,
}

/// What else to do with the log.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Print the whole log as JSON lines, oldest first, to be kept elsewhere
    #[command(after_help = EXAMPLES)]
    Export,
    /// Prove that the log is whole, or name the first entry that is not
    #[command(after_help = EXAMPLES)]
    Verify {
        /// An exported file, verified without a control plane
        #[arg(short = 'f', long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// The hash of an entry that was noted before; it has to be in the log still
        #[arg(long, value_name = "HASH")]
        holds: Option<String>,
    },
}

const EXAMPLES: &str = "Examples:
  leno audit --limit 200 --action revoke
  leno audit --actor dashboard --refused -o json
  leno audit verify
  leno audit export > audit.jsonl && leno audit verify -f audit.jsonl";

#[derive(Debug, Default, Deserialize)]
struct Page {
    entries: Vec<Entry>,
    head: Head,
}

/// Runs the command.
///
/// # Errors
/// The log is broken, the file cannot be read, or the control plane could not be asked.
pub async fn run(args: Args, global: &Global) -> Result<(), Failure> {
    match args.action {
        None => list(&args.list, global).await,
        Some(Action::Export) => {
            let line = |entry: &Entry| match serde_json::to_string(entry) {
                Ok(text) => output::line(text),
                Err(why) => Err(Failure::new(Exit::Failed, why.to_string(), "")),
            };
            each(&super::client(global)?, line).await.map(drop)
        }
        Some(Action::Verify { file, holds }) => {
            let mut proof = Proof { holds, ..Proof::default() };
            let (whole, head) = match file {
                Some(file) => (proof.file(&file)?, None),
                None => {
                    let client = super::client(global)?;
                    let mut broken = None;
                    let head = each(&client, |entry| {
                        broken = broken.take().or_else(|| proof.next(entry).err());
                        Ok(())
                    })
                    .await?;
                    (broken.map_or(Ok(()), Err), Some(head))
                }
            };
            whole.and_then(|()| proof.finish(head.as_ref())).map_err(|broken| failed(&broken)).and_then(output::line)
        }
    }
}

/// Every entry that is kept, oldest first; gives the head.
async fn each(client: &Client, mut take: impl FnMut(&Entry) -> Result<(), Failure>) -> Result<Head, Failure> {
    let mut after = 0;
    loop {
        let path = format!("/v1/audit?after={after}&limit={PAGE}");
        let page: Page = read(&client.expect(Method::GET, &path, None).await?)?;
        page.entries.iter().try_for_each(&mut take)?;
        match page.entries.last() {
            // What is written meanwhile belongs to the next look.
            Some(last) if last.seq < page.head.seq => after = last.seq,
            _ => return Ok(page.head),
        }
    }
}

fn failed(broken: &Broken) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("the audit log is broken at {broken}"),
        "compare it with a copy that was exported before; what is before that entry is whole",
    )
}

/// A verification with its words.
#[derive(Debug, Default)]
struct Proof {
    verifier: Verifier,
    entries: u64,
    holds: Option<String>,
    held: bool,
}

impl Proof {
    fn next(&mut self, entry: &Entry) -> Result<(), Broken> {
        self.entries += 1;
        self.held |= self.holds.as_ref().is_some_and(|hash| *hash == entry.hash);
        self.verifier.next(entry)
    }

    fn file(&mut self, path: &Path) -> Result<Result<(), Broken>, Failure> {
        let failed = |why: std::io::Error| {
            Failure::new(Exit::Failed, format!("cannot read {}: {why}", path.display()), "give an exported log")
        };
        let mut reader = BufReader::new(std::fs::File::open(path).map_err(failed)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut bounded = std::io::Read::take(&mut reader, LONGEST_LINE as u64);
            if bounded.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                return Ok(Ok(()));
            }
            let seq = self.verifier.expected();
            let torn = |why: String| Ok(Err(Broken { seq, why }));
            if line.last() != Some(&b'\n') {
                return torn("its line is not whole: the file was cut off there".to_owned());
            }
            match serde_json::from_slice::<Entry>(&line) {
                Ok(entry) => {
                    if let Err(broken) = self.next(&entry) {
                        return Ok(Err(broken));
                    }
                }
                Err(why) => return torn(format!("its line is no entry: {why}")),
            }
        }
    }

    fn finish(self, head: Option<&Head>) -> Result<String, Broken> {
        let (first, last) = self.verifier.finish(head)?;
        if let Some(hash) = self.holds.filter(|_| !self.held) {
            return Err(Broken { seq: last.seq, why: format!("no entry up to here has the hash {hash}") });
        }
        let n = count(self.entries, "entry").replace("entrys", "entries");
        Ok(format!("the audit log is whole: {n}, {} to {}, {}", thousands(first), thousands(last.seq), last.hash))
    }
}

async fn list(wanted: &List, global: &Global) -> Result<(), Failure> {
    let path = format!("/v1/audit?limit={}", wanted.limit.min(PAGE));
    let page: Page = read(&super::client(global)?.expect(Method::GET, &path, None).await?)?;
    let shown: Vec<&Entry> = page.entries.iter().filter(|entry| wanted.takes(entry)).collect();
    if global.output != Format::Table {
        let value = serde_json::to_value(&shown).map_err(|why| Failure::new(Exit::Failed, why.to_string(), ""))?;
        return output::value(&value, global.output);
    }
    let mut table = Table::new(&["SEQ", "TIME", "ACTOR", "ROLE", "FROM", "ACTION", "RESULT", "WHAT"]);
    for entry in shown {
        table.row([
            entry.seq.to_string(),
            entry.time.clone(),
            entry.actor.clone(),
            entry.role.clone(),
            entry.address.clone(),
            entry.action.clone(),
            entry.result.clone(),
            what(entry),
        ]);
    }
    table.print()
}

/// The first few things, and what was said of them.
fn what(entry: &Entry) -> String {
    const SHOWN: usize = 3;
    let mut parts: Vec<String> = entry.what.iter().take(SHOWN).cloned().collect();
    if entry.what.len() > SHOWN {
        parts.push(format!("{} more", entry.what.len() - SHOWN));
    }
    let what = parts.join(", ");
    match (what.is_empty(), entry.detail.is_empty()) {
        (_, true) => what,
        (true, false) => entry.detail.clone(),
        (false, false) => format!("{what}: {}", entry.detail),
    }
}

impl List {
    fn takes(&self, entry: &Entry) -> bool {
        self.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
            && self.action.as_ref().is_none_or(|word| entry.action.starts_with(word.as_str()))
            && !(self.refused && entry.result == "done")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use leno_control_plane::model::audit::Event;

    use super::*;

    fn exported(n: u64) -> String {
        let mut head = Head::default();
        let lines = (0..n).map(|n| {
            let entry = head.next(&Event::done(&"admin".into(), "apply", n.to_string()), "2026".to_owned());
            head = entry.head();
            serde_json::to_string(&entry).unwrap() + "\n"
        });
        lines.collect()
    }

    fn verified(text: &str) -> Result<(), Broken> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut proof = Proof::default();
        proof.file(file.path()).unwrap().and_then(|()| proof.finish(None).map(drop))
    }

    #[test]
    fn a_copy_is_proven_without_a_control_plane_and_its_first_broken_entry_is_named() {
        let good = exported(4);
        assert_eq!(verified(&good), Ok(()));
        assert_eq!(verified(&good.replacen("\"what\":[\"2\"]", "\"what\":[\"9\"]", 1)).unwrap_err().seq, 3);
        let torn = verified(&good[..good.len() - 10]).unwrap_err();
        assert!(torn.seq == 4 && torn.why.contains("cut off"), "{torn}");
        assert!(verified(&format!("{good}oops\n")).unwrap_err().why.contains("no entry"));
        assert_eq!(verified(""), Ok(()));
    }
}
