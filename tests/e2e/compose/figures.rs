//! A mesh of ten services on a small machine.

use std::time::{Duration, Instant};

use leno_tests::docker::{Compose, Project, until};
use leno_tests::tools;

use super::docker_and;

const SERVICES: usize = 10;
/// Thirty containers and the control plane.
const UP: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(30);

fn compose_file() -> String {
    let service = |n| {
        format!(
            "  s{n}:\n    image: leno\n    command: [demo-app, web, --version, v1, --instance, s{n}, --listen, \"0.0.0.0:8080\"]\n"
        )
    };
    format!("services:\n{}", (0..SERVICES).map(service).collect::<String>())
}

/// Resident memory of a process, in bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() * 1024
}

#[test]
fn a_mesh_of_ten_services_with_three_containers_each_comes_up_and_everyone_reaches_everyone() {
    let Some((docker, compose)) = docker_and(Compose::v2(), "v2") else { return };
    let project = Project::of_text(&docker, &compose, &compose_file());
    project.leno(&["inject", "--write", "docker-compose.yml"]);
    let start = Instant::now();
    project.compose(&["up", "-d"]);
    project.settled(UP);
    let up = start.elapsed().as_secs_f64();
    assert_eq!(project.containers().len(), 3 * SERVICES + 1);
    for n in 0..SERVICES {
        let (from, to) = (format!("s{n}"), format!("s{}", (n + 1) % SERVICES));
        let url = format!("http://{to}:8080/");
        let reached = || {
            let output = project.get_in(&from, &url);
            String::from_utf8_lossy(&output.stdout).contains(&format!("200 web v1 {to}")).then_some(())
        };
        until(&format!("{from} reaches {to}"), SOON, reached, || project.state());
    }
    let of = |suffix: &str| -> Vec<u64> {
        let all = project.containers();
        all.iter().filter(|c| c.service.ends_with(suffix)).map(|c| memory(c.pid)).collect()
    };
    let sidecars = of("-sidecar");
    assert_eq!(sidecars.len(), SERVICES);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let (least, most) = (sidecars.iter().min().unwrap(), sidecars.iter().max().unwrap());
    let (sum, control_plane) = (sidecars.iter().sum::<u64>(), of("leno-control-plane")[0]);
    tools::note(&format!(
        "FIGURE compose: {SERVICES} services x 3 containers up in {up:.0} s; resident MB of a sidecar {:.1} to {:.1}, of all {:.1}; \
         of a holder {:.1}; of the control plane {:.1}",
        mb(*least),
        mb(*most),
        mb(sum),
        mb(of("-pod")[0]),
        mb(control_plane)
    ));
    assert!(*most < 50_000_000, "a sidecar has {:.1} MB", mb(*most));
    project.down();
}
