//! Requests to go on in another protocol as a way to smuggle.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::field::Field;

const ASK: &str = "GET /ask HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const BEHIND: &str = "GET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n";

async fn all(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got)).await;
    let got = String::from_utf8_lossy(&got).into_owned();
    assert!(read.is_ok(), "not closed: {got}");
    got
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_ahead_of_an_upgrade_that_is_refused_is_not_read_as_requests() {
    let field = Field::start().await;
    let mut client = TcpStream::connect(field.frontend.http_proxy()).await.unwrap();
    client.write_all(format!("{ASK}{BEHIND}").as_bytes()).await.unwrap();
    let got = all(&mut client).await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    assert!(got.contains("HTTP/1.1 400") && got.contains("leno-reason: malformed_request"), "{got}");
    // CONNECT is refused, and what its sender believed to be in a tunnel is not read.
    let mut client = TcpStream::connect(field.frontend.http_proxy()).await.unwrap();
    let connect = format!("CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n\r\n{BEHIND}");
    client.write_all(connect.as_bytes()).await.unwrap();
    let got = all(&mut client).await;
    assert!(got.starts_with("HTTP/1.1 400") && got.contains("leno-reason: bad_request"), "{got}");
    assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{got}");
    assert_eq!(field.app.asked("/ask").len(), 1);
    assert!(field.app.having("smuggled").is_empty());
    field.unharmed("early data").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_nobody_asked_for_is_an_error_and_its_connection_is_not_used_again() {
    let field = Field::start().await;
    for _ in 0..3 {
        let reply = field.frontend.get("http://web/switch").await.unwrap();
        assert_eq!((reply.status, reply.reason()), (502, Some("upstream_protocol_error")), "{}", reply.text());
    }
    assert_eq!(field.frontend.get("http://web/after").await.unwrap().status, 200);
    let switched: Vec<_> = field.app.asked("/switch").iter().map(|seen| seen.connection).collect();
    assert!(field.app.asked("/after").iter().all(|seen| !switched.contains(&seen.connection)));
    // The same for one that was asked for and agreed to: it is that client's alone, and ends with it.
    let mut client = TcpStream::connect(field.frontend.http_proxy()).await.unwrap();
    client.write_all(ASK.replace("/ask", "/switch").as_bytes()).await.unwrap();
    let mut got = [0; 12];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 101");
    let own = field.app.asked("/switch").last().unwrap().connection;
    drop(client);
    for _ in 0..20 {
        assert_eq!(field.frontend.get("http://web/later").await.unwrap().status, 200);
    }
    assert!(field.app.asked("/later").iter().all(|seen| seen.connection != own));
    field.unharmed("upgrades").await;
}

/// What is no upgrade to the mesh is an ordinary request, and the next one on its connection another.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_of_http2_is_passed_over_and_requests_behind_it_are_served() {
    let field = Field::start().await;
    let mut client = TcpStream::connect(field.frontend.http_proxy()).await.unwrap();
    let offer = "POST /offer HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 2\r\n\r\nab";
    client
        .write_all(format!("{offer}GET /next HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let got = all(&mut client).await;
    assert_eq!(got.matches("HTTP/1.1 200").count(), 2, "{got}");
    assert_eq!(field.app.asked("/offer")[0].body, b"ab");
    assert!(!field.app.asked("/offer")[0].head.to_ascii_lowercase().contains("http2-settings"));
    field.unharmed("offers of HTTP/2").await;
}
