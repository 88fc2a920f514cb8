//! Bad certificates and handshakes at the real mesh port and the real xDS port: each is refused with its own reason, counted and
//! logged, and nothing reaches the app. The table of them is the one of `certs/tests`.

#[path = "../../certs/tests/bad/mod.rs"]
mod bad;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bad::{Ca, Shown};
use base64::Engine as _;
use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, Sidecar, require_tools, tools, wait};
use rustls::ClientConfig;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The beginning of HTTP/2, which both ports answer to whom they let in.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// As a caller's sidecar asks for the app's port `http`.
const ASKED: &str = "http.h1.leno.internal";

/// The authority of a mesh, from a copy of the control plane's state, so that it signs what the control plane never would.
fn authority(state_dir: &Path) -> Ca {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(state_dir).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let store = leno_control_plane::store::Store::open(copy.path()).unwrap();
    let now = OffsetDateTime::now_utc();
    let opened = leno_control_plane::ca::open(&store, copy.path(), bad::MESH, &None, now).unwrap();
    Ca::of(opened.authority().root_der(), &opened.authority().key_pkcs8().unwrap())
}

struct Scene {
    mesh: Mesh,
    app: HttpApp,
    web: Sidecar,
    ca: Ca,
}

impl Scene {
    async fn start() -> Self {
        let mut mesh = Mesh::start().await;
        mesh.control_plane.stop().await;
        let ca = authority(&mesh.control_plane.state_dir());
        mesh.control_plane.start_again().await;
        let app = HttpApp::start("web").await;
        mesh.apply(&service("web", "app: web", 80, "http")).await;
        let web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
        mesh.connected(1).await;
        Self { mesh, app, web, ca }
    }

    /// How often each port has refused somebody for this reason.
    async fn refused(&self, reason: &str) -> [f64; 2] {
        let labels = [("reason", reason)];
        let mesh = self.web.metrics().await.sum("leno_tls_handshake_failures_total", &labels);
        [mesh, self.mesh.control_plane.metrics().await.sum("leno_identity_refusals_total", &labels)]
    }

    fn ports(&self) -> [SocketAddr; 2] {
        [self.web.mesh(), self.mesh.control_plane.xds()]
    }

    fn logs(&self) -> [String; 2] {
        [self.web.log(), self.mesh.control_plane.log()]
    }
}

