//! What a TrafficPolicy says of balancing and of health.

use super::check::{Check, is_header_name};
use crate::config::{self, FieldPath, OutlierDetection, TrafficPolicySpec};
use crate::model::{BalancePolicy, Balancing, HashKey, HealthCheck, ProbeKind};

/// Most statuses that an HTTP check expects.
const MOST_STATUSES: usize = 32;
/// Longest path and longest names of what is asked of an app.
const MOST_PATH: usize = 1024;
/// Shortest time between two checks of an app, in milliseconds.
const LEAST_INTERVAL: u32 = 100;
/// Longest lifetime of a cookie that a sidecar makes, in seconds: browsers keep none for longer (RFC 6265bis, 5.5).
const MOST_TTL: u64 = 400 * 24 * 3600;

const POLICIES: [(&str, BalancePolicy); 6] = [
    ("LeastRequest", BalancePolicy::LeastRequest),
    ("RoundRobin", BalancePolicy::RoundRobin),
    ("Random", BalancePolicy::Random),
    ("PeakEwma", BalancePolicy::PeakEwma),
    ("RingHash", BalancePolicy::RingHash),
    ("Maglev", BalancePolicy::Maglev),
];
const LOCALITIES: [(&str, bool); 2] = [("PreferClose", true), ("Any", false)];

pub(super) fn check(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec) -> Balancing {
    let mut balancing = Balancing::default();
    if let Some(written) = &spec.load_balancing {
        load_balancing(check, &path.key("loadBalancing"), written, &mut balancing);
    }
    if let Some(written) = &spec.outlier_detection {
        outliers(check, &path.key("outlierDetection"), written, &mut balancing);
    }
    if let Some(written) = &spec.health_check {
        balancing.health_check = health_check(check, &path.key("healthCheck"), written);
    }
    balancing
}

/// One of the words that a field takes.
fn word<T: Copy>(check: &mut Check<'_>, path: &FieldPath, written: Option<&str>, known: &[(&str, T)]) -> Option<T> {
    let written = written?;
    let found = known.iter().find(|(word, _)| *word == written).map(|(_, meant)| *meant);
    if found.is_none() {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        check.error(path, format!("{written:?} is not known"), format!("write one of {}", words.join(", ")));
    }
    found
}

fn load_balancing(check: &mut Check<'_>, path: &FieldPath, written: &config::LoadBalancing, balancing: &mut Balancing) {
    balancing.policy = word(check, &path.key("policy"), written.policy.as_deref(), &POLICIES);
    balancing.hash_key = written.hash_key.as_ref().and_then(|key| hash_key(check, &path.key("hashKey"), key));
    balancing.sticky_splits = written.sticky_splits;
    balancing.prefer_close = word(check, &path.key("locality"), written.locality.as_deref(), &LOCALITIES);
    if let Some(text) = &written.slow_start {
        balancing.slow_start_ms = check.positive_duration(&path.key("slowStart"), text);
    }
    if let Some(n) = written.panic_threshold_percent {
        balancing.panic_percent = check.number(&path.key("panicThresholdPercent"), n, 0, 100);
    }
    let hashes = matches!(balancing.policy, Some(BalancePolicy::RingHash | BalancePolicy::Maglev));
    let hint = "write `hashKey: {type: Header, name: x-user}`, or another of SourceIP, Cookie, QueryParam";
    if written.hash_key.is_none() && hashes {
        check.error(&path.key("policy"), "hashes by a key, and there is no hashKey", hint);
    } else if written.hash_key.is_none() && written.sticky_splits == Some(true) {
        check.error(&path.key("stickySplits"), "hashes by a key, and there is no hashKey", hint);
    }
    if written.hash_key.is_some() && !hashes && written.sticky_splits != Some(true) {
        let hint = "write `policy: Maglev` or `policy: RingHash`, or `stickySplits: true`";
        check.error(&path.key("hashKey"), "nothing hashes by it", hint);
    }
}

