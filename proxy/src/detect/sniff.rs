//! The first bytes' verdict. Only the standard library is used here, so that the fuzz target builds without the rest of the sidecar.

use super::client_hello;

/// What HTTP/2 clients send first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest request line that is waited for. What is longer is not taken for HTTP.
const MOST_LINE: usize = 16 * 1024;
/// Longest method name. All registered ones are shorter.
const MOST_METHOD: usize = 24;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detected {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS, begun by the client. [`client_hello::read`] says what it wants, of the same bytes.
    Tls,
    /// Anything else.
    Unknown,
}

impl Detected {
    /// Whether it is HTTP in the clear.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2)
    }
}

/// Looks at the first bytes. None: more are needed.
pub fn sniff(bytes: &[u8]) -> Option<Detected> {
    if bytes.len() >= PREFACE.len() && bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    match client_hello::begins(bytes) {
        None => return None,
        Some(true) => return Some(Detected::Tls),
        Some(false) => {}
    }
    if let Some(end) = bytes.iter().take(MOST_LINE).position(|b| *b == b'\n') {
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        let http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
        return Some(if http && may_be_request_line(line) { Detected::Http1 } else { Detected::Unknown });
    }
    if bytes.len() < MOST_LINE && may_be_request_line(bytes) { None } else { Some(Detected::Unknown) }
}

/// Whether a line could go on to be a request line: a method, and after a space no control characters.
fn may_be_request_line(line: &[u8]) -> bool {
    let method = line.iter().position(|b| *b == b' ').unwrap_or(line.len());
    let (method, rest) = line.split_at(method);
    let method_fits = method.len() <= MOST_METHOD && method.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    method_fits && !method.is_empty() && rest.iter().all(|b| *b >= b' ' && *b != 0x7f || *b == b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (bytes, detected) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Some(Detected::Http1)),
            (b"M-SEARCH * HTTP/1.0\n", Some(Detected::Http1)),
            (b"GET / HT", None),
            (b"", None),
            (b"PRI * HT", None),
            (PREFACE, Some(Detected::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Detected::Unknown)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Detected::Unknown)),
            (b"PING\r\n", Some(Detected::Unknown)),
            (b"GET foo\r\n", Some(Detected::Unknown)),
            (b"\x16\x03\x01", None),
            (b"\x16\x03\x01\x02\x00\x01", Some(Detected::Tls)),
            (b"\x16\x03\x01\x02\x00\x02", Some(Detected::Unknown)),
            (b"\x16\x02", Some(Detected::Unknown)),
            (b"\0", Some(Detected::Unknown)),
            (b" GET / HTTP/1.1\r\n", Some(Detected::Unknown)),
        ] {
            assert_eq!(sniff(bytes), detected, "{:?}", bytes.escape_ascii().to_string());
        }
        assert_eq!(sniff(&[b'a'; MOST_METHOD + 1]), Some(Detected::Unknown));
        let endless: Vec<u8> = b"GET /".iter().copied().chain(std::iter::repeat_n(b'a', MOST_LINE)).collect();
        assert_eq!(sniff(&endless), Some(Detected::Unknown));
    }
}
