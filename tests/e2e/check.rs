//! `leno check` finds what is wrong, says how to mend it, and ends accordingly.

use std::time::Duration;

use leno_tests::mesh::service;
use leno_tests::{HttpApp, Mesh, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// How it ends, and the codes of what it finds.
async fn check(mesh: &Mesh, args: &[&str]) -> (i32, Vec<String>) {
    let output = mesh.leno(&[&["check", "-o", "json"], args].concat()).await;
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = found["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["mend"].as_str().is_some_and(|mend| !mend.is_empty())), "{found}");
    let codes = findings.iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect();
    (output.status.code().unwrap(), codes)
}

async fn until(mesh: &Mesh, args: &[&str], exit: i32, codes: &[&str]) {
    wait::eventually(&format!("check finds {codes:?}"), SOON, async || {
        let (ended, found) = check(mesh, args).await;
        (ended == exit && found == codes).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_mesh_has_no_findings_and_each_fault_is_named_with_what_mends_it() {
    let mesh = Mesh::start().await;
    let app = HttpApp::start("web").await;
    mesh.apply(&service("web", "app: web", 80, "http")).await;
    let mut web = mesh.sidecar("web", "web").await.port("http", app.addr()).start().await;
    let client = mesh.sidecar("client", "client").await.start().await;
    mesh.reachable(&client, "http://web/").await;
    until(&mesh, &["--strict"], 0, &[]).await;
    let text = String::from_utf8(mesh.leno(&["check"]).await.stdout).unwrap();
    assert!(text.starts_with("Nothing is wrong: 2 sidecars"), "{text}");

    // A route to nothing is an error.
    let route = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: default}\nspec:\n  \
                 parentRefs: [{kind: Service, group: \"\", name: web, port: 80}]\n  rules: [{backendRefs: [{name: nobody, port: 80}]}]\n";
    mesh.apply(route).await;
    until(&mesh, &[], 1, &["not_accepted"]).await;
    mesh.leno(&["delete", "httproute", "web"]).await;

    // A Service behind which nobody is, is a warning.
    mesh.apply(&service("later", "app: later", 80, "http")).await;
    until(&mesh, &[], 0, &["no_endpoints"]).await;
    until(&mesh, &["--strict"], 1, &["no_endpoints"]).await;
    mesh.leno(&["delete", "service", "later"]).await;

    // Who is gone is named while it may come back.
    web.kill();
    until(&mesh, &[], 0, &["disconnected"]).await;
    web.start_again().await;
    until(&mesh, &["--strict"], 0, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_looked_at_without_a_control_plane_and_a_taken_port_is_named() {
    let home = tempfile::tempdir().unwrap();
    let look = |args: &[&str]| {
        let mut command = std::process::Command::new(leno_tests::binaries::leno());
        command.env("HOME", home.path()).env_remove("LENO_CONTEXT").args(["check", "--machine"]).args(args);
        command.output().unwrap()
    };
    let output = look(&["-o", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = found["findings"].as_array().unwrap();
    // Other tests hold no default port; who has no capability is told so.
    let codes: Vec<_> = findings.iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert!(codes.iter().all(|code| ["no_capability", "few_files", "port_taken"].contains(code)), "{found}");
    assert_eq!(output.status.code(), Some(0), "{found}");
    // 15053 is a port that no other test takes on this machine's own loopback.
    let _stranger = std::net::TcpListener::bind("127.0.0.1:15053").unwrap();
    let text = String::from_utf8(look(&["--strict"]).stdout).unwrap();
    assert!(text.contains("port 15053") && text.contains("--dns-port"), "{text}");
    assert_eq!(look(&["--strict"]).status.code(), Some(1));
}
