//! Servers and clients of other people, unchanged, on both sides of the mesh.

use leno_tests::capture::Capture;
use leno_tests::mesh::service;
use leno_tests::peers::{self, Server, run_ok};
use leno_tests::{Mesh, Sidecar, require_tools, tools};

/// What the servers say; it must never be seen on the mesh port.
const SECRET: &str = "the-nginx-behind-a-sidecar-says-hello";
/// Bytes of a large answer: many TLS records and HTTP/2 windows.
const LARGE: usize = 5 << 20;

struct Parts {
    frontend: Sidecar,
    web: Sidecar,
    store: Sidecar,
    greeter: Sidecar,
    servers: [Server; 3],
    mesh: Mesh,
}

async fn start() -> Parts {
    let mesh = Mesh::start().await;
    let services = service("web", "app: web", 80, "http")
        + &service("store", "app: store", 6379, "redis").replace("port: 6379", "port: 6379, appProtocol: tcp")
        + &service("greeter", "app: greeter", 50051, "grpc")
            .replace("port: 50051", "port: 50051, appProtocol: kubernetes.io/h2c");
    mesh.apply(&services).await;
    let (nginx, redis, grpc) =
        tokio::join!(Server::nginx(mesh.dir(), SECRET, LARGE), Server::redis(mesh.dir()), Server::grpc(mesh.dir()));
    let web = mesh.sidecar("web", "web").await.port("http", nginx.addr).start().await;
    let store = mesh.sidecar("store", "store").await.port("redis", redis.addr).start().await;
    let greeter = mesh.sidecar("greeter", "greeter").await.port("grpc", grpc.addr).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await;
    let frontend = frontend.upstream("store:6379").upstream("greeter:50051").upstream("web:80").start().await;
    mesh.connected(4).await;
    Parts { mesh, frontend, web, store, greeter, servers: [nginx, redis, grpc] }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_redis_and_grpc_are_reached_by_curl_redis_cli_and_grpcio_over_tls_1_3_only() {
    require_tools!("nginx", "redis-server", "redis-cli", "curl", "python3", "tcpdump");
    if !tools::python_has("grpc") {
        return tools::skip("the Python module grpc is not installed");
    }
    if !tools::is_root() {
        return tools::skip("only root may capture packets");
    }
    let mut parts = start().await;
    let ports = [&parts.web, &parts.store, &parts.greeter].map(|sidecar| sidecar.mesh().port());
    // Before the first request, so that every connection is seen from its beginning.
    let capture = Capture::start(parts.mesh.dir(), &ports).await;

    parts.mesh.reachable(&parts.frontend, "http://web/").await;
    curl(&parts.frontend).await;
    redis(&parts.frontend).await;
    grpc(&parts.frontend).await;

    let packets = capture.stop().await;
    let summary = packets.summary();
    assert!(summary.connections >= 3 && summary.encrypted > 300, "too little was captured: {summary:?}");
    assert_eq!(summary.wrong, Vec::<String>::new(), "something on a mesh port is no TLS 1.3");
    for text in [SECRET, "mesh-redis-value", "hello over grpc", "GET /hello", "leno.test.Peer"] {
        assert!(!packets.contains(text), "{text:?} was seen in plaintext on a mesh port");
    }
    assert_each_side_logs_the_other(&parts);
    for server in &mut parts.servers {
        server.process.assert_running();
    }
}

async fn curl(frontend: &Sidecar) {
    let proxy = format!("http://{}", frontend.http_proxy());
    let common = ["-sS", "--fail", "--max-time", "20"];
    let curl = |args: &[&str]| {
        let args: Vec<String> = common.iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        async move { run_ok("curl", &args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    for name in ["web", "web.default", "web.default.svc.cluster.local", "web:80"] {
        assert_eq!(curl(&["--proxy", &proxy, &format!("http://{name}/hello")]).await, SECRET, "as {name}");
    }
    // Origin form: the sidecar as if it were the server.
    assert_eq!(curl(&["-H", "Host: web", &format!("{proxy}/hello")]).await, SECRET);
    let h2 = ["--http2-prior-knowledge", "-H", "Host: web", "-w", " over %{http_version}", &format!("{proxy}/hello")];
    assert_eq!(curl(&h2).await, format!("{SECRET} over 2"));
    let upstream = format!("http://{}/", frontend.upstream("web:80"));
    assert_eq!(curl(&[&upstream]).await, SECRET);

    let sum = curl(&["--proxy", &proxy, "http://web/large", "-o", "/dev/null", "-w", "%{size_download} %{http_code}"]);
    assert_eq!(sum.await, format!("{LARGE} 200"));
    let range = ["--proxy", &proxy, "-r", "10-19", "http://web/large", "-w", " %{http_code}"];
    assert_eq!(curl(&range).await, "LLLLLLLLLL 206");
    let head = curl(&["--proxy", &proxy, "-I", "http://web/large"]).await.to_lowercase();
    assert!(head.contains(&format!("content-length: {LARGE}")), "{head}");
    // Fifty requests over one connection of curl's.
    let many = curl(&["--proxy", &proxy, "http://web/n?[1-50]"]).await;
    assert_eq!(many, SECRET.repeat(50));
}

async fn redis(frontend: &Sidecar) {
    let port = frontend.upstream("store:6379").port().to_string();
    let cli = |args: &[&str]| {
        let args: Vec<String> = ["-p", &port].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        async move { run_ok("redis-cli", &args.iter().map(String::as_str).collect::<Vec<_>>()).await.trim().to_owned() }
    };
    assert_eq!(cli(&["PING"]).await, "PONG");
    assert_eq!(cli(&["SET", "key", "mesh-redis-value"]).await, "OK");
    assert_eq!(cli(&["GET", "key"]).await, "mesh-redis-value");
    let counted = cli(&["-r", "500", "INCR", "counter"]).await;
    assert_eq!(counted.lines().last(), Some("500"));
    // An answer of 4 MiB.
    assert_eq!(cli(&["SETRANGE", "large", "4194303", "x"]).await, "4194304");
    assert_eq!(cli(&["GET", "large"]).await.len(), 4_194_304);
    assert_eq!(cli(&["NONSENSE"]).await.split(',').next(), Some("ERR unknown command 'NONSENSE'"));
}

async fn grpc(frontend: &Sidecar) {
    let script = peers::grpc_script();
    let script = script.to_str().expect("a path in UTF-8");
    // By the local port that leads to the service, and by the HTTP proxy port, which goes by the authority.
    for addr in [frontend.upstream("greeter:50051"), frontend.http_proxy()] {
        let told = run_ok("python3", &[script, "call", &addr.to_string(), "greeter:50051"]).await;
        assert_eq!(told.trim(), "all right");
    }
}

fn assert_each_side_logs_the_other(parts: &Parts) {
    let peer = |account: &str| format!("spiffe://cluster.local/ns/default/sa/{account}");
    let names =
        |log: &str, account: &str| log.lines().any(|line| line.contains("peer") && line.contains(&peer(account)));
    for (server, account) in [(&parts.web, "web"), (&parts.store, "store"), (&parts.greeter, "greeter")] {
        assert!(names(&server.log(), "frontend"), "{account}'s log does not name its client\n{}", server.log());
        assert!(
            names(&parts.frontend.log(), account),
            "the client's log does not name {account}\n{}",
            parts.frontend.log()
        );
    }
}
