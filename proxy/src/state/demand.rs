//! What apps ask for. A destination is demanded when an app first talks to it, and let go when nobody has for a while, so that
//! a sidecar's memory grows with what its app uses.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::model::Demand;

/// Destinations that one sidecar holds at most. Names that nobody has make room for others, the longest unused half of them at a
/// time; an app that uses more destinations that exist gets the answer 'not resolved' for the further ones, and memory stays
/// where it is.
pub const MOST_DEMANDS: usize = 10_000;
/// A destination that nobody used for this long is let go.
const IDLE: Duration = Duration::from_secs(600);
/// How often idle ones are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// When a destination was last used, in seconds since the sidecar started, and whether there is one. Shared by the workers.
#[derive(Debug, Default)]
pub struct LastUsed {
    at: AtomicU32,
    nothing: AtomicBool,
}

impl LastUsed {
    /// It is used now. Writes at most once a second, so that workers do not fight for the cache line.
    pub fn touch(&self, now: u32) {
        if self.at.load(Relaxed) != now {
            self.at.store(now, Relaxed);
        }
    }

    /// The control plane has said whether there is such a destination. What does not exist is the first to make room.
    pub fn answered(&self, exists: bool) {
        self.nothing.store(!exists, Relaxed);
    }
}

/// What the control thread is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DemandEvent {
    /// An app asks for it.
    Want(Demand),
    /// Nobody has asked for a while.
    Idle(Demand),
}

/// What workers send.
#[derive(Debug)]
enum Event {
    Want(Demand),
    /// They had to make room.
    Gone(Vec<Demand>),
}

type Table = Arc<Mutex<HashMap<Demand, Arc<LastUsed>>>>;

/// The workers' side.
#[derive(Debug, Clone)]
pub struct Demands {
    table: Table,
    events: mpsc::Sender<Event>,
    start: Instant,
}

/// The control thread's side.
#[derive(Debug)]
pub struct DemandReceiver {
    table: Table,
    events: mpsc::Receiver<Event>,
    start: Instant,
    idle: Vec<Demand>,
    next_sweep: Instant,
}

/// Both sides.
pub fn channel() -> (Demands, DemandReceiver) {
    let table = Table::default();
    // Who finds it full is refused.
    let (sender, events) = mpsc::channel(MOST_DEMANDS);
    let start = Instant::now();
    let receiver = DemandReceiver { table: table.clone(), events, start, idle: Vec::new(), next_sweep: start + SWEEP };
    (Demands { table, events: sender, start }, receiver)
}

impl Demands {
    /// Asks for a destination, unless it was asked for already. None: the bound is reached.
    pub fn want(&self, demand: &Demand) -> Option<Arc<LastUsed>> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(demand) {
            known.touch(self.clock());
            return Some(known.clone());
        }
        if table.len() >= MOST_DEMANDS {
            self.make_room(&mut table);
        }
        if table.len() >= MOST_DEMANDS || self.events.try_send(Event::Want(demand.clone())).is_err() {
            return None;
        }
        let used = Arc::new(LastUsed::default());
        used.touch(self.clock());
        table.insert(demand.clone(), used.clone());
        Some(used)
    }

    /// Lets half of the names go that nobody has: so many that it is rarely done, and those that were asked for last stay.
    fn make_room(&self, table: &mut HashMap<Demand, Arc<LastUsed>>) {
        let nothing = table.iter().filter(|(_, used)| used.nothing.load(Relaxed));
        let mut gone: Vec<_> = nothing.map(|(demand, used)| (used.at.load(Relaxed), demand.clone())).collect();
        gone.sort_unstable_by_key(|(at, _)| *at);
        gone.truncate(gone.len().div_ceil(2));
        let gone: Vec<_> = gone.into_iter().map(|(_, demand)| demand).collect();
        // By the same queue as what is wanted, so that the control thread hears it in the order in which it happened.
        if let Ok(place) = self.events.try_reserve() {
            gone.iter().for_each(|demand| drop(table.remove(demand)));
            place.send(Event::Gone(gone));
        }
    }

    /// Seconds since the start, for [`LastUsed::touch`].
    pub fn clock(&self) -> u32 {
        seconds(self.start)
    }
}

