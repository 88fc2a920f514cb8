//! `gateway.networking.k8s.io/v1` HTTPRoute.

use std::collections::BTreeSet;

use gateway_api::experimental::httproutes::{
    HttpRouteRules, HttpRouteRulesMatches, HttpRouteRulesRetry, HttpRouteRulesTimeouts, HttpRouteSpec,
};

use super::check::{Check, is_header_name};
use super::filter::{self, Of};
use super::http_path;
use super::route::{self, MOST_MATCHES, MOST_MATCHES_IN_ALL, MOST_RULES, filtered_backends, written_parents};
use super::session::{self, written_session};
use crate::config::FieldPath;
use crate::model::{Filter, HttpMatch, HttpRoute, HttpRule, Name, PathMatch, Retry, ValueMatch};

/// Most header and most query matches of one match, as specified.
pub(super) const MOST_VALUES: usize = 16;
/// Longest value of a header match, as specified; the Gateway API has 1024 for queries, which is left at the larger.
const MOST_VALUE: usize = 4096;
/// More would only prolong an outage.
const MOST_ATTEMPTS: u32 = 32;
/// Before the first retry, when the user says nothing.
const BACKOFF_MS: u64 = 25;

pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &HttpRouteSpec) -> HttpRoute {
    let path = FieldPath::of("spec");
    if spec.use_default_gateways.is_some() {
        check.not_yet(&path.key("useDefaultGateways"), "useDefaultGateways");
    }
    let (parents, gateways) = route::parents(check, &name, written_parents!(&spec.parent_refs));
    let hostnames = route::hostnames(check, spec.hostnames.as_deref().unwrap_or_default());
    let at = path.key("rules");
    let written = spec.rules.as_deref().unwrap_or_default();
    check.most(&at, written.len(), MOST_RULES);
    let matches: usize = written.iter().map(|rule| rule.matches.as_ref().map_or(0, Vec::len)).sum();
    if matches > MOST_MATCHES_IN_ALL {
        let message = format!("the rules have {matches} matches together; at most {MOST_MATCHES_IN_ALL} are taken");
        check.error(&at, message, "split the route");
    }
    let mut names = BTreeSet::new();
    let mut rules: Vec<HttpRule> = Vec::new();
    for (n, written) in written.iter().take(MOST_RULES).enumerate() {
        let at = at.index(n);
        let rule_name = route::rule_name(check, &at, written.name.as_deref(), &mut names);
        rules.push(HttpRule { name: rule_name, ..rule(check, &at, &name, written) });
    }
    // The specified default of `rules`: one rule that matches everything.
    if rules.is_empty() {
        rules.push(HttpRule { matches: vec![everything()], ..HttpRule::default() });
    }
    HttpRoute { name, grpc: false, created: 0, parents, gateways, hostnames, rules }
}

fn everything() -> HttpMatch {
    HttpMatch { path: Some(PathMatch::Prefix("/".to_owned())), ..HttpMatch::default() }
}

fn rule(check: &mut Check<'_>, at: &FieldPath, route: &Name, written: &HttpRouteRules) -> HttpRule {
    let matches = matches(check, &at.key("matches"), written.matches.as_deref().unwrap_or_default());
    let of = Of { route, prefix: one_prefix(&matches) };
    let filters = filter::filters(check, &at.key("filters"), of, written.filters.iter().flatten());
    let backends = filtered_backends!(check, at.key("backendRefs"), of, written.backend_refs);
    if let Some(n) = filters.iter().position(|filter| matches!(filter, Filter::Redirect(_)))
        && !backends.is_empty()
    {
        let hint = "remove the backendRefs: the caller is sent elsewhere, and nothing comes to them";
        check.error(&at.key("filters").index(n), "a rule that redirects has no backendRefs", hint);
    }
    let (request, backend_request) = timeouts(check, &at.key("timeouts"), written.timeouts.as_ref());
    HttpRule {
        name: String::new(),
        matches,
        filters,
        backends,
        request_timeout_ms: request,
        backend_request_timeout_ms: backend_request,
        retry: written.retry.as_ref().map(|retry| self::retry(check, &at.key("retry"), retry)),
        session_persistence: session::check(check, at, written_session!(written)),
    }
}

/// What a path's prefix is replaced by has to say which prefix.
fn one_prefix(matches: &[HttpMatch]) -> Option<&str> {
    match matches {
        [HttpMatch { path: Some(PathMatch::Prefix(prefix)), .. }] => Some(prefix),
        _ => None,
    }
}

fn matches(check: &mut Check<'_>, path: &FieldPath, written: &[HttpRouteRulesMatches]) -> Vec<HttpMatch> {
    check.most(path, written.len(), MOST_MATCHES);
    if written.is_empty() {
        return vec![everything()];
    }
    written.iter().take(MOST_MATCHES).enumerate().map(|(n, m)| one_match(check, &path.index(n), m)).collect()
}

