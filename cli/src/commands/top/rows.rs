//! What `leno top` shows: alike workloads of a service, and rules of routes, each with what was counted of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leno_control_plane::observed::quantile_ms;
use serde_json::{Value, json};

use crate::client::{Edge, Edges, Traffic};
use crate::output::printable;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// Who is called, as the called apps' sidecars count it; retries as the callers' do.
    Services,
    /// By which rule apps' requests are sent, as their own sidecars count it.
    Routes,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// Alike workloads of a service, at one port.
    Service { namespace: String, service: String, version: String, port: u16, protocol: String },
    /// A rule of a route, KIND/NAME.
    Rule { namespace: String, route: String, rule: String },
}

impl Key {
    pub(super) fn is_of(&self, view: View) -> bool {
        matches!(self, Self::Service { .. }) == (view == View::Services)
    }
}

/// What was counted of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) encrypted: u64,
    pub(super) retries: u64,
    pub(super) times: Vec<u64>,
    pub(super) callers: BTreeSet<String>,
}

pub(super) type All = BTreeMap<Key, Counts>;

impl Counts {
    fn add(&mut self, edge: &Edge) {
        self.requests += edge.requests;
        self.failures += edge.failures;
        self.encrypted += if edge.mtls { edge.requests } else { 0 };
        self.callers.insert(edge.source.clone());
        if self.times.len() < edge.times.len() {
            self.times.resize(edge.times.len(), 0);
        }
        for (sum, more) in self.times.iter_mut().zip(&edge.times) {
            *sum += more;
        }
    }

    /// What has come since; what the control plane has forgotten meanwhile is no less than nothing.
    pub(super) fn since(&self, before: &Self) -> Self {
        let at = |n: usize| before.times.get(n).copied().unwrap_or_default();
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
            encrypted: self.encrypted.saturating_sub(before.encrypted),
            retries: self.retries.saturating_sub(before.retries),
            times: self.times.iter().enumerate().map(|(n, now)| now.saturating_sub(at(n))).collect(),
            callers: self.callers.clone(),
        }
    }

    fn quantile_ms(&self, share: f64) -> Option<f64> {
        quantile_ms(&self.times, share)
    }

    fn share(&self, of: u64) -> Option<f64> {
        (self.requests > 0).then(|| of as f64 / self.requests as f64)
    }

    fn success(&self) -> Option<f64> {
        self.share(self.requests.saturating_sub(self.failures))
    }
}

/// Both kinds of rows, of one namespace or of all.
pub(super) fn grouped(edges: &Edges, traffic: &Traffic, namespace: Option<&str>) -> All {
    let mut all = All::new();
    let wanted = |of: &str| namespace.is_none_or(|namespace| of == namespace);
    for edge in edges.edges.iter().filter(|edge| wanted(&edge.destination.namespace)) {
        let counts = all.entry(service(edge)).or_default();
        counts.add(edge);
        // Told by its callers for all versions at once.
        let of = |service: &&String| traffic.services.iter().find(|retried| retried.service == **service);
        counts.retries = edge.destination.services.iter().filter_map(|name| of(&name)).map(|of| of.retries).sum();
    }
    for told in &traffic.rules {
        // KIND/NAMESPACE/NAME.
        let [kind, namespace, name] = told.route.splitn(3, '/').collect::<Vec<_>>()[..] else { continue };
        if wanted(namespace) {
            let (namespace, route, rule) = (namespace.to_owned(), format!("{kind}/{name}"), told.rule.clone());
            let counts = all.entry(Key::Rule { namespace, route, rule }).or_default();
            (counts.requests, counts.failures, counts.retries) = (told.requests, told.failures, told.retries);
            counts.times.clone_from(&told.times);
        }
    }
    all
}

fn service(edge: &Edge) -> Key {
    let to = &edge.destination;
    let names: Vec<&str> = to.services.iter().map(|name| name.rsplit('/').next().unwrap_or(name)).collect();
    // Who is in no Service is named by what he proves to be.
    let service =
        if names.is_empty() { to.identity.rsplit('/').next().unwrap_or_default().to_owned() } else { names.join(",") };
    let version = to.labels.get("version").cloned().unwrap_or_default();
    Key::Service { namespace: to.namespace.clone(), service, version, port: edge.port, protocol: edge.protocol.clone() }
}

/// The names of the columns.
pub(super) fn heading(view: View) -> Vec<&'static str> {
    let (of, last): (&[_], &[_]) = match view {
        View::Services => (&["NAMESPACE", "SERVICE", "VERSION", "PORT", "CALLERS"], &["MTLS"]),
        View::Routes => (&["NAMESPACE", "ROUTE", "RULE"], &[]),
    };
    [of, &["PER-SECOND", "SUCCESS", "P50", "P99", "RETRIES"], last].concat()
}

