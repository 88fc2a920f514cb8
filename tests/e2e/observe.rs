//! The numbers that a mesh shows are those that happened, and nothing secret is among what it shows.

use leno_tests::mesh::{Trio, service};
use leno_tests::metrics::Metrics;
use leno_tests::{Behaviour, HttpApp, Load, Mesh, Sidecar, TcpEcho, client, wait};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Parts {
    frontend: Sidecar,
    web: Sidecar,
    app: HttpApp,
    _store: (Sidecar, TcpEcho),
    mesh: Mesh,
}

async fn start() -> Parts {
    let mesh = Mesh::start().await;
    let Trio { frontend, web, store, app, echo } = Trio::start(&mesh).await;
    Parts { frontend, web, app, _store: (store, echo), mesh }
}

/// Every metric of a page has a description and a type, and counters end in `_total`.
fn assert_well_formed(metrics: &Metrics) {
    let mut types = std::collections::BTreeMap::new();
    for line in metrics.text().lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(metrics.text().contains(&format!("# HELP {name} ")), "{name} has no description");
            assert!(kind != "counter" || name.ends_with("_total"), "the counter {name} does not end in _total");
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') && !line.is_empty() {
            let name = line.split(['{', ' ']).next().unwrap();
            let base =
                ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
            assert!(types.contains_key(name) || types.contains_key(base), "{name} has no type");
            // Or what OpenTelemetry has a name for, and what every client of Prometheus says of its process.
            let known = ["leno_", "http_server_", "http_client_", "process_", "target_info"];
            assert!(known.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        }
    }
    assert!(types.len() > 5, "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_bytes_and_statuses_are_counted_exactly_on_both_sides() {
    let parts = start().await;
    let ok = [("service", "default/web"), ("code", "200")];
    let count =
        async |sidecar: &Sidecar, name: &str, labels: &[(&str, &str)]| sidecar.metrics().await.sum(name, labels);
    let before = [
        count(&parts.frontend, "leno_requests_total", &ok).await,
        count(&parts.web, "leno_requests_total", &ok).await,
        count(&parts.frontend, "leno_request_bytes_total", &ok[..1]).await,
    ];
    Load::new(parts.frontend.http_proxy(), "http://web/")
        .post(1000)
        .clients(3)
        .limit(300)
        .run()
        .await
        .assert_no_failure();
    parts.app.set(Behaviour::Status(404));
    Load::new(parts.frontend.http_proxy(), "http://web/").clients(3).limit(50).run().await;

    // A request is counted when its last byte is through, which may be a moment after the client has it.
    wait::eventually("both sides have counted 50 times 404", wait::DEADLINE, async || {
        let not_found = [("service", "default/web"), ("code", "404")];
        let out = count(&parts.frontend, "leno_requests_total", &not_found).await;
        let inbound = count(&parts.web, "leno_requests_total", &[("code", "404")]).await;
        (out == 50.0 && inbound == 50.0).then_some(())
    })
    .await;
    assert_eq!(count(&parts.frontend, "leno_requests_total", &ok).await - before[0], 300.0);
    let bytes = count(&parts.frontend, "leno_request_bytes_total", &ok[..1]).await;
    assert_eq!(bytes - before[2], 300_000.0);
    let durations =
        parts.frontend.metrics().await.sum("http_client_request_duration_seconds_count", &[("service", "default/web")]);
    assert_eq!(durations, before[0] + 350.0);
    assert_eq!(count(&parts.web, "leno_requests_total", &[("code", "200")]).await - before[1], 300.0);
    // The called sidecar knows who called, by certificate, and how long it took; and each says whose it is.
    let web = parts.web.metrics().await;
    let by_class = [("service", "default/web"), ("class", "4xx")];
    assert_eq!(web.sum("http_server_request_duration_seconds_count", &by_class), 50.0);
    let edge = [("source_namespace", "default"), ("source_workload", "frontend"), ("mtls", "true"), ("class", "4xx")];
    assert_eq!(web.sum("leno_edge_requests_total", &edge), 50.0);
    assert_eq!(web.sum("target_info", &[("service_name", "web"), ("service_namespace", "default")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_bytes_are_counted_exactly() {
    let parts = start().await;
    let labels = [("service", "default/store")];
    let mut stream = TcpStream::connect(parts.frontend.upstream("store:7000")).await.unwrap();
    stream.write_all(&[7; 100_000]).await.unwrap();
    let mut back = vec![0; 100_000];
    stream.read_exact(&mut back).await.unwrap();
    drop(stream);
    wait::eventually("the connection is counted with its bytes", wait::DEADLINE, async || {
        let metrics = parts.frontend.metrics().await;
        let sums = ["leno_tcp_connections_total", "leno_tcp_sent_bytes_total", "leno_tcp_received_bytes_total"]
            .map(|name| metrics.sum(name, &labels));
        (sums == [1.0, 100_000.0, 100_000.0]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_well_formed_and_neither_dumps_nor_logs_hold_a_secret() {
    let parts = start().await;
    let plane = &parts.mesh.control_plane;
    let context = std::fs::read_to_string(plane.context()).unwrap();
    let context: Value = serde_yaml_ng::from_str(&context).unwrap();
    let bearer = context["token"].as_str().unwrap();
    let mut shown = vec![plane.log(), parts.frontend.log(), parts.web.log()];
    for admin in [plane.admin(), parts.frontend.admin(), parts.web.admin()] {
        assert_well_formed(&Metrics::fetch(admin).await);
        let dump = client::get_direct(admin, "/config_dump").await.unwrap();
        assert_eq!(dump.status, 200);
        serde_json::from_slice::<Value>(&dump.body).expect("JSON");
        shown.push(dump.text());
    }
    for text in shown {
        for secret in ["PRIVATE KEY", bearer, "leno1."] {
            assert!(!text.contains(secret), "{:?}… is shown: {text}", &secret[..8.min(secret.len())]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_secret_on_disk_can_be_read_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let parts = start().await;
    // How a key of PKCS#8 and EC P-256 begins, here without its length.
    const PKCS8: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x04";
    let holds = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    let has_key = |bytes: &[u8]| holds(bytes, PKCS8) || holds(bytes, b"PRIVATE KEY");
    assert!(has_key(&leno_certs::Key::generate().unwrap().to_pkcs8()), "the test does not know a key when it sees one");
    let folders = [parts.mesh.control_plane.state_dir(), parts.frontend.state_dir(), parts.web.state_dir()];
    let mut files = 0;
    for folder in folders {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{} has the mode {mode:o}", path.display());
            let bytes = std::fs::read(&path).unwrap_or_default();
            // A sidecar's key is protected by the file's mode alone; the CA's is encrypted at rest.
            let is_sidecars = path.parent().unwrap() != parts.mesh.control_plane.state_dir();
            assert!(is_sidecars || !has_key(&bytes), "{} holds a key in the clear", path.display());
            files += 1;
        }
    }
    assert!(files >= 5, "only {files} files were looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_says_why_requests_fail_and_a_flood_of_failures_is_a_few_lines() {
    let parts = start().await;
    parts.mesh.apply(&service("empty", "app: empty", 80, "http")).await;
    wait::eventually("the service is known", wait::DEADLINE, async || {
        let reply = parts.frontend.get("http://empty/").await.ok()?;
        (reply.reason() == Some("no_endpoints")).then_some(())
    })
    .await;
    let labels = [("reason", "no_endpoints"), ("direction", "outbound")];
    let failed = async || parts.frontend.metrics().await.sum("leno_failures_total", &labels);
    let before = failed().await;
    let lines = || -> Vec<Value> {
        let lines = parts.frontend.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["reason"] == "no_endpoints").collect()
    };
    let (said, flood) = (lines().len(), std::time::Instant::now());
    for _ in 0..200 {
        assert_eq!(parts.frontend.get("http://empty/").await.unwrap().reason(), Some("no_endpoints"));
    }
    let seconds = usize::try_from(flood.elapsed().as_secs()).unwrap() + 2;
    assert_eq!(failed().await - before, 200.0);
    let now = lines();
    assert!((1..=5 * seconds).contains(&(now.len() - said)), "{} lines in {seconds} s", now.len() - said);
    let last = now.last().unwrap();
    assert_eq!(
        (&last["level"], &last["hop"], &last["fault"]),
        (&"WARN".into(), &"outbound".into(), &"upstream".into())
    );
    assert_eq!(last["service"], "default/empty");
    // The next line tells how many were not.
    wait::eventually("a line that counts the rest", wait::DEADLINE, async || {
        parts.frontend.get("http://empty/").await.unwrap();
        let told: u64 = lines().iter().filter_map(|line| line["more"].as_u64()).sum();
        (lines().len() as f64 + told as f64 >= before + 200.0).then_some(())
    })
    .await;
}
