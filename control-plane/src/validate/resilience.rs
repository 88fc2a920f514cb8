//! TrafficPolicy: retries, hedging, limits and faults.

#[cfg(test)]
mod tests;

use super::check::Check;
use super::http_route::{self, WrittenValue};
use crate::config::{self, FieldPath, TargetRef, TrafficPolicySpec};
use crate::model::{
    AccessLog, AdaptiveConcurrency, CircuitBreaker, Fault, Kind, RateLimit, Resilience, RetryRules, RouteTarget,
    TrafficPolicy,
};

/// The group of routes.
pub(super) const ROUTES: &str = "gateway.networking.k8s.io";
/// As many retries as a sidecar makes.
const MOST_ATTEMPTS: u32 = 10;
/// Bounds what each request is compared with.
const MOST_FAULTS: usize = 16;
const MOST_RATE_LIMITS: usize = 8;
const MOST_CODES: usize = 200;
/// Longest window of a rate limit: a day.
const MOST_SECONDS: u64 = 86_400;

/// What may stand in `retry.on`.
const CONDITIONS: [&str; 10] = [
    "connect-failure",
    "refused-stream",
    "reset-before-request",
    "reset",
    "timeout",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

pub(super) fn route(check: &mut Check<'_>, at: &FieldPath, target: &TargetRef, policy: &mut TrafficPolicy) {
    check.dns_subdomain(&at.key("name"), &target.name);
    if let Some(section) = &target.section_name {
        check.dns_subdomain(&at.key("sectionName"), section);
    }
    let kind = if target.kind == "GRPCRoute" { Kind::GrpcRoute } else { Kind::HttpRoute };
    let found = RouteTarget { kind, name: target.name.clone(), section: target.section_name.clone() };
    if policy.routes.contains(&found) {
        check.error(&at.key("name"), format!("{:?} is here twice", target.name), "remove one of them");
    }
    policy.routes.push(found);
}

pub(super) fn check(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec, policy: &mut TrafficPolicy) {
    fits_its_targets(check, path, spec, policy);
    policy.resilience = Resilience {
        retry: spec.retry.as_ref().map(|written| retry(check, &path.key("retry"), written, policy)),
        hedge_ms: spec
            .hedge
            .as_ref()
            .and_then(|hedge| check.positive_duration(&path.key("hedge").key("delay"), &hedge.delay).map(u64::from)),
        faults: spec.faults.as_ref().map(|written| {
            let at = path.key("faults");
            check.most(&at, written.len(), MOST_FAULTS);
            let faults = written.iter().take(MOST_FAULTS).enumerate();
            faults.map(|(n, written)| fault(check, &at.index(n), written)).collect()
        }),
        rate_limits: spec.rate_limits.as_ref().map(|written| rate_limits(check, &path.key("rateLimits"), written)),
        access_log: spec.access_log.as_ref().map(|written| access_log(check, &path.key("accessLog"), written)),
        traces: spec.tracing.as_ref().map(|written| share(check, &path.key("tracing").key("percent"), written.percent)),
    };
    policy.circuit_breaker =
        spec.circuit_breaker.as_ref().map(|w| circuit_breaker(check, &path.key("circuitBreaker"), w));
    policy.adaptive_concurrency =
        spec.adaptive_concurrency.as_ref().map(|w| adaptive(check, &path.key("adaptiveConcurrency"), w));
}

/// In the order of their numbers on the wire.
const LOG_MODES: [&str; 4] = ["Off", "Errors", "Sampled", "All"];

fn access_log(check: &mut Check<'_>, at: &FieldPath, written: &config::AccessLog) -> AccessLog {
    let mode = LOG_MODES.iter().position(|mode| *mode == written.mode);
    if mode.is_none() {
        let hint = format!("write one of {}", LOG_MODES.join(", "));
        check.error(&at.key("mode"), format!("{:?} is no mode of the access log", written.mode), hint);
    }
    if written.percent.is_some() && written.mode != "Sampled" {
        let message = format!("percent says how large a sample is, and the mode is {}", written.mode);
        check.error(&at.key("percent"), message, "write `mode: Sampled`, or remove it");
    }
    let share = written.percent.map(|percent| share(check, &at.key("percent"), percent));
    AccessLog { mode: mode.map_or(0, |mode| mode as u32), share }
}

/// A percentage, in millionths.
fn share(check: &mut Check<'_>, at: &FieldPath, percent: f64) -> u32 {
    let millionths = percent * 10_000.0;
    if !(0.0..=1_000_000.0).contains(&millionths) || (millionths - millionths.round()).abs() > 1e-6 {
        check.error(at, format!("{percent} is no percentage"), "write a number from 0 to 100, with up to four places");
        return 0;
    }
    millionths.round() as u32
}

/// What a route cannot have is refused where the policy is attached to one, and so is a rule of a Service.
fn fits_its_targets(check: &mut Check<'_>, path: &FieldPath, spec: &TrafficPolicySpec, policy: &TrafficPolicy) {
    for (n, target) in spec.target_refs.iter().enumerate() {
        if target.section_name.is_some() && target.group != ROUTES {
            let at = path.key("targetRefs").index(n).key("sectionName");
            let hint = "remove it, or attach the policy to an HTTPRoute or GRPCRoute";
            check.error(&at, format!("a {} has no named rules", target.kind), hint);
        }
    }
    if policy.routes.is_empty() {
        return;
    }
    let of_services_only = [
        ("mtls", spec.mtls.is_some()),
        ("portLevelMtls", spec.port_level_mtls.is_some()),
        ("egress", spec.egress.is_some()),
        ("connectTimeout", spec.connect_timeout.is_some()),
        ("idleTimeout", spec.idle_timeout.is_some()),
        ("outlierDetection", spec.outlier_detection.is_some()),
        ("retryBudget", spec.retry_budget.is_some()),
        ("circuitBreaker", spec.circuit_breaker.is_some()),
        ("adaptiveConcurrency", spec.adaptive_concurrency.is_some()),
        ("loadBalancing", spec.load_balancing.is_some()),
        ("healthCheck", spec.health_check.is_some()),
    ];
    for (field, _) in of_services_only.iter().filter(|(_, written)| *written) {
        let message = format!("{field} is not for a route, and the policy is attached to one");
        check.error(&path.key(*field), message, "move it to a policy of its own, of a Service");
    }
}

fn retry(check: &mut Check<'_>, at: &FieldPath, written: &config::RetryRules, policy: &TrafficPolicy) -> RetryRules {
    let on = written.on.as_ref().map(|on| conditions(check, &at.key("on"), on));
    let grpc = on.iter().flatten().any(|name| CONDITIONS[5..].contains(&name.as_str()));
    let for_grpc = policy.routes.iter().any(|route| route.kind == Kind::GrpcRoute) || grpc;
    if for_grpc && grpc && written.non_idempotent != Some(true) {
        let message = "gRPC calls are POSTs, and these conditions say nothing of whether the app has begun the call";
        let hint = "with nonIdempotent: true all calls are tried again, without it those with an Idempotency-Key";
        check.warn(&at.key("on"), message, hint);
    }
    let duration = |check: &mut Check<'_>, key: &str, text: &Option<String>| {
        text.as_ref().and_then(|text| check.duration(&at.key(key), text))
    };
    RetryRules {
        attempts: written.attempts.and_then(|n| check.number(&at.key("attempts"), n, 0, MOST_ATTEMPTS)),
        codes: written.codes.as_ref().map(|written| codes(check, &at.key("codes"), written)),
        on,
        non_idempotent: written.non_idempotent,
        per_try_timeout_ms: written
            .per_try_timeout
            .as_ref()
            .and_then(|text| check.positive_duration(&at.key("perTryTimeout"), text))
            .map(u64::from),
        backoff_ms: duration(check, "backoff", &written.backoff),
        max_backoff_ms: duration(check, "maxBackoff", &written.max_backoff),
        max_retry_after_ms: duration(check, "maxRetryAfter", &written.max_retry_after),
    }
}

