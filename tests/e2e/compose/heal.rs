//! Any container can be killed, and comes back.

use std::time::Duration;

use leno_tests::docker::{Container, Project};

use super::visits;

/// From the kill to visits that go well again.
const HEALED: Duration = Duration::from_secs(90);

/// Kills each container of the project in turn.
pub fn every_container(project: &Project<'_>) {
    let mut services: Vec<String> = project.containers().into_iter().map(|c| c.service).collect();
    services.sort();
    assert!(services.len() >= 16, "five services of three containers and the control plane: {services:?}");
    for service in services {
        kill_and_heal(project, &service);
    }
}

/// Kills an app, a sidecar, the holder of a network namespace, and the control plane.
pub fn one_of_each_kind(project: &Project<'_>) {
    for service in ["web-v2", "web-v2-sidecar", "web-v2-pod", "leno-control-plane"] {
        kill_and_heal(project, service);
    }
}

fn kill_and_heal(project: &Project<'_>, service: &str) {
    let killed: Container = project.container(service);
    project.kill(&killed);
    project.compose(&["up", "-d"]);
    project.settled(HEALED);
    visits::go_well(project, HEALED);
    let now = project.container(service);
    assert!(now.running && now.pid != killed.pid, "{service} was killed and came back: {killed:?} {now:?}");
}
