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

/// Memory of a process, in MB.
#[derive(Clone, Copy)]
struct Memory {
    /// With the pages of the program's file, which all sidecars of a machine share.
    resident: f64,
    /// Its own.
    private: f64,
}

fn memory(pid: u32) -> Memory {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} {status}"));
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap() * 1024.0 / 1e6
    };
    Memory { resident: of("VmRSS:"), private: of("RssAnon:") }
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
    let containers = project.containers();
    let of = |suffix: &str| -> Vec<Memory> {
        containers.iter().filter(|c| c.service.ends_with(suffix)).map(|c| memory(c.pid)).collect()
    };
    let (sidecars, holder, control_plane) = (of("-sidecar"), of("-pod")[0], of("leno-control-plane")[0]);
    assert_eq!(sidecars.len(), SERVICES);
    let most = sidecars.iter().copied().max_by(|a, b| a.resident.total_cmp(&b.resident)).unwrap();
    let private: f64 = sidecars.iter().map(|sidecar| sidecar.private).sum();
    tools::note(&format!(
        "FIGURE compose: {SERVICES} services x 3 containers up in {up:.0} s; MB resident (of its own): a sidecar at most \
         {:.1} ({:.1}), all sidecars ({private:.1}), a holder {:.1} ({:.1}), the control plane {:.1} ({:.1})",
        most.resident, most.private, holder.resident, holder.private, control_plane.resident, control_plane.private
    ));
    assert!(most.private < 16.0, "a sidecar keeps {:.1} MB of its own", most.private);
    project.down();
}
