//! The one reading of a path or host that rules are compared with.

use std::borrow::Cow;

/// Decoded; None: another reader could take the path for another one. That is so of what some remove and others do not (empty
/// segments, `.` and `..`, `;parameters`), of what separates segments for some only (`\`, an encoded `/`), of what is encoded
/// twice, and of bytes that are no UTF-8.
pub(super) fn path(path: &str) -> Option<Cow<'_, str>> {
    // OPTIONS asks of the server as a whole by this.
    if path == "*" {
        return Some(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return None;
    }
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'%' | b'\\' | b';' | b'?' | b'#'));
    let decoded = if plain { Cow::Borrowed(path) } else { Cow::Owned(decode(path)?) };
    let mut segments = decoded[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        // The last one is empty where the path ends with a `/`.
        if segment == "." || segment == ".." || (segment.is_empty() && segments.peek().is_some()) {
            return None;
        }
    }
    Some(decoded)
}

fn decode(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            if !byte.is_ascii_graphic() || matches!(byte, b'\\' | b';' | b'?' | b'#') {
                return None;
            }
            decoded.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        let byte = u8::try_from(high * 16 + low).ok()?;
        if byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'%' | b';' | b'.' | b'?' | b'#') {
            return None;
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).ok()
}

/// Lower case, without port and without the dot of the root.
pub(super) fn host(authority: &str) -> Cow<'_, str> {
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    // In `[::1]` the last colon is no port's.
    let host = if port.bytes().all(|b| b.is_ascii_digit()) { host } else { authority };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_can_be_read_in_two_ways_has_no_reading() {
        for unclear in [
            "",
            "a",
            "//",
            "/a//b",
            "/a/./b",
            "/a/../b",
            "/..",
            "/.",
            "/a/%2e%2e/b",
            "/a/%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "/a;b=c/d",
            "/a%3bb",
            "/a%252fb",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%00",
            "/a%0d%0a",
            "/%ff",
            "/a%c0%af",
            "/a%3f",
            "/a%23",
            "/\u{e9}",
            "/a b",
            "/a\u{7f}",
        ] {
            assert_eq!(path(unclear), None, "{unclear:?}");
        }
        for (clear, read) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a%20b", "/a b"),
            ("/%61dmin", "/admin"),
            ("/caf%C3%A9", "/caf\u{e9}"),
            ("/a.b/..c/.d", "/a.b/..c/.d"),
            ("/a:b@c,d+e~f", "/a:b@c,d+e~f"),
            ("*", "*"),
            ("/pkg.Service/Call", "/pkg.Service/Call"),
        ] {
            assert_eq!(path(clear).as_deref(), Some(read), "{clear:?}");
        }
    }

    #[test]
    fn a_host_is_compared_without_case_port_and_last_dot() {
        for (written, read) in [
            ("Web.Default", "web.default"),
            ("web:80", "web"),
            ("web.:80", "web"),
            ("web.", "web"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("web:", "web"),
            ("", ""),
        ] {
            assert_eq!(host(written), read, "{written:?}");
        }
    }
}
