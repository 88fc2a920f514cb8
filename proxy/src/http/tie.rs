//! What ties a request to a backend and an endpoint: its session, or the hash of something that it carries. A request that is not
//! tied costs two branches.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, header, request};

use super::session::{self, Token};
use crate::error::Reason;
use crate::model::{HashKey, Policy, SessionPersistence, hash, hash_all};
use crate::routing::{LocalPort, Split};
use crate::upstream::{Choice, LocalCluster};

/// Where a request goes.
pub(super) struct Tie<'a> {
    /// Of the backend, among the rule's.
    pub(super) index: usize,
    pub(super) cluster: &'a Rc<LocalCluster>,
    pub(super) choice: Choice,
    /// What the answer has to carry. Boxed: most have nothing.
    pub(super) promise: Option<Box<Promise>>,
}

/// What the answer has to carry, so that the next request is tied to the same.
#[derive(Default)]
pub(super) struct Promise {
    /// `Set-Cookie` of a cookie that requests are hashed by.
    cookie: Option<HeaderValue>,
    session: Option<Session>,
}

struct Session {
    rule: Arc<SessionPersistence>,
    backend: u64,
    /// The one that the request came with.
    token: Option<Token>,
    /// Where a cookie comes back.
    path: String,
    now: u32,
}

/// Draws a backend, and finds out what picks the endpoint.
pub(super) fn tie<'a>(
    port: &LocalPort,
    split: &'a Split,
    parts: &request::Parts,
    source: Option<IpAddr>,
) -> Result<Tie<'a>, Reason> {
    let session = split.rule.as_deref().and_then(|rule| rule.session.as_ref());
    if port.sticky.is_none() && session.is_none() {
        let (index, cluster) = split.draw()?;
        if !cluster.hashes() {
            return Ok(Tie { index, cluster, choice: Choice::default(), promise: None });
        }
        let mut made = Made::default();
        let choice = Choice { key: key(&cluster.policy(), parts, source, &mut made), pin: None };
        return Ok(Tie { index, cluster, choice, promise: made.promise() });
    }
    tied(port, split, session, parts, source)
}

/// The same for a request that may have a session, or whose hash decides among the backends.
fn tied<'a>(
    port: &LocalPort,
    split: &'a Split,
    session: Option<&Arc<SessionPersistence>>,
    parts: &request::Parts,
    source: Option<IpAddr>,
) -> Result<Tie<'a>, Reason> {
    let now = seconds();
    let token = session.and_then(|rule| session::read(rule, &parts.headers)?.valid(rule, now));
    let mut made = Made::default();
    let held = token.as_ref().and_then(|token| split.backend(token.backend));
    let (index, cluster) = match (held, &port.sticky) {
        (Some(held), _) => held,
        (None, Some(sticky)) => match key(sticky, parts, source, &mut made) {
            Some(key) => split.draw_by(key)?,
            None => split.draw()?,
        },
        (None, None) => split.draw()?,
    };
    let pin = held.and(token.as_ref()).and_then(|token| cluster.endpoint(token.endpoint));
    let key = if cluster.hashes() { key(&cluster.policy(), parts, source, &mut made) } else { None };
    let mut promise = made.promise();
    if let Some(rule) = session {
        let path = rule.cookie_path(parts.uri.path()).to_owned();
        let session = Session { rule: rule.clone(), backend: cluster.id, token, path, now };
        promise.get_or_insert_default().session = Some(session);
    }
    Ok(Tie { index, cluster, choice: Choice { key, pin }, promise })
}

fn seconds() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// A cookie that was made for this request; at most one of a name.
#[derive(Default)]
struct Made(Vec<(String, String, u64)>);

impl Made {
    /// None when nothing was made.
    fn promise(self) -> Option<Box<Promise>> {
        // Two Services may ask for two cookies; the parent's decides more, and the other is asked for again.
        let (name, value, ttl) = self.0.into_iter().next()?;
        let age = if ttl == 0 { String::new() } else { format!("; Max-Age={ttl}") };
        let cookie = format!("{name}={value}; Path=/{age}; HttpOnly; SameSite=Lax");
        Some(Box::new(Promise { cookie: HeaderValue::try_from(cookie).ok(), session: None }))
    }
}