/// Widths of the columns on a screen.
pub(super) fn widths(view: View) -> Vec<u16> {
    let (of, last): (&[_], &[_]) = match view {
        View::Services => (&[14, 24, 10, 12, 8], &[7]),
        View::Routes => (&[14, 30, 16], &[]),
    };
    [of, &[11, 9, 9, 9, 8], last].concat()
}

/// A row's cells.
pub(super) fn cells(key: &Key, counts: &Counts, over: Duration) -> Vec<String> {
    // Rounded down: 100 % is without any failure.
    let percent =
        |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.1}%", (share * 1000.0).floor() / 10.0));
    let millis = |share| counts.quantile_ms(share).map_or_else(String::new, |ms| format!("{ms} ms"));
    let mut cells = match key {
        Key::Service { namespace, service, version, port, protocol } => vec![
            printable(namespace),
            printable(service),
            printable(version),
            format!("{port}/{}", printable(protocol)),
            counts.callers.len().to_string(),
        ],
        Key::Rule { namespace, route, rule } => vec![printable(namespace), printable(route), printable(rule)],
    };
    cells.extend([
        format!("{:.1}", counts.requests as f64 / over.as_secs_f64().max(0.001)),
        percent(counts.success()),
        millis(0.5),
        millis(0.99),
        counts.retries.to_string(),
    ]);
    if key.is_of(View::Services) {
        cells.push(percent(counts.share(counts.encrypted)));
    }
    cells
}

/// As JSON has it: both kinds, of the last minute.
pub(super) fn value(all: &All) -> Value {
    let (mut services, mut routes) = (Vec::new(), Vec::new());
    for (key, counts) in all {
        let mut value = json!({
            "requests": counts.requests, "failures": counts.failures, "perSecond": counts.requests as f64 / 60.0,
            "success": counts.success(), "p50Ms": counts.quantile_ms(0.5), "p99Ms": counts.quantile_ms(0.99),
            "retries": counts.retries,
        });
        let (of, into) = match key {
            Key::Service { namespace, service, version, port, protocol } => (
                json!({"namespace": namespace, "service": service, "version": version, "port": port, "protocol": protocol,
                    "callers": counts.callers, "mtls": counts.share(counts.encrypted)}),
                &mut services,
            ),
            Key::Rule { namespace, route, rule } => {
                (json!({"namespace": namespace, "route": route, "rule": rule}), &mut routes)
            }
        };
        if let (Some(value), Value::Object(of)) = (value.as_object_mut(), of) {
            value.extend(of);
        }
        into.push(value);
    }
    json!({"seconds": 60, "services": services, "routes": routes})
}

#[cfg(test)]
mod tests {
    use super::super::tests::{edges, traffic};
    use super::*;

    #[test]
    fn callers_of_a_service_are_added_up_and_times_are_those_of_all() {
        let all = grouped(&edges(60, 6), &traffic(0), Some("default"));
        let (key, counts) = all.iter().next().unwrap();
        let cells = cells(key, counts, Duration::from_secs(60));
        assert_eq!(cells, ["default", "web", "v1", "80/http", "2", "2.0", "95.0%", "0.25 ms", "1 ms", "7", "50.0%"]);
        let all = grouped(&edges(1, 0), &traffic(0), None);
        let services = all.keys().filter_map(|key| match key {
            Key::Service { service, .. } => Some(service.as_str()),
            Key::Rule { .. } => None,
        });
        assert_eq!(services.collect::<Vec<_>>(), ["web", "lone"]);
        for view in [View::Services, View::Routes] {
            assert_eq!(heading(view).len(), widths(view).len());
        }
    }

    #[test]
    fn a_rule_of_a_route_has_its_own_rate_times_and_retries() {
        let all = grouped(&edges(1, 0), &traffic(120), Some("default"));
        let of_rules: Vec<_> = all.iter().filter(|(key, _)| key.is_of(View::Routes)).collect();
        let [(key, counts)] = of_rules.as_slice() else { panic!("{of_rules:?}") };
        let cells = cells(key, counts, Duration::from_secs(60));
        assert_eq!(cells, ["default", "HTTPRoute/split", "checkout", "2.0", "99.1%", "0.5 ms", "0.5 ms", "7"]);
        assert_eq!(value(&all)["routes"][0]["retries"], 7);
    }
}
