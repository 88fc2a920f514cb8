//! What the xDS port promises, over real sockets and TLS.

mod harness;

use std::time::Duration;

use harness::*;
use leno_certs::{Authority, Identity, JoinSecret, Key, SpiffeId, TrustBundle, tls};
use leno_proto::resource::SELF;
use leno_proto::{Registration, WorkloadState};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;

use super::*;
use crate::discovery::ResourceType;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_joins_subscribes_gets_only_what_changes_and_resumes_without_a_resend() {
    let port = Port::open().await;
    port.commit(&[("web", 80), ("store", 6379)]);
    let who = port.join(&web()).await;
    let mut stream = port.stream(&who, &registration("web-1")).await.unwrap();
    stream.subscribe(ResourceType::Service, &["default/web", "default/store"], &[]).await;
    let first = stream.next().await.unwrap();
    assert_eq!(names(&first), ["default/store", "default/web"]);
    stream.answer(&first, None).await;

    let revision = port.commit(&[("web", 80), ("store", 6380)]);
    let second = stream.next().await.unwrap();
    assert_eq!(names(&second), ["default/store"]);
    stream.answer(&second, None).await;
    let outcome = port.parts.sessions.wait_for(revision, SOON).await;
    assert_eq!((outcome.concerned, outcome.acked), (1, 1), "{outcome:?}");
    drop(stream);

    let held: Vec<_> = [versions(&first)[1].clone(), versions(&second)[0].clone()].into();
    let mut again = port.stream(&who, &registration("web-1")).await.unwrap();
    again.subscribe(ResourceType::Service, &["default/web", "default/store"], &held).await;
    // The one message that comes is the answer to a later question.
    again.subscribe(ResourceType::SidecarConfig, &[SELF], &[]).await;
    let next = again.next().await.unwrap();
    assert_eq!((next.type_url.as_str(), names(&next)), (ResourceType::SidecarConfig.url(), vec![SELF]));
    eventually("the new session has sent one resource", || {
        let status = port.parts.sessions.status();
        status.len() == 1 && status[0].connected && status[0].resources_sent == 1
    })
    .await;
    let sent = r#"leno_xds_resources_sent_total{type="Service"} 3"#;
    port.counts(sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_workload_is_an_endpoint_until_it_drains() {
    let port = Port::open().await;
    port.commit(&[("web", 80)]);
    let who = port.join(&web()).await;
    let unlabelled = Registration { labels: Default::default(), ..registration("watcher") };
    let mut watcher = port.stream(&who, &unlabelled).await.unwrap();
    watcher.subscribe(ResourceType::Endpoints, &["default/web"], &[]).await;
    assert!(next_health(&mut watcher).await.is_empty(), "it has none yet");
    let backend = port.stream(&who, &registration("web-1")).await.unwrap();
    assert_eq!(next_health(&mut watcher).await, [true]);
    for (state, health) in
        [(WorkloadState::Unhealthy, &[false][..]), (WorkloadState::Ready, &[true]), (WorkloadState::Draining, &[])]
    {
        backend.register(&Registration { state, ..registration("web-1") }).await;
        assert_eq!(next_health(&mut watcher).await, health, "{state:?}");
    }
}

/// The health of each endpoint in the next message.
async fn next_health(stream: &mut Stream) -> Vec<bool> {
    let message = stream.next().await.unwrap();
    stream.answer(&message, None).await;
    decode::<leno_proto::v1::Endpoints>(&message).endpoints.iter().map(|e| e.healthy).collect()
}

fn decode<T: prost::Message + Default>(message: &leno_proto::discovery::DeltaDiscoveryResponse) -> T {
    let resource = message.resources[0].resource.as_ref().unwrap();
    T::decode(resource.value.as_slice()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_names_who_refused_and_who_is_missing() {
    let port = Port::open().await;
    port.commit(&[("web", 80)]);
    let who = port.join(&web()).await;
    let mut good = port.stream(&who, &registration("good")).await.unwrap();
    let mut bad = port.stream(&who, &registration("bad")).await.unwrap();
    let mut silent = port.stream(&who, &registration("silent")).await.unwrap();
    for stream in [&mut good, &mut bad, &mut silent] {
        stream.subscribe(ResourceType::Service, &["default/web"], &[]).await;
        let first = stream.next().await.unwrap();
        stream.answer(&first, None).await;
    }
    let revision = port.commit(&[("web", 81)]);
    let (to_good, to_bad, _) = (good.next().await.unwrap(), bad.next().await.unwrap(), silent.next().await.unwrap());
    good.answer(&to_good, None).await;
    bad.answer(&to_bad, Some("port 81 is not mine")).await;
    let outcome = port.parts.sessions.wait_for(revision, Duration::from_millis(1500)).await;
    assert_eq!((outcome.concerned, outcome.acked), (3, 1));
    let nacked = Nacked { sidecar: "default/bad".into(), reason: "port 81 is not mine".into() };
    assert_eq!((outcome.nacked, outcome.missing), (vec![nacked], vec!["default/silent".to_owned()]));
    let status = port.parts.sessions.status();
    let bad = status.iter().find(|s| s.workload == "default/bad").unwrap();
    assert_eq!(
        (bad.ack, bad.nack.as_ref().unwrap().resources.as_slice()),
        (Ack::Nack, &["default/web".to_owned()][..])
    );
    port.counts("leno_xds_nacks_total 1").await;

    // Gone, it is waited for as long as it may still carry traffic, and not longer.
    drop(silent);
    let begin = std::time::Instant::now();
    let outcome = port.parts.sessions.wait_for(revision, SOON).await;
    assert_eq!((outcome.concerned, outcome.missing.len()), (2, 0), "{outcome:?}");
    assert!(begin.elapsed() > Duration::from_secs(1), "it waited for the grace period");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_refused_identity_is_told_why_and_counted() {
    let port = Port::open().await;
    let admin = SpiffeId::new("cluster.local", "default", "admin").unwrap();
    let token = port.token(&web());
    let cases = [
        (port.try_join("nonsense", &web()).await.err(), Code::Unauthenticated, "token_malformed"),
        (port.try_join(&token, &admin).await.err(), Code::PermissionDenied, "wrong_identity"),
        (port.try_join(&token, &web()).await.err(), Code::Unauthenticated, "token_used"),
    ];
    for (status, code, reason) in cases {
        let status = status.expect(reason);
        assert_eq!(status.code(), code, "{reason}");
        assert!(status.message().starts_with(&format!("{reason}: ")), "{}", status.message());
    }
    let who = port.join(&web()).await;
    let status = port.renew(&who, &admin).await.unwrap_err();
    assert!(status.message().starts_with("wrong_identity: "), "{}", status.message());
    assert!(port.renew(&who, &web()).await.is_ok());
    port.counts(r#"leno_identity_refusals_total{reason="wrong_identity"} 2"#).await;
    port.counts(r#"leno_identity_refusals_total{reason="token_used"} 1"#).await;
    port.counts(r#"leno_ca_signings_total{kind="renew"} 1"#).await;

    // The stream needs a certificate, and a registration of its own identity.
    let other = Registration { service_account: "admin".into(), ..registration("web-1") };
    let mut stream = port.stream(&who, &other).await.unwrap();
    assert_eq!(stream.next().await.unwrap_err().code(), Code::PermissionDenied);
    port.counts(r#"leno_identity_refusals_total{reason="wrong_identity"} 3"#).await;
    assert!(port.parts.registry.live().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_a_join_secret_gets_a_proof_of_the_root_without_a_certificate_and_then_joins() {
    let port = Port::open().await;
    let secret = JoinSecret::generate().unwrap();
    let file = port.secrets_dir.path().join("default.web");
    std::fs::write(&file, secret.to_text().as_bytes()).unwrap();

    let proof = port.prove(secret.id(), &[7; 32]).await.unwrap();
    let root: [u8; 32] = proof.root_sha256.try_into().unwrap();
    assert_eq!(root, port.parts.authority.trust_bundle().root_hash());
    assert!(secret.root_is_proven(&[7; 32], &root, &proof.mac));
    for _ in 0..2 {
        assert!(port.join_by_secret(&secret, &web(), "").await.is_ok());
    }
    port.counts(r#"leno_ca_signings_total{kind="join_secret"} 2"#).await;

    let admin = SpiffeId::new("cluster.local", "default", "admin").unwrap();
    let unknown = JoinSecret::generate().unwrap();
    let cases = [
        (port.prove(secret.id(), &[7; 31]).await.err(), "proof_malformed"),
        (port.prove(unknown.id(), &[7; 32]).await.err(), "secret_unknown"),
        (port.join_by_secret(&unknown, &web(), "").await.err(), "secret_unknown"),
        (port.join_by_secret(&secret, &admin, "").await.err(), "wrong_identity"),
        (port.join_by_secret(&secret, &web(), "leno1.both").await.err(), "token_malformed"),
    ];
    std::fs::remove_file(&file).unwrap();
    let removed = (port.join_by_secret(&secret, &web(), "").await.err(), "secret_unknown");
    for (status, reason) in cases.into_iter().chain([removed]) {
        let status = status.expect(reason);
        assert!(status.message().starts_with(&format!("{reason}: ")), "{}", status.message());
    }
    port.counts(r#"leno_identity_refusals_total{reason="secret_unknown"} 3"#).await;
}

/// An identity that some authority issued, valid from now on for a time that may be over.
fn issue(authority: &Authority, domain: &str, life: time::Duration) -> Identity {
    let key = Key::generate().unwrap();
    let id = SpiffeId::new(domain, "default", "web").unwrap();
    let now = OffsetDateTime::now_utc();
    let leaf = authority.issue(&key, &id, &[], now - time::Duration::HOUR, now + life).unwrap();
    Identity::new(vec![leaf], key).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_expired_and_misplaced_certificates_are_refused_and_counted_apart() {
    let port = Port::open().await;
    let now = OffsetDateTime::now_utc();
    let foreign =
        Authority::generate("cluster.local", now - time::Duration::DAY, Duration::from_secs(999_999)).unwrap();
    let foreign = issue(&foreign, "cluster.local", time::Duration::HOUR);
    assert!(port.stream(&foreign, &registration("web-1")).await.is_err());
    port.counts(r#"leno_identity_refusals_total{reason="certificate_untrusted"} 1"#).await;

    let ours = port.parts.authority.authority();
    let over = issue(&ours, "cluster.local", -time::Duration::MINUTE);
    assert!(port.stream(&over, &registration("web-1")).await.is_err());
    port.counts(r#"leno_identity_refusals_total{reason="certificate_expired"} 1"#).await;
    let elsewhere = issue(&ours, "example.org", time::Duration::HOUR);
    assert!(port.stream(&elsewhere, &registration("web-1")).await.is_err());
    port.counts(r#"leno_identity_refusals_total{reason="wrong_trust_domain"} 1"#).await;

    let who = port.join(&web()).await;
    assert!(port.stream(&who, &registration("web-1")).await.is_ok(), "the next peer is served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_certificate_is_refused() {
    let port = Port::open().await;
    let bundle: TrustBundle = port.parts.authority.trust_bundle();
    let config = tls::pinned_client(bundle.root_hash(), &[b"h2"]).unwrap();
    let status = port.stream_with(config, &registration("web-1")).await.err().unwrap();
    assert!(status.message().starts_with("no_certificate: "), "{}", status.message());
    port.counts(r#"leno_identity_refusals_total{reason="no_certificate"} 1"#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_half_open_connections_do_not_hold_up_others() {
    let port = Port::open().await;
    let mut held = Vec::new();
    for n in 0..300_u16 {
        let mut tcp = TcpStream::connect(port.address).await.unwrap();
        if n % 3 == 0 {
            tcp.write_all(b"GET / HTTP/1.1\r\n\r\n and then some more that is no TLS at all").await.unwrap();
        }
        held.push(tcp);
    }
    // One that shakes hands and then says nothing that HTTP/2 knows.
    let bundle = port.parts.authority.trust_bundle();
    let config = tls::pinned_client(bundle.root_hash(), &[b"h2"]).unwrap();
    let tcp = TcpStream::connect(port.address).await.unwrap();
    let name = rustls::pki_types::ServerName::IpAddress(port.address.ip().into());
    let mut odd = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    odd.write_all(&[0xff; 512]).await.unwrap();
    port.counts(r#"leno_identity_refusals_total{reason="not_tls"} 100"#).await;
    let who = port.join(&web()).await;
    let mut stream = port.stream(&who, &registration("web-1")).await.unwrap();
    stream.subscribe(ResourceType::TrustBundle, &["cluster.local"], &[]).await;
    assert_eq!(names(&stream.next().await.unwrap()), ["cluster.local"]);
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(SOON, odd.read_to_end(&mut rest)).await.expect("the odd one is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_reads_nothing_is_cut_off_and_others_are_served() {
    let port = Port::open().await;
    let services: Vec<String> = (0..8_000).map(|n| format!("{}{n}", "x".repeat(200))).collect();
    port.commit(&services.iter().map(|name| (name.as_str(), 80)).collect::<Vec<_>>());
    let who = port.join(&web()).await;
    let deaf = port.stream(&who, &registration("deaf")).await.unwrap();
    let names: Vec<String> = services.iter().map(|name| format!("default/{name}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    deaf.subscribe(ResourceType::Service, &names, &[]).await;
    eventually("it is sent something", || port.parts.sessions.status().iter().any(|s| s.resources_sent > 0)).await;
    let mut other = port.stream(&who, &registration("other")).await.unwrap();
    other.subscribe(ResourceType::Service, &names[..1], &[]).await;
    assert_eq!(other.next().await.unwrap().resources.len(), 1);
    eventually("the deaf one is gone", || port.parts.sessions.connected() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_is_a_push() {
    let port = Port::open().await;
    let who = port.join(&web()).await;
    let mut stream = port.stream(&who, &registration("web-1")).await.unwrap();
    stream.subscribe(ResourceType::SidecarConfig, &[SELF], &[]).await;
    let first = stream.next().await.unwrap();
    assert_eq!(decode::<leno_proto::v1::SidecarConfig>(&first).renew_generation, 0);
    port.globals.send_modify(|globals| globals.renew_generation += 1);
    let second = stream.next().await.unwrap();
    assert_eq!(decode::<leno_proto::v1::SidecarConfig>(&second).renew_generation, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_the_streams_and_then_the_port() {
    let mut port = Port::open().await;
    let who = port.join(&web()).await;
    let mut stream = port.stream(&who, &registration("web-1")).await.unwrap();
    eventually("it is connected", || port.parts.sessions.connected() == 1).await;
    let drain = port.drain.take().unwrap();
    drain.start();
    assert_eq!(stream.next().await.unwrap_err().code(), Code::Unavailable);
    drop(stream);
    tokio::time::timeout(SOON, &mut port.serving).await.expect("it ends").unwrap().unwrap();
    assert_eq!(port.parts.sessions.connected(), 0);
    assert_eq!(port.parts.registry.live().len(), 1, "a drain of the control plane takes no workload away");
}