fn one_match(check: &mut Check<'_>, at: &FieldPath, written: &HttpRouteRulesMatches) -> HttpMatch {
    let path = match &written.path {
        // The specified default is the prefix `/`, also beside other conditions.
        None => Some(PathMatch::Prefix("/".to_owned())),
        Some(path) => {
            let kind = path.r#type.as_ref().map_or("PathPrefix".to_owned(), filter::type_name);
            http_path::check(check, &at.key("path"), &kind, path.value.as_deref())
        }
    };
    let headers = written.headers.iter().flatten().map(|h| WrittenValue {
        name: &h.name,
        value: &h.value,
        kind: h.r#type.as_ref().map(filter::type_name),
    });
    let query = written.query_params.iter().flatten().map(|q| WrittenValue {
        name: &q.name,
        value: &q.value,
        kind: q.r#type.as_ref().map(filter::type_name),
    });
    HttpMatch {
        path,
        headers: values(check, &at.key("headers"), headers, false),
        query: values(check, &at.key("queryParams"), query, true),
        method: written.method.as_ref().map(filter::type_name).unwrap_or_default(),
    }
}

/// A header or query match of whichever route.
pub(super) struct WrittenValue<'a> {
    pub name: &'a str,
    pub value: &'a str,
    pub kind: Option<String>,
}

/// Header names have no case; of those that are equal but for it, only the first counts, as specified. Query names
/// have case.
pub(super) fn values<'a>(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: impl Iterator<Item = WrittenValue<'a>>,
    query: bool,
) -> Vec<ValueMatch> {
    let mut found: Vec<ValueMatch> = Vec::new();
    let mut spelt = BTreeSet::new();
    let mut count = 0;
    for (n, written) in written.enumerate() {
        count = n + 1;
        if count > MOST_VALUES {
            continue;
        }
        let at = path.index(n);
        if !is_header_name(written.name) {
            check.error(&at.key("name"), format!("{:?} is no name", written.name), "write letters, digits and -");
        }
        let regex = written.kind.as_deref() == Some("RegularExpression");
        if written.value.is_empty() || written.value.len() > MOST_VALUE {
            check.error(&at.key("value"), format!("has 1 to {MOST_VALUE} characters"), "change it");
        } else if regex {
            check.regex(&at.key("value"), written.value);
        }
        let name = if query { written.name.to_owned() } else { written.name.to_ascii_lowercase() };
        if !spelt.insert(written.name) {
            check.error(&at.key("name"), format!("{} is here twice", written.name), "remove one of them");
        } else if found.iter().any(|other| other.name == name) {
            check.warn(
                &at.key("name"),
                format!("{} is here twice, and only the first counts", written.name),
                "remove it",
            );
            continue;
        }
        found.push(ValueMatch { name, value: written.value.to_owned(), regex });
    }
    check.most(path, count, MOST_VALUES);
    found
}

/// `backendRequest` is at most `request` (GEP-1742); zero disables either.
fn timeouts(
    check: &mut Check<'_>,
    at: &FieldPath,
    written: Option<&HttpRouteRulesTimeouts>,
) -> (Option<u64>, Option<u64>) {
    let Some(written) = written else { return (None, None) };
    let request = written.request.as_ref().and_then(|text| check.duration(&at.key("request"), text));
    let path = at.key("backendRequest");
    let backend = written.backend_request.as_ref().and_then(|text| check.duration(&path, text));
    if let (Some(request), Some(backend)) = (request, backend)
        && request > 0
        && backend > request
    {
        check.error(&path, "backendRequest is longer than request", "make it shorter, or request longer");
    }
    (request, backend)
}

/// GEP-1731. Without `attempts` one is made.
fn retry(check: &mut Check<'_>, at: &FieldPath, written: &HttpRouteRulesRetry) -> Retry {
    let attempts = match written.attempts {
        None => Some(1),
        Some(n) => check.number(&at.key("attempts"), n, 0, MOST_ATTEMPTS),
    };
    let path = at.key("codes");
    let mut codes = Vec::new();
    let written_codes = written.codes.as_deref().unwrap_or_default();
    for (n, code) in written_codes.iter().take(200).enumerate() {
        match u16::try_from(*code) {
            Ok(code @ 400..=599) if codes.contains(&code) => {
                check.error(&path.index(n), format!("{code} is here twice"), "remove one of them");
            }
            Ok(code @ 400..=599) => codes.push(code),
            _ => check.error(
                &path.index(n),
                format!("{code} is no status that is retried"),
                "write a code from 400 to 599",
            ),
        }
    }
    check.most(&path, written_codes.len(), 200);
    let backoff = written.backoff.as_ref().and_then(|text| check.duration(&at.key("backoff"), text));
    Retry { attempts: attempts.unwrap_or(0), codes, backoff_ms: backoff.unwrap_or(BACKOFF_MS) }
}
