//! What the local app has asked for, by rule and by service: read from the metrics, so that a request pays for nothing more.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_proto::v1;
use leno_runtime::metrics::{BUCKETS, Reading, Registry};

use crate::telemetry::Direction;
use crate::telemetry::edges::{CLASSES, class};

/// Most rules, and most services, of one report. Those that come first by name.
const MOST: usize = 500;

/// What was counted since the process began.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Asked {
    rules: BTreeMap<(String, String), Rule>,
    retried: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Rule {
    requests: u64,
    failures: u64,
    retries: u64,
    times: [u64; CLASSES],
}

/// A series that was forgotten meanwhile begins anew.
fn grown(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

impl Rule {
    fn since(&self, before: &Self) -> Self {
        Self {
            requests: grown(self.requests, before.requests),
            failures: grown(self.failures, before.failures),
            retries: grown(self.retries, before.retries),
            times: std::array::from_fn(|class| grown(self.times[class], before.times[class])),
        }
    }
}

impl Asked {
    /// How it stands.
    pub(super) fn read(registry: &Registry) -> Self {
        let mut asked = Self::default();
        for (labels, requests) in counts(registry, "leno_route_requests_total") {
            let [(_, route), (_, rule), (_, class)] = labels.as_slice() else { continue };
            let Some(of) = asked.rule(route, rule) else { continue };
            of.requests += requests;
            of.failures += if class == "5xx" { requests } else { 0 };
        }
        for (labels, retries) in counts(registry, "leno_route_retries_total") {
            let [(_, route), (_, rule)] = labels.as_slice() else { continue };
            asked.rule(route, rule).into_iter().for_each(|of| of.retries += retries);
        }
        for (labels, reading) in registry.read("leno_route_first_byte_seconds") {
            let ([(_, route), (_, rule)], Reading::Times(times)) = (labels.as_slice(), reading) else { continue };
            let Some(of) = asked.rule(route, rule) else { continue };
            for (bucket, requests) in times.into_iter().enumerate() {
                of.times[class_of(bucket)] += requests;
            }
        }
        for (labels, retries) in counts(registry, "leno_retries_total") {
            let [(_, direction), (_, service)] = labels.as_slice() else { continue };
            if direction == Direction::Outbound.label() && retries > 0 && asked.retried.len() < MOST {
                asked.retried.insert(service.clone(), retries);
            }
        }
        asked
    }

    fn rule(&mut self, route: &str, rule: &str) -> Option<&mut Rule> {
        let key = (route.to_owned(), rule.to_owned());
        let room = self.rules.len() < MOST || self.rules.contains_key(&key);
        room.then(|| self.rules.entry(key).or_default())
    }

    /// What has come up since.
    pub(super) fn since(&self, before: &Self) -> (Vec<v1::RuleTraffic>, Vec<v1::Retried>) {
        let rules = self.rules.iter().filter_map(|(key, now)| {
            let new = before.rules.get(key).map_or(*now, |before| now.since(before));
            let (route, rule) = key.clone();
            let Rule { requests, failures, retries, times } = new;
            (new != Rule::default()).then(|| v1::RuleTraffic {
                route,
                rule,
                requests,
                failures,
                retries,
                times: times.to_vec(),
            })
        });
        let retried = self.retried.iter().filter_map(|(service, now)| {
            let retries = grown(*now, before.retried.get(service).copied().unwrap_or_default());
            (retries > 0).then(|| v1::Retried { service: service.clone(), retries })
        });
        (rules.collect(), retried.collect())
    }
}

fn counts(registry: &Registry, name: &str) -> Vec<(Vec<(String, String)>, u64)> {
    let count = |(labels, reading)| match reading {
        Reading::Count(count) => Some((labels, count)),
        _ => None,
    };
    registry.read(name).into_iter().filter_map(count).collect()
}

/// The class of the wire that a bucket of ours falls into, by its upper end.
fn class_of(bucket: usize) -> usize {
    let end = BUCKETS.get(bucket).map(|bound| Duration::from_secs_f64(*bound) - Duration::from_micros(1));
    end.map_or(CLASSES - 1, class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_what_has_come_up_since_and_a_forgotten_series_begins_anew() {
        let registry = Registry::new();
        let rule = [("route", "default/web"), ("rule", "checkout")];
        let [route, name] = rule;
        let of = |class| registry.counter("leno_route_requests_total", &[route, name, ("class", class)]);
        of("2xx").add(9);
        of("5xx").add(1);
        registry.counter("leno_route_retries_total", &rule).add(2);
        registry.histogram("leno_route_first_byte_seconds", &rule).observe(Duration::from_micros(400));
        for direction in ["inbound", "outbound"] {
            registry.counter("leno_retries_total", &[("direction", direction), ("service", "default/web")]).add(3);
        }
        let first = Asked::read(&registry);
        let (rules, retried) = first.since(&Asked::default());
        let (one, times) = (&rules[0], rules[0].times.iter().position(|n| *n == 1));
        assert_eq!((one.requests, one.failures, one.retries, times), (10, 1, 2, Some(1)));
        assert_eq!(retried, [v1::Retried { service: "default/web".to_owned(), retries: 3 }]);
        assert_eq!(first.since(&first), Default::default(), "nothing is new");
        of("2xx").inc();
        assert_eq!(Asked::read(&registry).since(&first).0[0].requests, 1);
        assert_eq!(first.since(&Asked::read(&registry)).0[0].requests, 10, "less than before: it was forgotten");
    }

    #[test]
    fn a_time_is_in_the_class_that_its_bucket_ends_in() {
        let ends: Vec<_> = (0..=BUCKETS.len()).map(class_of).collect();
        assert_eq!(ends, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 15, 15, 15, 15]);
    }
}
