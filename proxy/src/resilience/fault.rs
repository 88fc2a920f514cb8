//! Faults on purpose: which requests are held or failed, by share and by header.

use std::time::Duration;

use http::{HeaderMap, Method};

use crate::model::{Abort, Fault};

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Injected {
    /// How long it is held.
    pub delay: Duration,
    /// What is answered instead of the app.
    pub abort: Option<Abort>,
}

/// Draws for each fault that the request falls under: delays add up, and the first abort is taken. `random` is in 0..100.
pub fn draw(faults: &[Fault], headers: &HeaderMap, mut random: impl FnMut() -> u32) -> Injected {
    let mut injected = Injected::default();
    for fault in faults.iter().filter(|fault| fault.matches.holds(&Method::GET, "/", None, headers)) {
        if random() < fault.percent {
            injected.delay = injected.delay.saturating_add(fault.delay);
            injected.abort = injected.abort.or(fault.abort);
        }
    }
    injected
}
