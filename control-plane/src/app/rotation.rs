//! Drives a rotation: goes on to the next step when every sidecar that is alive has done this one, or when its time is over.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_runtime::drain::DrainWatch;
use time::OffsetDateTime;

use crate::ca::{CertificateAuthority, Phase, Step};
use crate::model::{Mesh, expiry};
use crate::store::Store;
use crate::xds::Sessions;

/// Between two looks at who is missing, while a rotation is under way.
const LOOK: Duration = Duration::from_millis(100);
/// Between two looks at when the authority expires.
const IDLE: Duration = Duration::from_secs(600);
/// Days before its end at which it is said again.
const ALARMS: [i64; 4] = [30, 7, 1, 0];
/// The mesh's own, among what ends.
const AUTHORITY: &str = "the certificate authority";
/// After a step that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// What a rotation is driven with.
pub(super) struct Parts {
    pub(super) authority: CertificateAuthority,
    pub(super) store: Store,
    pub(super) sessions: Sessions,
    /// How long other meshes may take to learn a new root before it signs; zero: no other mesh is told.
    pub(super) neighbours: Duration,
}

/// Until the control plane drains. `changed` is called after each step.
pub(super) async fn run(parts: Parts, changed: impl Fn(&CertificateAuthority), drain: DrainWatch) {
    let Parts { authority, store, sessions, neighbours } = parts;
    let mut steps = authority.watch();
    let mut alarms = Alarms::default();
    while !drain.is_signaled() {
        let wait = match authority.step() {
            Step::Idle => {
                alarms.look(&authority, &store.committed().mesh, OffsetDateTime::now_utc());
                IDLE
            }
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

/// Which alarms were said, by what ends.
#[derive(Default)]
struct Alarms(BTreeMap<String, i64>);

impl Alarms {
    /// Says once at each of the alarms what ends: the authority, and what users have put into Secrets and ConfigMaps.
    fn look(&mut self, authority: &CertificateAuthority, mesh: &Mesh, now: OffsetDateTime) {
        let root = expiry::Expiring { what: AUTHORITY.to_owned(), at: authority.root_not_after() };
        let all: Vec<_> = std::iter::once(root).chain(expiry::before(mesh, now + expiry::SOON)).collect();
        for (what, days) in self.due(&all, now) {
            let mend = if what == AUTHORITY { "run `leno ca rotate`" } else { "apply the object with a new one" };
            tracing::error!(%what, days, mend, "a certificate expires within these days");
        }
    }

    fn due(&mut self, all: &[expiry::Expiring], now: OffsetDateTime) -> Vec<(String, i64)> {
        let due = |at| ALARMS.into_iter().rev().find(|days| at - now <= time::Duration::days(*days));
        let now_due: BTreeMap<String, i64> =
            all.iter().filter_map(|one| Some((one.what.clone(), due(one.at)?))).collect();
        let news = now_due.iter().filter(|(what, days)| self.0.get(*what).is_none_or(|said| *days < said));
        let news = news.map(|(what, days)| (what.clone(), *days)).collect();
        // What was replaced begins anew.
        self.0 = now_due;
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alarm_is_said_once_and_again_for_what_comes_in_its_place() {
        let (now, mut alarms) = (OffsetDateTime::UNIX_EPOCH, Alarms::default());
        let mut said = |days: i64| {
            let one = expiry::Expiring { what: AUTHORITY.to_owned(), at: now + time::Duration::days(days) };
            alarms.due(&[one], now).into_iter().map(|(_, days)| days).next()
        };
        let all: Vec<Option<i64>> = [365, 31, 30, 29, 8, 7, 2, 1, 0, 365, 30].into_iter().map(&mut said).collect();
        let expected = [None, None, Some(30), None, None, Some(7), None, Some(1), Some(0), None, Some(30)];
        assert_eq!(all, expected);
    }
}
