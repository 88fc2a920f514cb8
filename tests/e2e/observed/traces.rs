//! Traces, as a real collector gets them.

use std::time::Duration;

use http::Method;
use leno_tests::client::{request, send};
use leno_tests::collector::Collector;
use leno_tests::{Behaviour, Load, wait};
use tokio::net::TcpListener;

use super::Pair;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn w3c(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

async fn ask(pair: &Pair, uri: &str, headers: &[(&str, &str)]) -> u16 {
    send(pair.frontend.http_proxy(), request(Method::GET, uri, headers, "")).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_under_the_callers_parent_with_the_same_ids_in_logs_metrics_and_why() {
    let collector = Collector::grpc().await;
    let url = collector.url();
    let pair = Pair::start(&["--otlp-endpoint", &url, "--trace-percent", "0", "--access-log", "all"]).await;
    pair.app.forget();
    let headers = [("traceparent", w3c("01")), ("tracestate", "vendor=1".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(ask(&pair, "http://web/cart?token=secret", &headers).await, 200);
    let spans = collector.trace(TRACE, 2).await;
    let (client, server) = (&spans[0], &spans[1]);
    assert_eq!((client.is_client(), server.is_client(), spans.len()), (true, false, 2));
    assert_eq!((client.parent().as_str(), server.parent()), (PARENT, client.id()));
    assert_eq!((client.span.trace_state.as_str(), client.span.name.as_str()), ("vendor=1", "GET default/web"));
    let app = pair.app.seen().last().unwrap().header("traceparent").unwrap();
    assert_eq!(app, format!("00-{TRACE}-{}-01", server.id()), "the app is the child of its sidecar");
    assert_eq!(pair.app.seen().last().unwrap().header("tracestate").as_deref(), Some("vendor=1"));
    for span in [client, server] {
        assert_eq!(
            (span.attribute("url.path"), span.attribute("http.response.status_code")),
            ("/cart".into(), "200".into())
        );
        assert!(span.span.end_time_unix_nano > span.span.start_time_unix_nano);
    }
    assert_eq!(client.attribute("leno.destination.identity"), "spiffe://cluster.local/ns/default/sa/web");
    assert_eq!(server.attribute("leno.source.identity"), "spiffe://cluster.local/ns/default/sa/frontend");
    assert_eq!((client.resource("service.name"), server.resource("service.name")), ("frontend".into(), "web".into()));

    for (name, span) in [("frontend", client), ("web", server)] {
        let line = wait::eventually("the line", wait::DEADLINE, async || pair.json(name).into_iter().next()).await;
        assert_eq!((&line["trace_id"], &line["span_id"]), (&TRACE.into(), &span.id().into()), "{line}");
        assert!(!line.to_string().contains("secret"), "{line}");
        let sidecar = if name == "web" { &pair.web } else { &pair.frontend };
        let page = request(Method::GET, "/metrics", &[("accept", "application/openmetrics-text")], "");
        let mut admin = leno_tests::ProxyConnection::open(sidecar.admin()).await.unwrap();
        let page = admin.send(page).await.unwrap().text();
        assert!(page.contains(&format!("# {{trace_id=\"{TRACE}\"}}")) && page.ends_with("# EOF\n"), "{page}");
    }

    // One that goes nowhere is of its caller's trace, as the caller's vendor knows it.
    let headers = [("traceparent", w3c("01").replace("4bf9", "6bf9")), ("tracestate", "vendor=1".to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(ask(&pair, "http://nobody/", &headers).await, 404);
    let spans = collector.trace(&TRACE.replace("4bf9", "6bf9"), 1).await;
    assert_eq!(spans[0].span.trace_state, "vendor=1");

    // One that fails: the same number in the answer, the spans, the log, and what `leno why` finds.
    pair.app.set(Behaviour::ResetBefore);
    let headers = [("traceparent", w3c("01").replace("4bf9", "5bf9"))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let reply = send(pair.frontend.http_proxy(), request(Method::POST, "http://web/pay", &headers, "x")).await.unwrap();
    let id = reply.headers["leno-request-id"].to_str().unwrap().to_owned();
    let reason = reply.reason().unwrap().to_owned();
    let spans = collector.trace(&TRACE.replace("4bf9", "5bf9"), 2).await;
    for span in &spans {
        assert_eq!((span.attribute("leno.request_id"), span.attribute("leno.reason")), (id.clone(), reason.clone()));
        assert_eq!(span.span.status.as_ref().unwrap().message, reason);
    }
    assert_eq!(spans[0].events("leno.reason"), [reason.as_str()], "its attempts are events");
    let why = pair.mesh.leno(&["why", &id, "-o", "json"]).await;
    assert!(String::from_utf8_lossy(&why.stdout).contains(&reason));
    for name in ["frontend", "web"] {
        wait::until("the failure is in the log", wait::DEADLINE, || {
            pair.json(name).iter().any(|line| line["attributes"]["leno.request_id"] == id.as_str())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_kept_as_its_parent_says_and_else_by_the_share_and_the_cap() {
    let collector = Collector::http().await;
    let url = collector.url();
    let args = ["--otlp-endpoint", &url, "--otlp-protocol", "http/protobuf"];
    let pair = Pair::start(&[&args[..], &["--trace-percent", "100", "--traces-per-second", "1000"]].concat()).await;
    pair.app.forget();
    let unsampled = w3c("00");
    assert_eq!(ask(&pair, "http://web/unsampled", &[("traceparent", &unsampled)]).await, 200);
    assert_eq!(pair.app.seen()[0].header("traceparent").unwrap(), unsampled, "it is passed on as it came");
    let b3 = format!("{TRACE}-{PARENT}-1");
    assert_eq!(ask(&pair, "http://web/b3", &[("b3", &b3)]).await, 200);
    let spans = collector.trace(TRACE, 2).await;
    assert_eq!(spans[0].parent(), PARENT);
    assert_eq!(pair.app.seen()[1].header("b3").unwrap(), format!("{TRACE}-{}-1", spans[1].id()));
    // Without a parent: the share.
    assert_eq!(ask(&pair, "http://web/fresh", &[]).await, 200);
    let fresh = wait::eventually("a trace of our own", wait::DEADLINE, async || {
        collector.spans().into_iter().find(|of| of.attribute("url.path") == "/fresh" && of.is_client())
    })
    .await;
    assert_eq!(fresh.parent(), "");
    assert_eq!(collector.trace(&hex::encode(&fresh.span.trace_id), 2).await.len(), 2);
    assert!(collector.spans().iter().all(|of| of.attribute("url.path") != "/unsampled"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_says_how_many_requests_of_a_service_are_traced() {
    let collector = Collector::grpc().await;
    let url = collector.url();
    let pair = Pair::start(&["--otlp-endpoint", &url, "--trace-percent", "0"]).await;
    assert_eq!(ask(&pair, "http://web/before", &[]).await, 200);
    let policy = "apiVersion: leno.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: web, namespace: default}\nspec:\n  \
        targetRefs: [{group: \"\", kind: Service, name: web}]\n  tracing: {percent: 100}\n";
    pair.mesh.apply(policy).await;
    wait::eventually("the policy holds", wait::DEADLINE, async || {
        ask(&pair, "http://web/after", &[]).await;
        collector.spans().iter().any(|of| of.attribute("url.path") == "/after").then_some(())
    })
    .await;
    assert!(collector.spans().iter().all(|of| of.attribute("url.path") != "/before"));
    assert_eq!(ask(&pair, "http://web/after", &[("traceparent", &w3c("00"))]).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_or_is_gone_costs_no_request_and_what_it_did_not_take_is_counted() {
    // It takes connections and never says a word.
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", hanging.local_addr().unwrap());
    let args = ["--otlp-endpoint", &url, "--trace-percent", "100", "--traces-per-second", "10000"];
    let mut pair = Pair::start(&args).await;
    let before = pair.frontend.process().memory();
    let load = Load::new(pair.frontend.http_proxy(), "http://web/").clients(4).limit(6_000).start();
    load.join().await.assert_no_failure();
    let full = pair.frontend.metrics().await.sum("leno_spans_total", &[("result", "queue_full")]);
    assert!(full > 0.0, "a queue has an end");
    let grown = pair.frontend.process().memory().saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes more");
    // And then it is gone altogether.
    drop(hanging);
    wait::eventually("what was offered in vain is counted", Duration::from_secs(60), async || {
        let metrics = pair.frontend.metrics().await;
        (metrics.sum("leno_spans_total", &[("result", "not_taken")]) > 0.0).then_some(())
    })
    .await;
    assert_eq!(ask(&pair, "http://web/", &[]).await, 200);
    assert!(pair.frontend.log().contains("the collector takes no spans"));
}
