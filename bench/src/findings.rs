//! What came of a kind, and the forms in which it is given: a table for people, JSON for machines, a chart beside them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::chart::{self, Panel};

/// How findings are given.
#[derive(Debug, Clone, Args)]
pub struct Form {
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Folder in which a chart of each kind is written
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,
}

/// Form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// What came of one kind.
#[derive(Default)]
pub struct Findings {
    pub kind: &'static str,
    /// Who took part and which they are, or why they did not.
    pub peers: BTreeMap<&'static str, String>,
    pub tables: Vec<String>,
    pub results: Vec<Value>,
    pub panels: Vec<Panel>,
    /// What was to be checked and does not hold.
    pub problems: Vec<String>,
}

impl Findings {
    /// None yet.
    pub fn of(kind: &'static str, peers: BTreeMap<&'static str, String>) -> Self {
        Self { kind, peers, ..Self::default() }
    }

    /// One more result.
    pub fn add(&mut self, table: String, result: Value, panels: impl IntoIterator<Item = Panel>) {
        self.tables.push(table);
        self.results.push(result);
        self.panels.extend(panels);
    }

    /// For people.
    pub fn table(&self) -> String {
        let peers: String = self.peers.iter().map(|(name, which)| format!("  {name}: {which}\n")).collect();
        format!("{}\n{peers}\n{}", self.kind, self.tables.join("\n"))
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({"kind": self.kind, "peers": self.peers, "results": self.results, "problems": self.problems})
    }

    /// Writes `DIR/KIND.svg`.
    pub fn draw(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let path = dir.join(format!("{}.svg", self.kind));
        std::fs::write(&path, chart::svg(self.kind, &self.panels)).with_context(|| format!("write {}", path.display()))
    }

    /// Gives them, and says whether what was to be checked held.
    pub fn give(&self, form: &Form) -> Result<bool> {
        let text = match form.output {
            Output::Table => self.table(),
            Output::Json => format!("{:#}\n", self.json()),
        };
        std::io::stdout().write_all(text.as_bytes())?;
        if let Some(dir) = &form.svg {
            self.draw(dir)?;
        }
        self.complain();
        Ok(self.problems.is_empty())
    }

    /// Says what does not hold.
    pub fn complain(&self) {
        self.problems.iter().for_each(|problem| eprintln!("check failed: {problem}"));
    }
}
