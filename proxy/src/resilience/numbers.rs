//! The numbers in fields that callers and apps send. Only the standard library is used here, so that the fuzz target builds without the
//! rest of the sidecar.

use std::time::Duration;

/// Longest number of a time that is left: gRPC's own bound.
const MOST_TIME_DIGITS: usize = 8;
/// Longest other number.
const MOST_DIGITS: usize = 9;

/// A number that consists of digits and nothing else.
pub fn number(digits: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(digits).ok()?;
    let plain = (1..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The time that is left, as gRPC writes it (gRPC over HTTP/2, Timeout) or in milliseconds.
pub fn time_left(text: &str, grpc: bool) -> Option<Duration> {
    let (digits, unit) = if grpc { text.split_at_checked(text.len().checked_sub(1)?)? } else { (text, "m") };
    if !(1..=MOST_TIME_DIGITS).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(n * 3600)),
        "M" => Some(Duration::from_secs(n * 60)),
        "S" => Some(Duration::from_secs(n)),
        "m" => Some(Duration::from_millis(n)),
        "u" => Some(Duration::from_micros(n)),
        "n" => Some(Duration::from_nanos(n)),
        _ => None,
    }
}

/// The same, to be told. A part of a millisecond more than there is, so that of two hops the nearer to the caller gives up first
/// and says why.
pub fn tell_time_left(left: Duration, grpc: bool) -> String {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
    let most = 10_u64.pow(MOST_TIME_DIGITS as u32) - 1;
    match grpc {
        true if millis <= most => format!("{millis}m"),
        true => format!("{}S", (millis / 1000).min(most)),
        false => millis.min(most).to_string(),
    }
}
