//! Not saying the same thing again and again: an outage of an hour is a few lines in the log.

use std::time::Duration;

use tokio::time::Instant;

use crate::settings::HostPort;

/// How long the same reason is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// The reason that was told last, and when.
#[derive(Debug, Default)]
pub(super) struct Repeats(Option<(String, Instant)>);

impl Repeats {
    /// Tells that the control plane cannot be reached, unless it was told for the same reason a moment ago.
    pub fn warn(&mut self, reason: &str, control_plane: &HostPort) {
        if self.is_news(reason) {
            tracing::warn!(%reason, %control_plane, "the control plane cannot be reached, trying again");
        } else {
            tracing::debug!(%reason, %control_plane, "the control plane cannot be reached, trying again");
        }
    }

    fn is_news(&mut self, reason: &str) -> bool {
        let known = self.0.as_ref().is_some_and(|(last, at)| last == reason && at.elapsed() < QUIET);
        if !known {
            self.0 = Some((reason.to_owned(), Instant::now()));
        }
        !known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_told_once_a_minute_and_another_one_at_once() {
        let mut repeats = Repeats::default();
        assert!(repeats.is_news("refused") && !repeats.is_news("refused"));
        assert!(repeats.is_news("no route") && repeats.is_news("refused"));
        tokio::time::advance(QUIET).await;
        assert!(repeats.is_news("refused"));
    }
}