fn conditions(check: &mut Check<'_>, at: &FieldPath, written: &[String]) -> Vec<String> {
    check.most(at, written.len(), CONDITIONS.len());
    let mut found: Vec<String> = Vec::new();
    for (n, name) in written.iter().take(CONDITIONS.len()).enumerate() {
        if found.contains(name) {
            check.error(&at.index(n), format!("{name} is here twice"), "remove one of them");
        } else if CONDITIONS.contains(&name.as_str()) {
            found.push(name.clone());
        } else {
            let near = config::nearest_word(name, &CONDITIONS);
            let hint = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            let hint = format!("{hint}there are {}", CONDITIONS.join(", "));
            check.error(&at.index(n), format!("{name:?} is no condition"), hint);
        }
    }
    found
}

fn codes(check: &mut Check<'_>, at: &FieldPath, written: &[i64]) -> Vec<u16> {
    check.most(at, written.len(), MOST_CODES);
    let mut codes = Vec::new();
    for (n, code) in written.iter().take(MOST_CODES).enumerate() {
        match u16::try_from(*code) {
            Ok(code @ 400..=599) if codes.contains(&code) => {
                check.error(&at.index(n), format!("{code} is here twice"), "remove one of them");
            }
            Ok(code @ 400..=599) => codes.push(code),
            _ => check.error(
                &at.index(n),
                format!("{code} is no status that is retried"),
                "write a code from 400 to 599",
            ),
        }
    }
    codes
}

