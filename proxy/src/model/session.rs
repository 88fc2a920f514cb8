//! Session persistence of a route's rule (GEP-1619).

use std::time::Duration;

use http::HeaderName;
use leno_proto::v1;
use prost::Message;

use super::convert::{header_name, http_match};
use super::{InvalidResource, PathMatch, hash_all};

/// A client stays with the endpoint that it first got.
#[derive(Debug, Clone)]
pub struct SessionPersistence {
    /// Which rule it belongs to: a session of another one is none of this.
    pub scope: u64,
    /// Name of the cookie or header.
    pub name: String,
    /// The header, when it is not a cookie.
    pub header: Option<HeaderName>,
    /// How long a session lasts at most.
    pub absolute: Option<Duration>,
    /// How long it lasts without a request.
    pub idle: Option<Duration>,
    /// The cookie outlives the client's session, for the absolute timeout.
    pub permanent: bool,
    /// The paths that the rule matches, and the path that a cookie has there.
    pub paths: Vec<(PathMatch, String)>,
}

impl SessionPersistence {
    /// Where a cookie that is given on this path shall come back.
    pub fn cookie_path(&self, path: &str) -> &str {
        self.paths.iter().find(|(matches, _)| matches.holds(path)).map_or("/", |(_, cookie)| cookie)
    }
}

/// Wire to model. The scope follows from the route and the rule's name, or else from what it matches, and not from its place in
/// the list: a rule that is put before it ends no session.
pub(super) fn session(
    kind: &str,
    route: &str,
    rule: &v1::HttpRule,
    wire: v1::SessionPersistence,
) -> Result<SessionPersistence, InvalidResource> {
    let matches: Vec<Vec<u8>> = match rule.name.is_empty() {
        true => rule.matches.iter().map(Message::encode_to_vec).collect(),
        false => vec![rule.name.clone().into_bytes()],
    };
    let pieces = [kind.as_bytes(), route.as_bytes()].into_iter().chain(matches.iter().map(Vec::as_slice));
    let scope = hash_all(pieces);
    let name = match wire.name.is_empty() {
        true => format!("leno-session-{:08x}", scope >> 32),
        false => wire.name,
    };
    let header = header_name(&name)?;
    let millis = |said: u64| (said != 0).then(|| Duration::from_millis(said));
    let paths = rule.matches.iter().map(|m| Ok(cookie_scope(http_match(m.clone())?.path)));
    Ok(SessionPersistence {
        scope,
        header: wire.header.then_some(header),
        name,
        absolute: millis(wire.absolute_timeout_ms),
        idle: millis(wire.idle_timeout_ms),
        permanent: wire.permanent,
        paths: paths.collect::<Result<_, InvalidResource>>()?,
    })
}

/// As GEP-1619 has it: the path that matched, and of an expression what stands before its first sign.
fn cookie_scope(path: PathMatch) -> (PathMatch, String) {
    let scope = match &path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path.clone(),
        PathMatch::Regex(regex) => {
            // Without the anchors that were put around it.
            let text = regex.as_str().trim_start_matches("^(?:");
            let plain = text.find(|c: char| r"\.+*?()|[]{}^$".contains(c)).unwrap_or(text.len());
            text[..plain].rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default()
        }
        PathMatch::Grpc(_) => String::new(),
    };
    // What would end the attribute must not get into it.
    let fits = scope.starts_with('/') && scope.bytes().all(|b| b.is_ascii_graphic() && b != b';' && b != b',');
    (path, if fits { scope } else { "/".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: v1::http_match::Path) -> v1::HttpRule {
        let matches = vec![v1::HttpMatch { path: Some(path), ..v1::HttpMatch::default() }];
        v1::HttpRule { matches, ..v1::HttpRule::default() }
    }

    #[test]
    fn a_cookie_comes_back_where_the_rule_matched_and_each_rule_has_its_own() {
        use v1::http_match::Path;
        let made = |path: Path| session("HTTPRoute", "default/web", &rule(path), v1::SessionPersistence::default());
        for (path, asked, scope) in [
            (Path::Prefix("/".into()), "/x", "/"),
            (Path::Prefix("/a".into()), "/a/b", "/a"),
            (Path::Exact("/a/b".into()), "/a/b", "/a/b"),
            (Path::Regex("/p1/p2/.*/p3".into()), "/p1/p2/x/p3", "/p1/p2"),
            (Path::Prefix("/a;b".into()), "/a;b", "/"),
        ] {
            assert_eq!(made(path).unwrap().cookie_path(asked), scope, "{asked}");
        }
        let (a, b) = (made(Path::Prefix("/a".into())).unwrap(), made(Path::Prefix("/b".into())).unwrap());
        assert_ne!((a.scope, &a.name), (b.scope, &b.name));
        assert!(a.name.starts_with("leno-session-"));
    }
}
