//! Which trace a request belongs to: W3C Trace Context (`traceparent`, `tracestate`), and Zipkin's B3 where a request came with it.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
/// Longest `tracestate` that is passed on and kept in a span, in bytes (W3C asks for 512 at least).
const MOST_STATE: usize = 512;

/// A trace, one of its spans, and whether anybody keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Never zero.
    pub trace: u128,
    /// Never zero.
    pub span: u64,
    /// None: whoever sent it leaves that to us (B3 alone can say so).
    pub sampled: Option<bool>,
}

/// The span of one hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub trace: u128,
    pub id: u64,
    /// None: it is the first one of its trace.
    pub parent: Option<u64>,
    /// As the request came with it.
    pub state: String,
}

impl Span {
    /// The first one of a trace, or the child of another one.
    pub fn begin(parent: Option<Parent>, state: String) -> Self {
        let id = fastrand::u64(1..);
        match parent {
            Some(parent) => Self { trace: parent.trace, id, parent: Some(parent.span), state },
            None => Self { trace: fastrand::u128(1..), id, parent: None, state: String::new() },
        }
    }

    /// Tells the next hop that it is the parent, in each of the ways that the request came with, and always in the W3C's.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let (trace, span) = (self.trace, self.id);
        headers.insert(TRACEPARENT, unique(&format!("00-{trace:032x}-{span:016x}-01")));
        if self.parent.is_none() || self.state.is_empty() {
            headers.remove(TRACESTATE);
        }
        if headers.contains_key(B3) {
            headers.insert(B3, unique(&format!("{trace:032x}-{span:016x}-1")));
        }
        if headers.contains_key(B3_TRACE) {
            headers.insert(B3_TRACE, unique(&format!("{trace:032x}")));
            headers.insert(B3_SPAN, unique(&format!("{span:016x}")));
            headers.insert(B3_SAMPLED, HeaderValue::from_static("1"));
            headers.remove(B3_FLAGS);
            match self.parent {
                Some(parent) => headers.insert(B3_PARENT, unique(&format!("{parent:016x}"))),
                None => headers.remove(B3_PARENT),
            };
        }
    }
}

/// No two requests have the same one, so no table of a connection has to hold it.
fn unique(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("0"));
    value.set_sensitive(true);
    value
}

/// Whose child the request's span would be. What cannot be read, or could be read in two ways, is as if it were not there (W3C, 3.2).
pub fn parent(headers: &HeaderMap) -> Option<Parent> {
    // Most requests come with none, and one look at each field costs less than three look-ups.
    if !headers.keys().any(|name| *name == TRACEPARENT || *name == B3 || *name == B3_TRACE) {
        return None;
    }
    let one = |name: &HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        value.to_str().ok()
    };
    one(&TRACEPARENT).and_then(traceparent).or_else(|| one(&B3).and_then(b3)).or_else(|| {
        let (trace, span) = (one(&B3_TRACE)?, one(&B3_SPAN)?);
        let sampled = match (one(&B3_FLAGS), one(&B3_SAMPLED)) {
            (Some("1"), _) => Some(true),
            (_, said) => said.and_then(sampling),
        };
        Some(Parent { trace: b3_trace(trace)?, span: hex(span, 16)? as u64, sampled })
    })
}

/// `version-traceid-spanid-flags`; a later version may have more behind a dash.
fn traceparent(text: &str) -> Option<Parent> {
    let version = hex_or_zero(text.get(..2)?, 2).filter(|version| *version != 0xff)?;
    let fits = if version == 0 { text.len() == 55 } else { text.len() == 55 || text.as_bytes().get(55) == Some(&b'-') };
    let mut parts = text.get(..55).filter(|_| fits)?.split('-').skip(1);
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let flags = hex_or_zero(flags, 2).filter(|_| parts.next().is_none())?;
    Some(Parent { trace: hex(trace, 32)?, span: hex(span, 16)? as u64, sampled: Some(flags & 1 == 1) })
}

/// `traceid-spanid[-sampled[-parent]]`.
fn b3(text: &str) -> Option<Parent> {
    let mut parts = text.split('-');
    let (trace, span) = (b3_trace(parts.next()?)?, hex(parts.next()?, 16)? as u64);
    let sampled = parts.next().map(|said| sampling(said).ok_or(())).transpose().ok()?;
    parts.next().map(|parent| hex(parent, 16).ok_or(())).transpose().ok()?;
    Some(Parent { trace, span, sampled }).filter(|_| parts.next().is_none())
}

