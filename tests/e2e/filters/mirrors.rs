//! RequestMirror: copies of requests, which nobody waits for and which fail nobody.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use leno_tests::stats::binomial_999;
use leno_tests::wait::{DEADLINE, eventually, until};
use leno_tests::{Behaviour, HttpApp, Load, client};

use crate::conformance::{Stage, route};

/// A mirror to a Service's port 80; `more` are further fields.
fn mirror(to: &str, more: &str) -> String {
    format!("{{type: RequestMirror, requestMirror: {{backendRef: {{{to}, port: 80}}{more}}}}}")
}

fn rule(prefix: &str, filters: &str) -> String {
    format!(
        "  - matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]\n    filters: [{filters}]\n    \
         backendRefs: [{{name: echo-v1, port: 80}}]\n"
    )
}

async fn stage(rules: &str) -> Stage {
    let stage = Stage::start(&route("HTTPRoute", "mirrors", "name: echo", rules)).await;
    stage.v1.forget();
    stage.v2.forget();
    stage
}

async fn count(stage: &Stage, service: &str, result: &str) -> f64 {
    let labels = &[("service", service), ("result", result)];
    stage.client.metrics().await.sum("leno_mirrored_requests_total", labels)
}

async fn has(app: &HttpApp, n: usize) {
    until(&format!("{n} copies"), DEADLINE, || app.count() >= n).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_request_as_the_filters_before_it_left_it() {
    let change = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: changed}]}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}";
    let rules = rule("/plain", &mirror("name: echo-v2", ""))
        + &rule("/before", &format!("{}, {change}, {rewrite}", mirror("name: echo-v2", "")))
        + &rule("/after", &format!("{change}, {rewrite}, {}", mirror("name: echo-v2", "")))
        + "  - matches: [{path: {type: PathPrefix, value: /away}}]\n    filters: [{type: RequestRedirect, requestRedirect: {port: 81}}, "
        + &mirror("name: echo-v2", "")
        + "]\n";
    let stage = stage(&rules).await;
    let body = Bytes::from(vec![7; 300_000]);
    for (n, (path, real, copy, header)) in [
        ("/plain/a%2Fb?q=1", "/plain/a%2Fb?q=1", "/plain/a%2Fb?q=1", "sent"),
        ("/before/a", "/new/a", "/before/a", "sent"),
        ("/after/a", "/new/a", "/new/a", "changed"),
    ]
    .into_iter()
    .enumerate()
    {
        let request = client::request(Method::POST, &format!("http://echo{path}"), &[("x-a", "sent")], body.clone());
        let reply = client::send(stage.client.http_proxy(), request).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "echo-v1"));
        has(&stage.v2, n + 1).await;
        let (seen, copied) = (stage.v1.seen().remove(n), stage.v2.seen().remove(n));
        assert_eq!((seen.path.as_str(), copied.path.as_str()), (real, copy));
        assert_eq!((copied.method.clone(), copied.body, copied.host.as_str()), (Method::POST, 300_000, "echo"));
        assert_eq!(copied.header("x-a").as_deref(), Some(header));
    }
    // What is sent elsewhere is mirrored too.
    let request = client::request(Method::POST, "http://echo/away", &[], body);
    assert_eq!(client::send_http2(stage.client.http_proxy(), request).await.unwrap().status, 302);
    has(&stage.v2, 4).await;
    assert_eq!((stage.v2.seen().remove(3).body, stage.v1.count()), (300_000, 3));
    eventually("they are counted", DEADLINE, async || {
        (count(&stage, "default/echo-v2", "answered").await == 4.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_mirrors_get_a_copy_each_and_shares_hold() {
    let several = format!("{}, {}", mirror("name: echo-v1", ""), mirror("name: echo-v2", ""));
    let shares = format!(
        "{}, {}",
        mirror("name: echo-v2", ", percent: 20"),
        mirror("name: echo-v2", ", fraction: {numerator: 0, denominator: 7}")
    );
    let of_backend = format!(
        "  - matches: [{{path: {{type: PathPrefix, value: /of-backend}}}}]\n    backendRefs: [{{name: echo-v1, port: 80, filters: [{}]}}]\n",
        mirror("name: echo-v2", "")
    );
    let stage = stage(&(rule("/several", &several) + &rule("/share", &shares) + &of_backend)).await;
    assert_eq!(stage.get("http://echo/several", &[]).await.text(), "echo-v1");
    has(&stage.v1, 2).await;
    has(&stage.v2, 1).await;
    assert_eq!(stage.ask_http2(Method::GET, "http://echo/of-backend", &[]).await.text(), "echo-v1");
    has(&stage.v2, 2).await;
    stage.v2.forget();
    let report = Load::new(stage.client.http_proxy(), "http://echo/share").clients(4).limit(1000).run().await;
    report.assert_no_failure();
    let allowed = binomial_999(1000, 0.2);
    has(&stage.v2, *allowed.start()).await;
    eventually("all copies are answered", DEADLINE, async || {
        let answered = count(&stage, "default/echo-v2", "answered").await;
        (answered >= stage.v2.count() as f64 + 2.0).then_some(())
    })
    .await;
    assert!(allowed.contains(&stage.v2.count()), "{} is not in {allowed:?}", stage.v2.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_slow_broken_or_not_there_slows_and_fails_nobody_and_copies_are_bounded() {
    let rules = rule("/slow", &mirror("name: echo-v2", ""))
        + &rule("/gone", &mirror("name: not-there", ""))
        + &rule("/forbidden", &mirror("name: echo-v2, namespace: other", ""));
    let stage = stage(&rules).await;
    for path in ["/gone", "/forbidden"] {
        assert_eq!(stage.get(&format!("http://echo{path}"), &[]).await.text(), "echo-v1");
    }
    assert_eq!(stage.v2.count(), 0);
    // Longer than the whole test may take.
    stage.v2.set(Behaviour::Delay(Duration::from_secs(120)));
    let start = Instant::now();
    let report = Load::new(stage.client.http_proxy(), "http://echo/slow").clients(8).limit(600).run().await;
    report.assert_no_failure();
    assert_eq!(report.answered_by("echo-v1"), 600);
    assert!(start.elapsed() < Duration::from_secs(60), "the requests waited for their copies");
    // 256 are on their way, and what is above is not sent.
    assert_eq!(count(&stage, "default/echo-v2", "dropped").await, 344.0);
    stage.v2.set(Behaviour::ResetBefore);
    assert_eq!(stage.get("http://echo/slow", &[]).await.text(), "echo-v1");
}
