//! What HTTP/1 alone has: the case of names, HTTP/1.0's keep-alive, `OPTIONS *`, an Expect that is waited for.

use std::time::Duration;

use leno_tests::Mesh;
use leno_tests::mesh::service;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::place::workload;
use crate::attack::app::RawApp;
use crate::ingress::support::{answers, edge, gateway, route};

const PATIENCE: Duration = Duration::from_secs(20);

struct Place {
    /// The proxy port, and a Gateway's.
    ports: [std::net::SocketAddr; 2],
    app: RawApp,
    _parts: (Mesh, [leno_tests::Sidecar; 3]),
}

/// One app, as `web` behind a sidecar and as `plain` without.
async fn place() -> Place {
    let mesh = Mesh::start().await;
    let app = RawApp::start().await;
    let services = service("web", "app: web", 80, "http") + &service("plain", "app: plain", 80, "http");
    let listener = gateway(&["{name: http, port: 80, protocol: HTTP}"], "");
    let routes = route("web", "", &["web"], "", "web") + &route("plain", "", &["plain"], "", "plain");
    mesh.apply(&(services + &workload("plain", "http", app.addr()) + &listener + &routes)).await;
    let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    let edge = edge(&mesh, &[80]).await;
    mesh.connected(3).await;
    for host in ["web", "plain"] {
        mesh.reachable(&frontend, &format!("http://{host}/")).await;
        answers(edge.gateway(80), host, "/", 200).await;
    }
    Place { ports: [frontend.http_proxy(), edge.gateway(80)], app, _parts: (mesh, [web, frontend, edge]) }
}

impl Place {
    /// Through a pair of sidecars and through one, by either port.
    fn ways(&self) -> impl Iterator<Item = (&'static str, std::net::SocketAddr)> {
        self.ports.into_iter().flat_map(|port| [("web", port), ("plain", port)])
    }
}

async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
        let byte = byte.unwrap_or_else(|_| panic!("{end:?} does not come: {}", got.escape_ascii()));
        got.push(byte.unwrap_or_else(|why| panic!("{why}: {}", got.escape_ascii())));
    }
    String::from_utf8_lossy(&got).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_fields_arrive_as_they_were_written_both_ways() {
    let place = place().await;
    for (host, port) in place.ways() {
        let mut client = TcpStream::connect(port).await.unwrap();
        // Several on one connection, each with other names: nothing of one gets into the next.
        for (n, names) in [["X-CaSe", "x-case"], ["x-case", "X-CASE"], ["x-case", "x-case"]].iter().enumerate() {
            let length = if n == 1 { "CONTENT-LENGTH: 2\r\n\r\nab" } else { "\r\n" };
            let request = format!(
                "POST /head HTTP/1.1\r\nHOST: {host}\r\nX-Own: {host}{port}{n}\r\n{}: 1\r\n{}: 2\r\n{length}",
                names[0], names[1]
            );
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = until(&mut client, "ok").await;
            for field in ["\r\nX-CaSe: 1\r\n", "\r\nx-case: 2\r\n", "\r\nETag: \"a\"\r\n", "\r\nContent-Length: 2\r\n"]
            {
                assert!(answer.contains(field), "{host}: {field:?} {answer}");
            }
            assert!(!answer.contains("leno-header-case"), "{host}: {answer}");
            let [seen] = &place.app.having(&format!("{host}{port}{n}"))[..] else { panic!("{:?}", place.app.seen()) };
            assert!(seen.head.contains(&format!("\r\nHOST: {host}\r\n")), "{}", seen.head);
            assert!(seen.head.contains(&format!("\r\n{}: 1\r\n", names[0])), "{}", seen.head);
            assert!(seen.head.contains(&format!("\r\n{}: 2\r\n", names[1])), "{}", seen.head);
            assert_eq!(seen.head.contains("\r\nCONTENT-LENGTH: 2\r\n"), n == 1, "{}", seen.head);
            assert!(!seen.head.contains("leno-header-case"), "{}", seen.head);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_http1_has_passes_as_it_is_meant() {
    let place = place().await;
    for (host, port) in place.ways() {
        // An old client that asks to keep the connection.
        let mut old = TcpStream::connect(port).await.unwrap();
        for _ in 0..2 {
            let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\r\n");
            old.write_all(request.as_bytes()).await.unwrap();
            let head = until(&mut old, "\r\n\r\n").await.to_ascii_lowercase();
            assert!(head.starts_with("http/1.0 200") && head.contains("connection: keep-alive"), "{head}");
            assert_eq!(until(&mut old, "ok").await, "ok");
        }
        // And one that does not: its end is the connection's.
        let mut old = TcpStream::connect(port).await.unwrap();
        old.write_all(format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut all = String::new();
        tokio::time::timeout(PATIENCE, old.read_to_string(&mut all)).await.expect("an end").unwrap();
        assert!(all.ends_with("\r\n\r\nok"), "{all}");

        let mut client = TcpStream::connect(port).await.unwrap();
        // A Gateway's routes have paths, and this has none.
        if port == place.ports[0] {
            client.write_all(format!("OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
            assert!(until(&mut client, "ok").await.starts_with("HTTP/1.1 200"));
            assert!(place.app.having("OPTIONS * HTTP/1.1").iter().any(|seen| seen.exactly("Host") == [host]));
        }

        // A client that sends its body only when it is asked to, and is asked.
        let expect =
            format!("POST /expect HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        client.write_all(expect.as_bytes()).await.unwrap();
        assert!(until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
        client.write_all(b"abc").await.unwrap();
        assert!(until(&mut client, "ok").await.starts_with("HTTP/1.1 200"));
        assert_eq!(place.app.asked("/expect").last().unwrap().body, b"abc");
        // Through a service that does not exist it is not asked, but told.
        let nowhere = expect.replace(host, "nowhere");
        client.write_all(nowhere.as_bytes()).await.unwrap();
        assert!(until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 404"));
    }
}
