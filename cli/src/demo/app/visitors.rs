//! The load of `examples/compose`: visits the frontend at a steady rate and prints a line a second: how many visits went well, how
//! many did not and why, and which version of `web` was seen how often.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::rc::Rc;
use std::time::Duration;

use http::{StatusCode, Uri};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::call::Caller;
use crate::failure::Failure;

/// Visitors, each with one visit under way at a time.
const VISITORS: u32 = 4;
/// Different versions and reasons that are told apart in a second.
const MOST_KINDS: usize = 20;

/// What happened in one second.
#[derive(Default)]
struct Second {
    ok: u64,
    failed: u64,
    versions: BTreeMap<String, u64>,
    reasons: BTreeMap<String, u64>,
}

impl Second {
    fn count(&mut self, visit: Result<String, String>) {
        let (sum, kinds, kind) = match visit {
            Ok(version) => (&mut self.ok, &mut self.versions, version),
            Err(why) => (&mut self.failed, &mut self.reasons, why),
        };
        *sum += 1;
        if kinds.len() < MOST_KINDS || kinds.contains_key(&kind) {
            *kinds.entry(kind).or_default() += 1;
        }
    }

    /// `ok=50 failed=1 v1=48 v2=2 | 1 x web answered 503`
    fn line(&self) -> String {
        let mut line = format!("ok={} failed={}", self.ok, self.failed);
        for (version, n) in &self.versions {
            line.push_str(&format!(" {version}={n}"));
        }
        for (reason, n) in &self.reasons {
            line.push_str(&format!(" | {n} x {reason}"));
        }
        line
    }
}

/// Runs until the process ends.
///
/// # Errors
/// None; a visit that fails is counted.
pub async fn run(url: Uri, rate: u32) -> Result<(), Failure> {
    let second = Rc::new(RefCell::new(Second::default()));
    let every = Duration::from_secs_f64(f64::from(VISITORS) / f64::from(rate.max(1)));
    LocalSet::new()
        .run_until(async {
            for n in 0..VISITORS {
                // Spread over the interval, so that the visits do not come in bursts.
                spawn_local(visit(url.clone(), second.clone(), every, every * n / VISITORS));
            }
            let mut seconds = interval(Duration::from_secs(1));
            seconds.tick().await;
            loop {
                seconds.tick().await;
                let line = second.take().line();
                let mut stdout = std::io::stdout().lock();
                if writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_err() {
                    return Ok(());
                }
            }
        })
        .await
}

async fn visit(url: Uri, second: Rc<RefCell<Second>>, every: Duration, offset: Duration) {
    let mut ticks = interval_at(Instant::now() + offset, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut frontend = Caller::new(url);
    loop {
        ticks.tick().await;
        let seen = match frontend.get().await {
            Ok(page) if page.status == StatusCode::OK => Ok(page.header("x-version").to_owned()),
            Ok(page) => Err(page.body.lines().next().unwrap_or_default().to_owned()),
            Err(why) => Err(why),
        };
        second.borrow_mut().count(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_told_in_one_line_with_every_kind() {
        let mut second = Second::default();
        for visit in [Ok("v1"), Ok("v1"), Ok("v2"), Err("web answered 503 no_endpoint")] {
            second.count(visit.map(str::to_owned).map_err(str::to_owned));
        }
        assert_eq!(second.line(), "ok=3 failed=1 v1=2 v2=1 | 1 x web answered 503 no_endpoint");
        for n in 0..100 {
            second.count(Err(n.to_string()));
        }
        assert_eq!((second.failed, second.reasons.len()), (101, MOST_KINDS));
    }
}
