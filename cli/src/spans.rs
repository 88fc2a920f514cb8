//! Spans of time, as people read and write them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reads `500ms`, `30s`, `5m`, `2h` or `7d`; a bare number is refused since its unit is anyone's guess.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("expected a number with a unit: ms, s, m, h or d, as in 30s".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a whole number with a unit, as in 30s".to_owned())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "that is too long".to_owned())
}

/// A span of time in its two largest units at most: `45s`, `7m30s`, `11h`, `3d4h`.
pub fn span(seconds: i64) -> String {
    let s = seconds.max(0);
    let two = |large: i64, l: &str, small: i64, u: &str| {
        if small == 0 { format!("{large}{l}") } else { format!("{large}{l}{small}{u}") }
    };
    match s {
        0..=119 => format!("{s}s"),
        120..=599 => two(s / 60, "m", s % 60, "s"),
        600..=7199 => format!("{}m", s / 60),
        7200..=35_999 => two(s / 3600, "h", s % 3600 / 60, "m"),
        36_000..=172_799 => format!("{}h", s / 3600),
        172_800..=691_199 => two(s / 86_400, "d", s % 86_400 / 3600, "h"),
        _ => format!("{}d", s / 86_400),
    }
}

/// How far an RFC 3339 moment is from `now`: `in 11h`, `5m ago`; the text itself when it is no moment.
pub fn relative(moment: &str, now: OffsetDateTime) -> String {
    match OffsetDateTime::parse(moment, &Rfc3339) {
        Ok(t) if t >= now => format!("in {}", span((t - now).whole_seconds())),
        Ok(t) => format!("{} ago", span((now - t).whole_seconds())),
        Err(_) => moment.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit_and_stay_in_range() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "10", "s", "1.5s", "-1s", "10 s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let texts = [0, 45, 119, 120, 450, 600, 7199, 7200, 9000, 41_000, 172_799, 183_600, 864_000].map(span);
        assert_eq!(
            texts,
            ["0s", "45s", "119s", "2m", "7m30s", "10m", "119m", "2h", "2h30m", "11h", "47h", "2d3h", "10d"]
        );
        assert_eq!(span(-5), "0s");
    }

    #[test]
    fn moments_are_told_from_now_in_both_directions() {
        let now = OffsetDateTime::from_unix_timestamp(1_000_000).unwrap();
        assert_eq!(relative("1970-01-12T13:47:40Z", now), "in 60s");
        assert_eq!(relative("1970-01-12T13:45:40Z", now), "60s ago");
        assert_eq!(relative("soon", now), "soon");
    }
}
