//! Draining: tell every task to finish, and wait for those that hold a guard.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

/// The side that starts the drain.
#[derive(Debug)]
pub struct Drain {
    signal: watch::Sender<bool>,
    held: mpsc::Receiver<()>,
}

/// The side that is told. Cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    signal: watch::Receiver<bool>,
    guard: mpsc::Sender<()>,
}

/// While one exists, the drain waits (up to its deadline).
#[derive(Debug, Clone)]
pub struct DrainGuard(#[allow(dead_code, reason = "held for its drop")] mpsc::Sender<()>);

/// A drain and its watch.
pub fn channel() -> (Drain, DrainWatch) {
    let (signal_sender, signal) = watch::channel(false);
    // Nothing is ever sent: the receiver learns that all senders, the guards, are gone.
    let (guard, held) = mpsc::channel(1);
    (Drain { signal: signal_sender, held }, DrainWatch { signal, guard })
}

impl Drain {
    /// Tells everybody without waiting.
    pub fn start(&self) {
        self.signal.send_replace(true);
    }

    /// Tells everybody, and waits until all watches and guards are gone, or the deadline has passed. True: all are gone.
    pub async fn drain(mut self, deadline: Duration) -> bool {
        self.start();
        tokio::time::timeout(deadline, async { while self.held.recv().await.is_some() {} }).await.is_ok()
    }
}

impl DrainWatch {
    /// Comes back once the drain has started (or its starter is gone).
    pub async fn signaled(&self) {
        let mut signal = self.signal.clone();
        let _ = signal.wait_for(|on| *on).await;
    }

    /// Whether the drain has started.
    pub fn is_signaled(&self) -> bool {
        *self.signal.borrow()
    }

    /// Keeps the drain waiting until it is dropped.
    pub fn guard(&self) -> DrainGuard {
        DrainGuard(self.guard.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_its_guards_and_no_longer_than_its_deadline() {
        let (drain, watch) = channel();
        let task = tokio::spawn(async move {
            let _guard = watch.guard();
            watch.signaled().await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        });
        assert!(drain.drain(Duration::from_secs(10)).await);
        task.await.unwrap();

        let (drain, watch) = channel();
        let _held = watch.guard();
        assert!(!drain.drain(Duration::from_secs(10)).await);
        assert!(watch.is_signaled());
    }
}
