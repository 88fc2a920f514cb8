//! A control plane and sidecars in containers of nothing but our own binary find each other by name and join by secrets that were
//! there before either.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use leno_certs::JoinSecret;
use leno_tests::docker::{Compose, Project, until};

use super::docker_and;

const SOON: Duration = Duration::from_secs(60);

const COMPOSE_FILE: &str = r#"
services:
  leno-control-plane:
    image: leno-control-plane
    user: "0:0"
    command: [--xds-addr, ":15010", --api-addr, ":15012", --advertise-api-addr, "127.0.0.1:${LENO_API_PORT}",
      --state-dir, /var/lib/leno, --join-secrets, /run/secrets]
    ports: ["127.0.0.1:${LENO_API_PORT}:15012"]
    volumes: ["./.leno/control-plane:/var/lib/leno"]
    secrets: [default.web, default.api]
    healthcheck: {test: [CMD, /leno-control-plane, health], interval: 1s, timeout: 5s, retries: 30}
  web: &sidecar
    image: leno-proxy
    command: [--control-plane, "leno-control-plane:15010", --token-file, /run/secrets/default.web,
      --service, web, --state-dir, /var/lib/leno]
    secrets: [default.web]
    depends_on: {leno-control-plane: {condition: service_healthy}}
  # Knows the secret of another.
  intruder:
    <<: *sidecar
    command: [--control-plane, "leno-control-plane:15010", --token-file, /run/secrets/default.web,
      --service, api, --state-dir, /var/lib/leno]
secrets:
  default.web: {file: ./default.web}
  default.api: {file: ./default.api}
"#;

fn sidecars_join(compose: Option<Compose>, which: &str) {
    let Some((docker, compose)) = docker_and(compose, which) else { return };
    let project = Project::of_text(&docker, &compose, COMPOSE_FILE);
    for name in ["default.web", "default.api"] {
        let file = project.dir().join(name);
        std::fs::write(&file, JoinSecret::generate().unwrap().to_text().as_bytes()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    project.compose(&["up", "-d"]);
    let joined = || {
        let status = project.leno_output(&["status"]);
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        status.contains("ns/default/sa/web").then_some(status)
    };
    let status = until("the sidecar has joined", SOON, joined, || project.state());
    assert!(!status.contains("sa/api"), "{status}");
    let refused = || project.log("intruder", "").contains("wrong_identity").then_some(());
    until("the intruder is told why", SOON, refused, || project.state());
    assert!(!project.container("intruder").running);
    project.down();
}

#[test]
fn sidecars_in_containers_join_by_their_own_secret_alone_with_compose_v1() {
    sidecars_join(Compose::v1(), "1.29");
}

#[test]
fn sidecars_in_containers_join_by_their_own_secret_alone_with_compose_v2() {
    sidecars_join(Compose::v2(), "v2");
}
