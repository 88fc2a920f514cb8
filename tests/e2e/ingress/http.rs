//! Listeners and routes by hostname.

use std::net::SocketAddr;

use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Sidecar, peers, require_tools, tools};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_served_by_its_most_specific_listener_and_by_no_other() {
    let mesh = Mesh::start().await;
    let _apps = apps(&mesh, ["web"]).await;
    let listeners = [
        ("empty", ""),
        ("wild-example-com", "*.example.com"),
        ("wild-foo-example-com", "*.foo.example.com"),
        ("abc-foo-example-com", "abc.foo.example.com"),
    ];
    let lines = listeners.map(|(name, host)| format!("{{name: {name}, port: 80, protocol: HTTP, hostname: {host:?}}}"));
    let lines = lines.map(|line| line.replace(", hostname: \"\"", ""));
    let mut yaml = gateway(&lines.each_ref().map(String::as_str), "");
    for (name, _) in listeners {
        yaml += &route(name, name, &[], &path(&format!("/{name}")), "web");
    }
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    answers(at, "bar.com", "/empty", 200).await;
    let hosts = [
        ("bar.com", "empty"),
        ("bar.example.com", "wild-example-com"),
        ("bar.foo.example.com", "wild-foo-example-com"),
        ("abc.foo.example.com", "abc-foo-example-com"),
    ];
    for (host, own) in hosts {
        for (name, _) in listeners {
            let expected = if name == own { "web" } else { "404" };
            expect(at, &[(host, &format!("/{name}"), expected)]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_routes_hostnames_are_met_with_the_listeners_and_the_most_specific_goes_first() {
    let mesh = Mesh::start().await;
    let _apps = apps(&mesh, ["exact", "wild", "any", "beyond"]).await;
    let yaml = gateway(
        &[
            "{name: very, port: 80, protocol: HTTP, hostname: very.specific.com}",
            "{name: wild, port: 80, protocol: HTTP, hostname: '*.wildcard.io'}",
        ],
        "",
    );
    let routes = [
        route("exact", "", &["non.matching.com", "very.specific.com", "foo.wildcard.io"], &path("/s1"), "exact"),
        route("wild", "", &["*.specific.com", "*.wildcard.io"], &path("/"), "wild"),
        // Any hostname of its listeners; more specific by its path, and still behind.
        route("any", "", &[], &path("/s1/deep"), "any"),
        route("beyond", "", &["*.elsewhere.net"], "", "beyond"),
    ];
    mesh.apply(&(yaml + &routes.concat())).await;
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    answers(at, "very.specific.com", "/s1", 200).await;
    expect(
        at,
        &[
            ("very.specific.com", "/s1", "exact"),
            ("very.specific.com", "/s1/deep", "exact"),
            // Not in the most specific hostname's routes, so in the next one's.
            ("very.specific.com", "/other", "wild"),
            ("foo.wildcard.io", "/s1", "exact"),
            ("bar.wildcard.io", "/s1", "wild"),
            ("a.b.wildcard.io", "/s1/deep", "wild"),
            ("wildcard.io", "/s1", "404"),
            ("non.matching.com", "/s1", "404"),
            ("other.specific.com", "/s1", "404"),
            ("x.elsewhere.net", "/", "404"),
            ("", "/s1", "400"),
            ("very.specific.com:8080", "/s1", "exact"),
            ("VERY.Specific.com", "/s1", "exact"),
            ("very.specific.com.", "/s1", "exact"),
        ],
    )
    .await;
    // The authority of the absolute form wins over Host.
    let mut stream = TcpStream::connect(at).await.unwrap();
    let absolute = "GET http://very.specific.com/s1 HTTP/1.1\r\nHost: bar.wildcard.io\r\nConnection: close\r\n\r\n";
    stream.write_all(absolute.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("exact"), "{answer}");
    let metrics = edge.metrics().await;
    assert!(metrics.sum("leno_gateway_requests_total", &[("gateway", "default/edge"), ("listener", "very")]) >= 5.0);
    assert!(metrics.sum("leno_failures_total", &[("reason", "no_route")]) >= 4.0);
}

/// Answers with the head that it was sent; `/upgrade` goes on in another protocol and shouts.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo_one(stream));
        }
    });
    addr
}

async fn echo_one(mut stream: TcpStream) -> std::io::Result<()> {
    let head = read_head(&mut stream).await?;
    if head.starts_with("GET /upgrade ") {
        stream.write_all(b"HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: shout\r\n\r\n").await?;
        let mut buffer = [0; 1024];
        loop {
            let n = stream.read(&mut buffer).await?;
            if n == 0 {
                return stream.shutdown().await;
            }
            buffer[..n].make_ascii_uppercase();
            stream.write_all(&buffer[..n]).await?;
        }
    }
    let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{head}", head.len());
    stream.write_all(answer.as_bytes()).await
}

