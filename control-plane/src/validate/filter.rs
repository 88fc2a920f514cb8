//! Filters. The Gateway API's crate has types of its own for each place that a filter can stand at, all written alike; here
//! every one is read as a filter of an HTTPRoute's rule.

mod cors;
mod headers;
mod mirror;
mod path;

use gateway_api::experimental::httproutes::{
    HttpRouteRulesFilters, HttpRouteRulesFiltersRequestRedirect, HttpRouteRulesFiltersType,
    HttpRouteRulesFiltersUrlRewrite,
};
use serde::Serialize;

use super::check::{Check, is_dns_label, is_dns_subdomain};
use crate::config::FieldPath;
use crate::model::{Filter, Name, Redirect, Rewrite};

/// Most filters of a rule or backend, as specified.
pub(super) const MOST_FILTERS: usize = 16;
/// What a redirect says when nothing is written, and what it may say, as specified.
const REDIRECT: i64 = 302;
const REDIRECTS: [i64; 5] = [301, 302, 303, 307, 308];

/// The type's name as it is written in YAML.
pub(super) fn type_name<T: Serialize>(kind: &T) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The rule that filters belong to.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub route: &'a Name,
    /// The prefix of the rule's one match. None: it has several, or one of another type.
    pub prefix: Option<&'a str>,
}

/// Checks and converts the filters of a rule or a backend.
pub(super) fn filters<'a, T: Serialize + 'a>(
    check: &mut Check<'_>,
    path: &FieldPath,
    of: Of<'_>,
    written: impl Iterator<Item = &'a T>,
) -> Vec<Filter> {
    let mut found: Vec<Filter> = Vec::new();
    let mut count = 0;
    for (n, filter) in written.enumerate() {
        count = n + 1;
        if count > MOST_FILTERS {
            continue;
        }
        let at = path.index(n);
        let Some(filter) = one(check, &at, of, filter) else { continue };
        together(check, &at, &found, &filter);
        found.push(filter);
    }
    check.most(path, count, MOST_FILTERS);
    found
}

/// Each type is there once, as nobody could say which one holds; only mirrors and extensions add up. Two say where a request goes.
fn together(check: &mut Check<'_>, at: &FieldPath, before: &[Filter], filter: &Filter) {
    let same = |other: &&Filter| std::mem::discriminant(*other) == std::mem::discriminant(filter);
    let adds_up = filter.mirrored().is_some() || filter.unknown().is_some();
    if !adds_up && before.iter().any(|other| same(&other)) {
        check.error(at, format!("the filter {} is here twice", field(filter)), "join them");
    }
    let exclusive = |filter: &Filter| matches!(filter, Filter::Redirect(_) | Filter::Rewrite(_));
    if exclusive(filter) && before.iter().any(|other| exclusive(other) && !same(&other)) {
        let hint = "remove one of them: a request is sent elsewhere by its caller, or changed and passed on";
        check.error(at, "RequestRedirect and URLRewrite are never combined", hint);
    }
}

fn field(filter: &Filter) -> &'static str {
    match filter {
        Filter::RequestHeaders(_) => "requestHeaderModifier",
        Filter::ResponseHeaders(_) => "responseHeaderModifier",
        Filter::Redirect(_) => "requestRedirect",
        Filter::Rewrite(_) => "urlRewrite",
        Filter::Mirror(_) => "requestMirror",
        Filter::Cors(_) => "cors",
        Filter::Unknown(_) => "extensionRef",
    }
}

