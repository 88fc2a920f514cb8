//! What a start promises, in process.

use std::path::Path;

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn settings(state_dir: &Path, more: &[&str]) -> Settings {
    let state_dir = state_dir.to_str().unwrap();
    let ports = ["--xds-addr", "127.0.0.1:0", "--api-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"];
    let line = ["leno-control-plane", "--state-dir", state_dir].into_iter().chain(ports).chain(more.iter().copied());
    Settings::try_parse_from(line).unwrap()
}

async fn failure(settings: Settings) -> Failure {
    build(&settings).await.err().expect("it must not start")
}

async fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_the_configuration_of_its_folder_and_ends_when_told_so() {
    let (state, config) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let web = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}]}}";
    std::fs::write(config.path().join("web.yaml"), web).unwrap();
    std::fs::write(config.path().join("bad.yaml"), "{apiVersion: v1, kind: Service, metadata: {name: Bad}}").unwrap();
    let bound = build(&settings(state.path(), &["--config-dir", config.path().to_str().unwrap()])).await.unwrap();
    let admin = bound.addresses().admin;
    assert!(state.path().join("admin.yaml").exists());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(bound.run(async move { drop(stopped.await) }));
    // The port is open before what serves is ready.
    let ready = async { while !get(admin, "/ready").await.starts_with("HTTP/1.1 200") {} };
    tokio::time::timeout(Duration::from_secs(10), ready).await.expect("it is ready");
    let dump = get(admin, "/config_dump").await;
    assert!(dump.contains(r#""Service": 1"#), "{dump}");
    let metrics = get(admin, "/metrics").await;
    for line in ["leno_revision 1", "leno_config_problems 1", "leno_sidecars_connected 0", "leno_store_commits_total 1"]
    {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it ends").unwrap().unwrap();

    // All of it was given back: the same folder serves the next life, which has the same token.
    let token = std::fs::read_to_string(state.path().join("admin.yaml")).unwrap();
    let again = build(&settings(state.path(), &[])).await.unwrap();
    let line = |text: &str| text.lines().find(|l| l.starts_with("token:")).unwrap().to_owned();
    assert_eq!(line(&token), line(&std::fs::read_to_string(state.path().join("admin.yaml")).unwrap()));
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertised_address_stands_in_the_context_and_in_the_certificate() {
    let state = tempfile::tempdir().unwrap();
    let bound = build(&settings(state.path(), &["--advertise-api-addr", "mesh.example.org:8443"])).await.unwrap();
    let api = bound.addresses().api;
    let running = tokio::spawn(bound.run(std::future::pending()));
    let text = std::fs::read_to_string(state.path().join("admin.yaml")).unwrap();
    let context: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(context["server"], "https://mesh.example.org:8443");
    let roots = context["certificateAuthority"].as_str().unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(leno_certs::tls::pem_client(roots, &[b"h2"]).unwrap()));
    for (name, good) in [("mesh.example.org", true), ("localhost", true), ("other.example.org", false)] {
        let stream = TcpStream::connect(api).await.unwrap();
        assert_eq!(tls.connect(name.try_into().unwrap(), stream).await.is_ok(), good, "{name}");
    }
    running.abort();
}

#[tokio::test]
async fn a_folder_of_join_secrets_that_is_not_there_stops_the_start() {
    let state = tempfile::tempdir().unwrap();
    let missing = failure(settings(state.path(), &["--join-secrets", "/nonexistent/secrets"])).await;
    assert_eq!(missing.code(), exit::CONFIG);
    assert!(missing.to_string().contains("--join-secrets /nonexistent/secrets"), "{missing}");
}

#[tokio::test]
async fn whatever_is_in_the_way_of_a_start_is_one_line_with_a_mend_and_an_exit_code() {
    let state = tempfile::tempdir().unwrap();
    let first = build(&settings(state.path(), &[])).await.unwrap();
    let taken = first.addresses().admin.to_string();

    let second = failure(settings(state.path(), &[])).await;
    assert_eq!(second.code(), exit::UNAVAILABLE, "{second}");
    assert!(second.to_string().contains("another control plane"), "{second}");

    let elsewhere = tempfile::tempdir().unwrap();
    let port = failure(Settings { admin_addr: taken, ..settings(elsewhere.path(), &[]) }).await;
    assert_eq!(port.code(), exit::UNAVAILABLE);
    assert!(port.to_string().contains("--admin-addr"), "{port}");
    drop(first);

    let domain = failure(settings(state.path(), &["--trust-domain", "example.org"])).await;
    assert_eq!(domain.code(), exit::CONFIG);
    assert!(domain.to_string().contains("cluster.local"), "{domain}");

    let file = elsewhere.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(failure(settings(&file.join("state"), &[])).await.code(), exit::CANNOT_CREATE);
    assert_eq!(failure(settings(state.path(), &["--trust-domain", "Not A Name"])).await.code(), exit::USAGE);
}

#[tokio::test]
async fn the_passphrase_comes_from_a_file_and_a_wrong_one_is_a_clear_error() {
    let (state, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let with = |path: &str| settings(state.path(), &["--ca-passphrase-file", path]);
    let right = file("right", "strong yet sheer\n");
    drop(build(&with(&right)).await.unwrap());
    drop(build(&with(&file("without-newline", "strong yet sheer"))).await.unwrap());
    let wrong = failure(with(&file("wrong", "strong and heavy"))).await;
    assert_eq!(wrong.code(), exit::CONFIG);
    assert!(wrong.to_string().starts_with("the passphrase does not open the CA key; "), "{wrong}");
    assert!(!wrong.to_string().contains("heavy"));
    assert_eq!(failure(with(&file("empty", "\n"))).await.code(), exit::CONFIG);
    assert_eq!(failure(with("/nowhere/at/all")).await.code(), exit::CONFIG);
    assert_eq!(failure(settings(state.path(), &[])).await.code(), exit::CONFIG, "none was given");
}

#[tokio::test]
async fn a_folder_whose_store_was_lost_does_not_silently_become_a_new_mesh() {
    let state = tempfile::tempdir().unwrap();
    drop(build(&settings(state.path(), &[])).await.unwrap());
    std::fs::write(state.path().join("leno.redb"), "").unwrap();
    let lost = failure(settings(state.path(), &[])).await;
    assert_eq!(lost.code(), exit::CANNOT_CREATE);
    assert!(lost.to_string().contains("is empty") && lost.to_string().contains("put back"), "{lost}");
}

/// Where everything that is logged goes.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The forms in which a secret could stand somewhere: its bytes, hex, and base64 at each of the three places that it can begin at.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    let mut forms = vec![secret.to_vec(), hex::encode(secret).into_bytes(), hex::encode_upper(secret).into_bytes()];
    for before in 0..3 {
        let shifted = [&vec![0; before][..], secret].concat();
        for text in [STANDARD.encode(&shifted), URL_SAFE.encode(&shifted)] {
            // Without the characters that depend on what is around it.
            forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
        }
    }
    forms
}

fn files(dir: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test]
async fn the_authoritys_key_is_in_no_file_no_log_and_nothing_that_is_served() {
    let log = Log::default();
    let writer = log.clone();
    let everything =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(everything.finish());
    tracing::info!("the log begins");
    let state = tempfile::tempdir().unwrap();
    let bound = build(&settings(state.path(), &[])).await.unwrap();
    let pkcs8 = bound.parts.authority.authority().key_pkcs8().unwrap();
    // The private number of P-256 stands in its PKCS#8 behind 36 bytes that are the same in every key (RFC 5915).
    let secret = &pkcs8[36..68];
    let admin = bound.addresses().admin;
    let id = SpiffeId::new("cluster.local", "default", "web").unwrap();
    let (authority, now) = (bound.parts.authority.clone(), OffsetDateTime::now_utc());
    let token = authority.create_token(&id, Duration::from_secs(60), now, &"admin".into()).unwrap().token;
    let csr = leno_certs::csr::create(&leno_certs::Key::generate().unwrap(), &id).unwrap();
    authority.join(&token, &csr, now, "10.0.0.1:1").unwrap();
    let running = tokio::spawn(bound.run(std::future::pending()));
    let mut found = Vec::new();
    for path in ["/config_dump", "/metrics", "/ready"] {
        found.push((path.to_owned(), get(admin, path).await.into_bytes()));
    }
    running.abort();
    files(state.path(), &mut found);
    found.push(("the log".to_owned(), log.0.lock().unwrap().clone()));
    let empty: Vec<&String> = found.iter().filter(|(_, bytes)| bytes.is_empty()).map(|(place, _)| place).collect();
    assert!(found.len() >= 6 && empty.is_empty(), "there was something to look at, but not in {empty:?}");
    for form in forms(secret) {
        for (place, bytes) in &found {
            assert!(!bytes.windows(form.len()).any(|window| window == form), "the key is in {place}");
        }
    }
    // The search finds what is there.
    let root = bound_root(&authority);
    let shown = found.iter().any(|(_, bytes)| forms(&root).iter().any(|f| bytes.windows(f.len()).any(|w| w == f)));
    assert!(shown, "the root certificate is in the store and would be found");
}

/// Some bytes of the root certificate, which is no secret.
fn bound_root(authority: &CertificateAuthority) -> Vec<u8> {
    authority.trust_bundle().roots[0][100..132].to_vec()
}
