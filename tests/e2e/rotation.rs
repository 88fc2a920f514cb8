//! The root is replaced under traffic, step by step, whatever is killed or away meanwhile; and the operator's own authority takes over.

mod away;
mod import;
mod together;

use std::collections::BTreeSet;
use std::time::Duration;

use leno_certs::verify;
use leno_tests::mesh::Trio;
use leno_tests::{Load, Mesh, Sidecar, wait};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Between two questions of one connection: they are to go on all the time, not to fill the machine.
const PACE: Duration = Duration::from_millis(3);

/// Runs `leno`, which must succeed; gives what it printed.
async fn leno(mesh: &Mesh, args: &[&str]) -> String {
    let output = mesh.leno(args).await;
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "leno {args:?}: {text}{said}\n{}", mesh.control_plane.log());
    text.into_owned()
}

async fn status(mesh: &Mesh) -> Value {
    mesh.control_plane.api().get("/v1/ca").await.unwrap()
}

/// Waits until the rotation is in this phase.
async fn phase(mesh: &Mesh, wanted: &str) -> Value {
    wait::eventually(wanted, wait::DEADLINE, async || {
        let status = mesh.control_plane.api().get("/v1/ca").await.ok()?;
        (status["phase"] == wanted).then_some(status)
    })
    .await
}

/// SHA-256 of the root of the authority in this role.
fn root(status: &Value, role: &str) -> String {
    let all = status["authorities"].as_array().unwrap();
    let found = all.iter().find(|one| one["role"] == role);
    found.unwrap_or_else(|| panic!("nobody {role} in {status}"))["rootSha256"].as_str().unwrap().to_owned()
}

