//! HTTP/1 that two readers could take differently: CL.TE, TE.CL and every other form of smuggling. The mesh port speaks HTTP/2 only,
//! so here the local ports are attacked; what HTTP/2 makes of it is in `http2`.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::field::Field;

/// What an attacker would like to be read as a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";

/// Everything that a client gets which sends this.
async fn answers(port: SocketAddr, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(port).await.unwrap();
    let _ = stream.write_all(sent).await;
    let mut got = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got)).await;
    let got = String::from_utf8_lossy(&got).into_owned();
    assert!(read.is_ok(), "the connection is not closed: {} {got:?}", sent.escape_ascii());
    got
}

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
        post("X: a\0b", ""),
        post("X\0a: b", ""),
        "POST /attack HTTP/1.0\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Lines.
        "GET /attack HTTP/1.1\nHost: web\n\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\n\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\nno colon\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\n: empty\r\n\r\n".to_owned(),
        // Hosts and targets.
        "GET /attack HTTP/1.1\r\nHost: web\r\nHost: other\r\n\r\n".to_owned(),
        "GET /attack HTTP/1.1\r\nHost: web\r\nHost: web\r\n\r\n".to_owned(),
        "GET http://user@web/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "GET http://web:+80/attack HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
        "CONNECT web:80 HTTP/1.1\r\nHost: web\r\n\r\n".to_owned(),
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
    "0\r\nX : a\r\n\r\n",
    "0\r\n\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_two_readers_could_take_differently_are_refused_and_nothing_of_them_reaches_the_app() {
    let field = Field::start().await;
    for port in [field.frontend.http_proxy(), field.frontend.upstream("web:80")] {
        for bad in bad_requests() {
            // Behind a good request on the same connection, too: pools and pipelines change nothing.
            for (before, good) in [("", 0), ("GET /good HTTP/1.1\r\nHost: web\r\n\r\n", 1)] {
                let got = answers(port, format!("{before}{bad}{SMUGGLED}").as_bytes()).await;
                assert_eq!(got.matches("HTTP/1.1 ").count(), good + 1, "{bad:?} {got}");
                assert_eq!(got.matches("HTTP/1.1 200").count(), good, "{bad:?} {got}");
                let last = &got[got.rfind("HTTP/1.1 ").unwrap()..];
                assert!(last.starts_with("HTTP/1.1 400"), "{bad:?} {got}");
                assert!(last.contains("leno-reason: ") && last.contains("connection: close"), "{bad:?} {got}");
            }
        }
        for chunks in BAD_CHUNKS {
            let head = "POST /chunks HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n";
            let got = answers(port, format!("{head}{chunks}{SMUGGLED}").as_bytes()).await;
            assert!(got.matches("HTTP/1.1 ").count() <= 1 && !got.contains(" 200 "), "{chunks:?} {got}");
        }
    }
    for nothing in ["attack", "smuggled"] {
        assert!(field.app.having(nothing).is_empty(), "{:?}", field.app.having(nothing));
    }
    assert!(field.app.asked("/chunks").is_empty(), "a body that broke off looked whole to the app");
    assert!(field.frontend.metrics().await.sum("leno_failures_total", &[("reason", "malformed_request")]) > 50.0);
    field.unharmed("smuggling").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_beyond_the_limits_are_told_so_and_cost_no_memory() {
    let field = Field::start().await;
    let proxy = field.frontend.http_proxy();
    let of = |fields: String| format!("GET /attack HTTP/1.1\r\nHost: web\r\n{fields}\r\n{SMUGGLED}");
    for large in [
        of("X-A: 1\r\n".repeat(100)),
        of(format!("X-A: {}\r\n", "a".repeat(64 * 1024))),
        of(format!("X-A: {}\r\n", "a".repeat(1000)).repeat(70)),
        of("Cookie: a=b\r\n".repeat(10_000)),
        format!("GET /{} HTTP/1.1\r\nHost: web\r\n\r\n", "attack".repeat(3000)),
    ] {
        // The first bytes of the last one are no HTTP to whoever waits for a line; behind a request they are.
        let got = answers(proxy, format!("GET /good HTTP/1.1\r\nHost: web\r\n\r\n{large}").as_bytes()).await;
        let last = &got[got.rfind("HTTP/1.1 ").unwrap_or(0)..];
        assert!(last.starts_with("HTTP/1.1 431") && last.contains("leno-reason: head_too_large"), "{got}");
    }
    assert!(field.app.having("attack").is_empty() && field.app.having("smuggled").is_empty());
    field.unharmed("large heads").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_on_is_passed_on_unchanged_and_headers_of_our_own_are_not_believed() {
    let field = Field::start().await;
    let proxy = field.frontend.http_proxy();
    for path in ["/a//b/../c/./%2e%2e/%2F%5c;x=y?q=%00&a=b;c=/../#"] {
        let path = path.trim_end_matches('#');
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close, X-Hop\r\nX-Hop: gone\r\nX-Under_Score: 1\r\nX-Obs: \u{fc}\r\n\
             Leno-Header-Case: HOST\r\nleno-reason: no_route\r\n\r\n"
        );
        let got = answers(proxy, text.as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        let [seen] = &field.app.asked(path)[..] else {
            panic!("{path} is not what the app saw: {:?}", field.app.seen())
        };
        assert_eq!(seen.exactly("Host"), ["web"], "{}", seen.head);
        assert_eq!(seen.exactly("X-Under_Score"), ["1"], "{}", seen.head);
        let lower = seen.head.to_ascii_lowercase();
        assert!(!["gone", "leno-header-case", "leno-reason"].iter().any(|word| lower.contains(word)), "{}", seen.head);
    }
    // Absolute-form wins over Host, at every hop (RFC 9112, 3.2.2).
    let got = answers(proxy, b"GET http://web/absolute HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    assert_eq!(field.app.asked("/absolute")[0].exactly("Host"), ["web"]);
    // An app's own word in the mesh's name is not passed on, and the case of its fields is.
    let got = answers(proxy, b"GET /head HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await;
    for field in ["\r\nX-CaSe: 1\r\n", "\r\nx-case: 2\r\n", "\r\nETag: \"a\"\r\n", "\r\nContent-Length: 2\r\n"] {
        assert!(got.contains(field), "{field:?} {got}");
    }
    assert!(!got.contains("leno-header-case") && !got.contains("leno-reason"), "{got}");
    field.unharmed("own headers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_sidecar_does_not_read_is_not_taken_for_a_request() {
    let field = Field::start().await;
    let proxy = field.frontend.http_proxy();
    for (host, length) in [("nowhere", SMUGGLED.len()), ("web.default.svc.x.y", SMUGGLED.len())] {
        let head =
            format!("POST /attack HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        let got = answers(proxy, format!("{head}{SMUGGLED}").as_bytes()).await;
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{got}");
    }
    // An app that answers before it has read the body: nobody else's request may follow on that connection.
    let mut early = TcpStream::connect(proxy).await.unwrap();
    early.write_all(b"POST /early HTTP/1.1\r\nHost: web\r\nContent-Length: 1000\r\n\r\nGET /smug").await.unwrap();
    let mut got = vec![0; 1024];
    let n = tokio::time::timeout(Duration::from_secs(20), early.read(&mut got)).await.unwrap().unwrap();
    assert!(got[..n].starts_with(b"HTTP/1.1 200"), "{}", got[..n].escape_ascii());
    for _ in 0..20 {
        assert_eq!(field.frontend.get("http://web/after").await.unwrap().status, 200);
    }
    let taken = field.app.asked("/early")[0].connection;
    assert!(field.app.asked("/after").iter().all(|seen| seen.connection != taken), "its connection was used again");
    assert!(field.app.having("smuggled").is_empty());
    field.unharmed("unread bodies").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_gets_into_a_log_as_a_line_of_its_own() {
    let field = Field::start().await;
    let evil = "\u{1b}[31mINJECTED\u{1b}[0m";
    let proxy = field.frontend.http_proxy();
    for text in [
        format!("GET /{evil} HTTP/1.1\r\nHost: web\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {evil}\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: web\r\nUser-Agent: {evil}\r\nConnection: close\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: web\r\nX: a\rINJECTED\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: web\nINJECTED\r\n\r\n".to_owned(),
        "GET /%0aINJECTED%0d%1b HTTP/1.1\r\nHost: INJECTED%0a\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        answers(proxy, text.as_bytes()).await;
    }
    let _ = TcpStream::connect(field.web.mesh()).await.unwrap().write_all(evil.as_bytes()).await;
    for sidecar in [&field.frontend, &field.web] {
        let log = sidecar.log();
        assert!(!log.contains('\u{1b}'), "{log}");
        assert!(!log.lines().any(|line| line.starts_with("INJECTED")), "{log}");
    }
    field.unharmed("log injection").await;
}
