//! `leno why`: of a request that failed or took long, what both sidecars remember, asked while somebody waits.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use leno_tests::client::{Reply, request, send};
use leno_tests::mesh::{Trio, service};
use leno_tests::{Behaviour, HttpApp, Mesh, Sidecar, wait};
use serde_json::Value;

const ID: &str = "leno-request-id";

/// What `leno` prints, which has to succeed.
async fn leno(mesh: &Mesh, args: &[&str]) -> String {
    let out = mesh.leno(args).await;
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The hops of a request as they are remembered, once so many sidecars do.
async fn hops(mesh: &Mesh, id: &str, n: usize) -> Vec<Value> {
    wait::eventually("the hops are remembered", wait::DEADLINE, async || {
        let out = mesh.leno(&["why", id, "-o", "json"]).await;
        let answer: Value = serde_json::from_slice(&out.stdout).ok()?;
        let hops = answer["requests"].as_array()?.clone();
        (hops.len() == n).then_some(hops)
    })
    .await
}

fn id(reply: &Reply) -> String {
    let id = reply.headers.get(ID).expect("an answer that failed says which request it was");
    id.to_str().unwrap().to_owned()
}

fn of<'a>(hops: &'a [Value], direction: &str) -> &'a Value {
    hops.iter().find(|hop| hop["direction"] == direction).unwrap_or_else(|| panic!("no {direction} hop in {hops:?}"))
}

/// Until the control plane can ask this many sidecars.
async fn askable(mesh: &Mesh, n: usize) {
    wait::eventually("sidecars can be asked", wait::DEADLINE, async || {
        let (_, answer) =
            mesh.control_plane.api().call(Method::GET, "/v1/requests?id=0000000000000001", None).await.unwrap();
        (answer["answered"] == n).then_some(())
    })
    .await;
}

async fn failed(sidecar: &Sidecar, uri: &str, status: u16) -> Reply {
    wait::eventually("it fails", wait::DEADLINE, async || {
        sidecar.get(uri).await.ok().filter(|reply| reply.status == status)
    })
    .await
}

