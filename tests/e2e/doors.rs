//! The control plane's own doors: who may call, and the log of who did what.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use leno_tests::light::{self, Token};
use leno_tests::mesh::service;
use leno_tests::{Mesh, binaries, wait};
use prost::Message;

use crate::disk::Disk;

async fn leno(context: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binaries::leno());
    command.env("LENO_CONTEXT", context).env("NO_COLOR", "1").args(args);
    tokio::task::spawn_blocking(move || command.output().expect("leno can be run")).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn ok(context: &Path, args: &[&str]) -> String {
    let output = leno(context, args).await;
    assert!(output.status.success(), "leno {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// The command has to fail with this exit code, and its error has to say this.
async fn fails(context: &Path, args: &[&str], code: i32, said: &str) {
    let output = leno(context, args).await;
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "leno {args:?}: {}{errors}", text(&output.stdout));
    assert!(errors.contains(said), "leno {args:?}: {errors}");
}

fn file(mesh: &Mesh, name: &str, content: &str) -> PathBuf {
    let path = mesh.dir().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

async fn user(mesh: &Mesh, name: &str, role: &str) -> PathBuf {
    let context = mesh.dir().join(format!("{name}.yaml"));
    let out = context.to_str().unwrap();
    ok(&mesh.control_plane.context(), &["user", "create", name, "--role", role, "--ttl", "1h", "--out", out]).await;
    context
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_do_what_its_role_says_and_is_told_which_one_it_lacks() {
    let mesh = Mesh::start().await;
    let admin = mesh.control_plane.context();
    let (viewer, operator) = (user(&mesh, "vera", "viewer").await, user(&mesh, "olga", "operator").await);
    let yaml = file(&mesh, "web.yaml", &service("web", "app: web", 80, "http"));
    let apply = ["apply", "-f", yaml.to_str().unwrap()];
    ok(&viewer, &["status"]).await;
    fails(&viewer, &apply, 77, "needs the role operator").await;
    ok(&operator, &apply).await;
    ok(&viewer, &["get", "services"]).await;
    ok(&operator, &["token", "create", "--service-account", "web"]).await;
    fails(&operator, &["revoke", "identity", "default/web"], 77, "needs the role admin").await;
    fails(&operator, &["user", "create", "eve", "--role", "admin"], 77, "needs the role admin").await;
    fails(&operator, &["audit"], 77, "needs the role admin").await;
    let list = ok(&admin, &["user", "list"]).await;
    assert!(list.contains("vera") && list.contains("olga"), "{list}");

    ok(&admin, &["user", "revoke", "vera", "--reason", "left"]).await;
    fails(&viewer, &["status"], 77, "").await;
    let short = mesh.dir().join("short.yaml");
    ok(&admin, &["user", "create", "short", "--role", "viewer", "--ttl", "1s", "--out", short.to_str().unwrap()]).await;
    wait::eventually("its time is over", wait::DEADLINE, async || {
        (leno(&short, &["status"]).await.status.code() == Some(77)).then_some(())
    })
    .await;

    wait::eventually("the refusals are in the log", wait::DEADLINE, async || {
        let log = ok(&admin, &["audit", "--refused"]).await;
        let lines = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        (lines(&["vera", "viewer", "127.0.0.1:", "POST /v1/apply", "403 Forbidden"])
            && lines(&["olga", "POST /v1/revocations", "403"])
            && lines(&["401 Unauthorized"]))
        .then_some(())
    })
    .await;
    let log = ok(&admin, &["audit", "--actor", "olga"]).await;
    assert!(log.contains("Service/default/web created") && log.contains("token.create"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_whole_after_kills_in_the_middle_of_writes_and_a_changed_copy_is_found_out() {
    let mut mesh = Mesh::start().await;
    let context = mesh.control_plane.context();
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    light::join(mesh.control_plane.xds(), "cluster.local", "web", &token).await.unwrap();
    let id = Token::parse(&token).unwrap().id;
    let secret = Token::parse(&token).unwrap().secret;

    for round in 0..3 {
        let api = mesh.control_plane.api();
        let writes = tokio::spawn(async move {
            for n in 0.. {
                let yaml = service(&format!("s{round}-{n}"), "app: web", 80, "http");
                if api.apply(&yaml).await.is_err() {
                    return n;
                }
            }
            0
        });
        wait::eventually("some writes are done", wait::DEADLINE, async || {
            let status = mesh.control_plane.api().get("/v1/history?limit=1").await.ok()?;
            (status["revisions"][0]["revision"].as_u64()? > round * 20 + 10).then_some(())
        })
        .await;
        mesh.control_plane.kill();
        writes.await.unwrap();
        mesh.control_plane.start_again().await;
        let proven = ok(&context, &["audit", "verify"]).await;
        assert!(proven.starts_with("the audit log is whole: "), "{proven}");
    }
    // Each revision has its entry, and no entry a revision that is not there.
    let history = mesh.control_plane.api().get("/v1/history?limit=1000").await.unwrap();
    let log = mesh.control_plane.api().get("/v1/audit?after=0&limit=5000").await.unwrap();
    let numbers = |list: &serde_json::Value| -> Vec<u64> {
        let mut all: Vec<u64> = list.as_array().unwrap().iter().filter_map(|x| x["revision"].as_u64()).collect();
        all.retain(|n| *n > 0);
        all.sort_unstable();
        all
    };
    assert_eq!(numbers(&log["entries"]), numbers(&history["revisions"]));

    let exported = ok(&context, &["audit", "export"]).await;
    assert!(exported.contains(&format!("join token {id}")) && !exported.contains(&secret));
    let joined = exported.lines().find(|line| line.contains("\"action\":\"join\"")).unwrap();
    assert!(joined.contains("spiffe://cluster.local/ns/default/sa/web") && joined.contains("127.0.0.1:"), "{joined}");
    let copy = file(&mesh, "audit.jsonl", &exported);
    let verify = ["audit", "verify", "-f", copy.to_str().unwrap()];
    ok(Path::new("/nowhere"), &verify).await;
    file(&mesh, "audit.jsonl", &exported.replacen("\"actor\":\"admin\"", "\"actor\":\"nobody\"", 1));
    fails(Path::new("/nowhere"), &verify, 1, "broken at entry 1: it was changed").await;
    file(&mesh, "audit.jsonl", &exported[..exported.len() - 20]);
    fails(Path::new("/nowhere"), &verify, 1, "cut off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_what_cannot_be_noted_is_not_done() {
    let dir = tempfile::TempDir::with_prefix("leno-test-").unwrap();
    let Some(disk) = Disk::mount(dir.path().join("state"), "8m") else {
        eprintln!("SKIPPED: a small file system cannot be mounted here");
        return;
    };
    let plane = leno_tests::ControlPlane::start(dir.path(), &[]).await;
    let api = plane.api();
    assert_eq!(api.apply(&service("before", "app: web", 80, "http")).await.unwrap().0, 200);
    let ballast = disk.fill();
    let large = |n: usize| {
        service(&format!("during-{n}"), "app: web", 80, "http").replace("app: web", &format!("app: {}", "x".repeat(60)))
    };
    let mut refused = None;
    // There may be room in the file itself for some writes.
    for n in 0..5_000 {
        let (status, body) = api.apply(&large(n)).await.unwrap();
        if status != 200 {
            refused = Some((n, status, body));
            break;
        }
    }
    let (n, status, body) = refused.expect("the disk is full");
    assert!(
        status >= 500 && body["error"]["message"].as_str().unwrap().contains("cannot be written"),
        "{status} {body}"
    );
    assert_eq!(
        api.get(&format!("/v1/objects/svc/default/during-{n}")).await.err().map(|_| ()),
        Some(()),
        "it was not done"
    );
    std::fs::remove_file(&ballast).unwrap();
    wait::eventually("it is done again", Duration::from_secs(30), async || {
        (api.apply(&large(n)).await.ok()?.0 == 200).then_some(())
    })
    .await;
    let proven = ok(&plane.context(), &["audit", "verify"]).await;
    assert!(proven.starts_with("the audit log is whole: "), "{proven}");
    drop(plane);
}

/// `command` as a user without any right.
fn as_nobody(command: &[&str]) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).args(command);
    setpriv
}

#[tokio::test(flavor = "multi_thread")]
async fn no_process_of_the_same_user_reads_the_memory_and_no_core_is_dumped() {
    if !as_nobody(&["true"]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: needs root and setpriv");
        return;
    }
    let dir = tempfile::TempDir::with_prefix("leno-test-").unwrap();
    // The folder of the binaries may be closed to that user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let binary = dir.path().join("leno-control-plane");
    std::fs::copy(binaries::control_plane(), &binary).unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    let any = "127.0.0.1:0";
    let (binary, state) = (binary.to_str().unwrap(), state.to_str().unwrap());
    let args = [binary, "--state-dir", state, "--xds-addr", any, "--api-addr", any, "--admin-addr", any];
    let mut plane = leno_tests::Process::spawn("control-plane", &mut as_nobody(&args), dir.path());
    plane.first_line().await;

    let pid = plane.pid().to_string();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    for secret in ["environ", "maps", "mem"] {
        let read = as_nobody(&["head", "-c", "1", &format!("/proc/{pid}/{secret}")]).output().unwrap();
        assert!(!read.status.success(), "{secret} can be read by a process of the same user");
    }
    // What the user may always do: end it.
    let ended = as_nobody(&["kill", "-QUIT", &pid]).status().unwrap();
    assert!(ended.success());
    wait::until("it ends", wait::DEADLINE, || plane.exited().is_some()).await;
    let cores = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("core")));
    assert_eq!(cores.count(), 0);
}

/// What each of them closes to itself; that the closed calls are refused is a unit test of `runtime::sandbox`.
#[tokio::test(flavor = "multi_thread")]
async fn every_thread_of_both_programs_is_confined_and_gains_no_privilege_any_more() {
    let mut mesh = Mesh::start().await;
    let mut web = mesh.sidecar("web", "web").await.args(&["--workers", "2"]).start().await;
    mesh.connected(1).await;
    for pid in [mesh.control_plane.process().pid(), web.process().pid()] {
        let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().collect();
        assert!(tasks.len() > 1);
        for task in tasks {
            // One that has ended meanwhile says nothing.
            let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
            assert!(status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"), "{status}");
        }
    }
    // What this does is shown where it is (runtime/src/sandbox.rs); here, that it was done.
    for log in [mesh.control_plane.log(), web.log()] {
        assert!(log.contains("are read-only to this process"), "{log}");
    }
}

fn gateway(namespace: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: {namespace}}}\nspec:\n  \
         gatewayClassName: leno\n  listeners: [{{name: http, port: 80, protocol: HTTP}}]\n---\n"
    )
}

/// Where `web` is, as a client is told it next.
async fn told(stream: &mut light::Stream) -> Vec<leno_proto::v1::Endpoint> {
    let answer = stream.next().await.unwrap();
    stream.ack(&answer).await.unwrap();
    let any = answer.resources[0].resource.as_ref().unwrap();
    leno_proto::v1::Endpoints::decode(any.value.as_slice()).unwrap().endpoints
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_not_told_where_those_are_that_it_may_not_call() {
    let mesh = Mesh::start().await;
    let only_friend = "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: web, namespace: default}\n\
        spec:\n  targetRefs: [{kind: Service, name: web}]\n  action: ALLOW\n  rules: [{from: [{serviceAccounts: [friend]}]}]\n---\n";
    mesh.apply(&(service("web", "app: web", 80, "http") + "---\n" + only_friend)).await;
    let app = leno_tests::HttpApp::start("web").await;
    let _web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let mut streams = Vec::new();
    for who in ["friend", "stranger"] {
        let token = mesh.control_plane.api().token("default", who, 60).await.unwrap();
        let client = light::join(mesh.control_plane.xds(), "cluster.local", who, &token).await.unwrap();
        let stream = client.stream(&leno_proto::Registration::local(who, "default", who, 1)).await.unwrap();
        stream.subscribe("type.googleapis.com/leno.v1.Endpoints", &["default/web"]).await.unwrap();
        streams.push(stream);
    }
    let nobody = leno_proto::v1::Endpoint { withheld: true, healthy: true, ..Default::default() };
    let [friend, stranger] = &mut streams[..] else { unreachable!("two were made") };
    let known = told(friend).await;
    assert!(!known[0].address.is_empty() && !known[0].withheld, "{known:?}");
    assert_eq!(told(stranger).await, [nobody]);
    // These clients answer when they are read, so nobody waits for them.
    let applied = mesh.control_plane.api().apply(&only_friend.replace("[friend]", "[friend, stranger]")).await.unwrap();
    assert_eq!(applied.0, 200, "{applied:?}");
    assert_eq!(told(stranger).await, known, "it may call now, and is told so unasked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_reads_what_it_can_name_and_of_its_namespace_only_and_lists_nothing() {
    let mesh = Mesh::start().await;
    mesh.apply(&(service("web", "app: web", 80, "http") + &gateway("default") + &gateway("elsewhere"))).await;
    let token = mesh.control_plane.api().token("default", "web", 60).await.unwrap();
    let web = light::join(mesh.control_plane.xds(), "cluster.local", "web", &token).await.unwrap();
    let mut stream = web.stream(&leno_proto::Registration::local("web-1", "default", "web", 1)).await.unwrap();
    for kind in ["Service", "HttpRoute", "TcpRoute", "TlsRoute", "Endpoints", "Address", "Gateway", "SidecarConfig"] {
        let names = match kind {
            "Gateway" => vec!["*", "default/*", "elsewhere/edge", "default/edge"],
            "Service" => vec!["*", "default/*", "default/web"],
            _ => vec!["*", "default/*"],
        };
        stream.subscribe(&format!("type.googleapis.com/leno.v1.{kind}"), &names).await.unwrap();
        let answer = stream.next().await.unwrap();
        let got: Vec<&str> = answer.resources.iter().map(|resource| resource.name.as_str()).collect();
        let expected = match kind {
            "Gateway" => vec!["default/edge"],
            "Service" => vec!["default/web"],
            _ => vec![],
        };
        assert_eq!(got, expected, "{kind}");
        assert_eq!(answer.removed_resources.len() + got.len(), names.len(), "{kind}");
        stream.ack(&answer).await.unwrap();
    }
    // What is no resource of the stream is not answered at all: the next answer is that of the question behind it.
    for kind in ["Secret", "ConfigMap", "Registration", "User"] {
        stream.subscribe(&format!("type.googleapis.com/leno.v1.{kind}"), &["*"]).await.unwrap();
    }
    stream.subscribe("type.googleapis.com/leno.v1.TrustBundle", &["cluster.local"]).await.unwrap();
    assert!(stream.next().await.unwrap().type_url.ends_with("TrustBundle"));
}