/// The hash of what the policy says. None: the request has no such thing, and is balanced as if nothing had been said.
fn key(policy: &Policy, parts: &request::Parts, source: Option<IpAddr>, made: &mut Made) -> Option<u64> {
    match policy.balancing.hash_key.as_ref()? {
        HashKey::SourceIp => source.map(|ip| match ip {
            IpAddr::V4(ip) => hash(&ip.octets()),
            IpAddr::V6(ip) => hash(&ip.octets()),
        }),
        HashKey::Header(name) => {
            let mut values = parts.headers.get_all(name).iter().peekable();
            values.peek()?;
            Some(hash_all(values.map(HeaderValue::as_bytes)))
        }
        HashKey::Query(name) => {
            let pairs = parts.uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| hash(value.as_bytes()))
        }
        HashKey::Cookie { name, ttl } => {
            if let Some(value) = cookie(&parts.headers, name) {
                return Some(hash(value));
            }
            let ttl = (*ttl)?;
            if let Some((_, value, _)) = made.0.iter().find(|(made, _, _)| made == name) {
                return Some(hash(value.as_bytes()));
            }
            let value = format!("{:032x}", fastrand::u128(..));
            let key = hash(value.as_bytes());
            made.0.push((name.clone(), value, ttl));
            Some(key)
        }
    }
}

/// The value of a request's cookie (RFC 6265, 5.4).
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get_all(header::COOKIE).iter().find_map(|field| session::cookie_in(field.as_bytes(), name.as_bytes()))
}

impl Promise {
    /// Puts it into an answer that came from this endpoint.
    pub(super) fn keep(self, headers: &mut HeaderMap, endpoint: u64) {
        if let Some(cookie) = self.cookie {
            headers.append(header::SET_COOKIE, cookie);
        }
        let Some(Session { rule, backend, token, path, now }) = self.session else { return };
        let token = match token {
            Some(token) if token.backend == backend && token.endpoint == endpoint => {
                if !token.is_due(&rule, now) {
                    return;
                }
                Token { used: now, ..token }
            }
            _ => Token { backend, endpoint, begun: now, used: now },
        };
        session::write(&rule, &token, &path, now, headers);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Request;

    use super::*;
    use crate::model::Balancing;

    fn parts(uri: &str, headers: &[(&'static str, &'static str)]) -> request::Parts {
        let mut request = Request::get(uri).body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    fn policy(hash_key: HashKey) -> Policy {
        let balancing = Balancing { hash_key: Some(hash_key), ..Balancing::default() };
        Policy { balancing, idle_timeout: Duration::ZERO, ..Policy::default() }
    }

    #[test]
    fn a_request_is_hashed_by_what_was_asked_for() {
        let asked =
            parts("http://web/a?x=1&user=ann", &[("x-user", "ann"), ("cookie", "a=1; sid=ann"), ("cookie", "b=2")]);
        let none = parts("http://web/", &[]);
        let keyed = |policy: &Policy, parts: &request::Parts| {
            let mut made = Made::default();
            (key(policy, parts, Some([10, 0, 0, 1].into()), &mut made), made.0.len())
        };
        let ann = Some(hash(b"ann"));
        let cookie = |name: &str, ttl| policy(HashKey::Cookie { name: name.into(), ttl });
        assert_eq!(keyed(&policy(HashKey::Header("x-user".parse().unwrap())), &asked), (ann, 0));
        assert_eq!(keyed(&policy(HashKey::Query("user".into())), &asked), (ann, 0));
        assert_eq!(keyed(&cookie("sid", Some(60)), &asked), (ann, 0));
        assert_eq!(keyed(&policy(HashKey::SourceIp), &asked), (Some(hash(&[10, 0, 0, 1])), 0));
        for policy in [
            policy(HashKey::Header("x-user".parse().unwrap())),
            policy(HashKey::Query("user".into())),
            cookie("sid", None),
        ] {
            assert_eq!(keyed(&policy, &none), (None, 0));
        }
        assert_eq!(keyed(&cookie("b", None), &asked), (Some(hash(b"2")), 0));
        let (key, made) = keyed(&cookie("sid", Some(60)), &none);
        assert!(key.is_some() && made == 1);
    }

    #[test]
    fn a_cookie_is_made_once_and_hashes_to_the_same_when_it_comes_back() {
        let policy = policy(HashKey::Cookie { name: "sid".into(), ttl: Some(60) });
        let none = parts("http://web/", &[]);
        let mut made = Made::default();
        let (parent, backend) = (key(&policy, &none, None, &mut made), key(&policy, &none, None, &mut made));
        assert_eq!(parent, backend);
        let mut headers = HeaderMap::new();
        made.promise().unwrap().keep(&mut headers, 1);
        let set = headers[header::SET_COOKIE].to_str().unwrap().to_owned();
        assert!(set.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"), "{set}");
        let mut again = parts("http://web/", &[]);
        let pair = set.split(';').next().unwrap().to_owned();
        again.headers.insert(header::COOKIE, pair.parse().unwrap());
        assert_eq!(key(&policy, &again, None, &mut Made::default()), parent);
    }
}
