//! Retries, limits and faults, from model to wire.

use leno_proto::v1;

use super::{http_match, value_match};
use crate::model::{
    AdaptiveConcurrency, CircuitBreaker, Fault, HttpRoute, HttpRule, RateLimit, Resilience, RetryRules,
};

pub(in crate::discovery) fn resilience(said: &Resilience) -> v1::Resilience {
    v1::Resilience {
        retry: said.retry.as_ref().map(retry),
        hedge: said.hedge_ms.map(|delay_ms| v1::Hedge { delay_ms }),
        faults: said.faults.iter().flatten().map(fault).collect(),
        rate_limits: Vec::new(),
        access_log: said.access_log.map(|log| v1::AccessLog { mode: log.mode, share: log.share }),
        traces: said.traces,
    }
}

fn retry(rules: &RetryRules) -> v1::RetryPolicy {
    v1::RetryPolicy {
        attempts: rules.attempts,
        says_codes: rules.codes.is_some(),
        codes: rules.codes.iter().flatten().map(|code| u32::from(*code)).collect(),
        backoff_ms: rules.backoff_ms,
        max_backoff_ms: rules.max_backoff_ms,
        says_on: rules.on.is_some(),
        on: rules.on.clone().unwrap_or_default(),
        non_idempotent: rules.non_idempotent,
        per_try_timeout_ms: rules.per_try_timeout_ms,
        max_retry_after_ms: rules.max_retry_after_ms,
    }
}

fn fault(fault: &Fault) -> v1::Fault {
    v1::Fault {
        percent: fault.percent,
        headers: fault.headers.iter().map(value_match).collect(),
        delay_ms: fault.delay_ms,
        abort_status: fault.abort_status.into(),
        abort_grpc_status: fault.abort_grpc_status,
    }
}

pub(super) fn circuit_breaker(limits: &CircuitBreaker) -> v1::CircuitBreaker {
    v1::CircuitBreaker {
        max_connections: limits.max_connections.unwrap_or_default(),
        max_pending_requests: limits.max_pending_requests.unwrap_or_default(),
        max_requests: limits.max_requests.unwrap_or_default(),
        max_retries: limits.max_retries.unwrap_or_default(),
    }
}

pub(in crate::discovery) fn rate_limits(limits: &[RateLimit]) -> Vec<v1::RateLimit> {
    let limit = |limit: &RateLimit| v1::RateLimit {
        name: limit.name.clone(),
        requests: limit.requests,
        seconds: limit.seconds,
        burst: limit.burst,
        by_caller: limit.by_caller,
    };
    limits.iter().map(limit).collect()
}

pub(in crate::discovery) fn adaptive(said: &AdaptiveConcurrency) -> v1::AdaptiveConcurrency {
    v1::AdaptiveConcurrency {
        min_requests: said.min_requests,
        max_requests: said.max_requests,
        tolerance_percent: said.tolerance_percent,
    }
}

/// What a service's own sidecars need of a route: what it matches, and how much of that is let in.
pub(in crate::discovery) fn limited_route<'a>(
    route: &HttpRoute,
    limits: impl Fn(&str) -> Option<&'a [RateLimit]>,
) -> v1::HttpRoute {
    let rule = |rule: &HttpRule| v1::HttpRule {
        name: rule.name.clone(),
        matches: rule.matches.iter().map(http_match).collect(),
        resilience: limits(&rule.name)
            .map(|limits| v1::Resilience { rate_limits: rate_limits(limits), ..v1::Resilience::default() }),
        ..v1::HttpRule::default()
    };
    v1::HttpRoute {
        namespace: route.name.namespace.clone(),
        name: route.name.name.clone(),
        grpc: route.grpc,
        created: route.created,
        rules: route.rules.iter().map(rule).collect(),
        hostnames: Vec::new(),
    }
}
