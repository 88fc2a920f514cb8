use leno_proto::resource::Resource;
use leno_proto::{Registration, WorkloadState, v1};
use leno_runtime::failure::exit;

use super::*;
use crate::model::testing::endpoints;
use crate::xds::identity::{RenewRpc, keep_fresh};
use crate::xds::system_clock;
use crate::xds::testing::{ControlPlane, Seen, Sidecar, eventually, has, mesh_of_web, settings};

fn registration(seen: &Seen) -> Option<Registration> {
    seen.request.node.as_ref().map(|node| Registration::from_node(node).unwrap())
}

fn acked(control_plane: &ControlPlane) -> usize {
    let world = control_plane.world();
    let answers = world.seen.iter();
    answers.filter(|seen| !seen.request.response_nonce.is_empty() && seen.request.error_detail.is_none()).count()
}

#[tokio::test]
async fn a_sidecar_registers_and_gets_what_its_app_asks_for() {
    let control_plane = mesh_of_web().await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&control_plane, dir.path());
    let first = control_plane.request("registration", |seen| seen.request.node.is_some()).await;
    let registration = registration(&first).unwrap();
    assert_eq!(
        (registration.name.as_str(), registration.address.as_str(), registration.mesh_port),
        ("web-1", "127.0.0.1", 15008)
    );
    assert_eq!(registration.labels.get("version").map(String::as_str), Some("v1"));
    assert_eq!(registration.ports.get("http"), Some(&8080));

    sidecar.want("default/web");
    sidecar.sees("the route's backend", |s| has(s, "default/web", "10.0.0.2")).await;
    control_plane.set("default/web-v1", &endpoints("default/web-v1", "10.0.0.22"));
    sidecar.sees("a change", |s| has(s, "default/web", "10.0.0.22")).await;
    sidecar.want("default/nothing");
    sidecar.sees("what does not exist", |s| matches!(s.services.get("default/nothing"), Some(None))).await;
    control_plane.unset::<v1::Service>("default/web");
    sidecar.sees("a removal", |s| matches!(s.services.get("default/web"), Some(None))).await;
    eventually("every response acknowledged", || {
        (acked(&control_plane) == control_plane.world().responses()).then_some(())
    })
    .await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_control_plane_that_comes_back_sends_nothing_again_and_what_is_in_force_stays() {
    let mut control_plane = mesh_of_web().await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&control_plane, dir.path());
    sidecar.want("default/web");
    sidecar.sees("web", |s| has(s, "default/web", "10.0.0.2")).await;
    let sent = control_plane.world().sent;
    control_plane.stop().await;
    eventually("disconnected", || (!sidecar.handle.status().borrow().connected).then_some(())).await;
    assert!(has(&sidecar.reader.current(), "default/web", "10.0.0.2"));
    control_plane.start_again().await;
    let again = control_plane
        .request("a second stream", |s| s.stream == 2 && s.request.type_url == v1::Service::TYPE_URL)
        .await;
    assert_eq!(again.request.initial_resource_versions.len(), 2);
    // One change later exactly one more resource was sent.
    control_plane.request("subscriptions", |s| s.stream == 2 && s.request.type_url == v1::Endpoints::TYPE_URL).await;
    control_plane.set("default/web", &endpoints("default/web", "10.0.0.11"));
    sidecar.sees("the change", |s| has(s, "default/web", "10.0.0.11")).await;
    assert_eq!(control_plane.world().sent, sent + 1);
}

#[tokio::test]
async fn a_restart_without_a_control_plane_serves_from_the_snapshot_and_resumes_later() {
    let mut control_plane = mesh_of_web().await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&control_plane, dir.path());
    assert!(!sidecar.handle.restored);
    sidecar.want("default/web");
    sidecar.sees("web", |s| has(s, "default/web", "10.0.0.2")).await;
    sidecar.stop().await;
    let sent = control_plane.world().sent;
    control_plane.stop().await;

    let sidecar = Sidecar::start(&control_plane, dir.path());
    assert!(sidecar.handle.restored);
    assert!(has(&sidecar.reader.current(), "default/web", "10.0.0.2"), "in force before anything else");
    control_plane.start_again().await;
    control_plane.set("default/web-v1", &endpoints("default/web-v1", "10.0.0.33"));
    sidecar.sees("a change", |s| has(s, "default/web", "10.0.0.33")).await;
    assert_eq!(control_plane.world().sent, sent + 1, "only what changed");
}

