//! Requests to go on in another protocol as a way to smuggle.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::field::{Field, HTTP1, Role, at_each};

const ASK: &str = "GET /ask HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const FIRST: &str = "GET /first HTTP/1.1\r\nHost: web\r\n\r\n";
const BEHIND: &str = "GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_ahead_of_an_upgrade_that_is_refused_is_not_read_as_requests() {
    let field = Field::start().await;
    at_each(&HTTP1, async |role| {
        let got = field.answers(role, format!("{ASK}{BEHIND}").as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 200"), "{role:?} {got}");
        assert!(got.contains("HTTP/1.1 400") && got.contains("leno-reason: malformed_request"), "{role:?} {got}");
        // CONNECT is refused where nothing is tunnelled, and at the proxy port where its head is no clear one or nobody is there; what
        // its sender believed to be in a tunnel is not read.
        let connect = "CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n";
        let sent = match role {
            Role::Outbound => format!("{connect}Content-Length: 3\r\n\r\n{BEHIND}"),
            _ => format!("{connect}\r\n{BEHIND}"),
        };
        let got = field.answers(role, sent.as_bytes()).await;
        let reason = if role == Role::Outbound { "malformed_request" } else { "bad_request" };
        assert!(got.starts_with("HTTP/1.1 400") && got.contains(&format!("leno-reason: {reason}")), "{role:?} {got}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{role:?} {got}");
        let (connect, reason) = match role {
            Role::Outbound => (connect.replace("web:80", "nobody:80"), "unknown_service"),
            _ => (connect.to_owned(), "bad_request"),
        };
        let got = field.answers(role, format!("{FIRST}{connect}\r\n{BEHIND}").as_bytes()).await;
        assert!(got.starts_with("HTTP/1.1 200") && got.contains(&format!("leno-reason: {reason}")), "{role:?} {got}");
        assert_eq!(got.matches("HTTP/1.1 ").count(), 2, "{role:?} {got}");
    })
    .await;
    assert_eq!(field.app.asked("/ask").len(), HTTP1.len());
    assert!(field.app.having("smuggled").is_empty());
    field.unharmed("early data").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_nobody_asked_for_is_an_error_and_its_connection_is_not_used_again() {
    let field = Field::start().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n");
    for role in HTTP1 {
        for _ in 0..3 {
            let got = field.answers(role, get("/switch").as_bytes()).await;
            assert!(got.starts_with("HTTP/1.1 502") && got.contains("upstream_protocol_error"), "{role:?} {got}");
        }
        // The same for one that was asked for and agreed to: it is that client's alone, and ends with it.
        let mut client = field.connect_http1(role).await;
        client.write_all(ASK.replace("/ask", "/switch").as_bytes()).await.unwrap();
        client.flush().await.unwrap();
        let mut got = [0; 12];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HTTP/1.1 101", "{role:?}");
        drop(client);
        for _ in 0..20 {
            assert!(field.answers(role, get("/after").as_bytes()).await.starts_with("HTTP/1.1 200"), "{role:?}");
        }
    }
    field.app.assert_last_of_its_connection("/switch");
    field.unharmed("upgrades").await;
}

/// What is no upgrade to the mesh is an ordinary request, and the next one on its connection another.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_of_http2_is_passed_over_and_requests_behind_it_are_served() {
    let field = Field::start().await;
    at_each(&HTTP1, async |role| {
        for (n, offered) in ["h2c", "H2C", "h2", "h2c, HTTP/2.0", "TLS/1.3"].into_iter().enumerate() {
            let offer = format!(
                "POST /offer/{role:?}/{n} HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {offered}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 2\r\n\r\nab"
            );
            let next = "GET /next HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
            let got = field.answers(role, format!("{offer}{next}").as_bytes()).await;
            assert_eq!(got.matches("HTTP/1.1 200").count(), 2, "{role:?} {offered} {got}");
            let seen = &field.app.asked(&format!("/offer/{role:?}/{n}"))[0];
            assert_eq!(seen.body, b"ab");
            let head = seen.head.to_ascii_lowercase();
            assert!(!head.contains("http2-settings") && !head.contains("upgrade"), "{role:?} {head}");
        }
        // Offered beside another protocol it is not passed on either: the app would be reached past every route.
        for (n, offered) in ["h2c, websocket", "websocket, h2c", "websocket\r\nUpgrade: h2c"].into_iter().enumerate() {
            let path = format!("/beside/{role:?}/{n}");
            let ask = ASK.replace("/ask", &path).replace("websocket", offered).replace(": Upgrade", ": Upgrade, close");
            let got = field.answers(role, ask.as_bytes()).await;
            assert!(got.starts_with("HTTP/1.1 200"), "{role:?} {offered} {got}");
            let head = field.app.asked(&path)[0].head.to_ascii_lowercase();
            assert!(head.contains("upgrade: websocket\r\n") && !head.contains("h2c"), "{role:?} {offered:?} {head}");
        }
    })
    .await;
    field.unharmed("offers of HTTP/2").await;
}