const NOBODY: &str = "apiVersion: leno.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: closed, namespace: default}\n\
    spec:\n  targetRefs: [{group: \"\", kind: Service, name: web}]\n  action: ALLOW\n  rules: [{to: [{paths: [/open/*]}]}]\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_request_is_told_by_both_sidecars_with_the_caller_and_what_to_do() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    askable(&mesh, 3).await;
    mesh.apply(NOBODY).await;
    let reply = failed(&trio.frontend, "http://web/secret?token=1", 403).await;
    let hops = hops(&mesh, &id(&reply), 2).await;
    let (caller, app) = (of(&hops, "outbound"), of(&hops, "inbound"));
    for hop in [caller, app] {
        assert_eq!((&hop["reason"], &hop["status"], &hop["path"]), (&"denied".into(), &403.into(), &"/secret".into()));
        assert!(hop["advice"].as_str().unwrap().contains("leno policy test"));
        assert!(hop["revision"].as_u64().unwrap() > 0);
    }
    assert_eq!(app["caller"], "spiffe://cluster.local/ns/default/sa/frontend");
    assert_eq!((&caller["service"], &caller["tries"][0]["reason"]), (&"default/web".into(), &"denied".into()));
    let text = leno(&mesh, &["why", &id(&reply)]).await;
    assert!(text.contains("the caller's sidecar") && text.contains("the app's sidecar"), "{text}");
    assert!(text.contains("What to do:") && !text.contains("token=1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_of_a_failed_request_is_named_with_its_endpoint() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let apps = [HttpApp::start("a").await, HttpApp::start("b").await];
    let mut sidecars = Vec::new();
    for (n, app) in apps.iter().enumerate() {
        let builder = mesh.sidecar(&format!("web-{n}"), "web").await.args(&["--name", &format!("web-{n}")]);
        sidecars.push(builder.port("http", app.addr()).start().await);
    }
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.reachable(&frontend, "http://web/").await;
    askable(&mesh, 3).await;
    apps.iter().for_each(|app| app.set(Behaviour::ResetBefore));
    let reply = failed(&frontend, "http://web/x", 502).await;
    let hops = wait::eventually("all hops are remembered", wait::DEADLINE, async || {
        let out = mesh.leno(&["why", &id(&reply), "-o", "json"]).await;
        let answer: Value = serde_json::from_slice(&out.stdout).ok()?;
        let hops = answer["requests"].as_array()?.clone();
        (hops.len() >= 2).then_some(hops)
    })
    .await;
    let tries = of(&hops, "outbound")["tries"].as_array().unwrap().clone();
    assert!(!tries.is_empty() && tries.iter().all(|one| one["reason"] == "app_reset"), "{tries:?}");
    assert!(tries[0]["workload"].as_str().unwrap().starts_with("default/web-"), "{tries:?}");
    let text = leno(&mesh, &["why", "--last-error", "web"]).await;
    assert!(text.contains("app_reset") && text.contains("attempts"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_left_the_sidecar_and_what_an_app_answered_itself_is_told_too() {
    let mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    askable(&mesh, 3).await;
    let nowhere = failed(&trio.frontend, "http://nowhere/", 404).await;
    let hops_of = hops(&mesh, &id(&nowhere), 1).await;
    assert_eq!((&hops_of[0]["reason"], &hops_of[0]["host"]), (&"unknown_service".into(), &"nowhere".into()));
    // An app's own failure has no reason, and is found by its number or its service.
    trio.app.set(Behaviour::Status(500));
    let own = failed(&trio.frontend, "http://web/broken", 500).await;
    assert!(own.reason().is_none(), "it is the app's answer");
    // Both sidecars know it by the number that the answer has.
    assert_eq!(hops(&mesh, &id(&own), 2).await.len(), 2);
    let text = wait::eventually("it is remembered", wait::DEADLINE, async || {
        let out = mesh.leno(&["why", "--last-error", "web"]).await;
        let text = String::from_utf8(out.stdout).ok()?;
        text.contains("/broken").then_some(text)
    })
    .await;
    assert!(text.contains("the app answered so"), "{text}");
    // One that took long, too.
    trio.app.set(Behaviour::Delay(Duration::from_millis(1_100)));
    assert_eq!(trio.frontend.get("http://web/slow").await.unwrap().status, 200);
    let text = leno(&mesh, &["why", "--slow", "default/web"]).await;
    assert!(text.contains("/slow") && text.contains("200"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_number_on_its_whole_way_and_nobody_is_asked_in_vain_for_long() {
    let mesh = Mesh::start().await;
    let mut trio = Trio::start(&mesh).await;
    askable(&mesh, 3).await;
    // The app sees the number, and one that passes it on in a call of its own keeps it.
    let number = "00c0ffee00c0ffee";
    let request = request(Method::GET, "http://web/", &[(ID, number)], Bytes::new());
    assert_eq!(send(trio.frontend.http_proxy(), request).await.unwrap().status, 200);
    assert_eq!(trio.app.seen().pop().unwrap().header(ID).as_deref(), Some(number));
    // One that goes well needs none.
    assert!(!trio.frontend.get("http://web/").await.unwrap().headers.contains_key(ID));
    assert_eq!(trio.app.seen().pop().unwrap().header(ID), None);
    // Nothing of what went well is kept, and whoever asks for it is told so.
    let out = mesh.leno(&["why", number]).await;
    let err = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && err.contains("none of 3 sidecars remembers"), "{err}");
    assert_eq!(mesh.leno(&["why", "no-number"]).await.status.code(), Some(2));
    // A sidecar that hangs is not waited for.
    trio.web.process().pause();
    let out = mesh.leno(&["why", number]).await;
    let err = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(err.contains("none of 2 sidecars") && err.contains("1 did not answer"), "{err}");
    trio.web.process().resume();
    // A viewer may ask, and a workload may not.
    let (status, _) = mesh.control_plane.api().call(Method::GET, "/v1/requests", None).await.unwrap();
    assert_eq!(status, 400, "it is not said which");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joined_after_a_restart_of_the_control_plane_is_asked_again() {
    let mut mesh = Mesh::start().await;
    let trio = Trio::start(&mesh).await;
    askable(&mesh, 3).await;
    let nowhere = failed(&trio.frontend, "http://nowhere/", 404).await;
    mesh.control_plane.kill();
    mesh.control_plane.start_again().await;
    askable(&mesh, 3).await;
    assert_eq!(hops(&mesh, &id(&nowhere), 1).await.len(), 1, "the memory is the sidecar's");
}
