//! HTTP/1 that two readers could take differently: CL.TE, TE.CL and every other form of smuggling. The mesh port speaks HTTP/2 only,
//! so here the local ports and the Gateway's are attacked; what HTTP/2 makes of it is in `http2`.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::field::{Field, HTTP1, Role, at_each};

/// What an attacker would like to be read as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";

fn bad_requests() -> Vec<String> {
    let post = |fields: &str, body: &str| format!("POST /attack HTTP/1.1\r\nHost: web\r\n{fields}\r\n\r\n{body}");
    let mut bad = vec![
        // Two lengths, in all orders.
        post("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 4", "0\r\n\r\n"),
        post("Content-Length: 0\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("Content-Length: 4\r\nContent-Length: 5", "aaaaa"),
        post("Content-Length: 4\r\nContent-Length: 4", "aaaa"),
        post("Content-Length: 4, 4", "aaaa"),
        post("Content-Length: 4,5", "aaaa"),
        // Lengths that are none.
        post("Content-Length: +4", "aaaa"),
        post("Content-Length: -4", "aaaa"),
        post("Content-Length: 0x4", "aaaa"),
        post("Content-Length: 4 ", "aaaa").replace("4 \r\n", "4 4\r\n"),
        post("Content-Length: \u{b}4", "aaaa"),
        post("Content-Length: 99999999999999999999999", "aaaa"),
        post("Content-Length : 4", "aaaa"),
        post("Content-Length\t: 4", "aaaa"),
        // Codings that one reader takes for chunks and the other does not.
        post("Transfer-Encoding: xchunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
        post("Transfer-Encoding: identity, chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked;a=b", "0\r\n\r\n"),
        post("Transfer-Encoding:\u{b}chunked", "0\r\n\r\n"),
        post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
        post("Transfer-Encoding : chunked", "0\r\n\r\n"),
        post("X: a\r\n Transfer-Encoding: chunked", "0\r\n\r\n"),
        post("X: a\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("X: a\rTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\u{b}", "0\r\n\r\n"),
        post("Transfer-Encoding: ,chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked,", "0\r\n\r\n"),
        post("Transfer-Encoding: chunk", "0\r\n\r\n"),
        post("Transfer-Encoding:", "0\r\n\r\n"),
        post("Transfer-Encoding: identity", ""),
        post("Transfer-Encoding\u{b}: chunked", "0\r\n\r\n"),
        post("\u{a0}Transfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encod\u{131}ng: chunked", "0\r\n\r\n"),
        // What some gateways make of these names is the name itself (CGI, WSGI).
        post("Transfer_Encoding: chunked", "0\r\n\r\n"),
        post("content_length: 4", "aaaa"),
        post("Content-Length:", "aaaa"),
        post("Content-Length: 4\r\n ", "aaaa"),
        post("Content-Length: \u{664}", "aaaa"),
        post("Content-Length: 4;", "aaaa"),
        post("Content-Length: 4e0", "aaaa"),
        post("Content-Length: 4\r\n\tX: folded", "aaaa"),
        post("X: a\0b", ""),
        post("X\0a: b", ""),
        "POST /attack HTTP/1.0\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Lines.
        "GET /attack HTTP/1.1\nHost: web\n\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\n\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\nno colon\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\n: empty\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\n Host: web\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\r\nHost: web\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\n\r\r\n\r\n".to_owned(),
        "\nGET /attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "\r\n\r\nGET /attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        " GET /attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        // Hosts and targets.
        "GET /attack HTTP/1.1\r\nHost: web:80:80\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web, other\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web/other\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: other@web\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web other\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost:web#a\r\n\r\n".to_owned(),
        "GET http://web#a/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET http:///attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET http:/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET ftp://web/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET \\attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET ?attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET @other/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\nHost: other\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\nHost: web\r\n\r\n".to_owned(),
        "GET http://user@web/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET http://web:+80/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "CONNECT web HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "CONNECT web:80 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        "GET * HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET web HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
    ];
    let lines = [
        "GET  /attack HTTP/1.1",
        "GET /attack  HTTP/1.1",
        "GET /attack HTTP/1.1 ",
        "GET\t/attack HTTP/1.1",
        "GET /att ack HTTP/1.1",
        "GET /attack#a HTTP/1.1",
        "GET /attack HTTP/1.2",
        "GET /attack HTTP/9.9",
        "GET /attack http/1.1",
        "GET /attack",
        "GET /attack HTTP/0.9",
        "GET /attack HTTP/1.1x",
        "GET /attack HTTP/1.10",
        "GET /attack HTTP/01.1",
        "GET /attack HTTP/2.0",
        "GET /attack\u{b}HTTP/1.1",
        "GET /attack\u{a0}HTTP/1.1",
        "GET /attack\0 HTTP/1.1",
        "/attack HTTP/1.1",
        "G(T /attack HTTP/1.1",
    ];
    bad.extend(lines.map(|line| format!("{line}\r\nHost: web\r\n\r\n")));
    bad
}

/// Bodies whose chunks are none. The request has begun by then, so the app sees its begin, and that it breaks off.
const BAD_CHUNKS: &[&str] = &[
    "ffffffffffffffff\r\na",
    "10000000000000001\r\na",
    "+1\r\na\r\n0\r\n\r\n",
    "0x1\r\na\r\n0\r\n\r\n",
    " 1\r\na\r\n0\r\n\r\n",
    "1 \r\na\r\n0\r\n\r\n",
    "1\na\n0\n\n",
    "1\r\naa0\r\n\r\n",
    "1\r\na\n0\r\n\r\n",
    "1;a\nb\r\na\r\n0\r\n\r\n",
    "\r\n",
    "1\r\r\na\r\n0\r\n\r\n",
    "1;a\rb\r\na\r\n0\r\n\r\n",
    "1;a=\"\r\nb\"\r\na\r\n0\r\n\r\n",
    "1\t\r\na\r\n0\r\n\r\n",
    "1\u{b}\r\na\r\n0\r\n\r\n",
    "-1\r\na\r\n0\r\n\r\n",
    "1_0\r\naaaaaaaaaaaaaaaa\r\n0\r\n\r\n",
    "1\r\n\r\n0\r\n\r\n",
    "1\r\na\r\n\r\n0\r\n\r\n",
    "00000000000000001\r\na\r\n0\r\n\r\n",
    "0\r\nX: a\r\n folded\r\n\r\n",
    "0\r\nX: a\nY: b\r\n\r\n",
    "0\r\nX: a\0\r\n\r\n",
    "0\r\nno colon\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "0\r\nContent-Length: 40\r\n\r\n",
    "0\r\nHost: other\r\n\r\n",
    "0\r\nX : a\r\n\r\n",
    "0\r\n\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_two_readers_could_take_differently_are_refused_and_nothing_of_them_reaches_the_app() {
    let field = Field::start().await;
    at_each(&HTTP1, async |role| {
        for bad in bad_requests() {
            // Behind a good request on the same connection, too: pools and pipelines change nothing.
            for (before, good) in [("", 0), ("GET /good HTTP/1.1\r\nHost: web\r\n\r\n", 1)] {
                let got = field.answers(role, format!("{before}{bad}{SMUGGLED}").as_bytes()).await;
                assert_eq!(got.matches("HTTP/1.1 ").count(), good + 1, "{role:?} {bad:?} {got}");
                assert_eq!(got.matches("HTTP/1.1 200").count(), good, "{role:?} {bad:?} {got}");
                let last = &got[got.rfind("HTTP/1.1 ").unwrap()..];
                assert!(last.starts_with("HTTP/1.1 400"), "{role:?} {bad:?} {got}");
                assert!(last.contains("leno-reason: ") && last.contains("connection: close"), "{bad:?} {got}");
            }
        }
        for chunks in BAD_CHUNKS {
            let head = "POST /chunks HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n";
            let got = field.answers(role, format!("{head}{chunks}{SMUGGLED}").as_bytes()).await;
            assert!(got.matches("HTTP/1.1 ").count() <= 1 && !got.contains(" 200 "), "{role:?} {chunks:?} {got}");
        }
    })
    .await;
    for nothing in ["attack", "smuggled"] {
        assert!(field.app.having(nothing).is_empty(), "{:?}", field.app.having(nothing));
    }
    assert!(field.app.asked("/chunks").is_empty(), "a body that broke off looked whole to the app");
    for sidecar in [&field.frontend, &field.edge] {
        assert!(sidecar.metrics().await.sum("leno_failures_total", &[("reason", "malformed_request")]) > 100.0);
    }
    field.unharmed("smuggling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_the_limits_are_told_so_and_cost_no_memory() {
    let field = Field::start().await;
    let of = |fields: String| format!("GET /attack HTTP/1.1\r\nHost: web\r\n{fields}\r\n{SMUGGLED}");
    let heads = [
        of("X-A: 1\r\n".repeat(100)),
        of(format!("X-A: {}\r\n", "a".repeat(64 * 1024))),
        of(format!("X-A: {}\r\n", "a".repeat(1000)).repeat(70)),
        of("Cookie: a=b\r\n".repeat(10_000)),
        format!("GET /{} HTTP/1.1\r\nHost: web\r\n\r\n", "attack".repeat(3000)),
    ];
    at_each(&HTTP1, async |role| {
        for large in &heads {
            // The first bytes of the last one are no HTTP to whoever waits for a line; behind a request they are.
            let good = "GET /good HTTP/1.1\r\nHost: web\r\n\r\n";
            let got = field.answers(role, format!("{good}{large}").as_bytes()).await;
            let last = &got[got.rfind("HTTP/1.1 ").unwrap_or(0)..];
            let told = last.starts_with("HTTP/1.1 431") && last.contains("leno-reason: head_too_large");
            assert!(told, "{role:?} {got}");
        }
        let trailers = format!(
            "POST /attack2 HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {}",
            "a".repeat(20_000)
        );
        let got = field.answers(role, trailers.as_bytes()).await;
        assert!(!got.contains(" 200 "), "{role:?} {got}");
    })
    .await;
    assert!(field.app.having("attack").is_empty() && field.app.having("smuggled").is_empty());
    field.unharmed("large heads").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_is_passed_on_unchanged_and_headers_of_our_own_are_not_believed() {
    let field = Field::start().await;
    at_each(&HTTP1, async |role| {
        let path = format!("/{role:?}//b/../c/./%2e%2e/%2F%5c;x=y?q=%00&a=b;c=/../");
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close, X-Hop, X-Forwarded-For, Host\r\nX-Hop: gone\r\n\
             X-Under_Score: 1\r\nX-Obs: \u{fc}\r\nLeno-Header-Case: HOST\r\nleno-reason: no_route\r\n\
             leno-header-case: x-hop\r\n\r\n"
        );
        let got = field.answers(role, text.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{role:?} {got}");
        let [seen] = &field.app.asked(&path)[..] else {
            panic!("{path} is not what the app saw: {:?}", field.app.seen())
        };
        assert_eq!(seen.exactly("Host"), ["web"], "{}", seen.head);
        assert_eq!(seen.exactly("X-Under_Score"), ["1"], "{}", seen.head);
        let lower = seen.head.to_ascii_lowercase();
        assert!(!["gone", "leno-header-case", "leno-reason"].iter().any(|word| lower.contains(word)), "{}", seen.head);
        let from = lower.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
        let edge = matches!(role, Role::EdgeHttp | Role::EdgeTls);
        assert_eq!(from, edge.then_some("127.0.0.1"), "a client cannot have it taken away: {}", seen.head);
        // Absolute-form wins over Host, at every hop (RFC 9112, 3.2.2).
        let text = format!("GET http://web/absolute/{role:?} HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n");
        let got = field.answers(role, text.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{role:?} {got}");
        assert_eq!(field.app.asked(&format!("/absolute/{role:?}"))[0].exactly("Host"), ["web"]);
        // An app's own word in the mesh's name is not passed on, and the case of its fields is.
        let got = field.answers(role, b"GET /head HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await;
        for line in ["\r\nX-CaSe: 1\r\n", "\r\nx-case: 2\r\n", "\r\nETag: \"a\"\r\n", "\r\nContent-Length: 2\r\n"] {
            assert!(got.contains(line), "{role:?} {line:?} {got}");
        }
        assert!(!got.contains("leno-header-case") && !got.contains("leno-reason"), "{role:?} {got}");
    })
    .await;
    field.unharmed("own headers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_sidecar_does_not_read_is_not_taken_for_a_request() {
    let field = Field::start().await;
    at_each(&HTTP1, async |role| {
        // The port of one service serves it whatever host is named.
        let unknown: &[&str] = if role == Role::Upstream { &[] } else { &["nowhere", "web.default.svc.x.y"] };
        for host in unknown {
            let head = format!("POST /attack HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n", SMUGGLED.len());
            let got = field.answers(role, format!("{head}Connection: close\r\n\r\n{SMUGGLED}").as_bytes()).await;
            assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{role:?} {got}");
        }
        // An app that answers before it has read the body: nobody else's request may follow on that connection.
        let mut early = field.connect_http1(role).await;
        early.write_all(b"POST /early HTTP/1.1\r\nHost: web\r\nContent-Length: 1000\r\n\r\nGET /smug").await.unwrap();
        early.flush().await.unwrap();
        let mut got = [0; 12];
        tokio::time::timeout(Duration::from_secs(20), early.read_exact(&mut got)).await.unwrap().unwrap();
        assert_eq!(&got, b"HTTP/1.1 200", "{role:?}");
        let end = "GET /after HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
        for _ in 0..20 {
            assert!(field.answers(role, end.as_bytes()).await.starts_with("HTTP/1.1 200"), "{role:?}");
        }
    })
    .await;
    assert_eq!(field.app.asked("/early").len(), HTTP1.len());
    field.app.assert_last_of_its_connection("/early");
    assert!(field.app.having("smuggled").is_empty());
    field.unharmed("unread bodies").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_gets_into_a_log_as_a_line_of_its_own() {
    let field = Field::start().await;
    let evil = "\u{1b}[31mINJECTED\u{1b}[0m";
    let texts = [
        format!("GET /{evil} HTTP/1.1\r\nHost: web\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {evil}\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: web\r\nUser-Agent: {evil}\r\nConnection: close\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: web\r\nX: a\rINJECTED\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: web\nINJECTED\r\n\r\n".to_owned(),
        "GET /%0aINJECTED%0d%1b HTTP/1.1\r\nHost: INJECTED%0a\r\nConnection: close\r\n\r\n".to_owned(),
    ];
    at_each(&HTTP1, async |role| {
        for text in &texts {
            field.answers(role, text.as_bytes()).await;
        }
    })
    .await;
    let _ = TcpStream::connect(field.web.mesh()).await.unwrap().write_all(evil.as_bytes()).await;
    let _ = TcpStream::connect(field.port(Role::EdgeTls)).await.unwrap().write_all(evil.as_bytes()).await;
    for sidecar in [&field.frontend, &field.web, &field.edge] {
        let log = sidecar.log();
        assert!(!log.contains('\u{1b}'), "{log}");
        assert!(!log.lines().any(|line| line.starts_with("INJECTED")), "{log}");
    }
    field.unharmed("log injection").await;
}