fn one<T: Serialize>(check: &mut Check<'_>, at: &FieldPath, of: Of<'_>, written: &T) -> Option<Filter> {
    use HttpRouteRulesFiltersType as Type;
    let value = serde_json::to_value(written).ok()?;
    let fields: Vec<String> = value.as_object()?.keys().filter(|key| *key != "type").cloned().collect();
    let written: HttpRouteRulesFilters = serde_json::from_value(value).ok()?;
    let kind = type_name(&written.r#type);
    let field = match written.r#type {
        Type::RequestHeaderModifier => "requestHeaderModifier",
        Type::ResponseHeaderModifier => "responseHeaderModifier",
        Type::RequestRedirect => "requestRedirect",
        Type::UrlRewrite => "urlRewrite",
        Type::RequestMirror => "requestMirror",
        Type::Cors => "cors",
        Type::ExtensionRef => "extensionRef",
        Type::ExternalAuth => {
            check.not_yet(&at.key("type"), &format!("the filter {kind}"));
            return None;
        }
    };
    if fields.iter().any(|other| other != field) {
        check.error(at, format!("a filter of type {kind} has only {field}"), "remove the other fields");
    }
    let path = at.key(field);
    let filter = match field {
        "requestHeaderModifier" => written
            .request_header_modifier
            .map(|m| Filter::RequestHeaders(headers::modifier(check, &path, &headers::Written::from(&m)))),
        "responseHeaderModifier" => written
            .response_header_modifier
            .map(|m| Filter::ResponseHeaders(headers::modifier(check, &path, &headers::Written::from(&m)))),
        "requestRedirect" => written.request_redirect.map(|r| Filter::Redirect(redirect(check, &path, of, &r))),
        "urlRewrite" => written.url_rewrite.map(|r| Filter::Rewrite(rewrite(check, &path, of, &r))),
        "extensionRef" => written.extension_ref.map(|to| {
            let what = format!("{}.{} {}", to.kind, to.group, to.name);
            let message = format!("no filter {what} is known; requests of the rule are answered with an error");
            check.warn(&path, message, "remove it");
            Filter::Unknown(what)
        }),
        "cors" => written.cors.map(|c| Filter::Cors(cors::cors(check, &path, &c))),
        _ => match written.request_mirror {
            Some(mirror) => return mirror::mirror(check, &path, of.route, &mirror).map(Filter::Mirror),
            None => None,
        },
    };
    if filter.is_none() {
        check.error(at, format!("a filter of type {kind} needs {field}"), format!("add `{field}:`"));
    }
    filter
}

fn redirect(
    check: &mut Check<'_>,
    at: &FieldPath,
    of: Of<'_>,
    written: &HttpRouteRulesFiltersRequestRedirect,
) -> Redirect {
    let status = written.status_code.unwrap_or(REDIRECT);
    if !REDIRECTS.contains(&status) {
        let message = format!("{status} is no status of a redirect");
        check.error(&at.key("statusCode"), message, "write 301, 302, 303, 307 or 308");
    }
    Redirect {
        scheme: written.scheme.as_ref().map(type_name).unwrap_or_default(),
        hostname: hostname(check, &at.key("hostname"), written.hostname.as_deref()),
        path: written.path.as_ref().and_then(|path| path::modifier(check, &at.key("path"), of, path)),
        port: written.port.and_then(|port| check.port(&at.key("port"), port.into())),
        status: u16::try_from(status).unwrap_or_default(),
    }
}

fn rewrite(check: &mut Check<'_>, at: &FieldPath, of: Of<'_>, written: &HttpRouteRulesFiltersUrlRewrite) -> Rewrite {
    if written.hostname.is_none() && written.path.is_none() {
        check.warn(at, "rewrites neither host nor path", "write `hostname:` or `path:`");
    }
    Rewrite {
        hostname: hostname(check, &at.key("hostname"), written.hostname.as_deref()),
        path: written.path.as_ref().and_then(|path| path::modifier(check, &at.key("path"), of, path)),
    }
}

/// A precise name: no wildcard, no address, no port.
fn hostname(check: &mut Check<'_>, path: &FieldPath, written: Option<&str>) -> String {
    let Some(host) = written else { return String::new() };
    let address = host.parse::<std::net::IpAddr>().is_ok();
    if address || !is_dns_subdomain(host) || host.split('.').any(|label| !is_dns_label(label)) {
        let hint = "write a DNS name in lower case without a port, as web.example.com";
        check.error(path, format!("{host:?} is no hostname"), hint);
    }
    host.to_owned()
}
