//! Instances come and go, and no request is lost.

use std::time::Duration;

use leno_tests::mesh::service;
use leno_tests::{Behaviour, HttpApp, Load, Mesh, wait};

const URI: &str = "http://web/";

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_stopped_under_load_drains_and_loses_no_request_not_even_a_post() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let apps = [HttpApp::start("a").await, HttpApp::start("b").await];
    // Slow enough that some requests are always under way.
    apps.iter().for_each(|app| app.set(Behaviour::Delay(Duration::from_millis(20))));
    let mut one = mesh.sidecar("web-a", "web").await.port("http", apps[0].addr()).start().await;
    let _two = mesh.sidecar("web-b", "web").await.port("http", apps[1].addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, URI).await;

    let posts = Load::new(frontend.http_proxy(), URI).post(256).clients(8).start();
    posts.more(200).await;
    for _ in 0..3 {
        one.stop().await; // SIGTERM; it must exit 0.
        posts.more(100).await;
        let before = apps[0].count();
        one.start_again().await;
        // It registers again and gets its share.
        wait::until("the restarted instance has traffic", wait::DEADLINE, || apps[0].count() > before + 10).await;
    }
    let report = posts.stop().await;
    report.assert_no_failure();
    assert_eq!(apps[0].count() + apps[1].count(), report.total() + 1, "a POST was sent twice or not at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_gets_its_share_without_anybody_being_told() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("a").await;
    let _one = mesh.sidecar("web-a", "web").await.port("http", app.addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(2).await;
    mesh.reachable(&frontend, URI).await;
    let load = Load::new(frontend.http_proxy(), URI).clients(4).start();
    load.more(200).await;
    let late = HttpApp::start("b").await;
    let _two = mesh.sidecar("web-b", "web").await.port("http", late.addr()).start().await;
    wait::until("the new instance has traffic", wait::DEADLINE, || late.count() > 100).await;
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_is_stopped_ends_the_answers_it_has_begun() {
    let mesh = Mesh::start().await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let app = HttpApp::start("web").await;
    let _web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let mut frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(2).await;
    mesh.reachable(&frontend, URI).await;
    app.set(Behaviour::Delay(Duration::from_secs(1)));
    let proxy = frontend.http_proxy();
    let seen = app.count();
    let slow = tokio::spawn(async move { leno_tests::client::get(proxy, URI).await });
    wait::until("the request is at the app", wait::DEADLINE, || app.count() > seen).await;
    frontend.stop().await;
    let reply = slow.await.unwrap().expect("an answer");
    assert_eq!((reply.status, reply.text().as_str()), (200, "web"));
}
