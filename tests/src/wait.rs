//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a step of a test may take when nothing else is said. Generous: a deadline that is met costs nothing.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Polls `check` until it gives a value, and panics with `what` when `deadline` has passed.
pub async fn eventually<T>(what: &str, deadline: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// [`eventually`] for a condition that is looked at without waiting.
pub async fn until(what: &str, deadline: Duration, mut check: impl FnMut() -> bool) {
    eventually(what, deadline, async || check().then_some(())).await;
}
