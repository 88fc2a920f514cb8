//! Whether a failed attempt is tried again. Safe by construction: work that an app may have begun is repeated only when doing
//! it twice is the same as doing it once (RFC 9110, 9.2.2).

use std::time::Duration;

use http::Method;

use crate::error::Reason;
use crate::model::Retry;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no answer.
    Failed(Reason),
    /// The upstream answered with this status; the reason is there when it was a sidecar that answered.
    Answered(u16, Option<Reason>),
}

/// Whether doing it twice is the same as doing it once.
pub fn idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

/// Whether this outcome may be tried again, if the budget and the number of attempts allow.
pub fn retryable(policy: &Retry, method: &Method, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Failed(reason) | Outcome::Answered(_, Some(reason)) if reason.unseen() => pointful(reason),
        Outcome::Failed(Reason::UpstreamReset | Reason::AppReset) => idempotent(method),
        // Only a timeout of one attempt comes here; that of the whole request ends it.
        Outcome::Failed(Reason::Timeout) => idempotent(method),
        Outcome::Failed(_) => false,
        Outcome::Answered(code, reason) => {
            let reset = matches!(reason, Some(Reason::UpstreamReset | Reason::AppReset));
            idempotent(method) && (reset || policy.codes.contains(&code))
        }
    }
}

/// A caller's mistake or a missing route does not get better by trying again.
fn pointful(reason: Reason) -> bool {
    use Reason::{
        AppConnectFailed, BackendTlsFailed, ConnectFailed, ConnectTimeout, Refused, TlsFailed, UnknownPort,
        WrongIdentity,
    };
    matches!(
        reason,
        ConnectFailed
            | ConnectTimeout
            | TlsFailed
            | BackendTlsFailed
            | WrongIdentity
            | Refused
            | AppConnectFailed
            | UnknownPort
    )
}

/// How long to wait before retry number `n` (from 1): doubles, with full jitter. `random` is in 0..1.
pub fn backoff(policy: &Retry, n: u32, random: f64) -> Duration {
    let bound = policy.backoff.saturating_mul(1 << n.saturating_sub(1).min(10));
    bound.min(Duration::from_secs(10)).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_no_app_has_seen_is_tried_again_for_a_post() {
        let policy = Retry { attempts: 2, codes: vec![502, 503], backoff: Duration::ZERO };
        for (outcome, get, post) in [
            (Outcome::Failed(Reason::ConnectFailed), true, true),
            (Outcome::Failed(Reason::Refused), true, true),
            (Outcome::Failed(Reason::UpstreamReset), true, false),
            (Outcome::Failed(Reason::Timeout), true, false),
            (Outcome::Failed(Reason::NoEndpoints), false, false),
            (Outcome::Failed(Reason::DownstreamReset), false, false),
            (Outcome::Answered(503, None), true, false),
            (Outcome::Answered(500, None), false, false),
            (Outcome::Answered(503, Some(Reason::AppConnectFailed)), true, true),
            (Outcome::Answered(502, Some(Reason::AppReset)), true, false),
            (Outcome::Answered(200, None), false, false),
        ] {
            assert_eq!(retryable(&policy, &Method::GET, outcome), get, "{outcome:?}");
            assert_eq!(retryable(&policy, &Method::POST, outcome), post, "{outcome:?}");
        }
        assert!(idempotent(&Method::PUT) && idempotent(&Method::DELETE) && !idempotent(&Method::PATCH));
    }

    #[test]
    fn backoff_doubles_and_is_bounded() {
        let policy = Retry { attempts: 9, codes: vec![], backoff: Duration::from_millis(100) };
        assert_eq!(backoff(&policy, 1, 1.0), Duration::from_millis(100));
        assert_eq!(backoff(&policy, 3, 1.0), Duration::from_millis(400));
        assert_eq!(backoff(&policy, 30, 1.0), Duration::from_secs(10));
        assert_eq!(backoff(&policy, 3, 0.0), Duration::ZERO);
    }
}
