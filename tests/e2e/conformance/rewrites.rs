//! URLRewrite and the modifiers of headers, on rules and on backends: what the app sees.

use leno_tests::Behaviour;
use leno_tests::app::Seen;

use super::{Headers, Stage, route};

const MODIFY: &str = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: set-overwrites-values}], \
     add: [{name: X-Header-Add, value: header-val-1}, {name: X-Header-Add-Append, value: header-val-2}], remove: [X-Header-Remove]}}";

fn rewrite(prefix: &str, how: &str, more: &str) -> String {
    format!(
        "  - matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]\n    \
         filters: [{{type: URLRewrite, urlRewrite: {{{how}}}}}{more}]\n    backendRefs: [{{name: echo-v1, port: 8080}}]\n"
    )
}

fn replaced(prefix: &str) -> String {
    format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: {prefix}}}")
}

fn full(path: &str) -> String {
    format!("path: {{type: ReplaceFullPath, replaceFullPath: {path}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_sees_the_rewritten_path_and_host() {
    let modify = format!(", {MODIFY}");
    let rules = rewrite("/prefix/one", &replaced("/one"), "")
        + &rewrite("/strip-prefix", &replaced("/"), "")
        + &rewrite("/empty", &replaced("''"), "")
        + &rewrite("/full/one", &full("/one"), "")
        + &rewrite("/full/rewrite-path-and-modify-headers", &full("/test"), &modify)
        + &rewrite("/prefix/rewrite-path-and-modify-headers", &replaced("/prefix"), &modify)
        + &rewrite("/host", "hostname: one.example.org", "")
        + &rewrite("/both", &format!("hostname: two.example.org, {}", replaced("/xyz/")), "")
        + &format!(
            "  - matches: [{{path: {{type: PathPrefix, value: /of-backend}}}}]\n    backendRefs: [{{name: echo-v1, port: 8080, \
             filters: [{{type: URLRewrite, urlRewrite: {{hostname: three.example.org, {}}}}}]}}]\n",
            replaced("/b")
        );
    let stage = Stage::start(&route("HTTPRoute", "rewrites", "name: echo", &rules)).await;
    for (path, host, rewritten) in [
        ("/prefix/one/two", "echo", "/one/two"),
        ("/prefix/one/a%2Fb/%7e?q=%20", "echo", "/one/a%2Fb/%7e?q=%20"),
        ("/strip-prefix/three", "echo", "/three"),
        ("/strip-prefix", "echo", "/"),
        ("/strip-prefix/?x", "echo", "/?x"),
        ("/empty/three/", "echo", "/three/"),
        ("/full/one/two?q=1", "echo", "/one?q=1"),
        ("/host/a", "one.example.org", "/host/a"),
        ("/both/a", "two.example.org", "/xyz/a"),
        ("/both/", "two.example.org", "/xyz/"),
        ("/of-backend/a", "three.example.org", "/b/a"),
    ] {
        for seen in stage.both(&format!("http://echo{path}"), &[], 200, "echo-v1").await {
            assert_eq!((seen.host.as_str(), seen.path.as_str()), (host, rewritten), "{path}");
        }
    }
    let sent: Headers<'_> =
        &[("X-Header-Remove", "remove-val"), ("X-Header-Add-Append", "append-val-1"), ("X-Header-Set", "set-val")];
    for (path, rewritten) in [
        ("/full/rewrite-path-and-modify-headers/test", "/test"),
        ("/prefix/rewrite-path-and-modify-headers/one", "/prefix/one"),
    ] {
        for seen in stage.both(&format!("http://echo{path}"), sent, 200, "echo-v1").await {
            assert_eq!(seen.path, rewritten);
            is(&seen, "x-header-set", Some("set-overwrites-values"));
            is(&seen, "x-header-add", Some("header-val-1"));
            is(&seen, "x-header-add-append", Some("append-val-1,header-val-2"));
            is(&seen, "x-header-remove", None);
        }
    }
}

fn is(seen: &Seen, name: &str, value: Option<&str>) {
    assert_eq!(seen.header(name).as_deref(), value, "{name}");
}

const SEVERAL: &str = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set-1, value: header-set-1}, \
     {name: X-Header-Set-2, value: header-set-2}], add: [{name: X-Header-Add-1, value: header-add-1}, {name: X-Header-Add-2, value: \
     header-add-2}], remove: [X-Header-Remove-1, X-HEADER-REMOVE-2]}}";

/// On the rule and on the backend the same holds.
#[tokio::test(flavor = "multi_thread")]
async fn request_headers_are_set_added_and_removed_whatever_their_case() {
    let of_rule = format!("  - filters: [{SEVERAL}]\n    backendRefs: [{{name: echo-v1, port: 80}}]\n");
    let of_backend = format!("  - backendRefs: [{{name: echo-v1, port: 80, filters: [{SEVERAL}]}}]\n");
    let stage = Stage::start("").await;
    for rules in [of_rule, of_backend] {
        stage.mesh.apply(&route("HTTPRoute", "headers", "name: echo", &rules)).await;
        let sent: Headers<'_> = &[
            ("x-header-set-2", "set-val-2"),
            ("X-HEADER-ADD-2", "add-val-2"),
            ("x-header-remove-2", "remove-val-2"),
            ("Another-Header", "another-header-val"),
        ];
        for seen in stage.both("http://echo/", sent, 200, "echo-v1").await {
            is(&seen, "x-header-set-1", Some("header-set-1"));
            is(&seen, "x-header-set-2", Some("header-set-2"));
            is(&seen, "x-header-add-1", Some("header-add-1"));
            is(&seen, "x-header-add-2", Some("add-val-2,header-add-2"));
            is(&seen, "x-header-remove-1", None);
            is(&seen, "x-header-remove-2", None);
            is(&seen, "another-header", Some("another-header-val"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn response_headers_are_modified_by_the_backends_filters_and_then_by_the_rules() {
    let modifier = |what: &str| format!("{{type: ResponseHeaderModifier, responseHeaderModifier: {{{what}}}}}");
    let rules = format!(
        "  - filters: [{}]\n    backendRefs: [{{name: echo-v1, port: 80, filters: [{}]}}]\n",
        modifier("set: [{name: X-Set, value: rule}], add: [{name: X-Add, value: rule}], remove: [x-secret]"),
        modifier("set: [{name: X-Set, value: backend}], add: [{name: X-Add, value: backend}]"),
    );
    let stage = Stage::start(&route("HTTPRoute", "headers", "name: echo", &rules)).await;
    stage.v1.set(Behaviour::Headers(vec![("x-set", "app"), ("x-add", "app"), ("x-secret", "1")]));
    let reply = stage.get("http://echo/", &[]).await;
    let all = |name: &str| -> Vec<_> {
        reply.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(all("x-set"), ["rule"]);
    assert_eq!(all("x-add"), ["app", "backend", "rule"]);
    assert_eq!(all("x-secret"), [""; 0]);
}
