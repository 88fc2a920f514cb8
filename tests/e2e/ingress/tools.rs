//! The clients that people have at hand, at a Gateway's ports.

use std::path::PathBuf;

use leno_tests::mesh::service;
use leno_tests::peers::run_ok;
use leno_tests::{HttpApp, Mesh, Sidecar, require_tools};

use super::support::*;

/// Holds what lives as long as the test.
struct Place {
    edge: Sidecar,
    ca: PathBuf,
    mesh: Mesh,
    _web: (HttpApp, Sidecar),
}

/// A Gateway with HTTP and HTTPS before `web`, whose app has a sidecar.
async fn place() -> Place {
    let (mesh, ca) = (Mesh::start().await, Ca::new());
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: shop}]}}";
    let yaml = service("web", "app: web", 80, "http")
        + &ca.pair(&["shop.example.com", "localhost"]).secret("shop")
        + &gateway(&["{name: http, port: 80, protocol: HTTP}", https], "")
        + &route("web", "", &[], "", "web");
    mesh.apply(&yaml).await;
    let app = HttpApp::start("web").await;
    let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let edge = edge(&mesh, &[80, 443]).await;
    Tls::new(&ca).answers(edge.gateway(443), "shop.example.com", "/", 200).await;
    let file = mesh.dir().join("ca.pem");
    std::fs::write(&file, pem("CERTIFICATE", &ca.der)).unwrap();
    Place { edge, ca: file, mesh, _web: (app, web) }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_and_sends_in_every_version_at_a_gateway() {
    require_tools!("curl");
    let place = place().await;
    let file = place.mesh.dir().join("upload");
    std::fs::write(&file, vec![b'u'; 300_000]).unwrap();
    let (http, https) = (place.edge.gateway(80), place.edge.gateway(443));
    let resolve = format!("shop.example.com:{}:127.0.0.1", https.port());
    let secure = ["--cacert", place.ca.to_str().unwrap(), "--resolve", resolve.as_str()];
    let clear = ["-H", "Host: shop.example.com"];
    let https = format!("https://shop.example.com:{}/", https.port());
    for (uri, args, versions) in [
        (format!("http://{http}/"), &clear[..], &["--http1.0", "--http1.1", "--http2-prior-knowledge"][..]),
        (https, &secure[..], &["--http1.1", "--http2", "--no-alpn"][..]),
    ] {
        for version in versions {
            let curl = async |more: &[&str]| {
                let common = ["-sS", "--max-time", "20", version, "-w", " %{http_code}"];
                run_ok("curl", &[&common[..], args, more, &[&uri]].concat()).await
            };
            assert_eq!(curl(&[]).await, "web 200", "{version} {uri}");
            assert!(curl(&["-I"]).await.trim_end().ends_with(" 200"), "{version} {uri}");
            let upload = format!("@{}", file.display());
            // It asks first (Expect: 100-continue), since the body is large.
            assert_eq!(curl(&["--data-binary", &upload]).await, "web 200", "{version} {uri}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_loses_nothing_at_a_gateway() {
    require_tools!("h2load");
    let place = place().await;
    let http = format!("http://{}/", place.edge.gateway(80));
    let https = format!("https://localhost:{}/", place.edge.gateway(443).port());
    for (protocol, uri) in
        [("--h1", &http), ("--no-tls-proto=h2c", &http), ("--npn-list=http/1.1", &https), ("--npn-list=h2", &https)]
    {
        let out = run_ok("h2load", &["-n", "1000", "-c", "16", "-m", "32", protocol, uri]).await;
        assert!(out.contains("1000 succeeded, 0 failed, 0 errored"), "{protocol} {uri}: {out}");
        assert!(out.contains("1000 2xx"), "{protocol} {uri}: {out}");
    }
}
