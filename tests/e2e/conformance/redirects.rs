//! RequestRedirect: where callers are sent to.

use http::Method;

use super::{Stage, route};

/// A rule for a path prefix that redirects; `how` are the fields of the filter.
fn rule(prefix: &str, how: &str) -> String {
    format!(
        "  - matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]\n    \
         filters: [{{type: RequestRedirect, requestRedirect: {{{how}}}}}]\n"
    )
}

/// The URI that is asked for, the status, and where the answer leads.
type Case = (&'static str, u16, &'static str);

async fn lead(rules: &[(&str, &str)], cases: &[Case]) {
    let rules: String = rules.iter().map(|(prefix, how)| rule(prefix, how)).collect();
    let stage = Stage::start(&route("HTTPRoute", "redirects", "name: echo", &rules)).await;
    for (uri, status, location) in cases {
        for reply in [stage.get(uri, &[]).await, stage.ask_http2(Method::GET, uri, &[]).await] {
            let found = reply.headers.get("location").map(|value| value.to_str().unwrap());
            assert_eq!((reply.status, found), (*status, Some(*location)), "{uri}: {reply:?}");
            assert_eq!(reply.text(), "");
        }
    }
    assert_eq!(stage.v1.count() + stage.v2.count(), 3, "only the three requests that showed the way came to an app");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_has_the_host_and_status_that_are_written() {
    let rules = [
        ("/hostname-redirect", "hostname: example.org"),
        ("/host-and-status", "hostname: example.org, statusCode: 301"),
        ("/see-other", "hostname: example.org, statusCode: 303"),
        ("/temporary", "hostname: example.org, statusCode: 307"),
        ("/permanent", "hostname: example.org, statusCode: 308"),
    ];
    let cases: &[Case] = &[
        ("http://echo/hostname-redirect", 302, "http://example.org/hostname-redirect"),
        ("http://echo/host-and-status?a=%2F", 301, "http://example.org/host-and-status?a=%2F"),
        ("http://echo/see-other", 303, "http://example.org/see-other"),
        ("http://echo/temporary", 307, "http://example.org/temporary"),
        ("http://echo/permanent", 308, "http://example.org/permanent"),
        // The port is that which the request came to.
        ("http://echo:8080/permanent", 308, "http://example.org:8080/permanent"),
    ];
    lead(&rules, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_replaces_the_whole_path_or_the_prefix_that_was_matched() {
    let prefix = "path: {type: ReplacePrefixMatch, replacePrefixMatch: /replacement-prefix}";
    let full = "path: {type: ReplaceFullPath, replaceFullPath: /replacement-full}";
    let (host, status) = (format!("hostname: example.org, {prefix}"), format!("statusCode: 301, {prefix}"));
    let (full_host, full_status) = (format!("hostname: example.org, {full}"), format!("statusCode: 301, {full}"));
    let rules = [
        ("/original-prefix", prefix),
        ("/full", full),
        ("/path-and-host", host.as_str()),
        ("/path-and-status", status.as_str()),
        ("/full-path-and-host", full_host.as_str()),
        ("/full-path-and-status", full_status.as_str()),
    ];
    let cases: &[Case] = &[
        ("http://echo/original-prefix/lemon", 302, "http://echo/replacement-prefix/lemon"),
        ("http://echo/original-prefix/a%2Fb?q=1", 302, "http://echo/replacement-prefix/a%2Fb?q=1"),
        ("http://echo/full/path/original", 302, "http://echo/replacement-full"),
        ("http://echo/path-and-host", 302, "http://example.org/replacement-prefix"),
        ("http://echo/path-and-status", 301, "http://echo/replacement-prefix"),
        ("http://echo/full-path-and-host", 302, "http://example.org/replacement-full"),
        ("http://echo/full-path-and-status", 301, "http://echo/replacement-full"),
    ];
    lead(&rules, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_has_the_scheme_and_port_that_are_written_and_leaves_out_known_ports() {
    let rules = [
        ("/port", "port: 8083"),
        ("/port-and-host", "port: 8083, hostname: example.org"),
        ("/port-and-status", "port: 8083, statusCode: 301"),
        ("/scheme", "scheme: https"),
        ("/scheme-and-host", "scheme: https, hostname: example.org"),
        ("/scheme-and-status", "scheme: https, statusCode: 301"),
        ("/scheme-and-port", "scheme: https, port: 8443"),
        ("/http-known", "scheme: http, port: 80"),
        ("/https-known", "scheme: https, port: 443"),
        ("/https-on-80", "scheme: https, port: 80"),
    ];
    let cases: &[Case] = &[
        ("http://echo/port", 302, "http://echo:8083/port"),
        ("http://echo/port-and-host", 302, "http://example.org:8083/port-and-host"),
        ("http://echo/port-and-status", 301, "http://echo:8083/port-and-status"),
        ("http://echo/scheme", 302, "https://echo/scheme"),
        ("http://echo:8080/scheme", 302, "https://echo/scheme"),
        ("http://echo/scheme-and-host", 302, "https://example.org/scheme-and-host"),
        ("http://echo/scheme-and-status", 301, "https://echo/scheme-and-status"),
        ("http://echo/scheme-and-port", 302, "https://echo:8443/scheme-and-port"),
        ("http://echo:8080/http-known", 302, "http://echo/http-known"),
        ("http://echo/https-known", 302, "https://echo/https-known"),
        ("http://echo/https-on-80", 302, "https://echo:80/https-on-80"),
    ];
    lead(&rules, cases).await;
}
