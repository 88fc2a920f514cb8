//! The operator's own authority, made by openssl; its key in the control plane or with a signer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use leno_tests::mesh::Trio;
use leno_tests::process::Process;
use leno_tests::{Mesh, binaries, wait};

use super::{Traffic, kept, leno, root, status};

/// A root and an intermediate, as an operator makes them.
pub(super) struct Own {
    dir: PathBuf,
}

impl Own {
    pub(super) fn make(dir: &Path, name: &str) -> Self {
        let own = Self { dir: dir.join(name) };
        std::fs::create_dir(&own.dir).unwrap();
        own.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -days 30 -subj /O=Example/CN=Root -addext keyUsage=critical,keyCertSign,cRLSign");
        own.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout mesh.key -out mesh.csr -subj /O=Example/OU=Platform/CN=Mesh");
        std::fs::write(
            own.path("mesh.ext"),
            "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
        )
        .unwrap();
        own.openssl("x509 -req -in mesh.csr -CA root.pem -CAkey root.key -CAcreateserial -days 20 -extfile mesh.ext -out mesh.pem");
        let both = [own.read("mesh.pem"), own.read("root.pem")].concat();
        std::fs::write(own.path("chain.pem"), both).unwrap();
        std::fs::set_permissions(own.path("mesh.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        own
    }

    pub(super) fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    fn openssl(&self, args: &str) -> String {
        let output = Command::new("openssl").args(args.split(' ')).current_dir(&self.dir).output().unwrap();
        assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// That openssl takes a sidecar's leaf by the operator's root alone.
fn verified_by_openssl(own: &Own, sidecar: &leno_tests::Sidecar) {
    let file = std::fs::read(sidecar.state_dir().join("identity").join("identity.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    std::fs::write(own.path("shown.pem"), file["chain"].as_str().unwrap()).unwrap();
    let said = own.openssl("verify -purpose sslserver -CAfile root.pem -untrusted shown.pem shown.pem");
    assert!(said.contains("OK"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intermediate_of_the_operators_own_takes_over_under_traffic_and_what_does_not_fit_is_refused() {
    let mut mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    let own = Own::make(mesh.dir(), "own");
    let import = |chain: &str, key: &str| {
        vec!["ca".to_owned(), "import".into(), "--certificates".into(), own.path(chain), "--key".into(), own.path(key)]
    };
    for (chain, key, why) in [
        ("chain.pem", "root.key", "cannot be taken"),
        ("mesh.csr", "mesh.key", "CERTIFICATE REQUEST"),
        ("mesh.key", "mesh.key", "PRIVATE KEY"),
        ("chain.pem", "chain.pem", "no ECDSA P-256 key"),
        ("nothing.pem", "mesh.key", "nothing.pem"),
    ] {
        let args = import(chain, key);
        let output = mesh.leno(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{chain} {key}: {said}");
        assert!(!said.contains(own.read("mesh.key").lines().nth(1).unwrap()), "no key is shown");
    }
    assert_eq!(status(&mesh).await["phase"], "idle");

    let traffic = Traffic::start(&trio.frontend).await;
    let args = import("chain.pem", "mesh.key");
    let said = leno(&mesh, &args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(said.contains("imported") && said.contains("sealed"), "{said}");
    traffic.unharmed().await;
    verified_by_openssl(&own, &trio.web);
    let late = mesh.sidecar("late", "late").await.start().await;
    mesh.reachable(&late, "http://web/").await;
    verified_by_openssl(&own, &late);

    // It is there after a crash, and a root of our own takes over again.
    mesh.control_plane.kill();
    mesh.control_plane.start_again().await;
    mesh.connected(4).await;
    let traffic = Traffic::start(&trio.frontend).await;
    leno(&mesh, &["ca", "rotate"]).await;
    traffic.unharmed().await;
    let log = mesh.control_plane.log();
    assert!(!log.contains(own.read("mesh.key").lines().nth(1).unwrap()), "the key is in no log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_stays_with_a_signer_and_traffic_goes_on_while_that_is_gone() {
    let mesh = Mesh::start_with(&["--leaf-ttl", "20s"]).await;
    let trio = Trio::start(&mesh).await;
    let own = Own::make(mesh.dir(), "own");
    let signer = async || {
        let mut command = Command::new(binaries::leno());
        command.args(["ca", "signer", "--key", &own.path("mesh.key"), "--socket", &own.path("signer.sock")]);
        let mut process = Process::spawn("signer", &mut command, mesh.dir());
        assert!(process.first_line().await.starts_with("ready signer="));
        process
    };
    let mut running = signer().await;
    let mode = std::fs::metadata(own.path("signer.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = root(&status(&mesh).await, "signs");
    let traffic = Traffic::start(&trio.frontend).await;
    let (chain, socket) = (own.path("chain.pem"), own.path("signer.sock"));
    let said = leno(&mesh, &["ca", "import", "--certificates", &chain, "--signer", &socket]).await;
    assert!(said.contains(&socket), "{said}");
    assert_ne!(root(&status(&mesh).await, "signs"), before);
    verified_by_openssl(&own, &trio.web);

    running.kill();
    wait::eventually("a renewal fails for want of the signer", wait::DEADLINE, async || {
        let refused =
            mesh.control_plane.metrics().await.sum("leno_identity_refusals_total", &[("reason", "signer_unavailable")]);
        (refused > 0.0).then_some(())
    })
    .await;
    assert!(mesh.control_plane.log().contains("the signer does not sign"));
    let held = kept(&trio.web);
    let mut running = signer().await;
    let serial = || std::fs::read(trio.web.state_dir().join("identity").join("identity.json")).unwrap();
    let now = serial();
    wait::until("leaves are renewed again", wait::DEADLINE, || serial() != now).await;
    assert_eq!(kept(&trio.web).0, held.0);
    traffic.unharmed().await;
    assert!(running.terminate().await.success());
    assert!(!Path::new(&socket).exists());
}
