//! CONNECT at the HTTP proxy port: an app that can use an HTTP proxy and nothing else reaches every service.

use std::net::SocketAddr;

use leno_tests::mesh::Trio;
use leno_tests::raw::read_head;
use leno_tests::{Mesh, tools, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

async fn connect(proxy: SocketAddr, to: &str, early: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    stream.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n{early}").as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.unwrap();
    (stream, head)
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_a_tunnel_both_ways_with_what_was_sent_ahead_and_each_half_ends_by_itself() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    let proxy = trio.frontend.http_proxy();
    wait::eventually("the store answers", wait::DEADLINE, async || {
        let (mut tunnel, head) = connect(proxy, "store:7000", "ahead ").await;
        if !head.starts_with("HTTP/1.1 200") {
            return None;
        }
        tunnel.write_all(b"and behind").await.ok()?;
        tunnel.shutdown().await.ok()?;
        let mut echoed = String::new();
        tunnel.read_to_string(&mut echoed).await.ok()?;
        (echoed == "ahead and behind").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_tunnel_are_routed_and_a_tunnel_to_nowhere_is_refused_with_its_reason() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
    let proxy = trio.frontend.http_proxy();
    trio.app.forget();
    let (mut tunnel, head) = connect(proxy, "web.default:80", "GET /in HTTP/1.1\r\nHost: web\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let answer = read_head(&mut tunnel).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(trio.app.seen()[0].path, "/in");
    for (to, status, reason) in [
        ("nobody:80", "404", "unknown_service"),
        ("web:81", "404", "unknown_service"),
        ("example.com:443", "404", "unknown_service"),
        ("web", "400", "bad_authority"),
    ] {
        let (_, head) = connect(proxy, to, "").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{to}: {head}");
        assert!(head.contains(&format!("leno-reason: {reason}")), "{to}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reaches_a_service_through_a_tunnel() {
    if let Some(missing) = tools::missing(&["curl"]) {
        return tools::skip(&format!("{missing} is not installed"));
    }
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
    let proxy = format!("http://{}", trio.frontend.http_proxy());
    let arguments = ["--silent", "--show-error", "--proxytunnel", "--proxy", &proxy, "http://web:80/"];
    let output = Command::new("curl").args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "web");
}
