use super::super::target::path_fits;
use super::*;

/// What became of a connection's bytes: how many requests were read whole, and where it ended.
fn read(mut bytes: &[u8], piece: usize) -> Result<(usize, Phase), Flaw> {
    let mut scanner = Scanner::default();
    let (mut held, mut heads) = (Vec::new(), 0);
    while !bytes.is_empty() || !held.is_empty() {
        let n = bytes.len().min(piece);
        held.extend_from_slice(&bytes[..n]);
        bytes = &bytes[n..];
        loop {
            let read = match scanner.phase() {
                Phase::Head => scanner.head(&held)?.inspect(|_| heads += 1).unwrap_or(0),
                Phase::Upgrade => 0,
                _ => scanner.body(&held)?,
            };
            held.drain(..read);
            if read == 0 {
                break;
            }
        }
        if n == 0 {
            break;
        }
    }
    Ok((heads, scanner.phase()))
}

fn outcome(bytes: &[u8]) -> Result<(usize, Phase), Flaw> {
    let whole = read(bytes, usize::MAX);
    assert_eq!(read(bytes, 1), whole, "cut into bytes: {}", bytes.escape_ascii());
    whole
}

#[test]
fn good_requests_pass_one_after_the_other() {
    for (text, heads) in [
        ("GET / HTTP/1.1\r\nHost: web\r\n\r\n", 1),
        ("\r\nGET / HTTP/1.0\r\n\r\nGET /a?b=?c HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("GET http://web:80/a HTTP/1.1\r\nHost: other\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("GET http://[::1]:80 HTTP/1.1\r\nHost:\r\nX-Empty:\r\nx-tab:\ta\tb \r\n\r\n", 1),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n\
             0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            2,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\n1", 1),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, HTTP/2.0,TLS/1.3\r\n\r\n", 1),
        ("GET /\u{fc} HTTP/1.1\r\nHost: a\r\nX: \u{fc}\r\n\r\n", 1),
    ] {
        assert_eq!(outcome(text.as_bytes()), Ok((heads, Phase::Head)), "{text:?}");
    }
}

