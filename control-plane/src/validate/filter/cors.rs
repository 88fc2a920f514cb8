//! CORS, by the rules of the Gateway API's HTTPCORSFilter.

use std::collections::BTreeSet;

use gateway_api::experimental::httproutes::HttpRouteRulesFiltersCors;

use crate::config::FieldPath;
use crate::model::Cors;
use crate::validate::check::{Check, is_header_name};

/// Most entries of the lists, and the longest origin, as specified.
const MOST_ORIGINS: usize = 64;
const MOST_METHODS: usize = 9;
const MOST_HEADERS: usize = 64;
const MOST_ORIGIN: usize = 253;
/// How long a browser may remember a preflight when nothing is written, in seconds, as specified.
const MAX_AGE: i32 = 5;
const ANY: &str = "*";
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", ANY];

pub(super) fn cors(check: &mut Check<'_>, at: &FieldPath, written: &HttpRouteRulesFiltersCors) -> Cors {
    let path = at.key("allowOrigins");
    let hint = "write http:// or https://, a host whose first label may be *, and a port if it is another";
    let allow_origins = list(check, &path, written.allow_origins.as_deref(), MOST_ORIGINS, true, |origin| {
        is_origin(origin).then_some(()).ok_or(("origin", hint))
    });
    if allow_origins.is_empty() {
        check.warn(&path, "no origin is allowed", "name some, or write '*'");
    }
    let hint = "write a method of RFC 9110 in capitals, PATCH, or '*' alone";
    let allow_methods =
        list(check, &at.key("allowMethods"), written.allow_methods.as_deref(), MOST_METHODS, true, |method| {
            METHODS.contains(&method).then_some(()).ok_or(("method", hint))
        });
    let name =
        |name: &str| is_header_name(name).then_some(()).ok_or(("name of a header", "write letters, digits and -"));
    let headers = written.allow_headers.as_deref();
    let exposed = written.expose_headers.as_deref();
    let max_age = written.max_age.unwrap_or(MAX_AGE);
    let most = u32::try_from(i32::MAX).unwrap_or(u32::MAX);
    Cors {
        allow_origins,
        allow_credentials: written.allow_credentials == Some(true),
        allow_methods,
        allow_headers: list(check, &at.key("allowHeaders"), headers, MOST_HEADERS, true, name),
        expose_headers: list(check, &at.key("exposeHeaders"), exposed, MOST_HEADERS, false, name),
        max_age_seconds: check.number(&at.key("maxAge"), max_age.into(), 1, most).unwrap_or_default(),
    }
}

/// A list without repetitions; where `alone` says so, `*` is its only entry.
fn list(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: Option<&[String]>,
    most: usize,
    alone: bool,
    fits: impl Fn(&str) -> Result<(), (&'static str, &'static str)>,
) -> Vec<String> {
    let written = written.unwrap_or_default();
    check.most(path, written.len(), most);
    let mut seen = BTreeSet::new();
    for (n, entry) in written.iter().take(most).enumerate() {
        let at = path.index(n);
        if let Err((what, hint)) = fits(entry) {
            check.error(&at, format!("{entry:?} is no {what}"), hint);
        }
        if !seen.insert(entry) {
            check.error(&at, format!("{entry} is here twice"), "remove one of them");
        }
    }
    if alone
        && written.len() > 1
        && let Some(n) = written.iter().position(|entry| entry == ANY)
    {
        check.error(&path.index(n), "'*' stands for all others", "remove it, or the others");
    }
    written.to_vec()
}

/// `*`, or `SCHEME://HOST[:PORT]`, where the host may be `*` or begin with `*.`.
fn is_origin(text: &str) -> bool {
    if text == ANY {
        return true;
    }
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else { return false };
    let (host, port) = rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)));
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let port = port.is_none_or(|port| digits(port) && port.parse::<u16>().is_ok_and(|port| port != 0));
    let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let host = host == ANY || host.strip_prefix("*.").unwrap_or(host).split('.').all(label);
    text.len() <= MOST_ORIGIN && port && host
}
