//! The access log.

use std::time::Duration;

use http::Method;
use leno_tests::client::{request, send};
use leno_tests::{Behaviour, Load, tools, wait};

use super::Pair;

fn policy(target: &str, spec: &str) -> String {
    format!(
        "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {target}, namespace: default}}\nspec:\n  \
         targetRefs: [{{group: \"\", kind: Service, name: {target}}}]\n  {spec}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_has_both_identities_the_route_and_the_times_and_only_headers_that_were_named() {
    let pair = Pair::start(&["--access-log", "all", "--access-log-header", "user-agent"]).await;
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: shop, namespace: default}\nspec:\n  \
        parentRefs: [{kind: Service, group: \"\", name: web, port: 80}]\n  rules: [{name: all, backendRefs: [{name: web, port: 80}]}]\n";
    pair.mesh.apply(route).await;
    let headers = [("user-agent", "shop\t1"), ("authorization", "Bearer secret"), ("cookie", "session=secret")];
    let line = wait::eventually("a line by the route", wait::DEADLINE, async || {
        let asked = request(Method::POST, "http://web/pay?card=secret", &headers, "12345");
        assert_eq!(send(pair.frontend.http_proxy(), asked).await.unwrap().status, 200);
        pair.json("frontend").into_iter().find(|line| line["attributes"]["leno.route"].is_string())
    })
    .await;
    let of = |name: &str| line["attributes"][name].clone();
    assert_eq!((line["severity_text"].as_str(), of("http.request.method")), (Some("INFO"), "POST".into()));
    assert_eq!((of("url.path"), of("http.request.body.size")), ("/pay".into(), 5.into()));
    assert!(of("leno.route").as_str().unwrap().ends_with("default/shop all"), "{line}");
    assert_eq!(of("leno.destination.identity"), "spiffe://cluster.local/ns/default/sa/web");
    assert!(of("leno.endpoint").as_str().unwrap().starts_with("default/web-"), "{line}");
    assert_eq!(of("http.request.header.user-agent"), "shop1", "no control character");
    assert!(of("leno.duration").as_f64() >= of("leno.first_byte.duration").as_f64(), "{line}");
    let inbound =
        wait::eventually("the app's line", wait::DEADLINE, async || pair.json("web").into_iter().next()).await;
    assert_eq!(inbound["attributes"]["leno.source.identity"], "spiffe://cluster.local/ns/default/sa/frontend");
    for name in ["frontend", "web"] {
        assert!(!pair.lines(name).concat().contains("secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_says_which_requests_are_written_down_and_a_policy_says_otherwise() {
    let pair = Pair::start(&["--access-log", "errors", "--access-log-form", "text"]).await;
    let ask = async |path: &str| {
        let asked = request(Method::GET, &format!("http://web{path}"), &[], "");
        send(pair.frontend.http_proxy(), asked).await.unwrap().status
    };
    assert_eq!(ask("/good").await, 200);
    pair.app.set(Behaviour::Status(500));
    assert_eq!(ask("/bad").await, 500);
    pair.app.set(Behaviour::Answer);
    let line = wait::eventually("the failure is there", wait::DEADLINE, async || pair.lines("frontend").pop()).await;
    assert!(line.contains(" ERROR GET default/web /bad 500 "), "{line}");
    assert!(line.contains(r#"error.type="500""#), "{line}");
    assert_eq!(pair.lines("frontend").len(), 1, "what went well is not");

    pair.mesh.apply(&policy("web", "accessLog: {mode: All}")).await;
    wait::eventually("the policy holds", wait::DEADLINE, async || {
        ask("/all").await;
        pair.lines("frontend").iter().any(|line| line.contains("/all")).then_some(())
    })
    .await;
    // Lines are written in order: once a later one is there, an earlier one is, or will never be.
    let mut n = 0;
    let mut all_written = async || {
        n += 1;
        let path = format!("/until-{n}");
        assert_eq!(pair.frontend.get(&format!("http://nowhere{path}")).await.unwrap().status, 404);
        wait::until("the later line", wait::DEADLINE, || {
            pair.lines("frontend").iter().any(|line| line.contains(&path))
        })
        .await;
    };
    pair.mesh.apply(&policy("web", "accessLog: {mode: Off}")).await;
    wait::eventually("nothing is written down any more", wait::DEADLINE, async || {
        let before = pair.lines("frontend").len();
        ask("/off").await;
        all_written().await;
        (pair.lines("frontend").len() == before + 1).then_some(())
    })
    .await;
    pair.mesh.apply(&policy("web", "accessLog: {mode: Sampled, percent: 20}")).await;
    wait::eventually("a sample is written down", wait::DEADLINE, async || {
        ask("/first").await;
        pair.lines("frontend").iter().any(|line| line.contains("/first")).then_some(())
    })
    .await;
    for _ in 0..500 {
        ask("/sampled").await;
    }
    all_written().await;
    let sampled = pair.lines("frontend").iter().filter(|line| line.contains("/sampled")).count();
    assert!((50..=160).contains(&sampled), "{sampled} of 500");

    let refused = pair.mesh.apply_output(&policy("web", "accessLog: {mode: Some, percent: 5}")).await;
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("accessLog.mode"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_and_an_answer_that_breaks_off_are_written_down_too() {
    let pair = Pair::start(&["--access-log", "all"]).await;
    pair.app.set(Behaviour::Delay(Duration::from_secs(60)));
    let gone = tokio::time::timeout(Duration::from_millis(300), pair.frontend.get("http://web/gone")).await;
    assert!(gone.is_err(), "nobody answered");
    for name in ["frontend", "web"] {
        let line = wait::eventually("who went is noted", wait::DEADLINE, async || pair.json(name).pop()).await;
        let of = |attribute: &str| line["attributes"][attribute].clone();
        assert_eq!(
            (of("http.response.status_code"), of("leno.reason")),
            (499.into(), "downstream_reset".into()),
            "{line}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_no_request_and_what_was_not_written_is_counted() {
    if !std::path::Path::new("/dev/full").exists() {
        return tools::skip("there is no /dev/full");
    }
    let mesh = leno_tests::Mesh::start().await;
    let trio = leno_tests::mesh::Trio::start(&mesh).await;
    let args = ["--access-log", "all", "--access-log-file", "/dev/full"];
    let other = mesh.sidecar("other", "other").await.args(&args).start().await;
    mesh.reachable(&other, "http://web/").await;
    let load = Load::new(other.http_proxy(), "http://web/").clients(4).limit(3_000).start();
    load.join().await.assert_no_failure();
    wait::eventually("it is counted", wait::DEADLINE, async || {
        let metrics = other.metrics().await;
        (metrics.sum("leno_access_log_lines_total", &[("result", "dropped")]) >= 3_000.0).then_some(())
    })
    .await;
    assert!(other.log().contains("the access log cannot be written"));
    drop(trio);
}
