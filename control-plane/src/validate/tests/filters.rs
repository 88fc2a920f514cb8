//! Every filter that the Gateway API allows is taken and means what it says; whatever it does not allow is refused by name.

use super::super::testing::refuses;
use super::{check, mesh};
use crate::model::{Cors, Filter, HttpRule, Name, PathModifier, Redirect, Rewrite};

/// A route with one rule: its filters are on line 9, its backends on line 10, the filters of a backend on line 11.
fn route(matches: &str, filters: &str, backends: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web}}
spec:
  parentRefs: [{{group: '', kind: Service, name: web}}]
  rules:
  -
    matches: [{matches}]
    filters: [{filters}]
    backendRefs: {backends}
"
    )
}

const PREFIX: &str = "{path: {type: PathPrefix, value: /a}}";
const EXACT: &str = "{path: {type: Exact, value: /a}}";
const TO_WEB: &str = "[{name: web, port: 80}]";

fn rule(matches: &str, filters: &str, backends: &str) -> HttpRule {
    let mut mesh = mesh(&route(matches, filters, backends));
    mesh.http_routes.remove(&Name::new("default", "web")).unwrap().rules.remove(0)
}

/// The filters of a rule, field in it, and part of what must be said.
type Case = (&'static str, &'static str, &'static str);

const BAD: &[Case] = &[
    (
        "{type: ExternalAuth, externalAuth: {protocol: HTTP, http: {}, backendRef: {name: a, port: 80}}}",
        "[0].type",
        "ExternalAuth is not supported",
    ),
    ("{type: URLRewrite}", "[0]", "needs urlRewrite"),
    ("{type: URLRewrite, urlRewrite: {hostname: a}, cors: {}}", "[0]", "has only urlRewrite"),
    ("{type: CORS, requestMirror: {backendRef: {name: a, port: 80}}}", "[0]", "needs cors"),
    ("{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: b}}", "[1]", "twice"),
    (
        "{type: CORS, cors: {allowOrigins: ['*']}}, {type: CORS, cors: {allowOrigins: ['*']}}",
        "[1]",
        "cors is here twice",
    ),
    (
        "{type: RequestRedirect, requestRedirect: {port: 81}}, {type: URLRewrite, urlRewrite: {hostname: b}}",
        "[1]",
        "never combined",
    ),
    ("{type: RequestRedirect, requestRedirect: {port: 81}}", "[0]", "a rule that redirects has no backendRefs"),
    ("{type: RequestRedirect, requestRedirect: {port: 70000}}", "[0].requestRedirect.port", "no port"),
    ("{type: RequestRedirect, requestRedirect: {scheme: ftp}}", "[0].requestRedirect.scheme", "unknown variant"),
    ("{type: RequestRedirect, requestRedirect: {statusCode: 304}}", "[0].requestRedirect.statusCode", "301, 302"),
    ("{type: RequestRedirect, requestRedirect: {hostname: '*.a'}}", "[0].requestRedirect.hostname", "no hostname"),
    ("{type: URLRewrite, urlRewrite: {hostname: 'a:80'}}", "[0].urlRewrite.hostname", "without a port"),
    ("{type: URLRewrite, urlRewrite: {hostname: 10.0.0.1}}", "[0].urlRewrite.hostname", "no hostname"),
    (
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: a}}}",
        "[0].urlRewrite.path.replaceFullPath",
        "write /a",
    ),
    (
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a b'}}}",
        "[0].urlRewrite.path.replaceFullPath",
        "%XX",
    ),
    (
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: '/a?b'}}}",
        "[0].urlRewrite.path.replaceFullPath",
        "%XX",
    ),
    ("{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}", "[0].urlRewrite.path", "needs replaceFullPath"),
    (
        "{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /a, replacePrefixMatch: /b}}}",
        "[0].urlRewrite.path.replacePrefixMatch",
        "has no replacePrefixMatch",
    ),
    (
        "{type: RequestMirror, requestMirror: {backendRef: {name: a}}}",
        "[0].requestMirror.backendRef.port",
        "needs a port",
    ),
    (
        "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 101}}",
        "[0].requestMirror.percent",
        "0 to 100",
    ),
    (
        "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, percent: 1, fraction: {numerator: 1}}}",
        "[0].requestMirror.fraction",
        "remove one",
    ),
    (
        "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 3, denominator: 2}}}",
        "[0].requestMirror.fraction.numerator",
        "0 to 2",
    ),
    (
        "{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 80}, fraction: {numerator: 0, denominator: 0}}}",
        "[0].requestMirror.fraction.denominator",
        "out of range",
    ),
    ("{type: CORS, cors: {allowOrigins: ['*', 'http://a']}}", "[0].cors.allowOrigins[0]", "all others"),
    ("{type: CORS, cors: {allowOrigins: ['ftp://a']}}", "[0].cors.allowOrigins[0]", "no origin"),
    ("{type: CORS, cors: {allowOrigins: ['http://a.*.b']}}", "[0].cors.allowOrigins[0]", "no origin"),
    ("{type: CORS, cors: {allowOrigins: ['http://a:0']}}", "[0].cors.allowOrigins[0]", "no origin"),
    ("{type: CORS, cors: {allowOrigins: ['http://a/b']}}", "[0].cors.allowOrigins[0]", "no origin"),
    ("{type: CORS, cors: {allowOrigins: ['http://a', 'http://a']}}", "[0].cors.allowOrigins[1]", "twice"),
    ("{type: CORS, cors: {allowOrigins: ['*'], allowMethods: [get]}}", "[0].cors.allowMethods[0]", "RFC 9110"),
    ("{type: CORS, cors: {allowOrigins: ['*'], allowMethods: ['*', GET]}}", "[0].cors.allowMethods[0]", "all others"),
    ("{type: CORS, cors: {allowOrigins: ['*'], allowHeaders: ['a b']}}", "[0].cors.allowHeaders[0]", "no name"),
    ("{type: CORS, cors: {allowOrigins: ['*'], exposeHeaders: ['a:']}}", "[0].cors.exposeHeaders[0]", "no name"),
    ("{type: CORS, cors: {allowOrigins: ['*'], maxAge: 0}}", "[0].cors.maxAge", "out of range"),
    (
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: a}], remove: [x-a]}}",
        "[0].requestHeaderModifier.remove[0]",
        "twice",
    ),
];

