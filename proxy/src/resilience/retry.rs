//! Whether a failed attempt is tried again. Safe by construction: work that an app may have begun is repeated only when doing
//! it twice is the same as doing it once (RFC 9110, 9.2.2), when the caller gave it a key by which the app can tell, or when
//! whoever is responsible for the service said so.

use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, header};

use super::numbers::number;
use crate::error::Reason;
use crate::model::fields;
use crate::model::{Conditions, Retry};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no answer.
    Failed(Reason),
    /// The upstream answered.
    Answered(Answered),
}

/// What matters of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// Set when it was a sidecar that answered.
    pub reason: Option<Reason>,
    /// Set when it is a gRPC answer that has no message (Trailers-Only).
    pub grpc_status: Option<u8>,
}

/// Says which attempt of its caller's a request is, from 2 on. An app passes it on, as it does with the header fields of
/// traces, so that each hop of a chain knows when the hop before it retries already.
pub const ATTEMPT_HEADER: HeaderName = HeaderName::from_static("leno-attempt");
/// Says how many attempts an answer took, when there were several.
pub const ATTEMPTS_HEADER: HeaderName = HeaderName::from_static("leno-attempts");
/// The client's promise that the server can tell a request from its repetition (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether doing it twice is the same as doing it once.
pub fn idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// Whether a request may be sent again although an app may have seen it.
pub fn repeatable(policy: &Retry, method: &Method, headers: &HeaderMap) -> bool {
    idempotent(method) || policy.non_idempotent || headers.contains_key(IDEMPOTENCY_KEY)
}

/// Which attempt of its caller's a request is; 1 where nothing is said.
pub fn attempt_of(headers: &HeaderMap) -> u32 {
    fields::find(headers, &ATTEMPT_HEADER).and_then(|value| number(value.as_bytes())).map_or(1, |n| n.max(1))
}

/// How long an answer asks to wait. A date counts as for ever: to read it, the app's clock would have to be believed.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?;
    Some(number(value.as_bytes()).map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into())))
}

/// Whether this outcome may be tried again, if the budget and the number of attempts allow. `repeatable` is of the request;
/// `nested` when the caller's own sidecar is retrying it already, so that only what no app has seen is tried again here.
pub fn retryable(policy: &Retry, repeatable: bool, nested: bool, outcome: Outcome) -> bool {
    let reason = match outcome {
        Outcome::Failed(reason) => Some(reason),
        Outcome::Answered(answered) => answered.reason,
    };
    if reason.filter(|reason| reason.unseen()).and_then(condition).is_some_and(|condition| policy.on.has(condition)) {
        return true;
    }
    if nested || !repeatable {
        return false;
    }
    let by_reason = match reason {
        Some(Reason::UpstreamReset | Reason::AppReset) => policy.on.has(Conditions::RESET),
        // Of one attempt; that of the whole request ends it.
        Some(Reason::Timeout | Reason::DeadlineExceeded) => policy.on.has(Conditions::TIMEOUT),
        _ => false,
    };
    by_reason
        || match outcome {
            Outcome::Failed(_) => false,
            Outcome::Answered(Answered { status, grpc_status, .. }) => {
                policy.codes.contains(&status)
                    || grpc_status.is_some_and(|s| s != 0 && policy.on.has(Conditions::grpc(s)))
            }
        }
}

/// The condition under which what no app has seen is tried again. None: a caller's mistake, a missing route or a limit of our
/// own does not get better by trying again.
fn condition(reason: Reason) -> Option<Conditions> {
    use Reason::{
        AppConnectFailed, AppOverloaded, BackendTlsFailed, ConnectFailed, ConnectTimeout, PolicyUnknown, Refused,
        TlsFailed, UnknownPort, WrongIdentity,
    };
    match reason {
        ConnectFailed | ConnectTimeout | TlsFailed | BackendTlsFailed | WrongIdentity | AppConnectFailed
        | UnknownPort => Some(Conditions::CONNECT_FAILURE),
        Refused | AppOverloaded | PolicyUnknown => Some(Conditions::REFUSED_STREAM),
        _ => None,
    }
}

