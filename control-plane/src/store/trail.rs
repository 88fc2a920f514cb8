//! What was refused, on its way into the audit log. Who is refused is often nobody that is known, and may come as often as he likes: so
//! refusals are collected, equal ones are counted in one entry, and there are not more entries in a while than people can read and the log
//! can hold. What is done is noted otherwise, in the transaction that does it.

use std::collections::HashMap;
use std::time::Duration;

use leno_runtime::drain::DrainWatch;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::Store;
use crate::model::audit::Event;

/// Refusals that wait to be collected; what is more is counted only.
const MOST_WAITING: usize = 1_024;
/// Between two looks.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 500 });
/// Entries in a burst, and how many a minute come back of it.
const BURST: f64 = 200.0;
const PER_MINUTE: f64 = 10.0;

/// Where refusals are put; cheap to clone.
#[derive(Debug, Clone)]
pub struct Trail(mpsc::Sender<Event>);

/// Writes them.
#[derive(Debug)]
pub struct Trailer(mpsc::Receiver<Event>);

impl Trail {
    /// Both ends.
    pub fn new() -> (Self, Trailer) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        (Self(sender), Trailer(receiver))
    }

    /// Notes a refusal soon. It never waits; a flood is counted in the metrics alone.
    pub fn refused(&self, event: Event) {
        let _ = self.0.try_send(event);
    }
}

impl Trailer {
    /// Writes until the control plane drains, and then what is left.
    pub async fn run(mut self, store: Store, drain: DrainWatch) {
        let _guard = drain.guard();
        let mut allowance = Allowance { entries: BURST, at: Instant::now() };
        let mut waiting = HashMap::new();
        loop {
            let ends = tokio::select! {
                () = sleep(EVERY) => false,
                () = drain.signaled() => true,
            };
            while let Ok(event) = self.0.try_recv() {
                collect(&mut waiting, event);
            }
            for event in allowance.grant(&mut waiting, Instant::now()) {
                if let Err(error) = store.note(event).await {
                    tracing::error!(%error, "a refusal cannot be noted in the audit log");
                }
            }
            if ends {
                return;
            }
        }
    }
}

/// Equal refusals: of the same, for the same reason, from the same host.
type Key = (String, String, String, String);

fn collect(waiting: &mut HashMap<Key, (Event, u64)>, event: Event) {
    let host = event.actor.address.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
    let mut key = (event.actor.name.clone(), event.action.clone(), event.result.clone(), host);
    if waiting.len() >= MOST_WAITING && !waiting.contains_key(&key) {
        // Whoever it was: by then it is a flood.
        key = (String::new(), String::new(), event.result.clone(), String::new());
    }
    waiting.entry(key).or_insert((event, 0)).1 += 1;
}

struct Allowance {
    entries: f64,
    at: Instant,
}

impl Allowance {
    /// The entries that may be written now. The rest waits, and grows together.
    fn grant(&mut self, waiting: &mut HashMap<Key, (Event, u64)>, now: Instant) -> Vec<Event> {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.entries = (self.entries + passed * PER_MINUTE / 60.0).min(BURST);
        self.at = now;
        let mut granted = Vec::new();
        while self.entries >= 1.0 {
            let Some(key) = waiting.keys().next().cloned() else { break };
            let Some((mut event, times)) = waiting.remove(&key) else { break };
            if times > 1 {
                event.detail = format!("{} ({times} times)", event.detail).trim_start().to_owned();
            }
            self.entries -= 1.0;
            granted.push(event);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audit::Actor;

    fn refusal(from: &str) -> Event {
        let actor = Actor { address: from.to_owned(), ..Actor::default() };
        Event { result: "token_unknown".to_owned(), ..Event::done(&actor, "join", "") }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_few_entries_that_say_how_many_there_were() {
        let mut waiting = HashMap::new();
        for port in 0..10_000 {
            collect(&mut waiting, refusal(&format!("10.0.0.1:{port}")));
        }
        let mut allowance = Allowance { entries: BURST, at: Instant::now() };
        let granted = allowance.grant(&mut waiting, Instant::now());
        assert_eq!(granted.len(), 1);
        assert_eq!(granted[0].detail, "(10000 times)");

        for host in 0..100_000 {
            collect(&mut waiting, refusal(&format!("host-{host}:1")));
        }
        assert!(waiting.len() <= MOST_WAITING + 1, "{}", waiting.len());
        assert_eq!(allowance.grant(&mut waiting, Instant::now()).len(), BURST as usize - 1);
        assert_eq!(allowance.grant(&mut waiting, Instant::now() + Duration::from_secs(60)).len(), PER_MINUTE as usize);
    }

    #[tokio::test]
    async fn what_was_refused_is_in_the_log_soon() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (trail, trailer) = Trail::new();
        let (drain, watch) = leno_runtime::drain::channel();
        let running = tokio::spawn(trailer.run(store.clone(), watch));
        trail.refused(refusal("10.0.0.1:9"));
        drain.start();
        running.await.unwrap();
        let entries = store.audit(None, 9).unwrap().entries;
        assert_eq!((entries.len(), entries[0].result.as_str()), (1, "token_unknown"));
        for n in 0..10 * MOST_WAITING {
            trail.refused(refusal(&n.to_string()));
        }
    }
}
