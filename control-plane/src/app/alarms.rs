//! Says in good time what will end: in the log at 30, 7 and 1 days and at its end, and in a metric.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_certs::verify;
use leno_runtime::drain::DrainWatch;
use leno_runtime::metrics::{Gauge, Registry as Metrics};
use time::OffsetDateTime;

use crate::ca::CertificateAuthority;
use crate::federation::Federation;
use crate::model::expiry::{self, Expiring};
use crate::store::Store;

/// Between two looks; a change of the configuration is looked at sooner.
const EVERY: Duration = Duration::from_secs(600);
/// Changes are not looked at more often than this.
const PAUSE: Duration = Duration::from_secs(1);
/// Days before its end at which it is said again.
const ALARMS: [i64; 4] = [30, 7, 1, 0];
/// The mesh's own, among what ends.
const AUTHORITY: &str = "the certificate authority";

/// Whose certificates are looked at.
pub(super) struct Parts {
    pub(super) authority: CertificateAuthority,
    pub(super) store: Store,
    pub(super) federation: Federation,
}

/// Until the control plane drains.
pub(super) async fn run(parts: Parts, metrics: Metrics, drain: DrainWatch) {
    let (mut alarms, mut committed) = (Alarms::new(&metrics), parts.store.subscribe());
    loop {
        committed.mark_unchanged();
        alarms.look(&parts.all(OffsetDateTime::now_utc()), OffsetDateTime::now_utc());
        let changed = async {
            let changed = committed.changed().await;
            tokio::time::sleep(PAUSE).await;
            changed
        };
        tokio::select! {
            changed = changed => if changed.is_err() { return },
            () = tokio::time::sleep(EVERY) => {}
            () = drain.signaled() => return,
        }
    }
}

impl Parts {
    /// The authority, what users have put into Secrets and ConfigMaps, and the roots of federated domains.
    fn all(&self, now: OffsetDateTime) -> Vec<Expiring> {
        let until = now + expiry::SOON;
        let mut all = vec![Expiring { what: AUTHORITY.to_owned(), at: self.authority.root_not_after() }];
        all.extend(expiry::before(&self.store.committed().mesh, until));
        for (name, domain) in self.federation.known().iter() {
            let last = domain.roots.iter().filter_map(|root| verify::not_after(root).ok()).max();
            all.extend(last.map(|at| Expiring { what: format!("the roots of the federated trust domain {name}"), at }));
        }
        all
    }
}

/// Which alarms were said, by what ends.
struct Alarms {
    said: BTreeMap<String, i64>,
    /// By days.
    expiring: Vec<(i64, Gauge)>,
}

impl Alarms {
    fn new(metrics: &Metrics) -> Self {
        let gauge = |days: i64| (days, metrics.gauge("leno_certificates_expiring", &[("days", &days.to_string())]));
        Self { said: BTreeMap::new(), expiring: ALARMS.into_iter().map(gauge).collect() }
    }

    /// Counts all, and says each once at each of the alarms.
    fn look(&mut self, all: &[Expiring], now: OffsetDateTime) {
        for (days, gauge) in &self.expiring {
            gauge.set(all.iter().filter(|one| within(one.at, now, *days)).count() as f64);
        }
        for (what, days) in self.due(all, now) {
            let mend = match what.as_str() {
                AUTHORITY => "run `leno ca rotate`",
                _ if what.contains("federated") => "have that mesh run `leno ca rotate`",
                _ => "apply the object with a new one",
            };
            tracing::error!(%what, days, mend, "a certificate expires within these days");
        }
    }

    fn due(&mut self, all: &[Expiring], now: OffsetDateTime) -> Vec<(String, i64)> {
        let due = |at| ALARMS.into_iter().rev().find(|days| within(at, now, *days));
        let now_due: BTreeMap<String, i64> =
            all.iter().filter_map(|one| Some((one.what.clone(), due(one.at)?))).collect();
        let news = now_due.iter().filter(|(what, days)| self.said.get(*what).is_none_or(|said| *days < said));
        let news = news.map(|(what, days)| (what.clone(), *days)).collect();
        // What was replaced begins anew.
        self.said = now_due;
        news
    }
}

fn within(at: OffsetDateTime, now: OffsetDateTime, days: i64) -> bool {
    at - now <= time::Duration::days(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(days: i64) -> Expiring {
        Expiring { what: AUTHORITY.to_owned(), at: OffsetDateTime::UNIX_EPOCH + time::Duration::days(days) }
    }

    #[test]
    fn each_alarm_is_said_once_and_again_for_what_comes_in_its_place() {
        let mut alarms = Alarms::new(&Metrics::new());
        let mut said = |days: i64| {
            let due = alarms.due(&[ends(days)], OffsetDateTime::UNIX_EPOCH);
            due.into_iter().map(|(_, days)| days).next()
        };
        let all: Vec<Option<i64>> = [365, 31, 30, 29, 8, 7, 2, 1, 0, 365, 30].into_iter().map(&mut said).collect();
        let expected = [None, None, Some(30), None, None, Some(7), None, Some(1), Some(0), None, Some(30)];
        assert_eq!(all, expected);
    }

    #[test]
    fn the_metric_counts_what_ends_within_each_of_the_times() {
        let mut alarms = Alarms::new(&Metrics::new());
        let mut counted = |all: &[Expiring]| {
            alarms.look(all, OffsetDateTime::UNIX_EPOCH);
            alarms.expiring.iter().map(|(_, gauge)| gauge.get()).collect::<Vec<_>>()
        };
        assert_eq!(counted(&[ends(365), ends(20), ends(5), ends(1), ends(-1)]), [4.0, 3.0, 2.0, 1.0]);
        assert_eq!(counted(&[ends(365)]), [0.0; 4], "what was replaced is counted no more");
    }
}
