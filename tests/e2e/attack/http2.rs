//! HTTP/2 whose translation to HTTP/1 on the last hop would be ambiguous (downgrade attacks). Every port gets the same frames.

use super::field::{ALL, Field, Role, at_each};
use super::frames::{Connection, DATA, END_HEADERS, END_STREAM, End, HEADERS, field, fields, frame, get, post};

const AUTHORITY: (&str, &str) = (":authority", "web");
const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/attack");

/// What goes wrong in the end: field blocks that no server may take.
fn bad_blocks() -> Vec<(&'static str, Vec<u8>)> {
    let with = |more: &[(&str, &str)]| [post("/attack"), fields(more)].concat();
    let only = fields;
    vec![
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "5")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("te", with(&[("te", "gzip")])),
        ("upper case", with(&[("Transfer-Encoding", "chunked")])),
        ("content_length", with(&[("content_length", "4")])),
        ("transfer_encoding", with(&[("transfer_encoding", "chunked")])),
        ("line break in a value", with(&[("x", "a\r\ntransfer-encoding: chunked")])),
        ("line feed in a value", with(&[("x", "a\nb")])),
        ("NUL in a value", with(&[("x", "a\0b")])),
        ("line break in a name", with(&[("x\r\nhost", "a")])),
        ("colon in a name", with(&[("x: y", "a")])),
        ("space in a name", with(&[("transfer-encoding ", "chunked")])),
        ("empty name", [post("/attack"), field(b"", b"a")].concat()),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "5")])),
        ("one length twice", with(&[("content-length", "0"), ("content-length", "0")])),
        ("signed length", with(&[("content-length", "+0")])),
        ("list of lengths", with(&[("content-length", "0, 0")])),
        ("length without a body", with(&[("content-length", "5")])),
        ("host differs", with(&[("host", "other")])),
        ("two hosts", with(&[("host", "web"), ("host", "other")])),
        ("pseudo field behind others", [fields(&[METHOD, SCHEME, AUTHORITY, ("x", "a"), PATH])].concat()),
        ("two paths", only(&[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/attack2")])),
        ("two methods", only(&[METHOD, (":method", "GET"), SCHEME, AUTHORITY, PATH])),
        ("two authorities", only(&[METHOD, SCHEME, AUTHORITY, (":authority", "other"), PATH])),
        ("status in a request", only(&[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")])),
        ("unknown pseudo field", only(&[METHOD, SCHEME, AUTHORITY, PATH, (":attack", "1")])),
        ("no path", only(&[METHOD, SCHEME, AUTHORITY])),
        ("empty path", only(&[METHOD, SCHEME, AUTHORITY, (":path", "")])),
        ("no method", only(&[SCHEME, AUTHORITY, PATH])),
        ("no scheme", only(&[METHOD, AUTHORITY, PATH])),
        ("no authority", only(&[METHOD, SCHEME, PATH])),
        ("path without a slash", only(&[METHOD, SCHEME, AUTHORITY, (":path", "attack")])),
        ("path with a space", only(&[METHOD, SCHEME, AUTHORITY, (":path", "/attack HTTP/1.1")])),
        ("path with lines", only(&[METHOD, SCHEME, AUTHORITY, (":path", "/attack HTTP/1.1\r\nx: y")])),
        ("star", only(&[METHOD, SCHEME, AUTHORITY, (":path", "*")])),
        ("method with a space", only(&[(":method", "GET /attack"), SCHEME, AUTHORITY, PATH])),
        ("user in the authority", only(&[METHOD, SCHEME, (":authority", "web@other"), PATH])),
        ("lines in the authority", only(&[METHOD, SCHEME, (":authority", "web\r\nx: y"), PATH])),
        ("path in the authority", only(&[METHOD, SCHEME, (":authority", "web/attack"), PATH])),
        ("port twice", only(&[METHOD, SCHEME, (":authority", "web:80:80"), PATH])),
        ("port that is none", only(&[METHOD, SCHEME, (":authority", "web:http"), PATH])),
        ("space in the authority", only(&[METHOD, SCHEME, (":authority", "web other"), PATH])),
        ("query in the authority", only(&[METHOD, SCHEME, (":authority", "web?a"), PATH])),
        ("fragment in the authority", only(&[METHOD, SCHEME, (":authority", "web#a"), PATH])),
        ("several hosts in one", with(&[("host", "web, other")])),
        ("scheme with a target", only(&[METHOD, (":scheme", "http://other/?"), AUTHORITY, PATH])),
        ("scheme with lines", only(&[METHOD, (":scheme", "http\r\nx: y"), AUTHORITY, PATH])),
        ("another scheme", only(&[METHOD, (":scheme", "ftp"), AUTHORITY, PATH])),
        ("absolute path", only(&[METHOD, SCHEME, AUTHORITY, (":path", "http://other/attack")])),
        ("path with NUL", only(&[METHOD, SCHEME, AUTHORITY, (":path", "/attack\0")])),
        ("path with a tab", only(&[METHOD, SCHEME, AUTHORITY, (":path", "/attack\tHTTP/1.1")])),
        ("method with lines", only(&[(":method", "GET / HTTP/1.1\r\nx:"), SCHEME, AUTHORITY, PATH])),
        ("empty method", only(&[(":method", ""), SCHEME, AUTHORITY, PATH])),
        ("two schemes", only(&[METHOD, SCHEME, (":scheme", "https"), AUTHORITY, PATH])),
        ("CONNECT with a path", only(&[(":method", "CONNECT"), (":authority", "web:80"), PATH])),
        ("CONNECT with a scheme", only(&[(":method", "CONNECT"), SCHEME, (":authority", "web:80")])),
        ("CONNECT without a port", only(&[(":method", "CONNECT"), AUTHORITY])),
        ("a protocol without CONNECT", only(&[METHOD, (":protocol", "websocket"), SCHEME, AUTHORITY, PATH])),
        ("a protocol of nothing", only(&[(":method", "CONNECT"), (":protocol", ""), SCHEME, AUTHORITY, PATH])),
    ]
}

/// Tunnels, which only some ports open.
fn tunnels() -> Vec<(&'static str, Vec<u8>, &'static [Role])> {
    let extended = fields(&[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, AUTHORITY, PATH]);
    vec![
        ("CONNECT", fields(&[(":method", "CONNECT"), (":authority", "web:80")]), &ALL[1..]),
        ("extended CONNECT", extended, &[Role::Inbound]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_that_would_be_ambiguous_in_http1_never_reaches_the_app() {
    let field = Field::start().await;
    at_each(&ALL, async |role| {
        let tunnels = tunnels().into_iter().filter(|(_, _, nowhere)| nowhere.contains(&role));
        let tunnels = tunnels.map(|(what, block, _)| (what, block));
        for (what, block) in bad_blocks().into_iter().chain(tunnels) {
            let mut connection = Connection::open(field.connect(role).await).await;
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
            let end = connection.end(1).await;
            let refused = matches!(end, End::Answer(first) if first != 0x88);
            assert!(refused || matches!(end, End::Reset(_) | End::GoAway(_)), "{role:?} {what}: {end:?}");
        }
    })
    .await;
    assert!(field.app.having("attack").is_empty(), "{:?}", field.app.having("attack"));
    field.unharmed("downgrade").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_request_in_the_same_frames_is_served() {
    let field = Field::start().await;
    for role in ALL {
        // What stands behind # is nobody's but the client's own.
        let path = &format!("/{role:?}");
        let mut connection = Connection::open(field.connect(role).await).await;
        let block = [
            get(&format!("{path}#here")),
            fields(&[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("host", "web")]),
        ];
        connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block.concat())).await;
        assert_eq!(connection.end(1).await, End::Answer(0x88), "{role:?}");
        let [seen] = &field.app.asked(path)[..] else { panic!("{:?}", field.app.seen()) };
        // On HTTP/1 what HTTP/2 brought is Written-Like-This.
        assert_eq!(seen.exactly("Host"), ["web"], "{}", seen.head);
        assert_eq!(seen.exactly("Cookie"), ["a=1; b=2"], "{}", seen.head);
    }
    // A peer's word on the case of names changes nothing but the case.
    let mut connection = Connection::open(field.connect(Role::Inbound).await).await;
    let evil = ("leno-header-case", "HOST,X-Evil: 1\u{7f},Content-Length,Transfer-Encoding,,x-\u{fc}");
    let block = [get("/case"), fields(&[evil, ("x-other", "1")])].concat();
    connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
    connection.end(1).await;
    for seen in field.app.asked("/case") {
        let lower = seen.head.to_ascii_lowercase();
        assert!(
            !lower.contains("evil") && !lower.contains("length") && !lower.contains("leno-header-case"),
            "{}",
            seen.head
        );
    }
    field.unharmed("good frames").await;
}

/// What stands behind a body says nothing about the message's length, its target or its sender any more.
#[tokio::test(flavor = "multi_thread")]
async fn fields_behind_a_body_do_not_frame_or_route_it() {
    let field = Field::start().await;
    let bad = [
        ("transfer-encoding", "chunked"),
        ("content-length", "4"),
        ("host", "other"),
        ("connection", "close"),
        (":path", "/other"),
    ];
    at_each(&ALL, async |role| {
        for (name, value) in bad {
            let mut connection = Connection::open(field.connect(role).await).await;
            connection.send(&frame(HEADERS, END_HEADERS, 1, &post("/behind"))).await;
            connection.send(&frame(DATA, 0, 1, b"ab")).await;
            let block = fields(&[("x-good", "1"), (name, value)]);
            connection.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
            let end = connection.end(1).await;
            assert_ne!(end, End::Silent, "{role:?} {name}");
        }
    })
    .await;
    for seen in field.app.having("/behind") {
        let body = String::from_utf8_lossy(&seen.body).to_ascii_lowercase();
        assert!(!bad.iter().any(|(name, _)| body.contains(name)), "{body}");
    }
    field.unharmed("trailers").await;
}
