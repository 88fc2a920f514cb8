//! The token of a session (GEP-1619): which backend and endpoint it is with, and since when. The client carries it; the sidecar keeps
//! nothing, so a session lasts across workers, sidecars and restarts.
//!
//! A token says nothing that can be read: backend and endpoint are hashes. It has a check over all of it and its rule, so that another
//! rule's, or a damaged one, counts as none. It is no secret and proves nothing: whoever made one up could choose among the endpoints
//! that his requests may come to anyway.

mod token;

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

pub(super) use token::{Token, cookie as cookie_in};

use super::tie::cookie;
use crate::model::SessionPersistence;

impl Token {
    /// Itself, unless its time is over.
    pub(super) fn valid(self, rule: &SessionPersistence, now: u32) -> Option<Self> {
        let within = |since: u32, limit: Option<Duration>| {
            limit.is_none_or(|limit| u64::from(now.saturating_sub(since)) < limit.as_secs())
        };
        (within(self.begun, rule.absolute) && within(self.used, rule.idle)).then_some(self)
    }

    /// Whether the client needs a newer one, so that an idle timeout counts from its last request.
    pub(super) fn is_due(&self, rule: &SessionPersistence, now: u32) -> bool {
        rule.idle.is_some_and(|idle| u64::from(now.saturating_sub(self.used)) >= (idle.as_secs() / 8).max(1))
    }
}

/// The token that a request came with.
pub(super) fn read(rule: &SessionPersistence, headers: &HeaderMap) -> Option<Token> {
    let text = match &rule.header {
        Some(name) => headers.get(name)?.as_bytes(),
        None => cookie(headers, &rule.name)?,
    };
    Token::decode(text, rule.scope)
}

/// Gives the client its token.
pub(super) fn write(rule: &SessionPersistence, token: &Token, path: &str, now: u32, headers: &mut HeaderMap) {
    let text = token.encode(rule.scope);
    if let Some(name) = &rule.header {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name.clone(), value);
        }
        return;
    }
    // Not `Secure`: between an app and its sidecar there is plain HTTP, and the cookie would never come back.
    let age = match rule.absolute.filter(|_| rule.permanent) {
        Some(absolute) => {
            let left = absolute.as_secs().saturating_sub(now.saturating_sub(token.begun).into());
            format!("; Max-Age={left}")
        }
        None => String::new(),
    };
    let set = format!("{}={text}; Path={path}{age}; HttpOnly; SameSite=Strict", rule.name);
    if let Ok(value) = HeaderValue::try_from(set) {
        headers.append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::token::LENGTH;
    use super::*;

    fn rule(header: Option<&str>) -> SessionPersistence {
        SessionPersistence {
            scope: 7,
            name: "sid".into(),
            header: header.map(|name| name.parse().unwrap()),
            absolute: Some(Duration::from_secs(100)),
            idle: Some(Duration::from_secs(16)),
            permanent: false,
            paths: Vec::new(),
        }
    }

    const TOKEN: Token = Token { backend: u64::MAX, endpoint: 1, begun: 1000, used: 1050 };

    #[test]
    fn a_token_comes_back_as_it_was_and_a_damaged_or_foreign_one_is_none() {
        let text = TOKEN.encode(7);
        assert_eq!(text.len(), LENGTH);
        assert_eq!(Token::decode(text.as_bytes(), 7), Some(TOKEN));
        assert_eq!(Token::decode(text.as_bytes(), 8), None, "of another rule");
        for at in 0..LENGTH {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(Token::decode(&damaged, 7), None, "{at}");
        }
        for bad in
            ["".to_owned(), "x".repeat(64), "+".repeat(64), "ä".repeat(32), text.clone() + "0", text[1..].to_owned()]
        {
            assert_eq!(Token::decode(bad.as_bytes(), 7), None, "{bad}");
        }
    }

    #[test]
    fn a_session_ends_by_its_timeouts_and_is_renewed_while_it_is_used() {
        let rule = rule(None);
        assert_eq!(TOKEN.valid(&rule, 1065), Some(TOKEN));
        assert_eq!(TOKEN.valid(&rule, 1066), None, "idle for 16 s");
        let used = Token { used: 1095, ..TOKEN };
        assert_eq!((used.valid(&rule, 1099), used.valid(&rule, 1100)), (Some(used), None), "100 s old");
        assert!(!TOKEN.is_due(&rule, 1051) && TOKEN.is_due(&rule, 1052));
        let forever = SessionPersistence { absolute: None, idle: None, ..rule };
        assert!(TOKEN.valid(&forever, u32::MAX).is_some() && !TOKEN.is_due(&forever, u32::MAX));
    }

    #[test]
    fn a_client_gets_its_token_by_cookie_or_header() {
        let mut headers = HeaderMap::new();
        write(&rule(None), &TOKEN, "/cart", 1060, &mut headers);
        let set = headers[header::SET_COOKIE].to_str().unwrap().to_owned();
        assert!(set.starts_with("sid=") && set.ends_with("; Path=/cart; HttpOnly; SameSite=Strict"), "{set}");
        let mut request = HeaderMap::new();
        request.insert(header::COOKIE, format!("a=b; {}", set.split(';').next().unwrap()).parse().unwrap());
        assert_eq!(read(&rule(None), &request), Some(TOKEN));

        write(&SessionPersistence { permanent: true, ..rule(None) }, &TOKEN, "/", 1060, &mut headers);
        let set = headers.get_all(header::SET_COOKIE).iter().next_back().unwrap().to_str().unwrap();
        assert!(set.contains("; Max-Age=40;"), "{set}");

        let by_header = rule(Some("x-session"));
        write(&by_header, &TOKEN, "/", 1060, &mut headers);
        assert_eq!(read(&by_header, &headers), Some(TOKEN));
    }
}