async fn read_head<I: AsyncReadExt + Unpin>(stream: &mut I) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A Gateway for HTTP and HTTPS in front of `echo`.
async fn both(mesh: &Mesh, ca: &Ca) -> Sidecar {
    let yaml = gateway(
        &[
            "{name: http, port: 80, protocol: HTTP}",
            "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: shop}]}}",
        ],
        "",
    );
    let yaml = yaml + &outside("echo", echo().await) + &route("echo", "", &[], "", "echo");
    mesh.apply(&(ca.pair(&["shop.example.com"]).secret("shop") + &yaml)).await;
    edge(mesh, &[80, 443]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_is_told_who_asks_and_nothing_that_a_stranger_says_of_himself() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let edge = both(&mesh, &ca).await;
    answers(edge.gateway(80), "shop.example.com:8080", "/", 200).await;
    require_tools!("curl");
    let url = format!("http://{}/", edge.gateway(80));
    let lies = ["-H", "X-Forwarded-For: 1.2.3.4", "-H", "Forwarded: for=1.2.3.4", "-H", "X-Real-IP: 1.2.3.4"];
    let more = ["-H", "X-Forwarded-Proto: https", "-H", "Leno-Reason: 1.2.3.4", "-H", "Host: shop.example.com:8080"];
    let head = peers::run_ok("curl", &[&["-s", url.as_str()], &lies[..], &more[..]].concat()).await;
    for line in ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http\r", "x-forwarded-host: shop.example.com:8080"] {
        assert!(head.to_lowercase().contains(line), "{line} in {head}");
    }
    assert!(!head.contains("1.2.3.4"), "{head}");
    assert!(head.to_lowercase().contains("host: shop.example.com:8080"), "{head}");
    let tls = Tls::new(&ca);
    let reply = tls.answers(edge.gateway(443), "shop.example.com", "/", 200).await;
    assert!(reply.text().to_lowercase().contains("x-forwarded-proto: https"), "{}", reply.text());
    // The app speaks HTTP/1.1 alone, and its Service does not say so; a browser speaks HTTP/2.
    let mut sender =
        http2(tls.alpn(&["h2"]).connect(edge.gateway(443), "shop.example.com").await.unwrap()).await.unwrap();
    assert_eq!(get_http2(&mut sender, "https://shop.example.com/").await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_in_the_clear_and_over_tls_and_outlives_changes_of_its_route() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let edge = both(&mesh, &ca).await;
    answers(edge.gateway(80), "shop.example.com", "/", 200).await;
    let tls = Tls::new(&ca).alpn(&["http/1.1"]);
    tls.answers(edge.gateway(443), "shop.example.com", "/", 200).await;
    let mut plain = TcpStream::connect(edge.gateway(80)).await.unwrap();
    shout(&mut plain, "one").await;
    let mut secure = tls.connect(edge.gateway(443), "shop.example.com").await.unwrap();
    shout(&mut secure, "one").await;
    // Its route goes, and its listener's certificate is another one.
    mesh.apply(&(ca.pair(&["shop.example.com"]).secret("shop") + &route("echo", "", &["other.com"], "", "echo"))).await;
    answers(edge.gateway(80), "shop.example.com", "/", 404).await;
    for stream in [&mut plain as &mut (dyn Both + Unpin + Send), &mut secure] {
        stream.write_all(b"two").await.unwrap();
        let mut got = [0; 3];
        within(stream.read_exact(&mut got)).await.unwrap();
        assert_eq!(&got, b"TWO");
    }
}

trait Both: tokio::io::AsyncRead + tokio::io::AsyncWrite {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite> Both for T {}

async fn shout<I: Both + Unpin>(stream: &mut I, word: &str) {
    let ask = "GET /upgrade HTTP/1.1\r\nHost: shop.example.com\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let head = within(read_head(stream)).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(word.as_bytes()).await.unwrap();
    let mut got = vec![0; word.len()];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, word.to_uppercase().as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_in_the_mesh_are_reached_over_its_own_tls_by_http1_and_http2() {
    let mesh = Mesh::start().await;
    let app = HttpApp::start("meshed").await;
    let yaml = service("meshed", "app: meshed", 80, "http")
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + &route("meshed", "", &["shop.example.com"], "", "meshed");
    mesh.apply(&yaml).await;
    let mut far = mesh.sidecar("meshed", "meshed").await.port("http", app.addr()).start().await;
    let edge = edge(&mesh, &[80]).await;
    let at = edge.gateway(80);
    answers(at, "shop.example.com", "/", 200).await;
    assert!(far.metrics().await.sum("leno_requests_total", &[("direction", "inbound"), ("code", "200")]) >= 1.0);
    // HTTP/2 with prior knowledge.
    let mut sender = http2(TcpStream::connect(at).await.unwrap()).await.unwrap();
    let (status, body) = get_http2(&mut sender, "http://shop.example.com/").await.unwrap();
    assert_eq!((status, &body[..]), (200, &b"meshed"[..]));
    assert_eq!(get_http2(&mut sender, "http://other.example.com/").await.unwrap().0, 404);
    far.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_keeps_the_listeners_scheme_and_port() {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let _apps = apps(&mesh, ["web"]).await;
    let redirect = "    filters: [{type: RequestRedirect, requestRedirect: {hostname: example.org}}]\n";
    let bare = route("bare", "", &[], redirect, "web")
        .replace("  - backendRefs: [{name: web, port: 80}]\n    filters", "  - filters");
    let yaml = gateway(
        &[
            "{name: http, port: 80, protocol: HTTP}",
            "{name: other, port: 8080, protocol: HTTP}",
            "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: shop}]}}",
        ],
        "",
    );
    mesh.apply(&(ca.pair(&["shop.example.com"]).secret("shop") + &yaml + &bare)).await;
    let edge = edge(&mesh, &[80, 8080, 443]).await;
    let tls = Tls::new(&ca);
    let host = "shop.example.com";
    let location = |reply: leno_tests::Reply| reply.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(location(answers(edge.gateway(80), host, "/a", 302).await), "http://example.org/a");
    assert_eq!(location(answers(edge.gateway(8080), host, "/a", 302).await), "http://example.org:8080/a");
    assert_eq!(location(tls.answers(edge.gateway(443), host, "/a", 302).await), "https://example.org/a");
    // What the client calls the port is not the port that it came to.
    assert_eq!(location(get(edge.gateway(80), "shop.example.com:9999", "/a").await.unwrap()), "http://example.org/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_are_written_down_are_backends() {
    let mesh = Mesh::start().await;
    let app = HttpApp::start("written").await;
    let yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: written, namespace: default}}\nspec:\n  \
         ports: [{{name: main, port: 80}}]\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: written-1, namespace: default, labels: {{kubernetes.io/service-name: written}}}}\naddressType: IPv4\n\
         ports: [{{name: main, port: {}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n---\n",
        app.addr().port()
    );
    let older = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: older, namespace: default}}\nspec:\n  clusterIP: None\n  \
         ports: [{{name: main, port: 80}}]\n---\napiVersion: v1\nkind: Endpoints\nmetadata: {{name: older, namespace: default}}\n\
         subsets:\n- addresses: [{{ip: 127.0.0.1}}]\n  notReadyAddresses: [{{ip: 127.0.0.9}}]\n  \
         ports: [{{name: main, port: {}}}]\n---\n",
        app.addr().port()
    );
    let http = gateway(&["{name: http, port: 80, protocol: HTTP}"], "");
    let routes = route("written", "", &[], "", "written") + &route("older", "", &[], &path("/older"), "older");
    mesh.apply(&(yaml + &older + &http + &routes)).await;
    let edge = edge(&mesh, &[80]).await;
    assert_eq!(answers(edge.gateway(80), "a", "/", 200).await.text(), "written");
    assert_eq!(answers(edge.gateway(80), "a", "/older", 200).await.text(), "written");
    mesh.leno(&["delete", "endpoints", "older"]).await;
    answers(edge.gateway(80), "a", "/older", 503).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_is_routed_by_its_methods() {
    if !tools::python_has("grpc") {
        return tools::skip("python3 has no grpcio");
    }
    let mesh = Mesh::start().await;
    let server = peers::Server::grpc(mesh.dir()).await;
    let yaml = outside("greeter", server.addr)
        .replace("name: main, port: 80", "name: main, appProtocol: kubernetes.io/h2c, port: 80")
        + &gateway(&["{name: http, port: 80, protocol: HTTP}"], "")
        + "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: greeter, namespace: default}\nspec:\n  \
           parentRefs: [{name: edge}]\n  rules:\n  - backendRefs: [{name: greeter, port: 80}]\n---\n";
    mesh.apply(&yaml).await;
    let edge = edge(&mesh, &[80]).await;
    answers(edge.gateway(80), "any", "/", 404).await;
    let script = peers::grpc_script();
    let (script, at) = (script.to_str().unwrap(), edge.gateway(80).to_string());
    let told = peers::run_ok("python3", &[script, "call", &at, "greeter.example.com"]).await;
    assert_eq!(told.trim(), "all right");
}
