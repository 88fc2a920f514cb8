//! CORS: preflights are answered by the sidecar, and answers say which pages may use them.

use http::Method;
use leno_tests::{Behaviour, Reply};

use crate::conformance::{Headers, Stage, route};

fn rule(prefix: &str, cors: &str) -> String {
    format!(
        "  - matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]\n    filters: [{{type: CORS, cors: {{{cors}}}}}]\n    \
         backendRefs: [{{name: echo-v1, port: 80}}]\n"
    )
}

const LISTED: &str = "allowOrigins: [\"https://www.foo.com\", \"https://*.bar.com\"], allowMethods: [GET, OPTIONS], \
    allowHeaders: [x-header-1, x-header-2], exposeHeaders: [x-header-3, x-header-4], allowCredentials: true, maxAge: 3600";
const ANY: &str = "allowOrigins: [\"*\"], allowMethods: [\"*\"], allowHeaders: [\"*\"], exposeHeaders: [\"*\"]";

async fn stage() -> Stage {
    let rules = rule("/listed", LISTED)
        + &rule("/any", ANY)
        + &rule("/any-with-credentials", &format!("{ANY}, allowCredentials: true"))
        + "  - matches: [{path: {type: PathPrefix, value: /gone}}]\n    filters: [{type: CORS, cors: {allowOrigins: [\"*\"]}}]\n    \
           backendRefs: [{name: not-there, port: 80}]\n"
        + "  - matches: [{path: {type: PathPrefix, value: /away}}]\n    filters: [{type: CORS, cors: {allowOrigins: [\"*\"]}}, \
           {type: RequestRedirect, requestRedirect: {port: 81}}]\n"
        + "  - matches: [{path: {type: PathPrefix, value: /none}}]\n    backendRefs: [{name: echo-v1, port: 80}]\n";
    let stage = Stage::start(&route("HTTPRoute", "cors", "name: echo", &rules)).await;
    stage.v1.forget();
    stage
}

/// The values of the CORS headers: origin, credentials, methods, headers, exposed, age.
fn told(reply: &Reply) -> [Option<&str>; 6] {
    ["allow-origin", "allow-credentials", "allow-methods", "allow-headers", "expose-headers", "max-age"]
        .map(|name| reply.headers.get(format!("access-control-{name}")).map(|value| value.to_str().unwrap()))
}

const ASKED: &str = "x-header-1, x-header-2";

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_by_the_sidecar_as_the_route_says() {
    let stage = stage().await;
    let exact = "GET, OPTIONS";
    let lists = "x-header-3, x-header-4";
    for (path, origin, expected) in [
        (
            "/listed",
            "https://www.foo.com",
            [Some("https://www.foo.com"), Some("true"), Some(exact), Some(ASKED), Some(lists), Some("3600")],
        ),
        (
            "/listed",
            "https://a.b.bar.com",
            [Some("https://a.b.bar.com"), Some("true"), Some(exact), Some(ASKED), Some(lists), Some("3600")],
        ),
        (
            "/any",
            "https://foobar.com:12345",
            [Some("https://foobar.com:12345"), None, Some("PUT"), Some(ASKED), Some("*"), Some("5")],
        ),
        (
            "/any-with-credentials",
            "https://other.foo.com",
            [Some("https://other.foo.com"), Some("true"), Some("PUT"), Some(ASKED), None, Some("5")],
        ),
        ("/gone", "https://a.org", [Some("https://a.org"), None, None, None, None, Some("5")]),
        ("/away", "https://a.org", [Some("https://a.org"), None, None, None, None, Some("5")]),
    ] {
        let headers: Headers<'_> =
            &[("origin", origin), ("access-control-request-method", "PUT"), ("access-control-request-headers", ASKED)];
        let uri = format!("http://echo{path}");
        for reply in
            [stage.ask(Method::OPTIONS, &uri, headers).await, stage.ask_http2(Method::OPTIONS, &uri, headers).await]
        {
            assert_eq!((reply.status, told(&reply)), (200, expected), "{path} {origin}");
            assert_eq!((reply.headers["vary"].to_str().unwrap(), reply.text().as_str()), ("Origin", ""));
        }
    }
    let denied = ["https://foobar.com", "http://www.foo.com", "https://bar.com", "null"];
    for origin in denied {
        let headers: Headers<'_> = &[("origin", origin), ("access-control-request-method", "GET")];
        let reply = stage.ask(Method::OPTIONS, "http://echo/listed", headers).await;
        assert_eq!((reply.status, reply.reason(), told(&reply)), (403, Some("cors_denied"), [None; 6]), "{origin}");
    }
    assert_eq!(stage.v1.count(), 0, "no app was asked");
    // What is no preflight is the app's to answer, and so is one where the route says nothing.
    let headers: Headers<'_> = &[("origin", "https://www.foo.com")];
    assert_eq!(stage.ask(Method::OPTIONS, "http://echo/listed", headers).await.text(), "echo-v1");
    let headers: Headers<'_> = &[("origin", "https://www.foo.com"), ("access-control-request-method", "GET")];
    assert_eq!(stage.ask(Method::OPTIONS, "http://echo/none", headers).await.text(), "echo-v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_which_pages_may_use_it_whatever_the_app_says() {
    let stage = stage().await;
    let said = vec![("access-control-allow-origin", "*"), ("access-control-allow-credentials", "true")];
    for behaviour in [Behaviour::Answer, Behaviour::Headers(said)] {
        stage.v1.set(behaviour);
        for (path, origin, status, expected) in [
            (
                "/listed",
                "https://www.foo.com",
                200,
                [Some("https://www.foo.com"), Some("true"), Some("x-header-3, x-header-4")],
            ),
            ("/listed", "https://foobar.com", 200, [None; 3]),
            ("/any", "https://foobar.com", 200, [Some("https://foobar.com"), None, Some("*")]),
            ("/any-with-credentials", "https://a.org", 200, [Some("https://a.org"), Some("true"), None]),
            // A page must be able to read what went wrong, and be led elsewhere.
            ("/gone", "https://a.org", 500, [Some("https://a.org"), None, None]),
            ("/away", "https://a.org", 302, [Some("https://a.org"), None, None]),
        ] {
            let headers: Headers<'_> = &[("origin", origin), ("cookie", "sid=abc123")];
            let reply = stage.get(&format!("http://echo{path}"), headers).await;
            let [origin, credentials, _, _, exposed, _] = told(&reply);
            assert_eq!((reply.status, [origin, credentials, exposed]), (status, expected), "{path}");
        }
    }
    stage.v1.set(Behaviour::Answer);
    let reply = stage.get("http://echo/listed", &[]).await;
    assert_eq!((told(&reply), reply.headers["vary"].to_str().unwrap()), ([None; 6], "Origin"));
}