fn hash_key(check: &mut Check<'_>, path: &FieldPath, written: &config::HashKey) -> Option<HashKey> {
    let at = path.key("name");
    let name = written.name.clone().unwrap_or_default();
    let kind = written.r#type.as_str();
    if written.ttl.is_some() && kind != "Cookie" {
        check.error(&path.key("ttl"), "only a cookie has one", "remove it, or write `type: Cookie`");
    }
    match kind {
        "SourceIP" if written.name.is_some() => {
            check.error(&at, "the source's address has no name", "remove it");
            None
        }
        "SourceIP" => Some(HashKey::SourceIp),
        "Header" | "Cookie" if !is_header_name(&name) => {
            check.error(&at, format!("{name:?} is no name of a {}", kind.to_lowercase()), "write `name: x-user`");
            None
        }
        "QueryParam" if name.is_empty() || name.len() > 256 => {
            check.error(&at, "is no name of a query parameter", "write `name: user`");
            None
        }
        "Header" => Some(HashKey::Header(name.to_ascii_lowercase())),
        "QueryParam" => Some(HashKey::Query(name)),
        "Cookie" => {
            let at = path.key("ttl");
            let ttl = written.ttl.as_ref().and_then(|text| check.duration(&at, text)).map(|ms| ms.div_ceil(1000));
            if ttl.is_some_and(|seconds| seconds > MOST_TTL) {
                check.error(&at, "no client keeps a cookie for so long", "write at most 9600h");
            }
            Some(HashKey::Cookie { name, ttl })
        }
        _ => {
            let hint = "write one of SourceIP, Header, Cookie, QueryParam";
            check.error(&path.key("type"), format!("{kind:?} is not known"), hint);
            None
        }
    }
}

fn outliers(check: &mut Check<'_>, path: &FieldPath, written: &OutlierDetection, balancing: &mut Balancing) {
    if let Some(n) = written.consecutive_gateway_failures {
        balancing.consecutive_gateway_failures = check.number(&path.key("consecutiveGatewayFailures"), n, 1, 1_000_000);
    }
    if let Some(text) = &written.interval {
        balancing.outlier_interval_ms = check.positive_duration(&path.key("interval"), text);
    }
    if let Some(n) = written.minimum_requests {
        balancing.minimum_requests = check.number(&path.key("minimumRequests"), n, 1, 1_000_000);
    }
    if let Some(n) = written.success_rate_percent {
        balancing.success_rate_percent = check.number(&path.key("successRatePercent"), n, 1, 100);
    }
    if let Some(n) = written.latency_factor {
        balancing.latency_factor = check.number(&path.key("latencyFactor"), n, 2, 1000);
    }
    let rates = written.success_rate_percent.is_some() || written.latency_factor.is_some();
    for (field, there) in
        [("interval", written.interval.is_some()), ("minimumRequests", written.minimum_requests.is_some())]
    {
        if there && !rates {
            let hint = "add `successRatePercent:` or `latencyFactor:`, or remove it";
            check.error(&path.key(field), "nothing is judged by it", hint);
        }
    }
}