/// What a sidecar keeps of itself: who signed its leaf, and the roots that it believes.
fn kept(sidecar: &Sidecar) -> (Vec<u8>, usize) {
    let file = std::fs::read(sidecar.state_dir().join("identity").join("identity.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let ders = |field: &str| pem::parse_many(file[field].as_str().unwrap()).unwrap();
    (verify::authority_key_id(ders("chain")[0].contents()).unwrap(), ders("roots").len())
}

/// Traffic that must not notice: requests, a connection of bytes that is used all the time, and new ones.
struct Traffic {
    load: leno_tests::load::Running,
    talk: tokio::task::JoinHandle<usize>,
    fresh: tokio::task::JoinHandle<usize>,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    tokio::time::timeout(wait::DEADLINE, stream.read_exact(&mut [0; 4])).await??;
    Ok(())
}

impl Traffic {
    async fn start(frontend: &Sidecar) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let load = Load::new(frontend.http_proxy(), "http://web/").clients(4).pause(Duration::from_millis(2)).start();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let store = frontend.upstream("store:7000");
        let mut stream = TcpStream::connect(store).await.unwrap();
        let until = stop.clone();
        let talk = tokio::spawn(async move {
            let mut n = 0;
            while !until.load(Relaxed) {
                ping(&mut stream).await.expect("the stream goes on");
                n += 1;
                tokio::time::sleep(PACE).await;
            }
            n
        });
        let until = stop.clone();
        let fresh = tokio::spawn(async move {
            let mut n = 0;
            while !until.load(Relaxed) {
                // Each needs a handshake with the leaves and roots of the moment.
                let mut stream = TcpStream::connect(store).await.unwrap();
                ping(&mut stream).await.expect("a new connection is carried");
                n += 1;
                tokio::time::sleep(PACE).await;
            }
            n
        });
        Self { load, talk, fresh, stop }
    }

    async fn unharmed(self) {
        self.load.more(100).await;
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let report = self.load.stop().await;
        report.assert_no_failure();
        let (talked, fresh) = (self.talk.await.expect("no stream broke"), self.fresh.await.expect("no new one failed"));
        assert!(report.total() > 100 && talked > 5 && fresh > 5, "{} {talked} {fresh}", report.total());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_is_rotated_under_traffic_and_nobody_notices() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    let sidecars = [&trio.frontend, &trio.web, &trio.store];
    let before = status(&mesh).await;
    let pinned = mesh.control_plane.api().token("default", "late", 600).await.unwrap();
    let context = std::fs::read_to_string(mesh.control_plane.context()).unwrap();
    let signed_before: BTreeSet<Vec<u8>> = sidecars.iter().map(|sidecar| kept(sidecar).0).collect();

    let traffic = Traffic::start(&trio.frontend).await;
    let said = leno(&mesh, &["ca", "rotate"]).await;
    assert!(said.contains("signs") && said.contains("retired"), "{said}");
    traffic.unharmed().await;

    let after = status(&mesh).await;
    assert_eq!(after["phase"], "idle");
    assert_ne!(root(&before, "signs"), root(&after, "signs"));
    assert_eq!(root(&before, "signs"), root(&after, "retired"), "leaves of before can come back for their life");
    let signed_now: BTreeSet<Vec<u8>> = sidecars.iter().map(|sidecar| kept(sidecar).0).collect();
    assert!(signed_now.len() == 1 && signed_now.is_disjoint(&signed_before), "every leaf is of the new authority");
    wait::until("every sidecar believes but one root", wait::DEADLINE, || {
        sidecars.iter().all(|sidecar| kept(sidecar).1 == 1)
    })
    .await;

    // Whoever was given something before is not left outside.
    let late = mesh.sidecar("late", "late").await.token(&pinned).start().await;
    mesh.reachable(&late, "http://web/").await;
    let old = mesh.dir().join("old-context.yaml");
    std::fs::write(&old, &context).unwrap();
    assert_ne!(context, std::fs::read_to_string(mesh.control_plane.context()).unwrap());
    leno(&mesh, &["--context", old.to_str().unwrap(), "ca", "status"]).await;
    // And once more, as the next one.
    leno(&mesh, &["ca", "rotate"]).await;
    mesh.reachable(&late, "http://web/").await;

    let history = leno(&mesh, &["history"]).await;
    assert!(history.contains("the old root is believed no more"), "{history}");
    let audit = leno(&mesh, &["audit", "--action", "ca."]).await;
    for action in ["ca.rotate", "ca.switch", "ca.retire"] {
        assert_eq!(audit.matches(action).count(), 2, "{audit}");
    }
    assert!(leno(&mesh, &["audit", "verify"]).await.contains("is whole"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_killed_in_each_step_goes_on_where_it_was() {
    let mut mesh = Mesh::start().await;
    let mut trio = Trio::start(&mesh).await;
    let first = root(&status(&mesh).await, "signs");
    // One that says nothing holds the step.
    trio.store.process().pause();
    leno(&mesh, &["ca", "rotate", "--timeout", "0s"]).await;
    let next = root(&phase(&mesh, "distributing").await, "next");
    mesh.control_plane.kill();
    mesh.control_plane.start_again().await;
    let now = phase(&mesh, "distributing").await;
    assert_eq!((root(&now, "signs"), root(&now, "next")), (first.clone(), next.clone()));
    trio.store.process().resume();
    mesh.connected(3).await;
    // The next step may be over before it was seen, so its kill is at whatever moment that is.
    mesh.control_plane.kill();
    mesh.control_plane.start_again().await;
    let done = phase(&mesh, "idle").await;
    assert_eq!((root(&done, "signs"), root(&done, "retired")), (next, first));
    mesh.connected(3).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
    // In the middle of reissuing: two leaves are renewed, one is not.
    trio.store.process().pause();
    leno(&mesh, &["ca", "rotate", "--timeout", "0s"]).await;
    leno(&mesh, &["ca", "continue", "--force", "--timeout", "0s"]).await;
    let here = phase(&mesh, "reissuing").await;
    mesh.control_plane.kill();
    mesh.control_plane.start_again().await;
    assert_eq!(root(&phase(&mesh, "reissuing").await, "signs"), root(&here, "signs"));
    trio.store.process().resume();
    phase(&mesh, "idle").await;
    let traffic = Traffic::start(&trio.frontend).await;
    traffic.unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_who_is_missing_names_him_and_is_held_forced_and_taken_back() {
    let mesh = Mesh::start().await;
    let mut trio = Trio::start(&mesh).await;
    let first = root(&status(&mesh).await, "signs");
    trio.store.process().pause();
    let output = mesh.leno(&["ca", "rotate", "--timeout", "1s"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("default/store") && said.contains("leno ca continue --force"), "{said}");
    let again = mesh.leno(&["ca", "rotate"]).await;
    let again = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.contains("under way") && again.contains("leno ca abort"), "{again}");
    let shown = leno(&mesh, &["ca", "status"]).await;
    assert!(shown.contains("distributing") && shown.contains("default/store"), "{shown}");
    assert!(mesh.control_plane.metrics().await.sum("leno_ca_rotation_missing_sidecars", &[]) >= 1.0);

    leno(&mesh, &["ca", "pause"]).await;
    trio.store.process().resume();
    mesh.connected(3).await;
    assert_eq!(status(&mesh).await["paused"], true);
    leno(&mesh, &["ca", "abort"]).await;
    let now = status(&mesh).await;
    assert_eq!((root(&now, "signs"), now["authorities"].as_array().unwrap().len()), (first.clone(), 1));

    // Taken back while leaves are renewed: the first one signs again, under traffic.
    let traffic = Traffic::start(&trio.frontend).await;
    // Somebody without traffic hears nothing, so that no phase ends before it is taken back.
    let mut deaf = mesh.sidecar("deaf", "deaf").await.start().await;
    mesh.connected(4).await;
    deaf.process().pause();
    mesh.control_plane.api().call(http::Method::POST, "/v1/ca/rotation", Some(json!({}))).await.unwrap();
    // Who is forced past somebody that has not heard of the next root does lose connections to him.
    wait::eventually("everybody else knows the next root", wait::DEADLINE, async || {
        (status(&mesh).await["missing"].as_array()?.len() == 1).then_some(())
    })
    .await;
    let (status_of, _) = mesh
        .control_plane
        .api()
        .call(http::Method::POST, "/v1/ca/rotation/advance", Some(json!({"force": true})))
        .await
        .unwrap();
    assert_eq!(status_of, 200);
    leno(&mesh, &["ca", "abort"]).await;
    let now = status(&mesh).await;
    assert_eq!(root(&now, "signs"), first);
    deaf.process().resume();
    traffic.unharmed().await;
}
