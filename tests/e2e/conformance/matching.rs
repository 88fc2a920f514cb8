//! Paths, headers, query parameters, methods, named rules, and which of several matches holds.

use http::Method;

use super::{Headers, Stage, route};

/// URI, headers, and the app that must answer; none: 404.
type Case = (&'static str, Headers<'static>, Option<&'static str>);

async fn hold(stage: &Stage, cases: &[Case]) {
    for (path, headers, app) in cases {
        let uri = format!("http://echo{path}");
        match app {
            Some(app) => drop(stage.both(&uri, headers, 200, app).await),
            None => drop(stage.both(&uri, headers, 404, "").await),
        }
    }
}

const PATHS: &str = "
  - matches: [{path: {type: PathPrefix, value: /}}, {headers: [{name: version, value: one}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{path: {type: PathPrefix, value: /v2}}, {headers: [{name: version, value: two}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
";

#[tokio::test(flavor = "multi_thread")]
async fn paths_and_headers_lead_to_different_backends() {
    let stage = Stage::start(&route("HTTPRoute", "matching", "name: echo", PATHS)).await;
    let cases: &[Case] = &[
        ("/", &[], Some("echo-v1")),
        ("/example", &[], Some("echo-v1")),
        ("/", &[("Version", "one")], Some("echo-v1")),
        ("/v2", &[], Some("echo-v2")),
        ("/v2/example", &[], Some("echo-v2")),
        ("/", &[("Version", "two")], Some("echo-v2")),
        ("/v2/", &[], Some("echo-v2")),
        // No prefix of whole path elements.
        ("/v2example", &[], Some("echo-v1")),
        ("/foo/v2/example", &[], Some("echo-v1")),
    ];
    hold(&stage, cases).await;
}

const QUERIES: &str = "
  - matches: [{queryParams: [{name: animal, value: whale}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{queryParams: [{name: animal, value: dolphin}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
  - matches: [{queryParams: [{name: animal, value: dolphin}, {name: color, value: blue}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches:
    - {path: {type: PathPrefix, value: /path1}, queryParams: [{name: animal, value: whale}]}
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches:
    - {headers: [{name: version, value: one}], queryParams: [{name: animal, value: whale}]}
    backendRefs: [{name: echo-v2, port: 8080}]
  - matches:
    - {path: {type: PathPrefix, value: /path3}, queryParams: [{name: animal, value: shark}]}
    - {headers: [{name: version, value: three}], path: {type: PathPrefix, value: /path4}, queryParams: [{name: animal, value: kraken}]}
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{path: {type: PathPrefix, value: /path5}}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{queryParams: [{name: animal, value: hydra}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
";

#[tokio::test(flavor = "multi_thread")]
async fn query_parameters_are_matched_whole_and_what_matches_nothing_is_not_found() {
    let stage = Stage::start(&route("HTTPRoute", "queries", "name: echo", QUERIES)).await;
    let cases: &[Case] = &[
        ("/?animal=whale", &[], Some("echo-v1")),
        ("/?animal=dolphin", &[], Some("echo-v2")),
        ("/?animal=dolphin&color=blue", &[], Some("echo-v1")),
        ("/?animal=whale&otherparam=irrelevant", &[], Some("echo-v1")),
        ("/?animal=dolphin&color=yellow", &[], Some("echo-v2")),
        ("/?color=blue", &[], None),
        ("/?animal=dog", &[], None),
        ("/?animal=whaledolphin", &[], None),
        ("/", &[], None),
        ("/path1?animal=whale", &[], Some("echo-v1")),
        ("/?animal=whale", &[("version", "one")], Some("echo-v2")),
        ("/path3?animal=shark", &[], Some("echo-v1")),
        ("/path4?animal=kraken", &[("version", "three")], Some("echo-v1")),
        ("/?animal=shark", &[], None),
        ("/path4?animal=kraken", &[], None),
        // The longer path goes before any number of parameters.
        ("/path5?animal=hydra", &[], Some("echo-v1")),
    ];
    hold(&stage, cases).await;
}

const NAMED: &str = "
  - name: named-rule
    matches: [{path: {type: PathPrefix, value: /named}}]
    backendRefs: [{name: echo-v1, port: 8080}]
  - matches: [{path: {type: PathPrefix, value: /unnamed}}]
    backendRefs: [{name: echo-v2, port: 8080}]
  - matches: [{method: POST}]
    backendRefs: [{name: echo-v2, port: 8080}]
  - matches: [{headers: [{name: Host, value: \"echo:80\"}]}]
    backendRefs: [{name: echo-v2, port: 8080}]
  - matches: [{headers: [{name: x-list, value: \"a,b\"}]}]
    backendRefs: [{name: echo-v1, port: 8080}]
";

#[tokio::test(flavor = "multi_thread")]
async fn rules_may_have_names_and_ask_for_methods_hosts_and_lists() {
    let stage = Stage::start(&route("HTTPRoute", "named", "name: echo", NAMED)).await;
    let cases: &[Case] = &[
        ("/named", &[], Some("echo-v1")),
        ("/unnamed", &[], Some("echo-v2")),
        ("/", &[("x-list", "a"), ("x-list", "b")], Some("echo-v1")),
        ("/", &[("x-list", "a")], None),
        (":80/", &[], Some("echo-v2")),
        ("/", &[], None),
    ];
    hold(&stage, cases).await;
    assert_eq!(stage.ask(Method::POST, "http://echo/", &[]).await.text(), "echo-v2");
    // A longer path goes before a method.
    assert_eq!(stage.ask(Method::POST, "http://echo/named", &[]).await.text(), "echo-v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_equal_matches_the_oldest_route_holds_then_the_first_by_name_then_the_first_rule() {
    let routed = |name: &str, created: &str, to: &str| {
        let rules =
            format!("  - backendRefs: [{{name: {to}, port: 80}}]\n  - backendRefs: [{{name: gone, port: 80}}]\n");
        let named = format!("name: {name}, creationTimestamp: \"{created}\"");
        route("HTTPRoute", name, "name: echo", &rules).replacen(&format!("name: {name}"), &named, 1)
    };
    let (old, new) = ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z");
    let stage = Stage::start(&(routed("a", new, "echo-v1") + &routed("b", old, "echo-v2"))).await;
    stage.both("http://echo/", &[], 200, "echo-v2").await;
    stage.mesh.apply(&routed("a", old, "echo-v1")).await;
    stage.both("http://echo/", &[], 200, "echo-v1").await;
}
