//! What the unattended demo claims, with the counts that it rests on.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::output::{Paint, thousands};

/// One claim.
#[derive(Debug, Clone)]
pub struct Fact {
    /// A short name that stays the same.
    pub name: String,
    /// Whether it is true.
    pub held: bool,
    /// For people, with the counts.
    pub text: String,
    /// For machines.
    pub counts: Map<String, Value>,
}

impl Fact {
    /// A claim with its counts (an object).
    pub fn new(name: impl Into<String>, held: bool, text: impl Into<String>, counts: Value) -> Self {
        let counts = match counts {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Self { name: name.into(), held, text: text.into(), counts }
    }

    /// `ok  split 50/50: 4,012 of 8,050 requests to v2 (49.8 %)`
    pub fn line(&self) -> String {
        let paint = Paint::stdout();
        let verdict = if self.held { paint.good("ok  ") } else { paint.bad("FAIL") };
        format!("{verdict}  {}: {}", self.name, self.text)
    }
}

/// All facts, for machines.
pub fn to_json(facts: &[Fact], took: Duration) -> Value {
    let all: Vec<Value> =
        facts.iter().map(|f| json!({"name": f.name, "held": f.held, "text": f.text, "counts": f.counts})).collect();
    let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
    json!({"held": facts.iter().all(|f| f.held), "seconds": seconds, "facts": all})
}

/// `4,012 of 8,050 requests to v2 (49.8 %)`
pub fn share(part: u64, whole: u64, what: &str) -> String {
    let percent = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    format!("{} of {} {what} ({percent:.1} %)", thousands(part), thousands(whole))
}

/// The two-sided 99.9 % interval of a binomial distribution: of `n` draws with probability `p`, fewer than the first or more
/// than the second number come with a probability of 0.05 % each at most. Exact, in logarithms since the terms underflow.
pub fn binomial_interval(n: u64, p: f64) -> (u64, u64) {
    const TAIL: f64 = 0.0005;
    if n == 0 || p <= 0.0 {
        return (0, 0);
    }
    if p >= 1.0 {
        return (n, n);
    }
    let odds = p.ln() - (1.0 - p).ln();
    let mut log_mass = n as f64 * (1.0 - p).ln();
    let (mut below, mut low) = (0.0, None);
    for k in 0..=n {
        let mass = log_mass.exp();
        below += mass;
        if low.is_none() && below > TAIL {
            low = Some(k);
        }
        if below >= 1.0 - TAIL {
            return (low.unwrap_or(0), k);
        }
        log_mass += ((n - k) as f64 / (k + 1) as f64).ln() + odds;
    }
    (low.unwrap_or(0), n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_that_of_the_normal_distribution_where_that_is_near() {
        for (n, p) in [(20_000, 0.1), (20_000, 0.5), (1_000, 0.5), (5_000, 0.9)] {
            let (low, high) = binomial_interval(n, p);
            let (mean, deviation) = (n as f64 * p, (n as f64 * p * (1.0 - p)).sqrt());
            assert!((low as f64 - (mean - 3.29 * deviation)).abs() < 3.0, "{n} {p}: {low}");
            assert!((high as f64 - (mean + 3.29 * deviation)).abs() < 3.0, "{n} {p}: {high}");
        }
    }

    #[test]
    fn a_sure_thing_has_no_room() {
        assert_eq!(binomial_interval(500, 1.0), (500, 500));
        assert_eq!(binomial_interval(500, 0.0), (0, 0));
        assert_eq!(binomial_interval(0, 0.5), (0, 0));
    }

    #[test]
    fn small_samples_are_exact() {
        // All of 10 fair draws the same way has a probability of 1/1024 each way: more than the tail.
        assert_eq!(binomial_interval(10, 0.5), (0, 10));
        assert_eq!(binomial_interval(20, 0.5), (3, 17));
    }

    #[test]
    fn the_whole_holds_only_when_each_held() {
        let good = Fact::new("a", true, "", json!({"n": 1}));
        let bad = Fact { held: false, ..good.clone() };
        assert_eq!(to_json(std::slice::from_ref(&good), Duration::ZERO)["held"], true);
        assert_eq!(to_json(&[good, bad], Duration::ZERO)["held"], false);
        assert_eq!(share(1, 3, "x"), "1 of 3 x (33.3 %)");
    }
}