fn sampling(said: &str) -> Option<bool> {
    match said {
        "1" | "d" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// B3 has traces of 64 bits, too.
fn b3_trace(text: &str) -> Option<u128> {
    hex(text, 32).or_else(|| hex(text, 16))
}

fn hex_or_zero(text: &str, digits: usize) -> Option<u128> {
    let is = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(text, 16).ok().filter(|_| is)
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    hex_or_zero(text, digits).filter(|number| *number != 0)
}

/// The request's `tracestate`, if it is no longer than may be passed on.
pub fn state(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
    let state = values.join(",");
    if state.len() > MOST_STATE { String::new() } else { state }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;
    const W3C: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_parent_is_read_as_the_w3c_and_b3_write_it() {
        let sampled = |sampled| Some(Parent { trace: TRACE, span: SPAN, sampled });
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let later = format!("01{}-more", &W3C[2..]);
        let unsampled = W3C.replace("-01", "-00");
        for (given, expected) in [
            (headers(&[("traceparent", W3C)]), sampled(Some(true))),
            (headers(&[("traceparent", &unsampled)]), sampled(Some(false))),
            (headers(&[("traceparent", &later)]), sampled(Some(true))),
            (headers(&[("b3", &format!("{trace}-{span}"))]), sampled(None)),
            (headers(&[("b3", &format!("{trace}-{span}-d"))]), sampled(Some(true))),
            (headers(&[("b3", &format!("{trace}-{span}-0-{span}"))]), sampled(Some(false))),
            (headers(&[("x-b3-traceid", trace), ("x-b3-spanid", span), ("x-b3-sampled", "0")]), sampled(Some(false))),
            (headers(&[("x-b3-traceid", trace), ("x-b3-spanid", span), ("x-b3-flags", "1")]), sampled(Some(true))),
            // The W3C's comes first.
            (headers(&[("traceparent", &unsampled), ("b3", &format!("{trace}-{span}-1"))]), sampled(Some(false))),
        ] {
            assert_eq!(parent(&given), expected, "{given:?}");
        }
        let short = parent(&headers(&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")])).unwrap();
        assert_eq!(short.trace, 0xa3ce_929d_0e0e_4736);
    }

    #[test]
    fn what_is_not_a_parent_is_none() {
        let zeros = ("00000000000000000000000000000000", "0000000000000000");
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            &format!("00-{}-00f067aa0ba902b7-01", zeros.0),
            &format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", zeros.1),
        ] {
            assert_eq!(parent(&headers(&[("traceparent", bad)])), None, "{bad}");
            assert_eq!(parent(&headers(&[("b3", bad)])), None, "{bad}");
        }
        let mut twice = headers(&[("traceparent", W3C)]);
        twice.append("traceparent", W3C.parse().unwrap());
        assert_eq!(parent(&twice), None, "two readers could take one each");
        for bad in ["0", "1", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-x"] {
            assert_eq!(parent(&headers(&[("b3", bad)])), None, "{bad}");
        }
    }

    #[test]
    fn the_next_hop_is_told_in_each_way_that_was_used() {
        let mut given = headers(&[("traceparent", W3C), ("tracestate", "a=1"), ("b3", "0")]);
        given.insert("x-b3-traceid", "1".parse().unwrap());
        let span = Span::begin(parent(&given), state(&given));
        assert_eq!((span.trace, span.parent, span.state.as_str()), (TRACE, Some(SPAN), "a=1"));
        span.tell(&mut given);
        let ours = Some(Parent { trace: TRACE, span: span.id, sampled: Some(true) });
        assert_eq!(parent(&given), ours);
        assert_eq!(given["tracestate"], "a=1");
        given.remove("traceparent");
        assert_eq!(parent(&given), ours, "b3");
        given.remove("b3");
        assert_eq!(parent(&given), ours, "x-b3");
        assert_eq!(given["x-b3-parentspanid"], "00f067aa0ba902b7");
    }

    #[test]
    fn a_state_without_a_parent_or_too_long_is_not_passed_on() {
        let mut orphan = headers(&[("tracestate", "a=1")]);
        let span = Span::begin(None, String::new());
        span.tell(&mut orphan);
        assert!(span.parent.is_none() && !orphan.contains_key("tracestate"));
        assert!(!orphan.contains_key("b3") && orphan["traceparent"].is_sensitive());
        let long = headers(&[("traceparent", W3C), ("tracestate", &"a=1,".repeat(200))]);
        assert_eq!(Span::begin(parent(&long), state(&long)).state, "");
    }
}
