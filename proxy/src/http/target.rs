//! What the target of an HTTP/1 request may be. Only the standard library is used here, so that it can be fuzzed with `scan`.

use std::net::Ipv6Addr;

use super::scan::Flaw;

/// Whether a target has one of the four forms (RFC 9112, 3.2), each where it may stand.
pub fn target_fits(method: &[u8], target: &[u8]) -> Result<(), Flaw> {
    const FLAW: Flaw = Flaw::Malformed("no form of a target");
    if target == b"*" {
        return if method == b"OPTIONS" { Ok(()) } else { Err(FLAW) };
    }
    if target.starts_with(b"/") {
        return path_fits(target);
    }
    let scheme = target.windows(3).position(|three| three == b"://").ok_or(FLAW)?;
    let (scheme, rest) = (&target[..scheme], &target[scheme + 3..]);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(FLAW);
    }
    let (authority, path) = rest.split_at(rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len()));
    authority_fits(authority)?;
    if path.is_empty() || path.starts_with(b"/") { path_fits(path) } else { Err(FLAW) }
}

/// Whether this is where a tunnel is to lead: an authority with its port (RFC 9112, 3.2.3).
pub fn tunnel_fits(authority: &[u8]) -> Result<(), Flaw> {
    authority_fits(authority)?;
    let port = authority.rsplit(|b| *b == b':').next().and_then(|port| std::str::from_utf8(port).ok());
    let named = authority.last() != Some(&b']') && authority.contains(&b':');
    if named && port.is_some_and(|port| port.parse::<u16>().is_ok()) { Ok(()) } else { Err(Flaw::Authority) }
}

/// What passes here is a path to the library that reads it next, and is changed by nobody: what is a fragment to one reader
/// and a part of the path to another is refused.
pub fn path_fits(target: &[u8]) -> Result<(), Flaw> {
    let query = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
    let fits = |b: &u8| matches!(b, b'!' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'~' | 0x80..);
    let (path, query) = target.split_at(query);
    let whole = path.iter().all(fits) && query.iter().all(|b| fits(b) || *b == b'?');
    // Not allowed, but some clients send what their user has typed.
    let utf8 = target.is_ascii() || std::str::from_utf8(target).is_ok();
    if whole && utf8 { Ok(()) } else { Err(Flaw::Malformed("a character that no target has")) }
}

/// A host, or an address in brackets, and perhaps a port.
pub fn authority_fits(authority: &[u8]) -> Result<(), Flaw> {
    let (host, port) = match authority {
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|b| *b == b']').ok_or(Flaw::Authority)?;
            let address = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            address.ok_or(Flaw::Authority)?;
            (&rest[..end], &rest[end + 1..])
        }
        _ => authority.split_at(authority.iter().position(|b| *b == b':').unwrap_or(authority.len())),
    };
    let named = authority.starts_with(b"[") || host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b));
    let numbered = match port {
        [] => true,
        [b':', digits @ ..] => !digits.is_empty() && digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if named && numbered && !host.is_empty() { Ok(()) } else { Err(Flaw::Authority) }
}
