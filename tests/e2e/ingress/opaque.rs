//! Connections whose bytes are none of the Gateway's: TCPRoute, and TLSRoute with TLS that ends here or at the backend.

use std::net::SocketAddr;

use leno_tests::{Mesh, TcpEcho, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::*;

/// Says its name to whoever connects, and closes.
async fn greeter(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { stream.write_all(name.as_bytes()).await });
        }
    });
    addr
}

async fn greeting(at: SocketAddr) -> std::io::Result<String> {
    let mut text = String::new();
    within(TcpStream::connect(at).await?.read_to_string(&mut text)).await?;
    Ok(text)
}

fn tcp_route(kind: &str, name: &str, section: &str, more: &str, backends: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: {kind}\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  \
         parentRefs: [{{name: edge, sectionName: {section}}}]\n{more}  rules: [{{backendRefs: [{backends}]}}]\n---\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_listener_leads_to_its_routes_backends_by_weight() {
    let mesh = Mesh::start().await;
    let (one, two, none) = (greeter("one").await, greeter("two").await, greeter("none").await);
    let backends =
        "{name: one, port: 80, weight: 3}, {name: two, port: 80, weight: 1}, {name: none, port: 80, weight: 0}";
    let yaml = outside("one", one)
        + &outside("two", two)
        + &outside("none", none)
        + &gateway(&["{name: tcp, port: 6000, protocol: TCP}", "{name: bare, port: 6001, protocol: TCP}"], "")
        + &tcp_route("TCPRoute", "tcp", "tcp", "", backends);
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[6000, 6001]).await;
    let at = edge.gateway(6000);
    wait::eventually("a greeting", wait::DEADLINE, || async {
        greeting(at).await.ok().filter(|text| !text.is_empty())
    })
    .await;
    let mut seen = [0; 2];
    for _ in 0..200 {
        match greeting(at).await.unwrap().as_str() {
            "one" => seen[0] += 1,
            "two" => seen[1] += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!((110..=185).contains(&seen[0]) && seen[1] > 0, "{seen:?}");
    // Without a route a connection is broken off, and not ended as if there were nothing to say.
    assert!(greeting(edge.gateway(6001)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_passed_on_or_ended_by_its_server_name_on_one_port() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let passed = ca.pair(&["passed.example.com", "*.deep.example.com"]);
    let (own, deep) = (tls_greeter("passed", &passed).await, tls_greeter("deep", &passed).await);
    let echo = TcpEcho::start().await;
    let _apps = apps(&mesh, ["web"]).await;
    let yaml = outside("passed", own)
        + &outside("deep", deep)
        + &outside("echo", echo.addr())
        + &ca.pair(&["ended.example.com", "web.example.com"]).secret("own")
        + &gateway(
            &[
                "{name: pass, port: 443, protocol: TLS, hostname: '*.example.com', tls: {mode: Passthrough}}",
                "{name: end, port: 443, protocol: TLS, hostname: ended.example.com, tls: {mode: Terminate, certificateRefs: [{name: own}]}}",
                "{name: web, port: 443, protocol: HTTPS, hostname: web.example.com, tls: {certificateRefs: [{name: own}]}}",
            ],
            "",
        )
        + &tcp_route("TLSRoute", "passed", "pass", "  hostnames: [passed.example.com]\n", "{name: passed, port: 80}")
        + &tcp_route("TLSRoute", "deep", "pass", "  hostnames: ['*.deep.example.com']\n", "{name: deep, port: 80}")
        + &tcp_route("TLSRoute", "ended", "end", "  hostnames: [ended.example.com]\n", "{name: echo, port: 80}")
        + &route("web", "web", &[], "", "web");
    let yaml = yaml.replace("v1alpha2\nkind: TLSRoute", "v1\nkind: TLSRoute");
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[443]).await;
    let (at, tls) = (edge.gateway(443), Tls::new(&ca));
    tls.answers(at, "web.example.com", "/", 200).await;
    for (name, pair, told) in [("passed.example.com", &passed, "passed"), ("x.deep.example.com", &passed, "deep")] {
        let mut stream = tls.connect(at, name).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0].as_ref(), pair.chain, "the backend's own");
        let mut text = String::new();
        within(stream.read_to_string(&mut text)).await.unwrap();
        assert_eq!(text, told);
    }
    let mut stream = tls.connect(at, "ended.example.com").await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"hello");
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    // A name that no route of the listener has, and one that no listener has.
    for name in ["other.example.com", "example.org"] {
        let refused = tls.connect(at, name).await.unwrap_err();
        assert!(format!("{refused:#}").contains("UnrecognisedName"), "{refused:#}");
    }
}
