//! `sessionPersistence` of a route's rule (GEP-1619).

use super::check::{Check, is_header_name};
use crate::config::FieldPath;
use crate::model::SessionPersistence;

/// Longest name of a session, as specified.
const MOST_NAME: usize = 128;
/// Longest permanent cookie, in milliseconds: browsers keep none for longer (RFC 6265bis, 5.5).
const MOST_LIFETIME: u64 = 400 * 24 * 3600 * 1000;

/// `sessionPersistence` of whichever route.
pub(super) struct WrittenSession<'a> {
    pub kind: Option<String>,
    pub name: Option<&'a str>,
    pub absolute: Option<&'a str>,
    pub idle: Option<&'a str>,
    /// With a `cookieConfig`: its `lifetimeType`.
    pub cookie: Option<Option<String>>,
}

macro_rules! written_session {
    ($rule:expr) => {
        $rule.session_persistence.as_ref().map(|s| $crate::validate::session::WrittenSession {
            kind: s.r#type.as_ref().map($crate::validate::filter::type_name),
            name: s.session_name.as_deref(),
            absolute: s.absolute_timeout.as_deref(),
            idle: s.idle_timeout.as_deref(),
            cookie: s.cookie_config.as_ref().map(|c| c.lifetime_type.as_ref().map($crate::validate::filter::type_name)),
        })
    };
}

pub(super) use written_session;

pub(super) fn check(
    check: &mut Check<'_>,
    rule: &FieldPath,
    written: Option<WrittenSession<'_>>,
) -> Option<SessionPersistence> {
    let written = written?;
    let at = rule.key("sessionPersistence");
    let header = written.kind.as_deref() == Some("Header");
    if let Some(name) = written.name
        && (!is_header_name(name) || name.len() > MOST_NAME)
    {
        let hint = "write 1 to 128 letters, digits and -";
        check.error(&at.key("sessionName"), format!("{name:?} is no name of a session"), hint);
    }
    if header && written.cookie.is_some() {
        check.error(&at.key("cookieConfig"), "a header has none", "remove it, or write `type: Cookie`");
    }
    let permanent = written.cookie.flatten().as_deref() == Some("Permanent");
    let absolute = time(check, &at.key("absoluteTimeout"), written.absolute);
    let idle = time(check, &at.key("idleTimeout"), written.idle);
    if permanent && written.absolute.is_none() {
        let hint = "add `absoluteTimeout:`, the cookie's lifetime";
        check.error(&at.key("cookieConfig").key("lifetimeType"), "a permanent cookie needs absoluteTimeout", hint);
    }
    if permanent && absolute.is_some_and(|ms| ms > MOST_LIFETIME) {
        check.error(&at.key("absoluteTimeout"), "no client keeps a cookie for so long", "write at most 9600h");
    }
    Some(SessionPersistence {
        header,
        name: match header {
            true => written.name.unwrap_or_default().to_ascii_lowercase(),
            false => written.name.unwrap_or_default().to_owned(),
        },
        absolute_timeout_ms: absolute,
        idle_timeout_ms: idle,
        permanent,
    })
}

fn time(check: &mut Check<'_>, at: &FieldPath, written: Option<&str>) -> Option<u64> {
    let millis = written.and_then(|text| check.duration(at, text))?;
    if millis < 1000 {
        check.error(at, "is too short for a session", "write at least 1s, or remove it");
    }
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::super::Entity;
    use super::super::testing::{checked, refuses};
    use super::*;

    fn route(kind: &str, session: &str) -> String {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: web}}\nspec:\n  \
             parentRefs: [{{group: '', kind: Service, name: web}}]\n  rules:\n  \
             - backendRefs: [{{name: web, port: 80}}]\n    sessionPersistence: {session}\n"
        )
    }

    #[test]
    fn a_session_is_understood_on_routes_of_both_kinds() {
        for kind in ["HTTPRoute", "GRPCRoute"] {
            let session =
                "{sessionName: sid, absoluteTimeout: 1h, idleTimeout: 5m, cookieConfig: {lifetimeType: Permanent}}";
            let checked = checked(&route(kind, session));
            assert!(checked.problems.is_empty(), "{:#?}", checked.problems);
            let (Entity::HttpRoute(route) | Entity::GrpcRoute(route)) = &checked.valid[0].entity else { panic!() };
            let expected = SessionPersistence {
                header: false,
                name: "sid".into(),
                absolute_timeout_ms: Some(3_600_000),
                idle_timeout_ms: Some(300_000),
                permanent: true,
            };
            assert_eq!(route.rules[0].session_persistence, Some(expected));
        }
        assert!(checked(&route("HTTPRoute", "{}")).problems.is_empty());
        assert!(checked(&route("HTTPRoute", "{type: Header, sessionName: X-S}")).problems.is_empty());
    }

    #[test]
    fn what_the_specification_forbids_is_refused_with_its_field() {
        for (session, field, said) in [
            ("{cookieConfig: {lifetimeType: Permanent}}", "cookieConfig.lifetimeType", "needs absoluteTimeout"),
            ("{type: Header, cookieConfig: {}}", "cookieConfig", "a header has none"),
            ("{sessionName: 'a;b'}", "sessionName", "no name of a session"),
            ("{absoluteTimeout: soon}", "absoluteTimeout", "no duration"),
            ("{idleTimeout: 10ms}", "idleTimeout", "too short"),
            ("{type: Url}", "type", ""),
            ("{cookieConfig: {lifetimeType: Permanent}, absoluteTimeout: 99999h}", "absoluteTimeout", "for so long"),
        ] {
            refuses(&route("HTTPRoute", session), 8, &format!("spec.rules[0].sessionPersistence.{field}"), said);
        }
        let long = "x".repeat(MOST_NAME + 1);
        assert!(checked(&route("HTTPRoute", &format!("{{sessionName: {long}}}"))).valid.is_empty());
    }
}
