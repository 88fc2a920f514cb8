//! What goes to the terminal: tables for people, exact JSON or YAML for machines.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::failure::{Exit, Failure};

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    // Plain comments, since docstrings of values would blow up the help of every command.
    // For people.
    #[default]
    Table,
    // What the control plane said.
    Json,
    // The same as YAML.
    Yaml,
}

/// Writes one line to standard output. A reader that went away (`leno get … | head`) ends the command quietly.
pub fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    print(&[text.as_ref(), "\n"])
}

/// Writes a file to standard output, with the line ends that it has.
pub fn exactly(text: &str) -> Result<(), Failure> {
    print(&[text])
}

fn print(parts: &[&str]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match parts.iter().try_for_each(|part| stdout.write_all(part.as_bytes())).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Failure::reported(Exit::Failed)),
        Err(e) => Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {e}"), "")),
    }
}

/// Prints `value` for machines; `Table` prints it as JSON too, since the caller had nothing better.
pub fn value(value: &Value, format: Format) -> Result<(), Failure> {
    let text = match format {
        Format::Yaml => serde_yaml_ng::to_string(value).map_err(|e| e.to_string()),
        Format::Json | Format::Table => serde_json::to_string_pretty(value).map_err(|e| e.to_string()),
    };
    let text = text.map_err(|e| Failure::new(Exit::Failed, format!("cannot print the answer: {e}"), ""))?;
    line(text.trim_end())
}

/// Colours, when standard output is a terminal that wants them (<https://no-color.org>).
#[derive(Debug, Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    /// As standard output and the environment ask for.
    pub fn stdout() -> Self {
        Self(io::stdout().is_terminal() && wanted())
    }

    /// As standard error and the environment ask for.
    pub fn stderr() -> Self {
        Self(io::stderr().is_terminal() && wanted())
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// For what is well.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// For what is wrong.
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// For what needs a look.
    pub fn warn(self, text: &str) -> String {
        self.wrap("33", text)
    }
}

fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

/// Columns of text, as kubectl prints them: as wide as the widest cell, three spaces apart.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    /// Adds a row. An empty cell is shown as `-`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|c| if c.is_empty() { "-".to_owned() } else { printable(&c) }).collect());
    }

    /// The lines, without trailing spaces.
    pub fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |n: usize| self.rows.iter().filter_map(|r| r.get(n)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let pad = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
            cells.join("   ").trim_end().to_owned()
        };
        self.rows.iter().map(pad).collect()
    }

    /// Prints it.
    pub fn print(&self) -> Result<(), Failure> {
        self.lines().iter().try_for_each(line)
    }
}

/// Text from a server or a file, safe for a terminal: control characters are shown as `?`.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `n` with its noun, `1 sidecar`, `3 sidecars`.
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// `12,345`.
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_do_not_trail() {
        let mut table = Table::new(&["NAME", "X"]);
        table.row(["web-frontend".to_owned(), String::new()]);
        table.row(["a".to_owned(), "long value".to_owned()]);
        assert_eq!(table.lines(), ["NAME           X", "web-frontend   -", "a              long value"]);
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(["a\x1b[2Jb\n".to_owned()]);
        assert_eq!(table.lines()[1], "a?[2Jb?");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(count(1, "sidecar"), "1 sidecar");
        assert_eq!(count(0, "sidecar"), "0 sidecars");
    }
}
