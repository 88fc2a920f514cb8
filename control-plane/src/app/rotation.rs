//! Drives a rotation: goes on to the next step when every sidecar that is alive has done this one, or when its time is over.

use std::time::Duration;

use leno_runtime::drain::DrainWatch;
use time::OffsetDateTime;

use crate::ca::{CertificateAuthority, Phase, Step};
use crate::xds::Sessions;

/// Between two looks at who is missing, while a rotation is under way.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks while none is.
const IDLE: Duration = Duration::from_secs(600);
/// After a step that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What a rotation is driven with.
pub(super) struct Parts {
    pub(super) authority: CertificateAuthority,
    pub(super) sessions: Sessions,
    /// How long other meshes may take to learn a new root before it signs; zero: no other mesh is told.
    pub(super) neighbours: Duration,
}

/// Until the control plane drains. `changed` is called after each step.
pub(super) async fn run(parts: Parts, changed: impl Fn(&CertificateAuthority), drain: DrainWatch) {
    let Parts { authority, sessions, neighbours } = parts;
    let mut steps = authority.watch();
    while !drain.is_signaled() {
        let wait = match authority.step() {
            Step::Idle => IDLE,
            step => go_on(&authority, &sessions, &step, neighbours).await,
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
async fn go_on(authority: &CertificateAuthority, sessions: &Sessions, step: &Step, neighbours: Duration) -> Duration {
    let missing = sessions.behind(step);
    authority.note_missing(missing.len());
    let now = OffsetDateTime::now_utc();
    let (phase, paused, late) = authority.progress(now);
    if phase == Phase::Distributing && !late && !authority.known_for(now, neighbours) {
        return LOOK;
    }
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
