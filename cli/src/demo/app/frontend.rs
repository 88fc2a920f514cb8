//! The frontend: calls `web` through its sidecar's HTTP proxy port, and `store` through a local port, at a steady rate.
//!
//! It prints a tick with what happened every quarter of a second, and on the command `phase NAME` it begins to count under a
//! new name. A request belongs to the phase in which it began, and a phase is printed when the last of its requests has ended:
//! so each request is counted once, in the right place.

mod http_load;
mod store_load;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::say;
use crate::demo::counts::{Counts, Recorder};
use crate::failure::Failure;

/// How often the counts are told.
const TICK: Duration = Duration::from_millis(250);
/// Connections to the proxy port; each has one request under way at a time.
const HTTP_CONNECTIONS: u32 = 16;
/// Clients of the store.
const STORE_CLIENTS: u32 = 2;
/// Calls a second of each client of the store.
const STORE_RATE: u32 = 50;

/// What is counted from one `phase` command to the next.
struct Phase {
    name: String,
    began: Instant,
    recorder: RefCell<Recorder>,
    under_way: Cell<u64>,
    idle: Notify,
}

/// What all clients share.
struct Shared {
    phase: RefCell<Rc<Phase>>,
    tick: RefCell<Recorder>,
}

/// One request or call under way.
struct UnderWay {
    shared: Rc<Shared>,
    phase: Rc<Phase>,
    began: Instant,
}

impl Phase {
    fn new(name: &str) -> Rc<Self> {
        Rc::new(Self {
            name: name.to_owned(),
            began: Instant::now(),
            recorder: RefCell::default(),
            under_way: Cell::new(0),
            idle: Notify::new(),
        })
    }

    /// Waits for what is under way, and tells all.
    async fn close(self: Rc<Self>) {
        let seconds = self.began.elapsed().as_secs_f64();
        while self.under_way.get() > 0 {
            self.idle.notified().await;
        }
        say(&report("phase", &self.name, seconds, &self.recorder.borrow().counts()));
    }
}

fn report(event: &str, name: &str, seconds: f64, counts: &Counts) -> serde_json::Value {
    json!({"event": event, "name": name, "seconds": seconds, "counts": counts})
}

impl Shared {
    fn begin(self: &Rc<Self>) -> UnderWay {
        let phase = self.phase.borrow().clone();
        phase.under_way.set(phase.under_way.get() + 1);
        UnderWay { shared: self.clone(), phase, began: Instant::now() }
    }
}

impl UnderWay {
    /// Counts how it ended, in its phase and in the current tick.
    fn count(&self, what: impl Fn(&mut Recorder, Duration)) {
        let took = self.began.elapsed();
        what(&mut self.phase.recorder.borrow_mut(), took);
        what(&mut self.shared.tick.borrow_mut(), took);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.phase.under_way.set(self.phase.under_way.get() - 1);
        if self.phase.under_way.get() == 0 {
            self.phase.idle.notify_waiters();
        }
    }
}

/// Runs until the process ends.
///
/// # Errors
/// None; a call that fails is counted.
pub async fn run(
    proxy: SocketAddr,
    store: SocketAddr,
    rate: u32,
    commands: mpsc::Receiver<String>,
) -> Result<(), Failure> {
    let shared = Rc::new(Shared { phase: RefCell::new(Phase::new("start")), tick: RefCell::default() });
    say(&json!({"event": "ready"}));
    LocalSet::new()
        .run_until(async {
            let every = Duration::from_secs_f64(f64::from(HTTP_CONNECTIONS) / f64::from(rate.max(1)));
            for n in 0..HTTP_CONNECTIONS {
                // Spread over the interval, so that the requests do not come in bursts.
                spawn_local(http_load::run(shared.clone(), proxy, every, every * n / HTTP_CONNECTIONS));
            }
            for n in 0..STORE_CLIENTS {
                spawn_local(store_load::run(shared.clone(), store, Duration::from_secs(1) / STORE_RATE, n));
            }
            spawn_local(tick(shared.clone()));
            obey(shared, commands).await;
        })
        .await;
    Ok(())
}

async fn tick(shared: Rc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        ticks.tick().await;
        let seconds = last.elapsed().as_secs_f64();
        last = Instant::now();
        let recorder = shared.tick.take();
        say(&report("tick", "", seconds, &recorder.counts()));
    }
}

async fn obey(shared: Rc<Shared>, mut commands: mpsc::Receiver<String>) {
    while let Some(command) = commands.recv().await {
        if let Some(name) = command.strip_prefix("phase ") {
            let ended = shared.phase.replace(Phase::new(name));
            spawn_local(ended.close());
        }
    }
}
