//! Who is not there while the root is replaced.

use leno_tests::mesh::Trio;
use leno_tests::{Mesh, wait};

use super::{kept, leno, phase, root, status};

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_was_away_comes_back_with_its_last_leaf_and_one_of_a_stolen_key_does_not() {
    let mesh = Mesh::start_with(&["--registration-grace", "1s"]).await;
    let mut trio = Trio::start(&mesh).await;
    let before = kept(&trio.store).0;
    trio.store.kill();
    // It is waited for until its grace period is over.
    leno(&mesh, &["ca", "rotate"]).await;
    trio.store.start_again().await;
    mesh.connected(3).await;
    wait::until("it has renewed", wait::DEADLINE, || kept(&trio.store).0 != before).await;
    let mut stream = tokio::net::TcpStream::connect(trio.frontend.upstream("store:7000")).await.unwrap();
    wait::eventually("it serves", wait::DEADLINE, async || {
        if super::ping(&mut stream).await.is_ok() {
            return Some(());
        }
        stream = tokio::net::TcpStream::connect(trio.frontend.upstream("store:7000")).await.ok()?;
        None
    })
    .await;

    trio.store.kill();
    leno(&mesh, &["ca", "rotate", "--compromised"]).await;
    trio.store.start_again().await;
    wait::eventually("it is refused", wait::DEADLINE, async || {
        // It cannot believe the control plane, and the control plane does not believe it.
        let log = trio.store.log();
        log.contains("the control plane cannot be reached").then_some(())
    })
    .await;
    mesh.connected(2).await;
    mesh.reachable(&trio.frontend, "http://web/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_left_behind_by_force_is_served_and_catches_up() {
    let mesh = Mesh::start().await;
    let mut trio = Trio::start(&mesh).await;
    let first = root(&status(&mesh).await, "signs");
    trio.store.process().pause();
    leno(&mesh, &["ca", "rotate", "--force-after", "1s"]).await;
    let audit = leno(&mesh, &["audit", "--action", "ca."]).await;
    assert!(audit.contains("forced without default/store"), "{audit}");
    let now = phase(&mesh, "idle").await;
    assert_ne!(root(&now, "signs"), first);
    trio.store.process().resume();
    mesh.connected(3).await;
    wait::until("it has caught up", wait::DEADLINE, || {
        kept(&trio.store).1 == 1 && kept(&trio.store).0 == kept(&trio.web).0
    })
    .await;
    let traffic = super::Traffic::start(&trio.frontend).await;
    traffic.unharmed().await;
}
