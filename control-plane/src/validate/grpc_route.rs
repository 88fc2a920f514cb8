//! `gateway.networking.k8s.io/v1` GRPCRoute.

use std::collections::BTreeSet;

use gateway_api::experimental::grpcroutes::{
    GrpcRouteRules, GrpcRouteRulesMatches, GrpcRouteRulesMatchesMethod, GrpcRouteSpec,
};

use super::check::Check;
use super::filter::{self, Of};
use super::http_route::{WrittenValue, values};
use super::route::{self, MOST_MATCHES, MOST_MATCHES_IN_ALL, MOST_RULES, filtered_backends, written_parents};
use super::session::{self, written_session};
use crate::config::FieldPath;
use crate::model::{GrpcMethodMatch, HttpMatch, HttpRoute, HttpRule, Name, PathMatch};

/// Longest name of a service or method, as specified.
const MOST_NAME: usize = 1024;

pub(super) fn check(check: &mut Check<'_>, name: Name, spec: &GrpcRouteSpec) -> HttpRoute {
    if spec.use_default_gateways.is_some() {
        check.not_yet(&FieldPath::of("spec").key("useDefaultGateways"), "useDefaultGateways");
    }
    let (parents, gateways) = route::parents(check, &name, written_parents!(&spec.parent_refs));
    let hostnames = route::hostnames(check, spec.hostnames.as_deref().unwrap_or_default());
    let at = FieldPath::of("spec").key("rules");
    let written = spec.rules.as_deref().unwrap_or_default();
    check.most(&at, written.len(), MOST_RULES);
    let matches: usize = written.iter().map(|rule| rule.matches.as_ref().map_or(0, Vec::len)).sum();
    if matches > MOST_MATCHES_IN_ALL {
        let message = format!("the rules have {matches} matches together; at most {MOST_MATCHES_IN_ALL} are taken");
        check.error(&at, message, "split the route");
    }
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    for (n, written) in written.iter().take(MOST_RULES).enumerate() {
        let at = at.index(n);
        let rule_name = route::rule_name(check, &at, written.name.as_deref(), &mut names);
        rules.push(HttpRule { name: rule_name, ..rule(check, &at, &name, written) });
    }
    if rules.is_empty() {
        rules.push(HttpRule { matches: vec![HttpMatch::default()], ..HttpRule::default() });
    }
    HttpRoute { name, grpc: true, created: 0, parents, gateways, hostnames, rules }
}

fn rule(check: &mut Check<'_>, at: &FieldPath, route: &Name, written: &GrpcRouteRules) -> HttpRule {
    let path = at.key("matches");
    let matches = written.matches.as_deref().unwrap_or_default();
    check.most(&path, matches.len(), MOST_MATCHES);
    let mut matches: Vec<HttpMatch> =
        matches.iter().take(MOST_MATCHES).enumerate().map(|(n, m)| one_match(check, &path.index(n), m)).collect();
    // A rule without matches has every gRPC request.
    if matches.is_empty() {
        matches.push(HttpMatch::default());
    }
    let of = Of { route, prefix: None };
    HttpRule {
        matches,
        filters: filter::filters(check, &at.key("filters"), of, written.filters.iter().flatten()),
        backends: filtered_backends!(check, at.key("backendRefs"), of, written.backend_refs),
        session_persistence: session::check(check, at, written_session!(written)),
        ..HttpRule::default()
    }
}

fn one_match(check: &mut Check<'_>, at: &FieldPath, written: &GrpcRouteRulesMatches) -> HttpMatch {
    let headers = written.headers.iter().flatten().map(|h| WrittenValue {
        name: &h.name,
        value: &h.value,
        kind: h.r#type.as_ref().map(filter::type_name),
    });
    HttpMatch {
        path: written.method.as_ref().map(|m| PathMatch::Grpc(method(check, &at.key("method"), m))),
        headers: values(check, &at.key("headers"), headers, false),
        ..HttpMatch::default()
    }
}

fn method(check: &mut Check<'_>, at: &FieldPath, written: &GrpcRouteRulesMatchesMethod) -> GrpcMethodMatch {
    let service = written.service.clone().unwrap_or_default();
    let method = written.method.clone().unwrap_or_default();
    let regex = written.r#type.as_ref().map(filter::type_name).as_deref() == Some("RegularExpression");
    if service.is_empty() && method.is_empty() {
        check.error(at, "names neither service nor method", "write `service:` or `method:`, or remove it");
    }
    for (field, text, exact) in [("service", &service, is_service(&service)), ("method", &method, is_method(&method))] {
        let path = at.key(field);
        if text.len() > MOST_NAME {
            check.error(&path, format!("has at most {MOST_NAME} characters"), "shorten it");
        } else if regex {
            check.regex(&path, text);
        } else if !text.is_empty() && !exact {
            check.error(
                &path,
                format!("{text:?} is no name of a gRPC {field}"),
                "write it as in the .proto file, as shop.v1.Cart",
            );
        }
    }
    GrpcMethodMatch { service, method, regex }
}

fn is_method(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn is_service(text: &str) -> bool {
    text.strip_prefix('.').unwrap_or(text).split('.').all(is_method)
}