fn health_check(check: &mut Check<'_>, path: &FieldPath, written: &config::HealthCheck) -> Option<HealthCheck> {
    let port = written.port.and_then(|port| check.port(&path.key("port"), port));
    let mut time = |field: &str, text: Option<&String>, default: u32| match text {
        None => Some(default),
        Some(text) => check.positive_duration(&path.key(field), text),
    };
    let interval = time("interval", written.interval.as_ref(), 5_000)?;
    let timeout = time("timeout", written.timeout.as_ref(), 1_000)?;
    if interval < LEAST_INTERVAL {
        check.error(&path.key("interval"), "is too short", format!("write at least {LEAST_INTERVAL}ms"));
    }
    let mut threshold = |field: &str, written: Option<i64>, default: u32| match written {
        None => Some(default),
        Some(n) => check.number(&path.key(field), n, 1, 1000),
    };
    let healthy_threshold = threshold("healthyThreshold", written.healthy_threshold, 2)?;
    let unhealthy_threshold = threshold("unhealthyThreshold", written.unhealthy_threshold, 3)?;
    let kind = match (&written.http, &written.tcp, &written.grpc) {
        (Some(http), None, None) => self::http(check, &path.key("http"), http)?,
        (None, Some(_), None) => ProbeKind::Tcp,
        (None, None, Some(grpc)) => {
            let service = grpc.service.clone().unwrap_or_default();
            check.most(&path.key("grpc").key("service"), service.len(), MOST_PATH);
            ProbeKind::Grpc { service }
        }
        (None, None, None) => {
            check.error(path, "says not what is checked", "add `http: {path: /healthz}`, `tcp: {}` or `grpc: {}`");
            return None;
        }
        _ => {
            check.error(path, "says more than one thing to check", "keep one of http, tcp and grpc");
            return None;
        }
    };
    Some(HealthCheck { port, interval_ms: interval, timeout_ms: timeout, healthy_threshold, unhealthy_threshold, kind })
}

fn http(check: &mut Check<'_>, path: &FieldPath, written: &config::HttpCheck) -> Option<ProbeKind> {
    let asked = written.path.clone().unwrap_or_else(|| "/".to_owned());
    let at = path.key("path");
    let is_path = asked.starts_with('/') && asked.len() <= MOST_PATH && asked.parse::<http::Uri>().is_ok();
    if !is_path {
        check.error(&at, format!("{asked:?} is no path"), "write an absolute path, as /healthz");
    }
    let host = written.host.clone().unwrap_or_default();
    if host.len() > 253 || http::HeaderValue::from_str(&host).is_err() {
        check.error(&path.key("host"), "is no host", "write a name, as web.example.com");
    }
    let at = path.key("expectedStatuses");
    let codes = written.expected_statuses.as_deref().unwrap_or_default();
    check.most(&at, codes.len(), MOST_STATUSES);
    let mut statuses = Vec::new();
    for (n, code) in codes.iter().take(MOST_STATUSES).enumerate() {
        let code = check.number(&at.index(n), *code, 100, 599).and_then(|code| u16::try_from(code).ok());
        statuses.extend(code);
    }
    is_path.then_some(ProbeKind::Http { path: asked, host, statuses })
}

#[cfg(test)]
mod tests {
    use super::super::Entity;
    use super::super::testing::{checked, refuses};
    use super::*;

    fn policy(spec: &str) -> String {
        format!(
            "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: web}}\nspec:\n  \
             targetRefs: [{{kind: Service, name: web}}]\n  {spec}\n"
        )
    }