/// What somebody is answered: with TLS 1.3 he learns only by reading that he was refused.
async fn knock(port: SocketAddr, mut config: ClientConfig) -> io::Result<usize> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(port).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(ASKED.try_into().unwrap(), stream).await?;
    stream.write_all(PREFACE).await?;
    let read = tokio::time::timeout(wait::DEADLINE, stream.read(&mut [0; 64])).await.expect("an answer or an end");
    match read? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_certificate_is_refused_by_both_ports_with_its_own_reason_and_good_ones_are_not() {
    let scene = Scene::start().await;
    let mut wrong = Vec::new();
    let cases = bad::cases(&scene.ca);
    for (what, shown, expected) in &cases {
        for (n, port) in scene.ports().into_iter().enumerate() {
            let (before, logged) = (scene.refused(expected).await[n], scene.logs()[n].len());
            let answer = knock(port, bad::client(shown)).await;
            if *expected == "accepted" {
                if answer.is_err() {
                    wrong.push(format!("{what} at {n}: {answer:?}"));
                }
                continue;
            }
            if answer.is_ok() {
                wrong.push(format!("{what} at {n}: accepted"));
                continue;
            }
            let counted = async || (scene.refused(expected).await[n] > before).then_some(());
            if tokio::time::timeout(wait::DEADLINE, wait::eventually(what, wait::DEADLINE, counted)).await.is_err() {
                wrong.push(format!("{what} at {n}: not counted as {expected}"));
            }
            wait::until(&format!("{what} is logged as {expected}"), wait::DEADLINE, || {
                scene.logs()[n][logged..].contains(&format!("\"{expected}\""))
            })
            .await;
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(scene.app.count(), 0, "somebody who was refused has reached the app");
}

/// What a peer gets that sends this and waits.
async fn stalled(port: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(port).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(wait::DEADLINE, stream.read_to_end(&mut answer)).await;
    // A reset is as good an end as any.
    let _ = ended.expect("a stalled handshake is ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_handshake_is_refused_by_both_ports_with_its_own_reason() {
    require_tools!("openssl");
    let scene = Scene::start().await;
    let file = scene.mesh.dir().join("peer.pem");
    let good = scene.ca.leaf(|_| {});
    let pem = |tag: &str, der: &[u8]| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", lines.join("\n"))
    };
    let text = pem("CERTIFICATE", &good.chain[0]) + &pem("PRIVATE KEY", &good.key.serialize_der());
    std::fs::write(&file, text).unwrap();
    let openssl = async |port: SocketAddr, args: &[&str]| {
        let mut command = tokio::process::Command::new(tools::find("openssl").unwrap());
        command.args(["s_client", "-connect", &port.to_string(), "-servername", ASKED, "-alpn", "h2", "-quiet"]);
        command.arg("-cert").arg(&file).args(args).stdin(std::process::Stdio::null()).kill_on_drop(true);
        command.output().await.unwrap()
    };
    for (what, args, reason) in [
        ("TLS 1.2", &["-tls1_2"][..], "incompatible"),
        ("a group that nobody should use", &["-groups", "ffdhe2048"], "incompatible"),
        ("a cipher that nobody should use", &["-ciphersuites", "TLS_AES_128_CCM_8_SHA256"], "incompatible"),
        ("another protocol", &["-alpn", "imap"], "incompatible"),
    ] {
        for (n, port) in scene.ports().into_iter().enumerate() {
            let before = scene.refused(reason).await[n];
            let output = openssl(port, args).await;
            wait::eventually(&format!("{what} is counted at {n}: {output:?}"), wait::DEADLINE, async || {
                (scene.refused(reason).await[n] > before).then_some(())
            })
            .await;
        }
    }

    // More certificates than a handshake may have.
    let many = Shown { chain: [vec![good.chain[0].clone()], vec![scene.ca.der.clone(); 400]].concat(), key: good.key };
    for (n, port) in scene.ports().into_iter().enumerate() {
        let answer = knock(port, bad::client(&many)).await;
        assert!(answer.is_err(), "{n}: a chain of {} certificates is accepted", many.chain.len());
    }

    // Half of a hello, and then nothing; one connection more than nothing, and bytes that are no TLS.
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    for (what, bytes, reason) in
        [("half of a hello", &hello[..], "handshake_timeout"), ("plaintext", PREFACE, "not_tls")]
    {
        for (n, port) in scene.ports().into_iter().enumerate() {
            let before = scene.refused(reason).await[n];
            stalled(port, bytes).await;
            wait::eventually(&format!("{what} is counted at {n}"), wait::DEADLINE, async || {
                (scene.refused(reason).await[n] > before).then_some(())
            })
            .await;
        }
    }
    assert_eq!(scene.app.count(), 0, "somebody who was refused has reached the app");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_is_refused_by_the_mesh_port_and_gets_no_stream_of_the_control_plane() {
    let scene = Scene::start().await;
    let [before, _] = scene.refused("no_certificate").await;
    let answer = knock(scene.web.mesh(), leno_certs::tls::unproven_client(&[b"h2"]).unwrap()).await;
    assert!(answer.is_err(), "{answer:?}");
    wait::eventually("it is counted", wait::DEADLINE, async || {
        (scene.refused("no_certificate").await[0] > before).then_some(())
    })
    .await;
    assert_eq!(scene.app.count(), 0);
}

/// What a public web server's certificate needs, and an SVID has in another way: a root that browsers know, a name in the DNS, years of life, a
/// place to ask for revocations.
const OF_THE_WEB: [&str; 6] =
    ["cert_trust", "cert_chain_of_trust", "cert_expirationStatus", "cert_notAfter", "cert_revocation", "DNS_CAArecord"];

/// An `openssl` whose client shows a certificate. Without one it is refused by the mesh port, which with TLS 1.3 it learns sooner or later: so
/// testssl.sh, which begins with it, would find that sometimes it can connect.
fn openssl_with(shown: &Shown, dir: &Path) -> PathBuf {
    let pem = |what: &str, der: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
    };
    let (file, program) = (dir.join("client.pem"), dir.join("openssl"));
    let both = pem("CERTIFICATE", &shown.chain[0]) + &pem("PRIVATE KEY", &shown.key.serialize_der());
    std::fs::write(&file, both).unwrap();
    let real = tools::find("openssl").unwrap();
    let (real, file) = (real.display(), file.display());
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = s_client ]; then shift; exec {real} s_client -cert {file} -key {file} \"$@\"; fi\nexec {real} \"$@\"\n"
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// What testssl.sh finds at a port that is neither good nor a mere fact. The report is kept where CI collects such.
async fn testssl(name: &str, port: SocketAddr, dir: &Path, openssl: &Path) -> Vec<String> {
    let report = dir.join(format!("testssl-{name}.json"));
    let mut command = tokio::process::Command::new(tools::find("testssl").unwrap());
    command.args(["--quiet", "--color", "0", "--warnings", "batch", "-p", "-s", "-f", "-S", "-U"]);
    command
        .arg("--openssl")
        .arg(openssl)
        .arg("--jsonfile-pretty")
        .arg(&report)
        .args(["--ip", "one", &port.to_string()])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = command.current_dir(dir).output().await.unwrap();
    let text = std::fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    if let Some(kept) = std::env::var_os("LENO_ARTIFACTS") {
        std::fs::write(Path::new(&kept).join(format!("testssl-{name}.json")), &text).unwrap();
    }
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lists = found["scanResult"][0].as_object().unwrap().values().filter_map(|list| list.as_array());
    let findings: Vec<_> = lists.flatten().collect();
    let said =
        |id: &str| findings.iter().find(|finding| finding["id"] == id).map(|finding| finding["finding"].as_str());
    for old in ["SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2"] {
        assert!(
            said(old).flatten().is_some_and(|text| text.starts_with("not offered")),
            "{name}: {old}: {:?} in {text}",
            said(old)
        );
    }
    assert!(said("TLS1_3").flatten().is_some_and(|text| text.starts_with("offered")), "{name}: {:?}", said("TLS1_3"));
    let well = |finding: &serde_json::Value| matches!(finding["severity"].as_str(), Some("OK" | "INFO"));
    let of_the_web = |finding: &serde_json::Value| OF_THE_WEB.iter().any(|id| finding["id"] == *id);
    findings.into_iter().filter(|finding| !well(finding) && !of_the_web(finding)).map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn testssl_finds_nothing_below_tls_1_3_and_no_weakness_at_either_port() {
    require_tools!("testssl", "openssl");
    let scene = Scene::start().await;
    let [mesh, xds] = scene.ports();
    let (dir, openssl) = (scene.mesh.dir(), openssl_with(&scene.ca.leaf(|_| {}), scene.mesh.dir()));
    let found = tokio::join!(testssl("mesh", mesh, dir, &openssl), testssl("xds", xds, dir, &openssl));
    assert_eq!(found, (vec![], vec![]));
    println!("FIGURE testssl.sh: TLS 1.3 alone and no weakness at the mesh port and at the xDS port");
}
