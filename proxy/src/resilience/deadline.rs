//! Deadlines that travel: each hop tells the next one how much time is left, and each cuts its own work to that. What a caller
//! says can only shorten what is configured, so it need not be trusted.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::numbers;
use crate::error::Reason;
use crate::model::fields;

/// The time that is left, in milliseconds, for everything but gRPC.
pub const TIMEOUT_HEADER: HeaderName = HeaderName::from_static("leno-timeout-ms");
/// The same for gRPC (gRPC over HTTP/2, Timeout).
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// When a request has to be answered, and by whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline {
    /// None: never.
    pub at: Option<Instant>,
    /// It is the caller's, and shorter than what is configured.
    pub callers: bool,
}

impl Deadline {
    /// The earlier of what is configured and what the caller says.
    pub fn new(configured: Option<Duration>, caller: Option<Duration>, now: Instant) -> Self {
        let callers = caller.is_some_and(|caller| configured.is_none_or(|configured| caller < configured));
        let limit = if callers { caller } else { configured };
        // A time that no clock can show is none.
        Self { at: limit.and_then(|limit| now.checked_add(limit)), callers }
    }

    /// What a request that meets it failed of.
    pub fn reason(self) -> Reason {
        if self.callers { Reason::DeadlineExceeded } else { Reason::Timeout }
    }
}

/// The time that a request says is left. What cannot be read says nothing.
pub fn left(headers: &HeaderMap, grpc: bool) -> Option<Duration> {
    let name = if grpc { GRPC_TIMEOUT } else { TIMEOUT_HEADER };
    let value = fields::find(headers, &name)?.to_str().ok()?;
    numbers::time_left(value, grpc)
}

/// Tells the next hop.
pub fn tell(headers: &mut HeaderMap, grpc: bool, left: Duration) {
    if let Ok(value) = HeaderValue::from_str(&numbers::tell_time_left(left, grpc)) {
        headers.insert(if grpc { GRPC_TIMEOUT } else { TIMEOUT_HEADER }, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        for (millis, grpc) in [(0, false), (1500, false), (1500, true), (99_999_998, true), (500_000_000, true)] {
            let mut all = HeaderMap::new();
            tell(&mut all, grpc, Duration::from_millis(millis));
            let read = u64::try_from(left(&all, grpc).unwrap().as_millis()).unwrap();
            assert!(read > millis.min(1) - millis.min(1) && read.abs_diff(millis) <= 1000, "{millis} {read}");
        }
    }

    #[test]
    fn every_unit_of_grpc_is_read_and_nothing_else() {
        for (text, millis) in
            [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("4m", 4), ("5000u", 5), ("6000000n", 6)]
        {
            assert_eq!(left(&headers(GRPC_TIMEOUT, text), true), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "m", "1", "1x", "-1m", "+1m", " 1m", "123456789m", "1.5S"] {
            assert_eq!(left(&headers(GRPC_TIMEOUT, bad), true), None, "{bad:?}");
        }
        for bad in ["", "1m", "-1", "+1", "1e3", "123456789"] {
            assert_eq!(left(&headers(TIMEOUT_HEADER, bad), false), None, "{bad:?}");
        }
    }

    #[test]
    fn a_caller_can_shorten_what_is_configured_and_never_lengthen_it() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(
            Deadline::new(Some(second), Some(second * 9), now),
            Deadline { at: Some(now + second), callers: false }
        );
        assert_eq!(
            Deadline::new(Some(second * 9), Some(second), now),
            Deadline { at: Some(now + second), callers: true }
        );
        assert_eq!(Deadline::new(None, Some(second), now), Deadline { at: Some(now + second), callers: true });
        assert_eq!(Deadline::new(None, None, now), Deadline::default());
    }
}