    fn balancing(spec: &str) -> Balancing {
        let checked = checked(&policy(spec));
        assert!(checked.problems.is_empty(), "{:#?}", checked.problems);
        match &checked.valid[0].entity {
            Entity::TrafficPolicy(policy) => policy.balancing.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_said_of_balancing_and_health_is_understood() {
        let said = balancing("loadBalancing: {policy: Maglev, hashKey: {type: Header, name: X-User}, slowStart: 30s}");
        assert_eq!(said.policy, Some(BalancePolicy::Maglev));
        assert_eq!(said.hash_key, Some(HashKey::Header("x-user".into())));
        assert_eq!((said.slow_start_ms, said.prefer_close), (Some(30_000), None));
        let said = balancing("loadBalancing: {stickySplits: true, hashKey: {type: Cookie, name: sid, ttl: 1h}}");
        assert_eq!(said.hash_key, Some(HashKey::Cookie { name: "sid".into(), ttl: Some(3600) }));
        let said = balancing("loadBalancing: {locality: PreferClose, panicThresholdPercent: 50}");
        assert_eq!((said.prefer_close, said.panic_percent), (Some(true), Some(50)));
        let said = balancing("outlierDetection: {consecutiveGatewayFailures: 3, latencyFactor: 3, interval: 5s}");
        assert_eq!((said.consecutive_gateway_failures, said.latency_factor), (Some(3), Some(3)));
        let said = balancing("healthCheck: {http: {path: /healthz, expectedStatuses: [200]}, interval: 2s}");
        let check = said.health_check.unwrap();
        assert_eq!((check.interval_ms, check.timeout_ms, check.unhealthy_threshold), (2_000, 1_000, 3));
        let kind = ProbeKind::Http { path: "/healthz".into(), host: String::new(), statuses: vec![200] };
        assert_eq!(check.kind, kind);
        assert_eq!(balancing("healthCheck: {tcp: {}}").health_check.unwrap().kind, ProbeKind::Tcp);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_field() {
        for (spec, field, said) in [
            ("loadBalancing: {policy: Fastest}", "loadBalancing.policy", "write one of LeastRequest"),
            ("loadBalancing: {policy: Maglev}", "loadBalancing.policy", "there is no hashKey"),
            ("loadBalancing: {stickySplits: true}", "loadBalancing.stickySplits", "there is no hashKey"),
            ("loadBalancing: {hashKey: {type: SourceIP}}", "loadBalancing.hashKey", "nothing hashes by it"),
            (
                "loadBalancing: {policy: Maglev, hashKey: {type: SourceIP, name: x}}",
                "loadBalancing.hashKey.name",
                "has no name",
            ),
            ("loadBalancing: {policy: Maglev, hashKey: {type: Header}}", "loadBalancing.hashKey.name", "no name of"),
            (
                "loadBalancing: {policy: Maglev, hashKey: {type: Cookie, name: 'a;b'}}",
                "loadBalancing.hashKey.name",
                "no name of",
            ),
            (
                "loadBalancing: {policy: Maglev, hashKey: {type: Header, name: a, ttl: 1s}}",
                "loadBalancing.hashKey.ttl",
                "only a cookie",
            ),
            (
                "loadBalancing: {policy: Maglev, hashKey: {type: Cookie, name: a, ttl: 99999h}}",
                "loadBalancing.hashKey.ttl",
                "for so long",
            ),
            ("loadBalancing: {policy: Maglev, hashKey: {type: Body}}", "loadBalancing.hashKey.type", "not known"),
            ("loadBalancing: {locality: Near}", "loadBalancing.locality", "PreferClose"),
            ("loadBalancing: {panicThresholdPercent: 101}", "loadBalancing.panicThresholdPercent", "out of range"),
            ("loadBalancing: {polcy: Maglev}", "loadBalancing.polcy", "policy"),
            ("outlierDetection: {latencyFactor: 1}", "outlierDetection.latencyFactor", "out of range"),
            ("outlierDetection: {interval: 5s}", "outlierDetection.interval", "nothing is judged"),
            ("healthCheck: {interval: 5s}", "healthCheck", "not what is checked"),
            ("healthCheck: {tcp: {}, grpc: {}}", "healthCheck", "more than one"),
            ("healthCheck: {tcp: {}, interval: 10ms}", "healthCheck.interval", "too short"),
            ("healthCheck: {http: {path: healthz}}", "healthCheck.http.path", "no path"),
            ("healthCheck: {http: {expectedStatuses: [99]}}", "healthCheck.http.expectedStatuses[0]", "out of range"),
            ("healthCheck: {tcp: {port: 80}}", "healthCheck.tcp.port", ""),
        ] {
            refuses(&policy(spec), 6, &format!("spec.{field}"), said);
        }
        let many = vec!["200"; MOST_STATUSES + 1].join(", ");
        let many = checked(&policy(&format!("healthCheck: {{http: {{expectedStatuses: [{many}]}}}}")));
        assert!(many.problems.iter().any(|p| p.message.contains("at most 32")));
    }
}
