//! Readiness: a program is ready when every part that said it has to start has started.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The parts that are still starting.
#[derive(Debug, Clone)]
pub struct Readiness {
    pending: Arc<Mutex<Vec<&'static str>>>,
    changed: watch::Sender<()>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Nothing is pending yet.
    pub fn new() -> Self {
        Self { pending: Arc::default(), changed: watch::Sender::new(()) }
    }

    /// A part that has to start. It counts as started when the token is dropped.
    pub fn token(&self, part: &'static str) -> ReadyToken {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push(part);
        ReadyToken { part, readiness: self.clone() }
    }

    /// Whether nothing is pending.
    pub fn is_ready(&self) -> bool {
        self.pending().is_empty()
    }

    /// The parts that are still starting, for whoever asks why a program is not ready.
    pub fn pending(&self) -> Vec<&'static str> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Comes back once nothing is pending.
    pub async fn wait(&self) {
        let mut changed = self.changed.subscribe();
        while !self.is_ready() {
            // The sender lives in self, so this cannot fail while we wait.
            let _ = changed.changed().await;
        }
    }

    fn finish(&self, part: &'static str) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = pending.iter().position(|p| *p == part) {
            pending.swap_remove(at);
        }
        drop(pending);
        self.changed.send_replace(());
    }
}

/// One part that is starting.
#[derive(Debug)]
pub struct ReadyToken {
    part: &'static str,
    readiness: Readiness,
}

impl ReadyToken {
    /// The part has started.
    pub fn done(self) {}
}

impl Drop for ReadyToken {
    fn drop(&mut self) {
        self.readiness.finish(self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_only_when_every_token_is_gone() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.token("stream"), readiness.token("listeners"));
        a.done();
        assert_eq!(readiness.pending(), ["listeners"]);
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.wait().await }
        });
        drop(b);
        waiter.await.unwrap();
        assert!(readiness.is_ready());
    }
}