/// How long to wait before retry number `n` (from 1): doubles, with full jitter. `random` is in 0..1.
pub fn backoff(policy: &Retry, n: u32, random: f64) -> Duration {
    let bound = policy.backoff.saturating_mul(1 << n.saturating_sub(1).min(10));
    bound.min(policy.most_backoff).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, reason: Option<Reason>) -> Outcome {
        Outcome::Answered(Answered { status, reason, grpc_status: None })
    }

    fn grpc(status: u8) -> Outcome {
        Outcome::Answered(Answered { status: 200, reason: None, grpc_status: Some(status) })
    }

    #[test]
    fn only_what_no_app_has_seen_is_tried_again_for_a_post() {
        let policy = Retry { codes: vec![502, 503], backoff: Duration::ZERO, ..Retry::default() };
        for (outcome, get, post) in [
            (Outcome::Failed(Reason::ConnectFailed), true, true),
            (Outcome::Failed(Reason::Refused), true, true),
            (Outcome::Failed(Reason::UpstreamReset), true, false),
            (Outcome::Failed(Reason::Timeout), true, false),
            (Outcome::Failed(Reason::NoEndpoints), false, false),
            (Outcome::Failed(Reason::Overloaded), false, false),
            (Outcome::Failed(Reason::DownstreamReset), false, false),
            (answered(503, None), true, false),
            (answered(500, None), false, false),
            (answered(503, Some(Reason::AppConnectFailed)), true, true),
            (answered(503, Some(Reason::AppOverloaded)), true, true),
            (answered(502, Some(Reason::AppReset)), true, false),
            (answered(504, Some(Reason::DeadlineExceeded)), true, false),
            (answered(429, Some(Reason::RateLimited)), false, false),
            (answered(200, None), false, false),
            (grpc(14), false, false),
        ] {
            assert_eq!(retryable(&policy, true, false, outcome), get, "{outcome:?}");
            assert_eq!(retryable(&policy, false, false, outcome), post, "{outcome:?}");
        }
        assert!(idempotent(&Method::PUT) && idempotent(&Method::DELETE) && !idempotent(&Method::PATCH));
    }

    #[test]
    fn conditions_say_what_is_tried_again_and_nothing_else_is() {
        let policy = Retry { codes: vec![], on: Conditions::grpc(14), ..Retry::default() };
        assert!(retryable(&policy, true, false, grpc(14)) && !retryable(&policy, true, false, grpc(13)));
        for reason in [Reason::ConnectFailed, Reason::Refused, Reason::UpstreamReset, Reason::Timeout] {
            assert!(!retryable(&policy, true, false, Outcome::Failed(reason)), "{reason:?}");
        }
    }

    #[test]
    fn a_request_that_is_a_retry_already_is_tried_again_only_unseen() {
        let policy = Retry::default();
        assert!(retryable(&policy, true, true, Outcome::Failed(Reason::ConnectFailed)));
        assert!(!retryable(&policy, true, true, answered(503, None)));
        assert!(!retryable(&policy, true, true, Outcome::Failed(Reason::UpstreamReset)));
    }

    #[test]
    fn a_key_or_the_users_word_makes_a_post_repeatable() {
        let (policy, mut headers) = (Retry::default(), HeaderMap::new());
        assert!(!repeatable(&policy, &Method::POST, &headers));
        assert!(repeatable(&Retry { non_idempotent: true, ..Retry::default() }, &Method::POST, &headers));
        headers.insert(IDEMPOTENCY_KEY, "\"a\"".parse().unwrap());
        assert!(repeatable(&policy, &Method::POST, &headers));
    }

    #[test]
    fn fields_of_others_are_read_strictly() {
        let with = |name: HeaderName, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        for (value, attempt) in [("2", 2), ("0", 1), ("-1", 1), ("+3", 1), ("", 1), ("9999999999", 1), ("x", 1)] {
            assert_eq!(attempt_of(&with(ATTEMPT_HEADER, value)), attempt, "{value:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
        assert_eq!(retry_after(&with(header::RETRY_AFTER, "3")), Some(Duration::from_secs(3)));
        let date = with(header::RETRY_AFTER, "Wed, 21 Oct 2026 07:28:00 GMT");
        assert_eq!(retry_after(&date), Some(Duration::MAX));
    }

    #[test]
    fn backoff_doubles_and_is_bounded() {
        let policy = Retry { attempts: 9, backoff: Duration::from_millis(100), ..Retry::default() };
        assert_eq!(backoff(&policy, 1, 1.0), Duration::from_millis(100));
        assert_eq!(backoff(&policy, 3, 1.0), Duration::from_millis(400));
        assert_eq!(backoff(&policy, 30, 1.0), Duration::from_secs(10));
        assert_eq!(backoff(&policy, 3, 0.0), Duration::ZERO);
    }
}
