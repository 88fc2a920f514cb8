//! What the live view remembers of what it was told.

use std::collections::VecDeque;

use crate::demo::counts::Counts;
use crate::demo::traffic::Report;

/// Ticks that are kept: a minute of them.
const HISTORY: usize = 240;
/// Ticks that the numbers are of: two seconds.
const RECENT: usize = 8;
/// Lines of the log that are kept.
const LINES: usize = 200;

/// The live view's memory; all of it bounded.
#[derive(Debug, Default)]
pub struct Board {
    ticks: VecDeque<Report>,
    lines: VecDeque<String>,
    /// Since the start.
    pub total: Counts,
}

/// The last two seconds.
#[derive(Debug, Default)]
pub struct Recent {
    /// What was counted.
    pub counts: Counts,
    /// In how many seconds.
    pub seconds: f64,
}

impl Board {
    /// Takes a line for the log.
    pub fn say(&mut self, line: String) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Takes what was counted in the last quarter of a second.
    pub fn tick(&mut self, tick: Report) {
        if tick.counts.failed + tick.counts.store_failed > 0 {
            self.say(format!("failed: {}", tick.counts.why()));
        }
        self.total.add(&tick.counts);
        if self.ticks.len() == HISTORY {
            self.ticks.pop_front();
        }
        self.ticks.push_back(tick);
    }

    /// The newest lines, the oldest of them first.
    pub fn lines(&self, most: usize) -> impl Iterator<Item = &str> {
        self.lines.iter().skip(self.lines.len().saturating_sub(most)).map(String::as_str)
    }

    /// The last two seconds.
    pub fn recent(&self) -> Recent {
        let mut recent = Recent::default();
        for tick in self.ticks.iter().rev().take(RECENT) {
            recent.counts.add(&tick.counts);
            recent.seconds += tick.seconds;
        }
        recent
    }

    /// Requests a second of the last `most` ticks, the oldest first.
    pub fn rates(&self, most: usize) -> Vec<u64> {
        let rate = |t: &Report| (t.counts.requests() as f64 / t.seconds.max(0.001)) as u64;
        self.ticks.iter().skip(self.ticks.len().saturating_sub(most)).map(rate).collect()
    }
}

impl Recent {
    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.counts.requests() as f64 / self.seconds.max(0.001)
    }

    /// The share that was answered well, in percent; 100 when nothing was asked.
    pub fn success(&self) -> f64 {
        match self.counts.requests() {
            0 => 100.0,
            all => self.counts.ok as f64 * 100.0 / all as f64,
        }
    }

    /// A version's share of the answers, from 0 to 1.
    pub fn share(&self, version: &str) -> f64 {
        self.counts.of_version(version) as f64 / self.counts.ok.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(ok: u64, failed: u64) -> Report {
        let text = format!("{{\"event\":\"tick\",\"seconds\":0.25,\"counts\":{}}}", {
            let versions = [("v1".to_owned(), ok)].into();
            serde_json::to_string(&Counts { ok, failed, versions, ..Counts::default() }).unwrap()
        });
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut board = Board::default();
        for n in 0..1000 {
            board.tick(tick(n, 1));
        }
        assert_eq!((board.ticks.len(), board.lines.len()), (HISTORY, LINES));
        assert_eq!(board.rates(3), [3992, 3996, 4000]);
        assert_eq!(board.total.failed, 1000);
    }

    #[test]
    fn the_numbers_are_of_the_last_two_seconds() {
        let mut board = Board::default();
        assert_eq!(board.recent().success(), 100.0);
        board.tick(tick(1_000_000, 0));
        for _ in 0..RECENT {
            board.tick(tick(99, 1));
        }
        let recent = board.recent();
        assert_eq!((recent.rate(), recent.success(), recent.share("v1")), (400.0, 99.0, 1.0));
    }
}
