//! The clients that people have at hand: curl in every version of HTTP it speaks, h2load in masses.

use leno_tests::mesh::service;
use leno_tests::peers::run_ok;
use leno_tests::{HttpApp, Mesh, require_tools};

use super::place::{Place, every, host};

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_and_sends_in_every_version() {
    require_tools!("curl");
    let place = Place::start().await;
    let proxy = format!("http://{}", place.frontend.http_proxy());
    let file = place.mesh.dir().join("upload");
    std::fs::write(&file, vec![b'u'; 300_000]).unwrap();
    let upload = file.to_str().unwrap();
    for (speaks, pair) in every() {
        let fields = format!("Host: {}", host(speaks, pair));
        for version in ["--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"] {
            let curl = async |args: &[&str]| {
                let common = ["-sS", "--max-time", "20", version, "-H", &fields, "-w", " %{http_code}"];
                run_ok("curl", &[&common[..], args].concat()).await
            };
            let what = format!("{version} {fields}");
            assert_eq!(curl(&[&proxy]).await, "echoed 200", "{what}");
            let head = curl(&["-I", &proxy]).await.to_lowercase();
            assert!(head.contains("x-method: head") && head.ends_with(" 200"), "{what}: {head}");
            let sent = curl(&["--data-binary", &format!("@{upload}"), "-D", "-", &proxy]).await.to_lowercase();
            // curl shows trailers behind the body.
            let whole = sent.contains("x-length: 300000") && sent.contains("\r\n\r\nechoed") && sent.ends_with(" 200");
            assert!(whole, "{what}: {sent}");
            // On HTTP/2 curl 7.88 throws an answer away whose stream was closed before it had sent its own body; our client, which does not, asks
            // for early answers there (`protocols`).
            if version != "--http2-prior-knowledge" {
                let early = curl(&["-d", "some", &format!("{proxy}/early")]).await;
                assert_eq!(early, "early 413", "{what}");
            }
        }
        // A body of unknown length, which HTTP/1.0 does not have.
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let args = ["-sS", "--max-time", "20", version, "-H", &fields, "-H", "Transfer-Encoding: chunked"];
            let args = if version == "--http1.1" { &args[..] } else { &args[..6] };
            let sent = run_ok("curl", &[args, &["-T", upload, "-D", "-", &format!("{proxy}/put")]].concat()).await;
            assert!(sent.to_lowercase().contains("x-length: 300000"), "{version} {fields}: {sent}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_loses_nothing() {
    require_tools!("h2load");
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("web").await;
    let _web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.upstream("web:80").start().await;
    mesh.connected(2).await;
    mesh.reachable(&frontend, "http://web/").await;
    let uri = format!("http://{}/", frontend.upstream("web:80"));
    for protocol in ["--h1", "--no-tls-proto=h2c"] {
        let out = run_ok("h2load", &["-n", "4000", "-c", "16", "-m", "32", protocol, &uri]).await;
        assert!(out.contains("4000 succeeded, 0 failed, 0 errored"), "{protocol}: {out}");
        assert!(out.contains("4000 2xx"), "{protocol}: {out}");
    }
}
