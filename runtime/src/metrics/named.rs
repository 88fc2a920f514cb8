//! What each metric of a program is called, what it says and which labels it has: one table, of which docs/metrics.md is printed.

use std::fmt::Write as _;

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution of durations, in seconds.
    Histogram,
}

impl Kind {
    /// As Prometheus says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// How it moves.
    pub kind: Kind,
    /// Its name, as Prometheus has it.
    pub name: &'static str,
    /// Names of its labels, in the order in which they are given.
    pub labels: &'static [&'static str],
    /// What it says, without a full stop; may be Markdown.
    pub help: &'static str,
}

/// A row of the table for a counter.
pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Named {
    Named { kind: Kind::Counter, name, labels, help }
}

/// A row of the table for a gauge.
pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Named {
    Named { kind: Kind::Gauge, name, labels, help }
}

/// A row of the table for a histogram of seconds.
pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Named {
    Named { kind: Kind::Histogram, name, labels, help }
}

/// The table in Markdown.
pub fn markdown(all: &[Named]) -> String {
    let mut page = String::from("| name | type | labels | |\n|---|---|---|---|\n");
    for Named { kind, name, labels, help } in all {
        let _ = writeln!(page, "| `{name}` | {} | {} | {help} |", kind.word(), labels.join(", "));
    }
    page
}
