//! HTTPS: certificates, misdirected requests, client certificates, and clients that stall.

use std::process::{Command, Stdio};
use std::time::Duration;

use leno_tests::{Mesh, require_tools, tools, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::*;

fn https(name: &str, host: &str, secret: &str) -> String {
    let host = if host.is_empty() { String::new() } else { format!("hostname: {host:?}, ") };
    format!("{{name: {name}, port: 443, protocol: HTTPS, {host}tls: {{certificateRefs: [{{name: {secret}}}]}}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_picked_by_name_and_swapped_without_closing_a_connection() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let _apps = apps(&mesh, ["web"]).await;
    let (one, wild) = (ca.pair(&["one.example.com"]), ca.pair(&["*.example.com"]));
    let both = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: one}, {name: wild}]}}";
    let yaml = one.secret("one") + &wild.secret("wild") + &gateway(&[both], "") + &route("web", "", &[], "", "web");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[443]).await;
    let (at, tls) = (edge.gateway(443), Tls::new(&ca));
    tls.answers(at, "one.example.com", "/", 200).await;
    for (name, pair) in [("one.example.com", &one), ("two.example.com", &wild)] {
        let stream = tls.connect(at, name).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(), pair.chain);
    }
    // Both protocols, by ALPN, and HTTP/1.1 for who offers none.
    for (offer, chosen) in
        [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
    {
        let stream = tls.clone().alpn(offer).connect(at, "one.example.com").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen);
    }
    let stream = tls.clone().alpn(&["h2"]).connect(at, "one.example.com").await.unwrap();
    let mut sender = http2(stream).await.unwrap();
    assert_eq!(get_http2(&mut sender, "https://one.example.com/").await.unwrap().0, 200);
    let newer = ca.pair(&["one.example.com"]);
    mesh.apply(&newer.secret("one")).await;
    wait::eventually("the new certificate", wait::DEADLINE, || async {
        let stream = tls.connect(at, "one.example.com").await.ok()?;
        (stream.get_ref().1.peer_certificates()?[0].as_ref() == newer.chain).then_some(())
    })
    .await;
    assert_eq!(get_http2(&mut sender, "https://one.example.com/").await.unwrap().0, 200, "the old connection lives");
    assert!(!edge.log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_and_1_3_are_served_to_openssl_and_nothing_older() {
    require_tools!("openssl");
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let _apps = apps(&mesh, ["web"]).await;
    let yaml = ca.pair(&["a.example.com"]).secret("a") + &gateway(&[&https("a", "a.example.com", "a")], "");
    mesh.apply(&(yaml + &route("web", "", &[], "", "web"))).await;
    let edge = edge(&mesh, &[443]).await;
    let at = edge.gateway(443);
    Tls::new(&ca).answers(at, "a.example.com", "/", 200).await;
    let shake = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &at.to_string(), "-brief"]).args(args).stdin(Stdio::null());
        async move { tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap() }
    };
    let named = ["-servername", "a.example.com"];
    for (version, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let told = shake(&[&named[..], &[version]].concat()).await;
        let told = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.contains(protocol) && told.contains("CONNECTION ESTABLISHED"), "{told}");
    }
    for wrong in
        [&["-servername", "a.example.com", "-tls1_1"][..], &["-noservername"], &["-servername", "b.example.com"]]
    {
        let told = shake(wrong).await;
        assert!(!told.status.success(), "{wrong:?}: {}", String::from_utf8_lossy(&told.stderr));
    }
    let told = shake(&["-servername", "b.example.com"]).await;
    let told = String::from_utf8_lossy(&told.stderr).to_lowercase();
    assert!(told.contains("unrecognized name") || told.contains("alert number 112"), "closed with an alert: {told}");
    tools::note(&told);
    // Plain HTTP on the port of TLS is told so.
    let reply = get(at, "a.example.com", "/").await.unwrap();
    assert_eq!((reply.status, reply.reason()), (400, Some("bad_request")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_listener_than_the_handshakes_is_answered_421() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let _apps = apps(&mesh, ["first", "second", "third", "fourth"]).await;
    let names = ["example.org", "second-example.org", "unknown-example.org", "*.wildcard.org"];
    let yaml = ca.pair(&names).secret("all")
        + &gateway(
            &[
                &https("https", "", "all"),
                &https("second", "second-example.org", "all"),
                &https("wildcard", "*.wildcard.org", "all"),
                &https("fourth", "fourth-example.wildcard.org", "all"),
            ],
            "",
        )
        + &route("first", "", &["example.org"], "", "first")
        + &route("second", "second", &[], "", "second")
        + &route("third", "wildcard", &["*.wildcard.org"], "", "third")
        + &route("fourth", "fourth", &["fourth-example.wildcard.org"], "", "fourth");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[443]).await;
    let (at, tls) = (edge.gateway(443), Tls::new(&ca));
    tls.answers(at, "example.org", "/", 200).await;
    tls.answers(at, "fourth-example.wildcard.org", "/", 200).await;
    let mut wrong = Vec::new();
    for (name, host, expected) in [
        ("example.org", "example.org", "first"),
        ("example.org", "second-example.org", "421"),
        ("example.org", "unknown-example.org", "404"),
        ("second-example.org", "second-example.org", "second"),
        ("second-example.org", "example.org", "421"),
        ("second-example.org", "unknown-example.org", "421"),
        ("third-example.wildcard.org", "third-example.wildcard.org", "third"),
        ("third-example.wildcard.org", "fith-example.wildcard.org", "third"),
        ("third-example.wildcard.org", "fourth-example.wildcard.org", "421"),
        ("third-example.wildcard.org", "second-example.org", "421"),
        ("third-example.wildcard.org", "unknown-example.org", "421"),
        ("fourth-example.wildcard.org", "fourth-example.wildcard.org", "fourth"),
        ("fourth-example.wildcard.org", "fith-example.wildcard.org", "421"),
        ("unknown-example.org", "example.org", "first"),
        ("unknown-example.org", "unknown-example.org", "404"),
    ] {
        let reply = tls.get(at, name, host, "/").await.unwrap();
        let got = if reply.status == 200 { reply.text() } else { reply.status.to_string() };
        if got != expected {
            wrong.push(format!("{name} {host}: {got} and not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // An HTTP/2 client that coalesces learns it for the one request and keeps its connection.
    let mut sender = http2(tls.alpn(&["h2"]).connect(at, "example.org").await.unwrap()).await.unwrap();
    assert_eq!(get_http2(&mut sender, "https://second-example.org/").await.unwrap().0, 421);
    assert_eq!(get_http2(&mut sender, "https://example.org/").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_a_certificate_where_the_gateway_asks_for_one() {
    let (mesh, ca, stranger) = (Mesh::start().await, Ca::new(), Ca::new());
    let _apps = apps(&mesh, ["web"]).await;
    let validation = |mode: &str| {
        format!(
            "  tls:\n    frontend:\n      default:\n        validation:\n          mode: {mode}\n          \
             caCertificateRefs: [{{group: \"\", kind: ConfigMap, name: clients}}]\n"
        )
    };
    let yaml = |mode: &str| gateway(&[&https("a", "a.example.com", "a")], &validation(mode));
    let fixed = ca.pair(&["a.example.com"]).secret("a") + &ca.config_map("clients") + &route("web", "", &[], "", "web");
    mesh.apply(&(fixed + &yaml("AllowValidOnly"))).await;
    let edge = edge(&mesh, &[443]).await;
    let at = edge.gateway(443);
    let (good, bad) = (ca.pair(&["client"]), stranger.pair(&["client"]));
    let (none, good, bad) = (Tls::new(&ca), Tls::with(&ca, Some(&good)), Tls::with(&ca, Some(&bad)));
    good.answers(at, "a.example.com", "/", 200).await;
    for refused in [&none, &bad] {
        assert!(refused.get(at, "a.example.com", "a.example.com", "/").await.is_err());
    }
    let mut held = http2(good.clone().alpn(&["h2"]).connect(at, "a.example.com").await.unwrap()).await.unwrap();
    assert_eq!(get_http2(&mut held, "https://a.example.com/").await.unwrap().0, 200);
    mesh.apply(&yaml("AllowInsecureFallback")).await;
    for served in [&none, &bad, &good] {
        served.answers(at, "a.example.com", "/", 200).await;
    }
    // What was asked of the client is another thing now: its connection is no longer the listener's.
    assert_eq!(get_http2(&mut held, "https://a.example.com/").await.unwrap().0, 421);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stall_in_their_handshake_stop_nobody_and_are_closed() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let _apps = apps(&mesh, ["web"]).await;
    let yaml = ca.pair(&["a.example.com"]).secret("a") + &gateway(&[&https("a", "", "a")], "");
    mesh.apply(&(yaml + &route("web", "", &[], "", "web"))).await;
    let edge = edge(&mesh, &[443]).await;
    let (at, tls) = (edge.gateway(443), Tls::new(&ca));
    tls.answers(at, "a.example.com", "/", 200).await;
    // Some say nothing, some the beginning of a hello.
    let mut stalled = Vec::new();
    for n in 0..300 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(&[22, 3, 1, 2, 0, 1][..n % 7]).await.unwrap();
        stalled.push(stream);
    }
    assert_eq!(tls.get(at, "a.example.com", "a.example.com", "/").await.unwrap().status, 200);
    let mut byte = [0];
    for stream in &mut stalled {
        let end = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut byte)).await.expect("closed in time");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
}