#[tokio::test]
async fn draining_and_health_are_told_at_once() {
    let control_plane = ControlPlane::start().await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&control_plane, dir.path());
    eventually("connected", || sidecar.handle.status().borrow().answered.then_some(())).await;
    let says = |state: WorkloadState| {
        move |seen: &Seen| {
            seen.request.type_url == REGISTRATION_URL && registration(seen).is_some_and(|r| r.state == state)
        }
    };
    sidecar.handle.healthy(false);
    control_plane.request("unhealthy", says(WorkloadState::Unhealthy)).await;
    sidecar.handle.healthy(true);
    control_plane.request("ready", says(WorkloadState::Ready)).await;
    sidecar.handle.draining();
    control_plane.request("draining", says(WorkloadState::Draining)).await;
    sidecar.handle.healthy(true);
    tokio::task::yield_now().await;
    assert_eq!(control_plane.world().seen.iter().filter(|s| says(WorkloadState::Ready)(s)).count(), 1, "no way back");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_on_a_new_stream() {
    let control_plane = mesh_of_web().await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&control_plane, dir.path());
    sidecar.want("default/web");
    sidecar.sees("web", |s| has(s, "default/web", "10.0.0.2")).await;
    let settings = Arc::new(settings(control_plane.addr, dir.path(), &[]));
    let rpc = RenewRpc { settings, credentials: sidecar.credentials.clone() };
    let renewal = tokio::spawn(keep_fresh(sidecar.credentials.clone(), system_clock(), rpc, || 0.5));
    let sent = control_plane.world().sent;
    control_plane.set("self", &v1::SidecarConfig { renew_generation: 2, ..v1::SidecarConfig::default() });
    let ends = eventually("a second stream", || {
        let world = control_plane.world();
        (world.clients.len() == 2).then(|| (world.clients[0].1, world.clients[1].1))
    });
    let (first, second) = ends.await;
    assert!(second > first);
    assert_eq!(control_plane.world().renewals, 1);
    control_plane.request("resumption", |s| s.stream == 2 && !s.request.initial_resource_versions.is_empty()).await;
    assert_eq!(control_plane.world().sent, sent);
    renewal.abort();
}

#[tokio::test]
async fn a_refused_identity_ends_a_first_start_with_the_reason() {
    let control_plane = ControlPlane::start().await;
    control_plane.world().refuse = Some(GrpcStatus::permission_denied("wrong_identity: not yours"));
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&control_plane, dir.path());
    let settings = settings(control_plane.addr, dir.path(), &[]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let failure = sidecar.handle.first_answer(&settings, deadline).await.unwrap_err();
    assert_eq!(failure.code(), exit::DENIED);
    assert!(failure.to_string().contains("not yours"), "{failure}");
}

#[tokio::test]
async fn somebody_else_of_the_mesh_is_not_taken_for_the_control_plane() {
    let impostor = ControlPlane::start_as(crate::xds::testing::authority(), "default", "web").await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&impostor, dir.path());
    let reason = eventually("an error", || sidecar.handle.status().borrow().last_error.clone()).await;
    assert!(reason.contains("not the control plane's") && reason.contains("ns/default/sa/web"), "{reason}");
    assert!(impostor.world().seen.is_empty());
}

#[tokio::test]
async fn an_unreachable_control_plane_ends_a_first_start_at_the_deadline() {
    let mut control_plane = ControlPlane::start().await;
    control_plane.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::start(&control_plane, dir.path());
    let settings = settings(control_plane.addr, dir.path(), &["--join-timeout", "200ms"]);
    let failure = sidecar.handle.first_answer(&settings, Instant::now() + settings.join_timeout).await.unwrap_err();
    assert_eq!(failure.code(), exit::UNAVAILABLE);
    assert!(failure.to_string().contains("refused"), "{failure}");
}
