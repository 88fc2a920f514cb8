//! Retries, faults and limits, from wire to model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use leno_proto::v1;

use super::{InvalidResource, header_name, invalid, value_match};
use crate::model::resilience::{
    Abort, AdaptiveConcurrency, CircuitBreaker, Conditions, Fault, InboundPolicy, RateLimit, Resilience, RetrySaid,
};
use crate::model::route::HttpRoute;
use crate::model::{HttpMatch, LogMode, Observe, PathMatch, RouteKind, Share};

/// Retries that are made at most, whatever is asked for.
const MOST_ATTEMPTS: u32 = 10;

/// What a route says of retries in the words of the Gateway API.
pub(super) fn inline_retry(wire: v1::Retry) -> RetrySaid {
    RetrySaid {
        attempts: Some(wire.attempts.min(MOST_ATTEMPTS)),
        codes: Some(wire.codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect()),
        backoff: Some(Duration::from_millis(wire.backoff_ms)),
        ..RetrySaid::default()
    }
}

pub(super) fn resilience(wire: Option<v1::Resilience>) -> Result<Resilience, InvalidResource> {
    let Some(wire) = wire else { return Ok(Resilience::default()) };
    Ok(Resilience {
        retry: wire.retry.map(retry).transpose()?,
        hedge: wire.hedge.map(|hedge| Duration::from_millis(hedge.delay_ms.max(1))),
        faults: Arc::new(wire.faults.into_iter().map(fault).collect::<Result<_, _>>()?),
        observe: Observe {
            log: wire.access_log.map(access_log).transpose()?,
            traces: wire.traces.map(Share::millionths),
        },
    })
}

fn access_log(wire: v1::AccessLog) -> Result<(LogMode, Option<Share>), InvalidResource> {
    let mode = LogMode::ALL.get(wire.mode as usize).ok_or_else(|| invalid("access log mode", wire.mode))?.1;
    Ok((mode, wire.share.map(Share::millionths)))
}

fn retry(wire: v1::RetryPolicy) -> Result<RetrySaid, InvalidResource> {
    let millis = |said: Option<u64>| said.map(Duration::from_millis);
    let on =
        Conditions::named(wire.on.iter().map(String::as_str)).ok_or_else(|| invalid("retry condition", &wire.on))?;
    Ok(RetrySaid {
        attempts: wire.attempts.map(|n| n.min(MOST_ATTEMPTS)),
        codes: wire.says_codes.then(|| wire.codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect()),
        on: wire.says_on.then_some(on),
        non_idempotent: wire.non_idempotent,
        per_try_timeout: millis(wire.per_try_timeout_ms).filter(|timeout| !timeout.is_zero()),
        backoff: millis(wire.backoff_ms),
        most_backoff: millis(wire.max_backoff_ms),
        most_retry_after: millis(wire.max_retry_after_ms),
    })
}

fn fault(wire: v1::Fault) -> Result<Fault, InvalidResource> {
    let header = |m: &v1::ValueMatch| Ok((header_name(&m.name)?, value_match(m.value.clone(), m.regex)?));
    let headers = wire.headers.iter().map(header).collect::<Result<_, InvalidResource>>()?;
    let grpc_status = wire.abort_grpc_status.map(|n| u8::try_from(n).map_err(|_| invalid("gRPC status", n)));
    let abort = match wire.abort_status {
        0 => None,
        code => {
            let status = u16::try_from(code).ok().and_then(|code| StatusCode::from_u16(code).ok());
            Some(Abort {
                status: status.ok_or_else(|| invalid("status", code))?,
                grpc_status: grpc_status.transpose()?,
            })
        }
    };
    Ok(Fault {
        percent: wire.percent.min(100),
        matches: HttpMatch { path: PathMatch::Prefix(String::new()), method: None, headers, query: Vec::new() },
        delay: Duration::from_millis(wire.delay_ms),
        abort,
        said: wire,
    })
}

/// A zero means the default.
pub(super) fn circuit_breaker(wire: Option<v1::CircuitBreaker>) -> CircuitBreaker {
    let default = CircuitBreaker::default();
    let Some(wire) = wire else { return default };
    let number = |said: u32, default: u32| if said == 0 { default } else { said };
    CircuitBreaker {
        connections: number(wire.max_connections, default.connections),
        pending: number(wire.max_pending_requests, default.pending),
        requests: number(wire.max_requests, default.requests),
        retries: number(wire.max_retries, default.retries),
    }
}

/// What the sidecars of each service enforce, by NAMESPACE/NAME.
pub(super) fn inbound(wire: &[v1::InboundPolicy]) -> Result<BTreeMap<String, Arc<InboundPolicy>>, InvalidResource> {
    wire.iter().map(|policy| Ok((policy.service.clone(), Arc::new(inbound_policy(policy)?)))).collect()
}

fn inbound_policy(wire: &v1::InboundPolicy) -> Result<InboundPolicy, InvalidResource> {
    let mut rules = Vec::new();
    for route in &wire.routes {
        let limits = route.rules.iter().map(|rule| {
            let label = format!("{}/{}/{}", route.namespace, route.name, rule.name);
            let said = rule.resilience.iter().flat_map(|said| &said.rate_limits);
            Arc::new(said.map(|limit| rate_limit(&label, limit)).collect::<Vec<_>>())
        });
        let limits: Vec<_> = limits.collect();
        let route = HttpRoute::try_from(route.clone())?;
        for (rule, limits) in route.rules.iter().zip(limits) {
            rules.extend(rule.matches.iter().map(|m| (route.kind, m.clone(), limits.clone())));
        }
    }
    // As the caller's sidecar tries them, see `resources::assemble`.
    rules.sort_by_cached_key(|(kind, matches, _)| (*kind == RouteKind::Http, matches.precedence()));
    Ok(InboundPolicy {
        rate_limits: wire.rate_limits.iter().map(|limit| rate_limit(&wire.service, limit)).collect(),
        rules,
        adaptive: wire.adaptive_concurrency.map(|said| AdaptiveConcurrency {
            least: said.min_requests.max(1),
            most: said.max_requests.max(said.min_requests).max(1),
            tolerance_percent: said.tolerance_percent.max(101),
        }),
        said: wire.clone(),
    })
}

fn rate_limit(of: &str, wire: &v1::RateLimit) -> RateLimit {
    RateLimit {
        label: format!("{of}#{}", wire.name),
        name: wire.name.clone(),
        requests: wire.requests.max(1),
        seconds: wire.seconds.max(1),
        burst: wire.burst.max(1),
        by_caller: wire.by_caller,
    }
}
