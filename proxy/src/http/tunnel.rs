//! The head of a CONNECT (RFC 9110, 9.3.6): where a tunnel is to lead.

use super::guard;
use super::scan::{MOST_HEAD, Phase, Scanner};
use super::target::authority_fits;
use crate::error::Reason;

/// How such a request begins.
const METHOD: &[u8] = b"CONNECT ";

/// Whether these are the first bytes of one.
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(METHOD)
}

/// The authority that a CONNECT names, with its port, and how long its head is. None: more bytes are needed. It is read by the rules
/// of every other request, as if it asked for the root of what it names.
///
/// # Errors
/// It is none, or two readers could take it differently.
pub fn target(bytes: &[u8]) -> Result<Option<(String, usize)>, Reason> {
    let rest = bytes.strip_prefix(METHOD).ok_or(Reason::BadRequest)?;
    let Some(end) = rest.iter().position(|b| b" \r\n".contains(b)) else {
        return if bytes.len() < MOST_HEAD { Ok(None) } else { Err(Reason::HeadTooLarge) };
    };
    let (authority, rest) = rest.split_at(end);
    let numbered = authority.iter().rev().take_while(|b| **b != b':').all(u8::is_ascii_digit);
    if authority_fits(authority).is_err() || !numbered {
        return Err(Reason::BadAuthority);
    }
    let same = [b"GET http://", authority, b"/", rest].concat();
    let mut scanner = Scanner::default();
    let Some(length) = scanner.head(&same).map_err(guard::reason)? else { return Ok(None) };
    // What follows is the tunnel's, so it must not be a body.
    if scanner.phase() != Phase::Head {
        return Err(Reason::MalformedRequest);
    }
    let authority = String::from_utf8(authority.to_vec()).map_err(|_| Reason::BadAuthority)?;
    Ok(Some((authority, bytes.len() - (same.len() - length))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_leads_to_a_host_and_a_port_and_begins_behind_its_head() {
        let head = b"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nProxy-Connection: keep-alive\r\n\r\n";
        let all = [&head[..], b"early data"].concat();
        assert_eq!(target(&all), Ok(Some(("web:80".to_owned(), head.len()))));
        for n in METHOD.len()..head.len() {
            assert_eq!(target(&head[..n]), Ok(None), "{n}");
        }
        assert_eq!(target(b"CONNECT [::1]:80 HTTP/1.0\r\n\r\n"), Ok(Some(("[::1]:80".to_owned(), 29))));
    }

    #[test]
    fn what_two_readers_could_take_differently_is_refused() {
        for (head, reason) in [
            ("CONNECT web HTTP/1.1\r\n\r\n", Reason::BadAuthority),
            ("CONNECT web: HTTP/1.1\r\n\r\n", Reason::BadAuthority),
            ("CONNECT [::1] HTTP/1.1\r\n\r\n", Reason::BadAuthority),
            ("CONNECT a@web:80 HTTP/1.1\r\n\r\n", Reason::BadAuthority),
            ("CONNECT web:80/ HTTP/1.1\r\n\r\n", Reason::BadAuthority),
            ("CONNECT http://web:80 HTTP/1.1\r\n\r\n", Reason::BadAuthority),
            ("CONNECT  web:80 HTTP/1.1\r\n\r\n", Reason::BadAuthority),
            ("CONNECT web:80  HTTP/1.1\r\n\r\n", Reason::MalformedRequest),
            ("CONNECT web:80 HTTP/2.0\r\n\r\n", Reason::MalformedRequest),
            ("CONNECT web:80 HTTP/1.1\n\n", Reason::MalformedRequest),
            ("CONNECT web:80 HTTP/1.1\r\nContent-Length: 3\r\n\r\n", Reason::MalformedRequest),
            ("CONNECT web:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Reason::MalformedRequest),
            ("CONNECT web:80 HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", Reason::MalformedRequest),
            ("CONNECT web:80 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Reason::BadAuthority),
            ("CONNECT web:80 HTTP/1.1\r\n folded: x\r\n\r\n", Reason::MalformedRequest),
        ] {
            assert_eq!(target(head.as_bytes()), Err(reason), "{head:?}");
        }
        let long = [METHOD, &[b'a'; MOST_HEAD]].concat();
        assert_eq!(target(&long), Err(Reason::HeadTooLarge));
    }
}
