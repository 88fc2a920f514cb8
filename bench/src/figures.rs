//! Figures of one contestant that are read one by one, where there is nobody to compare with.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::chart::{Bar, Panel};
use crate::findings::Findings;
use crate::report::number;
use crate::summary::{Summary, summarise};

/// What came of one setting.
pub struct Figures {
    title: String,
    figures: Vec<Figure>,
}

/// A figure.
pub struct Figure {
    name: String,
    unit: &'static str,
    digits: usize,
    summary: Option<Summary>,
}

impl Figure {
    /// Over the rounds.
    pub fn of(name: &str, unit: &'static str, digits: usize, values: Vec<f64>) -> Self {
        Self { name: name.to_owned(), unit, digits, summary: summarise(values) }
    }

    /// That was taken once.
    pub fn one(name: &str, unit: &'static str, digits: usize, value: f64) -> Self {
        Self::of(name, unit, digits, vec![value])
    }

    fn shown(&self) -> String {
        let Some(s) = self.summary else { return "-".to_owned() };
        let [median, min, max] = [s.median, s.min, s.max].map(|n| number(Some(n), self.digits));
        if min == max { median } else { format!("{median} ({min} … {max})") }
    }
}

impl Figures {
    /// None yet.
    pub fn new(title: String) -> Self {
        Self { title, figures: Vec::new() }
    }

    /// One more.
    pub fn push(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds them to what came of their kind.
    pub fn found(&self, findings: &mut Findings) {
        findings.add(self.table(), self.json(), self.panels());
    }

    /// One for each unit.
    fn panels(&self) -> Vec<Panel> {
        let mut panels: Vec<Panel> = Vec::new();
        for figure in &self.figures {
            let Some(value) = figure.summary else { continue };
            let bar = Bar { name: figure.name.clone(), value, digits: figure.digits, ours: true };
            match panels.iter_mut().find(|panel| panel.unit == figure.unit) {
                Some(panel) => panel.bars.push(bar),
                None => panels.push(Panel { title: self.title.clone(), unit: figure.unit.to_owned(), bars: vec![bar] }),
            }
        }
        panels
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = format!("{}, median (least … greatest)\n", self.title);
        for figure in &self.figures {
            // Writing to a string does not fail.
            let _ = writeln!(table, "  {:<60} {:>24} {}", figure.name, figure.shown(), figure.unit);
        }
        table
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let figure = |of: &Figure| {
            let spread = of.summary.map(|s| json!({"median": s.median, "min": s.min, "max": s.max}));
            json!({"name": of.name, "unit": of.unit, "figure": spread})
        };
        json!({"title": self.title, "figures": self.figures.iter().map(figure).collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_its_spread_where_it_was_taken_more_than_once() {
        let mut figures = Figures::new("x".to_owned());
        figures.push(Figure::one("once", "KiB", 1, 2.0));
        figures.push(Figure::of("thrice", "ms", 0, vec![3.0, 1.0, 2.0]));
        let table = figures.table();
        assert!(table.contains("2.0 KiB") && table.contains("2 (1 … 3) ms"), "{table}");
        assert_eq!(figures.panels().iter().map(|panel| panel.bars.len()).collect::<Vec<_>>(), [1, 1]);
        assert_eq!(figures.json()["figures"][1]["figure"]["median"], 2.0);
    }
}
