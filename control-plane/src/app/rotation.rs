//! Drives a rotation: goes on to the next step when every sidecar that is alive has done this one, or when its time is over.

use std::time::Duration;

use leno_runtime::drain::DrainWatch;
use time::OffsetDateTime;

use crate::ca::{CertificateAuthority, Phase, Step};
use crate::xds::Sessions;

/// Between two looks at who is missing, while a rotation is under way.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at when the authority expires.
const IDLE: Duration = Duration::from_secs(600);
/// Days before its end at which it is said again.
const ALARMS: [i64; 4] = [30, 7, 1, 0];
/// After a step that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Until the control plane drains. `changed` is called after each step.
pub(super) async fn run(
    authority: CertificateAuthority,
    sessions: Sessions,
    changed: impl Fn(&CertificateAuthority),
    drain: DrainWatch,
) {
    let mut steps = authority.watch();
    let mut alarm = None;
    while !drain.is_signaled() {
        let wait = match authority.step() {
            Step::Idle => {
                warn(authority.root_not_after() - OffsetDateTime::now_utc(), &mut alarm);
                IDLE
            }
            step => go_on(&authority, &sessions, &step).await,
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            ended = steps.changed() => {
                if ended.is_err() {
                    return;
                }
                changed(&authority);
            }
            () = drain.signaled() => return,
        }
    }
}

/// One look; gives how long to wait until the next one.
async fn go_on(authority: &CertificateAuthority, sessions: &Sessions, step: &Step) -> Duration {
    let missing = sessions.behind(step);
    authority.note_missing(missing.len());
    let (phase, paused, late) = authority.progress(OffsetDateTime::now_utc());
    if phase == Phase::Idle || paused || !(missing.is_empty() || late) {
        return LOOK;
    }
    if !missing.is_empty() {
        tracing::warn!(phase = phase.as_str(), missing = missing.join(", "), "the rotation goes on without them");
    }
    match authority.advance(phase, &missing, &"control-plane".into()).await {
        Ok(_) => LOOK,
        Err(why) => {
            tracing::error!(phase = phase.as_str(), ?why, "the rotation cannot go on");
            AGAIN
        }
    }
}

/// Says once at each of the alarms how long the authority has left. `last` is the one that was said.
fn warn(left: time::Duration, last: &mut Option<i64>) {
    let due = ALARMS.into_iter().rev().find(|days| left <= time::Duration::days(*days));
    if let Some(days) = due.filter(|days| last.is_none_or(|last| *days < last)) {
        let hours = left.whole_hours();
        tracing::error!(
            hours,
            days,
            "the certificate authority expires soon, and no leaf outlives it; run `leno ca rotate`"
        );
    }
    *last = due;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alarm_is_said_once_and_again_for_the_next_authority() {
        let mut last = None;
        let mut said = |days: i64| {
            let before = last;
            warn(time::Duration::days(days), &mut last);
            last.is_some_and(|now| before.is_none_or(|before| now < before))
        };
        assert!(!said(365) && !said(31));
        assert!(said(30) && !said(29) && !said(8));
        assert!(said(7) && !said(2) && said(1) && said(0));
        assert!(!said(365), "another one signs");
        assert!(said(30));
    }
}
