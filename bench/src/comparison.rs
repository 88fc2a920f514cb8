//! Contestants that take turns, one figure each a turn, and Leno's ratio to every other one round by round.

use anyhow::Result;
use serde_json::{Value, json};

use crate::report::number;
use crate::summary::{Summary, summarise};

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
    /// Measures each contestant once in each of so many rounds. The first place moves on, so that none always follows the same one.
    pub fn measure(
        title: String,
        unit: &'static str,
        digits: usize,
        rounds: u32,
        names: Vec<&'static str>,
        mut turn: impl FnMut(usize) -> Result<f64>,
    ) -> Result<Self> {
        let mut figures = vec![Vec::new(); names.len()];
        for round in 0..rounds as usize {
            for place in 0..names.len() {
                let n = (place + round) % names.len();
                figures[n].push(turn(n)?);
            }
            eprintln!("{title}: round {} of {rounds} is done", round + 1);
        }
        Ok(Self { title, unit, digits, names, figures })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut table = format!("{} ({}), median (least … greatest), and Leno's ratio to it\n", self.title, self.unit);
        for (n, name) in self.names.iter().enumerate() {
            let of = self.shown(summarise(self.figures[n].iter().copied()), self.digits);
            table += &format!("  {name:<12} {of:>34}   {}\n", self.shown(self.ratio(n), 3));
        }
        table
    }

    /// For machines.
    pub fn json(&self) -> Value {
        let one = |n: usize| {
            let of = |s: Option<Summary>| s.map(|s| json!({"median": s.median, "min": s.min, "max": s.max}));
            let figure = of(summarise(self.figures[n].iter().copied()));
            json!({"name": self.names[n], "figure": figure, "lenosRatio": of(self.ratio(n))})
        };
        json!({"title": self.title, "unit": self.unit, "contestants": (0..self.names.len()).map(one).collect::<Vec<_>>()})
    }

    fn ratio(&self, n: usize) -> Option<Summary> {
        summarise(self.figures[0].iter().zip(&self.figures[n]).map(|(leno, other)| leno / other))
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
        assert!(compared.table().contains("other"));
        assert_eq!(compared.json()["contestants"][0]["lenosRatio"]["median"], 1.0);
    }
}