#[test]
fn what_the_gateway_api_does_not_allow_is_refused_with_line_field_and_reason() {
    for (filters, field, part) in BAD {
        // The same holds for the filters of a backend, but for the redirect that has a backend.
        let of_backend = format!("\n    - {{name: web, port: 80, filters: [{filters}]}}");
        let both = [
            (route(PREFIX, filters, TO_WEB), "spec.rules[0].filters", 9),
            (route(PREFIX, "", &of_backend), "spec.rules[0].backendRefs[0].filters", 11),
        ];
        for (text, base, line) in both.iter().take(if part.contains("no backendRefs") { 1 } else { 2 }) {
            refuses(text, *line, &format!("{base}{field}"), part);
        }
    }
}

#[test]
fn a_prefix_is_only_replaced_where_it_is_known_which() {
    let filter = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}";
    for bad in [EXACT, &format!("{PREFIX}, {PREFIX}"), "{path: {type: RegularExpression, value: /a}}"] {
        let checked = check(&route(bad, filter, TO_WEB));
        assert!(checked.problems.iter().any(|p| p.message.contains("exactly one match")), "{bad}");
    }
    for (good, prefix) in [(PREFIX, "/a"), ("{method: GET}", "/"), ("", "/")] {
        let modifier = PathModifier::Prefix { matched: prefix.into(), replacement: "/x".into() };
        let rewrite = Rewrite { hostname: String::new(), path: Some(modifier) };
        assert_eq!(rule(good, filter, TO_WEB).filters, [Filter::Rewrite(rewrite)], "{good}");
    }
}