fn seconds(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_secs()).unwrap_or(u32::MAX)
}

impl DemandReceiver {
    /// Takes up what an earlier life of the sidecar had asked for, without an event.
    pub fn restore(&self, demands: impl IntoIterator<Item = Demand>) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for demand in demands.into_iter().take(MOST_DEMANDS) {
            let used = Arc::new(LastUsed::default());
            used.touch(seconds(self.start));
            table.insert(demand, used);
        }
    }

    /// The next event. None: all workers are gone.
    pub async fn recv(&mut self) -> Option<DemandEvent> {
        loop {
            if let Some(idle) = self.idle.pop() {
                return Some(DemandEvent::Idle(idle));
            }
            tokio::select! {
                event = self.events.recv() => match event? {
                    Event::Want(demand) => return Some(DemandEvent::Want(demand)),
                    Event::Gone(demands) => self.idle = demands,
                },
                () = tokio::time::sleep_until(self.next_sweep) => self.sweep(),
            }
        }
    }

    fn sweep(&mut self) {
        self.next_sweep = Instant::now() + SWEEP;
        let now = seconds(self.start);
        let idle = u32::try_from(IDLE.as_secs()).unwrap_or(u32::MAX);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        self.idle.extend(
            table.extract_if(|_, used| now.saturating_sub(used.at.load(Relaxed)) > idle).map(|(demand, _)| demand),
        );
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn service(n: usize) -> Demand {
        Demand::Service(format!("default/{n}"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_is_asked_for_once_and_let_go_when_idle() {
        let (demands, mut receiver) = channel();
        let used = demands.want(&service(1)).unwrap();
        demands.want(&service(1)).unwrap();
        assert_eq!(receiver.recv().await, Some(DemandEvent::Want(service(1))));
        // Used again halfway, so it goes later than it would have.
        tokio::time::advance(IDLE / 2).await;
        used.touch(demands.clock());
        let start = Instant::now();
        assert_eq!(receiver.recv().await, Some(DemandEvent::Idle(service(1))));
        assert!(start.elapsed() > IDLE);
    }

    #[tokio::test(start_paused = true)]
    async fn more_destinations_than_the_bound_are_refused() {
        let (demands, _receiver) = channel();
        for n in 0..MOST_DEMANDS {
            assert!(demands.want(&service(n)).is_some());
        }
        assert!(demands.want(&service(MOST_DEMANDS)).is_none());
        assert!(demands.want(&service(0)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_what_nobody_has_makes_room_and_what_exists_stays() {
        let (demands, mut receiver) = channel();
        for n in 0..MOST_DEMANDS {
            demands.want(&service(n)).unwrap().answered(n % 2 == 0);
            receiver.recv().await;
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        // Used again, so others go first.
        demands.want(&service(1)).unwrap();
        assert!(demands.want(&service(MOST_DEMANDS)).is_some());
        let mut gone = Vec::new();
        while let Some(DemandEvent::Idle(Demand::Service(name))) = receiver.recv().now_or_never().flatten() {
            gone.push(name);
            if gone.len() == MOST_DEMANDS / 4 {
                break;
            }
        }
        assert_eq!(gone.len(), MOST_DEMANDS / 4, "half of those that nobody has");
        let odd = |name: &String| name.trim_start_matches("default/").parse::<usize>().unwrap() % 2 == 1;
        assert!(gone.iter().all(odd) && !gone.contains(&"default/1".to_owned()));
        assert_eq!(receiver.recv().await, Some(DemandEvent::Want(service(MOST_DEMANDS))));
    }
}
