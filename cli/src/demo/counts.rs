//! What the frontend counts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most different reasons that are kept; the rest is counted together.
const MOST_REASONS: usize = 16;

/// What came of the calls of a span of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// HTTP requests that were answered 200 by web.
    pub ok: u64,
    /// HTTP requests that were not.
    pub failed: u64,
    /// The answered ones by version.
    pub versions: BTreeMap<String, u64>,
    /// The answered ones by instance.
    pub instances: BTreeMap<String, u64>,
    /// Half of the answers came within so many microseconds.
    pub p50_micros: u64,
    /// And 99 of 100 within so many.
    pub p99_micros: u64,
    /// Calls of the store that gave back what was set.
    pub store_ok: u64,
    /// Calls of the store that did not.
    pub store_failed: u64,
    /// Why, for all that failed.
    pub reasons: BTreeMap<String, u64>,
}

impl Counts {
    /// All HTTP requests.
    pub fn requests(&self) -> u64 {
        self.ok + self.failed
    }

    /// Answers of a version.
    pub fn of_version(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or(0)
    }

    /// `503 no_endpoint ×3, no answer ×1`, the most frequent first.
    pub fn why(&self) -> String {
        let mut reasons: Vec<_> = self.reasons.iter().collect();
        reasons.sort_by(|a, b| b.1.cmp(a.1));
        reasons.iter().map(|(why, n)| format!("{why} ×{n}")).collect::<Vec<_>>().join(", ")
    }

    /// Adds what another span counted. Percentiles cannot be added: the larger ones are kept.
    pub fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.failed += other.failed;
        self.store_ok += other.store_ok;
        self.store_failed += other.store_failed;
        self.p50_micros = self.p50_micros.max(other.p50_micros);
        self.p99_micros = self.p99_micros.max(other.p99_micros);
        for (ours, theirs) in [
            (&mut self.versions, &other.versions),
            (&mut self.instances, &other.instances),
            (&mut self.reasons, &other.reasons),
        ] {
            for (key, n) in theirs {
                *ours.entry(key.clone()).or_default() += n;
            }
        }
    }
}

/// Counts as the calls end.
#[derive(Debug, Default)]
pub struct Recorder {
    counts: Counts,
    latencies: Latencies,
}

impl Recorder {
    /// An HTTP request was answered.
    pub fn answered(&mut self, version: &str, instance: &str, took: Duration) {
        self.counts.ok += 1;
        bump(&mut self.counts.versions, version);
        bump(&mut self.counts.instances, instance);
        self.latencies.add(took);
    }

    /// An HTTP request was not.
    pub fn failed(&mut self, why: &str) {
        self.counts.failed += 1;
        self.reason(why);
    }

    /// A call of the store went well.
    pub fn stored(&mut self) {
        self.counts.store_ok += 1;
    }

    /// A call of the store did not.
    pub fn not_stored(&mut self, why: &str) {
        self.counts.store_failed += 1;
        self.reason(&format!("store: {why}"));
    }

    fn reason(&mut self, why: &str) {
        let known = self.counts.reasons.len() < MOST_REASONS || self.counts.reasons.contains_key(why);
        bump(&mut self.counts.reasons, if known { why } else { "other" });
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let (p50_micros, p99_micros) = (self.latencies.quantile(0.5), self.latencies.quantile(0.99));
        Counts { p50_micros, p99_micros, ..self.counts.clone() }
    }
}

fn bump(map: &mut BTreeMap<String, u64>, key: &str) {
    match map.get_mut(key) {
        Some(n) => *n += 1,
        None => {
            map.insert(key.to_owned(), 1);
        }
    }
}

/// Times in buckets that are at most 1/16 wide: whatever is read from it is right to 6 %.
#[derive(Debug, Default)]
struct Latencies {
    buckets: BTreeMap<u16, u64>,
    total: u64,
}

impl Latencies {
    fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        *self.buckets.entry(bucket(micros)).or_default() += 1;
        self.total += 1;
    }

    /// The upper bound of the bucket in which that share of the times is reached, in microseconds.
    fn quantile(&self, share: f64) -> u64 {
        let rank = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, n) in &self.buckets {
            seen += n;
            if seen >= rank {
                return upper(*bucket);
            }
        }
        0
    }
}

fn bucket(micros: u64) -> u16 {
    if micros < 16 {
        return micros as u16;
    }
    let power = micros.ilog2();
    ((power - 3) * 16) as u16 + ((micros >> (power - 4)) & 15) as u16
}

fn upper(bucket: u16) -> u64 {
    if bucket < 16 {
        return u64::from(bucket);
    }
    let (power, part) = (u32::from(bucket / 16) + 3, u64::from(bucket % 16));
    // The largest value that falls into it; the last bucket's bound is beyond u64.
    (u128::from(16 + part + 1) << (power - 4)).saturating_sub(1).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_right_to_one_sixteenth() {
        for micros in (0..10_000).chain([123_456, 10_000_000, u64::MAX]) {
            let upper = upper(bucket(micros));
            assert!(upper >= micros && upper as f64 <= micros as f64 * 1.0626 + 1.0, "{micros} is told as {upper}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let mut recorder = Recorder::default();
        for n in 1..=100 {
            recorder.answered("v1", "a", Duration::from_micros(n * 100));
        }
        let counts = recorder.counts();
        assert!((5000..5350).contains(&counts.p50_micros), "{}", counts.p50_micros);
        assert!((9900..10_600).contains(&counts.p99_micros), "{}", counts.p99_micros);
        assert_eq!(Recorder::default().counts().p99_micros, 0);
    }

    #[test]
    fn reasons_are_bounded_and_the_most_frequent_comes_first() {
        let mut recorder = Recorder::default();
        for n in 0..40 {
            recorder.failed(&n.to_string());
        }
        recorder.failed("3");
        let counts = recorder.counts();
        assert_eq!(counts.reasons.len(), MOST_REASONS + 1);
        assert_eq!(counts.failed, 41);
        assert!(counts.why().starts_with("other ×24, 3 ×2"), "{}", counts.why());
    }

    #[test]
    fn spans_add_up() {
        let mut recorder = Recorder::default();
        recorder.answered("v1", "a", Duration::from_micros(5));
        recorder.stored();
        let mut sum = recorder.counts();
        sum.add(&recorder.counts());
        assert_eq!((sum.requests(), sum.of_version("v1"), sum.store_ok), (2, 2, 2));
    }
}