#[test]
fn filters_mean_what_they_say_with_the_specified_defaults() {
    let redirect =
        |status, port| Redirect { scheme: "https".into(), hostname: String::new(), path: None, port, status };
    for (written, meant) in [
        ("scheme: https", redirect(302, None)),
        ("scheme: https, statusCode: 308, port: 8443", redirect(308, Some(8443))),
    ] {
        let filter = format!("{{type: RequestRedirect, requestRedirect: {{{written}}}}}");
        assert_eq!(rule(PREFIX, &filter, "[]").filters, [Filter::Redirect(meant)]);
    }
    let cors = "{type: CORS, cors: {allowOrigins: ['https://*.a.org', 'http://b:81', 'https://*'], allowMethods: [GET], exposeHeaders: ['*', x-a]}}";
    let meant = Cors {
        allow_origins: ["https://*.a.org", "http://b:81", "https://*"].map(str::to_owned).to_vec(),
        allow_credentials: false,
        allow_methods: vec!["GET".into()],
        allow_headers: vec![],
        expose_headers: vec!["*".into(), "x-a".into()],
        max_age_seconds: 5,
    };
    assert_eq!(rule(PREFIX, cors, TO_WEB).filters, [Filter::Cors(meant)]);
}

#[test]
fn mirrors_add_up_and_each_has_its_share() {
    let mirrors =
        [("", (1, 1)), (", percent: 5", (5, 100)), (", fraction: {numerator: 1, denominator: 1000}", (1, 1000))];
    let filters = mirrors.map(|(share, _)| {
        format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: b, port: 80}}{share}}}}}")
    });
    let rule = rule(PREFIX, &filters.join(", "), TO_WEB);
    let shares = rule.filters.iter().map(|filter| match filter {
        Filter::Mirror(mirror) => (mirror.numerator, mirror.denominator),
        _ => panic!("{filter:?}"),
    });
    assert_eq!(shares.collect::<Vec<_>>(), mirrors.map(|(_, share)| share));
    assert_eq!(rule.targets().map(|to| to.service.name.as_str()).collect::<Vec<_>>(), ["web", "b", "b", "b"]);
}

#[test]
fn a_mirror_to_what_is_not_there_is_a_warning() {
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {group: a, kind: B, name: c}}}";
    let checked = check(&route(PREFIX, mirror, TO_WEB));
    assert!(checked.problems[0].message.contains("nothing is mirrored"), "{:?}", checked.problems);
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}}}";
    let checked = check(&route(PREFIX, mirror, TO_WEB));
    let mesh = mesh(&route(PREFIX, mirror, TO_WEB));
    let said = super::warnings(&mesh, &checked.valid);
    let field = "spec.rules[0].filters[0].requestMirror.backendRef";
    assert!(said.iter().any(|p| p.field == field && p.message.contains("nothing is mirrored")), "{said:?}");
}

#[test]
fn a_grpc_route_has_header_modifiers_and_mirrors_and_no_other_filter() {
    let route = |filter: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: web}}\nspec:\n  \
             parentRefs: [{{group: '', kind: Service, name: web}}]\n  rules:\n  - filters: [{filter}]\n    \
             backendRefs: [{{name: web, port: 80, filters: [{filter}]}}]\n"
        )
    };
    for good in [
        "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [x-a]}}",
        "{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-a, value: b}]}}",
        "{type: RequestMirror, requestMirror: {backendRef: {name: b, port: 80}}}",
    ] {
        assert_eq!(check(&route(good)).problems, [], "{good}");
    }
    // As by Kubernetes, what nobody knows is taken; the status says what comes of it.
    let unknown = check(&route("{type: ExtensionRef, extensionRef: {group: a, kind: B, name: c}}"));
    assert_eq!(unknown.problems.iter().filter(|p| p.message.contains("no filter B.a c is known")).count(), 2);
    assert!(unknown.problems.iter().all(|problem| !problem.is_error()));
    assert!(check(&route("{type: URLRewrite}")).problems.iter().all(|p| p.message.contains("unknown variant")));
}