fn fault(check: &mut Check<'_>, at: &FieldPath, written: &config::Fault) -> Fault {
    let headers = written.headers.iter().flatten().map(|header| WrittenValue {
        name: &header.name,
        value: &header.value,
        kind: header.r#type.clone(),
    });
    for (n, header) in written.headers.iter().flatten().enumerate() {
        if !matches!(header.r#type.as_deref(), None | Some("Exact" | "RegularExpression")) {
            let path = at.key("headers").index(n).key("type");
            check.error(&path, "is no way to compare", "write Exact or RegularExpression");
        }
    }
    if written.delay.is_none() && written.abort.is_none() {
        check.error(at, "a fault delays or aborts", "write `delay: 1s` or `abort: {status: 503}`");
    }
    let mut fault = Fault {
        percent: written.percent.and_then(|n| check.number(&at.key("percent"), n, 0, 100)).unwrap_or(100),
        headers: http_route::values(check, &at.key("headers"), headers, false),
        delay_ms: written
            .delay
            .as_ref()
            .and_then(|t| check.positive_duration(&at.key("delay"), t))
            .map_or(0, u64::from),
        ..Fault::default()
    };
    if let Some(abort) = &written.abort {
        let at = at.key("abort");
        if abort.status.is_none() && abort.grpc_status.is_none() {
            check.error(&at, "an abort has a status", "write `status: 503`, `grpcStatus: 14`, or both");
        }
        let status = abort.status.and_then(|n| check.number(&at.key("status"), n, 200, 599));
        fault.abort_status = status.and_then(|n| u16::try_from(n).ok()).unwrap_or(503);
        fault.abort_grpc_status = abort.grpc_status.and_then(|n| check.number(&at.key("grpcStatus"), n, 1, 16));
    }
    fault
}

fn rate_limits(check: &mut Check<'_>, at: &FieldPath, written: &[config::RateLimit]) -> Vec<RateLimit> {
    check.most(at, written.len(), MOST_RATE_LIMITS);
    let mut found: Vec<RateLimit> = Vec::new();
    for (n, written) in written.iter().take(MOST_RATE_LIMITS).enumerate() {
        let limit = rate_limit(check, &at.index(n), written);
        if found.iter().any(|other| other.name == limit.name) {
            let hint = "give each a name of its own";
            check.error(&at.index(n).key("name"), format!("{:?} is here twice", limit.name), hint);
        }
        found.push(limit);
    }
    found
}

fn rate_limit(check: &mut Check<'_>, at: &FieldPath, written: &config::RateLimit) -> RateLimit {
    let requests = check.number(&at.key("requests"), written.requests, 1, 1_000_000_000).unwrap_or(1);
    let name = written.name.clone().unwrap_or_else(|| "default".to_owned());
    check.dns_label(&at.key("name"), &name);
    let path = at.key("per");
    let seconds = check.duration(&path, &written.per).map_or(1, |ms| {
        if ms == 0 || ms % 1000 != 0 || ms / 1000 > MOST_SECONDS {
            check.error(&path, format!("{} is out of range", written.per), "write whole seconds, from 1s to 24h");
        }
        u32::try_from(ms / 1000).unwrap_or(1).max(1)
    });
    let by_caller = match written.by.as_deref() {
        None | Some("Everyone") => false,
        Some("Caller") => true,
        Some(other) => {
            let hint = "write Everyone, or Caller for one limit each SPIFFE ID";
            check.error(&at.key("by"), format!("{other:?} is nobody"), hint);
            false
        }
    };
    let burst = written.burst.and_then(|n| check.number(&at.key("burst"), n, 1, 1_000_000_000)).unwrap_or(requests);
    RateLimit { name, requests, seconds, burst, by_caller }
}

fn circuit_breaker(check: &mut Check<'_>, at: &FieldPath, written: &config::CircuitBreaker) -> CircuitBreaker {
    let mut number = |key: &str, n: Option<i64>| n.and_then(|n| check.number(&at.key(key), n, 1, 1_000_000));
    CircuitBreaker {
        max_connections: number("maxConnections", written.max_connections),
        max_pending_requests: number("maxPendingRequests", written.max_pending_requests),
        max_requests: number("maxRequests", written.max_requests),
        max_retries: number("maxRetries", written.max_retries),
    }
}

fn adaptive(check: &mut Check<'_>, at: &FieldPath, written: &config::AdaptiveConcurrency) -> AdaptiveConcurrency {
    let mut number = |key: &str, n: Option<i64>, least, most, default| {
        n.and_then(|n| check.number(&at.key(key), n, least, most)).unwrap_or(default)
    };
    let found = AdaptiveConcurrency {
        min_requests: number("minRequests", written.min_requests, 1, 1_000_000, 4),
        max_requests: number("maxRequests", written.max_requests, 1, 1_000_000, 1000),
        tolerance_percent: number("tolerancePercent", written.tolerance_percent, 110, 1000, 200),
    };
    if found.min_requests > found.max_requests {
        check.error(&at.key("minRequests"), "is more than maxRequests", "make it smaller, or maxRequests larger");
    }
    found
}
