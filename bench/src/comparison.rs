//! Contestants that take turns, one figure each a turn, and Leno's ratio to every other one round by round.

use anyhow::Result;
use serde_json::{Value, json};

use crate::chart::{Bar, Panel};
use crate::findings::Findings;
use crate::progress::Progress;
use crate::report::number;
use crate::summary::{Summary, interval, summarise};

/// A comparison; the first contestant is Leno.
pub struct Comparison {
    title: String,
    /// What the figure is, and how many digits of it are shown.
    unit: &'static str,
    digits: usize,
    names: Vec<&'static str>,
    /// By contestant, by round.
    figures: Vec<Vec<f64>>,
}

impl Comparison {
    /// Measures each contestant once in each of so many rounds. The first place moves on, so that none always follows the same one; two
    /// alternate as A B B A.
    pub fn measure(
        title: String,
        unit: &'static str,
        digits: usize,
        rounds: u32,
        names: Vec<&'static str>,
        mut turn: impl FnMut(usize) -> Result<f64>,
    ) -> Result<Self> {
        let mut figures = vec![Vec::new(); names.len()];
        let progress = Progress::of(&title, rounds as usize * names.len());
        for round in 0..rounds as usize {
            for place in 0..names.len() {
                let n = (place + round) % names.len();
                progress.begins(names[n]);
                figures[n].push(turn(n)?);
                progress.step();
            }
        }
        Ok(Self { title, unit, digits, names, figures })
    }

    /// Of figures that were measured elsewhere, by contestant and round.
    pub fn of(
        title: String,
        unit: &'static str,
        digits: usize,
        names: Vec<&'static str>,
        figures: Vec<Vec<f64>>,
    ) -> Self {
        Self { title, unit, digits, names, figures }
    }

    /// What the others have more than the last one, which is the server alone, round by round; at least `least`.
    pub fn over_the_last(&self, least: f64) -> Option<Self> {
        let (last, others) = self.figures.split_last()?;
        let over = |figures: &Vec<f64>| figures.iter().zip(last).map(|(one, last)| (one - last).max(least)).collect();
        Some(Self {
            title: format!("{}, over the server's own", self.title),
            unit: self.unit,
            digits: self.digits,
            names: self.names[..others.len()].to_vec(),
            figures: others.iter().map(over).collect(),
        })
    }

    /// Adds it to what came of its kind.
    pub fn found(&self, findings: &mut Findings) {
        findings.add(self.table(), self.json(), [self.panel()]);
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = format!("{} ({}), median (least … greatest), and Leno's ratio to it\n", self.title, self.unit);
        for (n, name) in self.names.iter().enumerate() {
            let of = self.shown(summarise(self.figures[n].iter().copied()), self.digits);
            table += &format!("  {name:<12} {of:>34}   {}\n", self.shown(summarise(self.ratios(n)), 3));
        }
        table
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let one = |n: usize| {
            let of = |s: Option<Summary>| s.map(|s| json!({"median": s.median, "min": s.min, "max": s.max}));
            let figure = of(summarise(self.figures[n].iter().copied()));
            let ratios = self.ratios(n);
            json!({
                "name": self.names[n], "figure": figure, "rounds": self.figures[n],
                "lenosRatio": of(summarise(ratios.iter().copied())), "lenosRatioInterval95": interval(&ratios),
            })
        };
        json!({"title": self.title, "unit": self.unit, "contestants": (0..self.names.len()).map(one).collect::<Vec<_>>()})
    }

    fn panel(&self) -> Panel {
        let bar = |(n, name): (usize, &&'static str)| {
            let value = summarise(self.figures[n].iter().copied())?;
            Some(Bar { name: (*name).to_owned(), value, digits: self.digits, ours: n == 0 })
        };
        let bars = self.names.iter().enumerate().filter_map(bar).collect();
        Panel { title: self.title.clone(), unit: self.unit.to_owned(), bars }
    }

    /// The first one's figures over those of the contestant `n`, round by round.
    pub fn ratios(&self, n: usize) -> Vec<f64> {
        self.figures[0].iter().zip(&self.figures[n]).map(|(leno, other)| leno / other).collect()
    }

    /// The figures of the contestant `n`.
    pub fn figures(&self, n: usize) -> &[f64] {
        &self.figures[n]
    }

    fn shown(&self, summary: Option<Summary>, digits: usize) -> String {
        summary.map_or_else(String::new, |s| {
            let [median, min, max] = [s.median, s.min, s.max].map(|n| number(Some(n), digits));
            format!("{median} ({min} … {max})")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contestant_has_a_turn_in_each_round_and_ratios_are_of_one_round() {
        let mut turns = Vec::new();
        let compared = Comparison::measure("x".to_owned(), "y", 0, 3, vec!["leno", "other"], |n| {
            turns.push(n);
            Ok(if n == 0 { turns.len() as f64 } else { 2.0 * turns.len() as f64 })
        })
        .unwrap();
        assert_eq!(turns, [0, 1, 1, 0, 0, 1]);
        assert_eq!(compared.ratios(1), [1.0 / 4.0, 4.0 / 6.0, 5.0 / 12.0]);
        assert!(compared.table().contains("other"));
        assert_eq!(compared.json()["contestants"][0]["lenosRatio"]["median"], 1.0);
    }

    #[test]
    fn what_is_added_is_of_one_round_and_never_less_than_the_least() {
        let figures = vec![vec![30.0, 9.0], vec![10.0, 10.0]];
        let compared = Comparison::of("x".to_owned(), "us", 0, vec!["leno", "direct"], figures);
        assert_eq!(compared.over_the_last(1.0).unwrap().figures, [[20.0, 1.0]]);
    }
}
