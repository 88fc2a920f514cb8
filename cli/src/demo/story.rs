//! The demo's story, told unattended: what is claimed is done, counted, and said.

mod chapters;

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::fact::Fact;
use super::mesh::Mesh;
use crate::failure::Failure;
use crate::output::{count, thousands};

/// What one chapter needs at least, so that enough is counted.
const SHORTEST: Duration = Duration::from_millis(700);
/// What is kept of the time for the steps between the chapters, the sidecars' way back to the control plane, and the end.
const RESERVE: Duration = Duration::from_millis(2500);

/// How the time is shared out; one is the length of one split.
const TRAFFIC: f64 = 0.7;
const SPLIT: f64 = 1.0;
const BREAK: f64 = 1.5;
const OUTAGE: f64 = 1.0;
const PARTS: f64 = TRAFFIC + 3.0 * SPLIT + BREAK + OUTAGE;

/// Gives each chapter its share of the time that is left.
#[derive(Debug, Clone, Copy)]
struct Pace {
    part: Duration,
}

impl Pace {
    fn new(left: Duration) -> Self {
        Self { part: left.saturating_sub(RESERVE).div_f64(PARTS) }
    }

    fn of(self, share: f64) -> Duration {
        self.part.mul_f64(share).max(SHORTEST)
    }
}

/// What the story tells as it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A chapter begins; its name.
    Begins(&'a str),
    /// A chapter has ended with this.
    Known(&'a Fact),
}

/// Where the story is told to.
pub type Listener<'a> = &'a mut dyn FnMut(Event<'_>) -> Result<(), Failure>;

/// Tells the story until about `end`, and says each fact through `say` as soon as it is known. A chapter that cannot go on is a
/// fact that did not hold.
///
/// # Errors
/// `say` failed, which ends it all.
pub async fn tell(mesh: &mut Mesh, end: Instant, say: Listener<'_>) -> Result<Vec<Fact>, Failure> {
    let pace = Pace::new(end.saturating_duration_since(Instant::now()));
    let mut teller = Teller { facts: Vec::new(), say };
    teller.chapter("mesh up", chapters::mesh_up(mesh)).await?;
    teller.chapter("traffic", chapters::traffic(mesh, pace.of(TRAFFIC))).await?;
    for (name, v2) in [("split 90/10", 10), ("split 50/50", 50), ("split 0/100", 100)] {
        teller.chapter(name, chapters::split(mesh, name, v2, pace.of(SPLIT))).await?;
    }
    teller.chapter("retries", chapters::break_and_retry(mesh, pace.of(BREAK))).await?;
    teller.chapter("outage", chapters::outage(mesh, pace.of(OUTAGE))).await?;
    teller.chapter("resume", chapters::resume(mesh)).await?;
    teller.chapter("intruders", chapters::intruders(mesh)).await?;
    teller.chapter("store", chapters::store(mesh)).await?;
    teller.chapter("whole story", async { Ok(whole(mesh)) }).await?;
    Ok(teller.facts)
}

struct Teller<'a> {
    facts: Vec<Fact>,
    say: Listener<'a>,
}

impl Teller<'_> {
    async fn chapter(
        &mut self,
        name: &str,
        chapter: impl Future<Output = Result<Fact, Failure>>,
    ) -> Result<(), Failure> {
        (self.say)(Event::Begins(name))?;
        let fact = chapter.await.unwrap_or_else(|why| broken_off(name, &why));
        (self.say)(Event::Known(&fact))?;
        self.facts.push(fact);
        Ok(())
    }
}

fn broken_off(name: &str, why: &Failure) -> Fact {
    Fact::new(name, false, why.to_string().trim_start_matches("error: "), json!({}))
}

/// Between the chapters too, while weights moved and things broke, nothing failed.
fn whole(mesh: &Mesh) -> Fact {
    let total = &mesh.traffic.total;
    let (requests, failed) = (total.requests(), total.failed);
    let mut text = format!("{} in all, {} failed", count(requests, "request"), thousands(failed));
    if failed > 0 {
        text = format!("{text}: {}", total.why());
    }
    Fact::new("whole story", requests > 0 && failed == 0, text, json!({"requests": requests, "failed": failed}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chapters_fit_into_the_time_and_have_a_least_length() {
        let pace = Pace::new(Duration::from_secs(30));
        let all = pace.of(TRAFFIC) + 3 * pace.of(SPLIT) + pace.of(BREAK) + pace.of(OUTAGE);
        assert!(all <= Duration::from_secs(30) - RESERVE + Duration::from_millis(1), "{all:?}");
        assert_eq!(Pace::new(Duration::ZERO).of(SPLIT), SHORTEST);
    }
}