#[test]
fn what_two_readers_could_take_differently_is_refused() {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let chunks = |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    for bad in [
        get("Content-Length: 1\r\nTransfer-Encoding: chunked"),
        get("Transfer-Encoding: chunked\r\nContent-Length: 1"),
        get("Content-Length: 1\r\nContent-Length: 1"),
        get("Content-Length: 1, 1"),
        get("Content-Length: +1"),
        get("Content-Length: -1"),
        get("Content-Length: 0x1"),
        get("Content-Length: 1 1"),
        get("Content-Length:"),
        get("Content-Length: 9999999999999999999999"),
        get("Transfer-Encoding: xchunked"),
        get("Transfer-Encoding: identity, chunked"),
        get("Transfer-Encoding: gzip, chunked"),
        get("Transfer-Encoding: chunked, chunked"),
        get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        get("Transfer-Encoding: \"chunked\""),
        get("Transfer-Encoding: chunked;q=1"),
        get("Transfer-Encoding:\u{b}chunked"),
        get("Transfer-Encoding : chunked"),
        get("Transfer_Encoding: chunked"),
        get("content_length: 1"),
        get("Transfer-Encoding: chunked\r\n folded: 1"),
        get("X: 1\r\n\tfolded"),
        get("X: 1\nY: 2"),
        get("X: 1\rY: 2"),
        get("X: 1\0"),
        get("X\0: 1"),
        get(": nameless"),
        get("no colon"),
        get("X Y: 1"),
        get("X: \u{7f}"),
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        "GET / HTTP/1.1\nHost: a\n\n".into(),
        "GET / HTTP/1.1\r\nHost: a\r\n\n".into(),
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        line("GET  / HTTP/1.1"),
        line("GET /  HTTP/1.1"),
        line("GET\t/ HTTP/1.1"),
        line(" GET / HTTP/1.1"),
        line("GET / HTTP/1.1 "),
        line("GET / a HTTP/1.1"),
        line("GET / http/1.1"),
        line("GET / HTTP/1.10"),
        line("GET / HTTP/2.0"),
        line("GET / HTTP/0.9"),
        line("GET /"),
        line("GE:T / HTTP/1.1"),
        line("GET web HTTP/1.1"),
        line("GET * HTTP/1.1"),
        line("GET ftp://web/ HTTP/1.1"),
        line("GET http://web?a HTTP/1.1"),
        line("GET /a#b HTTP/1.1"),
        line("GET /\u{1} HTTP/1.1"),
        chunks("+3\r\nabc\r\n0\r\n\r\n"),
        chunks("0x3\r\nabc\r\n0\r\n\r\n"),
        chunks(" 3\r\nabc\r\n0\r\n\r\n"),
        chunks("3 \r\nabc\r\n0\r\n\r\n"),
        chunks("3\nabc\r\n0\r\n\r\n"),
        chunks("3\r\nabcd\r\n0\r\n\r\n"),
        chunks("3\r\nabc\n0\r\n\r\n"),
        chunks("\r\n"),
        chunks("3;a\nb\r\nabc\r\n0\r\n\r\n"),
        chunks("ffffffffffffffff\r\n"),
        chunks("10000000000000003\r\nabc\r\n0\r\n\r\n"),
        chunks("0\r\nX : 1\r\n\r\n"),
        chunks("0\r\nX-Good: 1\r\nContent-Length: 1\r\n\r\n"),
        chunks("0\r\ntransfer_encoding: chunked\r\n\r\n"),
        chunks("0\r\nHOST: b\r\n\r\n"),
        chunks("0\r\nX: 1\n\r\n"),
        chunks("0\r\n folded\r\n\r\n"),
        chunks("0\r\n\n"),
        chunks(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(300))),
    ] {
        assert!(matches!(outcome(bad.as_bytes()), Err(Flaw::Malformed(_))), "{bad:?} {:?}", outcome(bad.as_bytes()));
    }
    for (bad, flaw) in [
        (get("Host: a"), Flaw::Authority),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), Flaw::Authority),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), Flaw::Authority),
        ("GET http://a/ HTTP/1.1\r\nHost: a@b\r\n\r\n".into(), Flaw::Authority),
        (line("GET http://user@web/ HTTP/1.1"), Flaw::Authority),
        (line("GET http:///a HTTP/1.1"), Flaw::Authority),
        (line("GET http://a:+80/ HTTP/1.1"), Flaw::Authority),
        (line("GET http://[::1]a/ HTTP/1.1"), Flaw::Authority),
        (line("CONNECT web:80 HTTP/1.1"), Flaw::Form),
    ] {
        assert_eq!(outcome(bad.as_bytes()), Err(flaw), "{bad:?}");
    }
}

#[test]
fn heads_have_bounds_and_stay_within_them() {
    let fields = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "X-A: 1\r\n".repeat(n));
    assert!(outcome(fields(MOST_FIELDS).as_bytes()).is_ok());
    assert_eq!(outcome(fields(MOST_FIELDS + 1).as_bytes()), Err(Flaw::TooLarge));
    let long = |n: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(n));
    assert!(outcome(long(MOST_LINE - 14).as_bytes()).is_ok());
    assert_eq!(outcome(long(MOST_LINE - 13).as_bytes()), Err(Flaw::TooLarge));
    assert_eq!(read(long(MOST_LINE).as_bytes(), 1000), Err(Flaw::TooLarge));
    let large = |n: usize| format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(n));
    let rest = large(0).len();
    assert!(read(large(MOST_HEAD - rest).as_bytes(), 1000).is_ok());
    assert_eq!(read(large(MOST_HEAD - rest + 1).as_bytes(), 1000), Err(Flaw::TooLarge));
    let trailers =
        format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: {}\r\n\r\n", "a".repeat(MOST_TRAILERS));
    assert_eq!(read(trailers.as_bytes(), 1000), Err(Flaw::TooLarge));
}

#[test]
fn nothing_is_read_behind_a_request_for_another_protocol() {
    let ask = |fields: &str| {
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Upgrade\r\nUpgrade: websocket\r\n{fields}\r\n")
    };
    assert_eq!(outcome(ask("").as_bytes()), Ok((1, Phase::Upgrade)));
    assert_eq!(outcome((ask("Content-Length: 2\r\n") + "ab").as_bytes()), Ok((1, Phase::Upgrade)));
    assert_eq!(outcome((ask("") + "GET / HTTP/1.1\r\n\r\n").as_bytes()), Ok((1, Phase::Upgrade)));
}

#[test]
fn names_are_told_as_they_were_written() {
    let mut scanner = Scanner::default();
    scanner.head(b"GET / HTTP/1.1\r\nHOST: a\r\naccept: b\r\nX-Ab: 1\r\nx-aB: 2\r\n\r\n").unwrap();
    assert_eq!(scanner.names(), b"HOST,accept,X-Ab,x-aB");
    scanner.head(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(scanner.names(), b"host");
    scanner.head(b"GET / HTTP/1.1\r\nHost: a\r\nX-9-Ab: 1\r\n\r\n").unwrap();
    assert_eq!(scanner.names(), b"", "as hyper writes them unless it is told otherwise");
}

#[test]
fn a_target_that_passes_is_one_to_the_library_that_reads_it_next() {
    for byte in 0..=255 {
        for target in [[b'/', b'a', byte, b'b'], [b'/', b'?', byte, b'b']] {
            if path_fits(&target).is_ok() {
                let read = http::uri::PathAndQuery::try_from(&target[..]).expect("a path");
                assert_eq!(read.as_str().as_bytes(), target);
            }
        }
    }
}

/// As [`outcome`], where CONNECT opens tunnels: with what is behind the head, which is not looked at.
fn tunnel(bytes: &[u8]) -> Result<usize, Flaw> {
    let whole = {
        let mut scanner = Scanner::tunnelling();
        scanner.head(bytes).map(|length| (length, scanner.phase()))
    };
    let mut scanner = Scanner::tunnelling();
    let piecewise = (0..=bytes.len()).find_map(|n| match scanner.head(&bytes[..n]) {
        Ok(None) => None,
        Ok(Some(length)) => Some(Ok(length)),
        Err(flaw) => Some(Err(flaw)),
    });
    match whole {
        Err(flaw) => {
            assert_eq!(piecewise, Some(Err(flaw)));
            Err(flaw)
        }
        Ok((length, phase)) => {
            let length = length.expect("a whole head");
            assert_eq!((piecewise, phase), (Some(Ok(length)), Phase::Upgrade), "{}", bytes.escape_ascii());
            Ok(length)
        }
    }
}

#[test]
fn a_tunnel_leads_to_a_host_and_a_port_and_begins_behind_its_head() {
    for head in [
        "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\nProxy-Connection: keep-alive\r\n\r\n",
        "CONNECT [::1]:80 HTTP/1.0\r\n\r\n",
        "CONNECT web:80 HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    ] {
        let all = format!("{head}early data\r\n\r\n");
        assert_eq!(tunnel(all.as_bytes()), Ok(head.len()), "{head:?}");
        assert_eq!(outcome(all.as_bytes()), Err(Flaw::Form), "where there are no tunnels");
    }
}

#[test]
fn a_tunnel_that_two_readers_could_take_differently_is_refused() {
    let malformed = |flaw| matches!(flaw, Err(Flaw::Malformed(_)));
    for head in
        ["web", "80", "web:", "[::1]", "[::1]:", "a@web:80", "web:80/", "http://web:80", ":80", "*", "/", "web:x"]
    {
        let asked = format!("CONNECT {head} HTTP/1.1\r\n\r\n");
        assert_eq!(tunnel(asked.as_bytes()), Err(Flaw::Authority), "{head:?}");
    }
    for head in [
        "CONNECT  web:80 HTTP/1.1\r\n\r\n",
        "CONNECT web:80  HTTP/1.1\r\n\r\n",
        "CONNECT web:80 HTTP/2.0\r\n\r\n",
        "CONNECT web:80 HTTP/1.1\n\n",
        "CONNECT web:80 HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
        "CONNECT web:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "CONNECT web:80 HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "CONNECT web:80 HTTP/1.1\r\n folded: x\r\n\r\n",
    ] {
        assert!(malformed(tunnel(head.as_bytes())), "{head:?}");
    }
    assert_eq!(tunnel(b"CONNECT web:80 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Err(Flaw::Authority));
}
