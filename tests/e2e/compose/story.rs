//! The story of `examples/compose/README.md`, step by step, with every visit counted.

use std::time::Duration;

use leno_tests::docker::{Compose, Project, until};
use leno_tests::stats::binomial_999;
use leno_tests::tools;

use super::{docker_and, heal, host, visits};

/// A whole mesh comes up on a small machine that does other things, too.
const UP: Duration = Duration::from_secs(180);
const SOON: Duration = Duration::from_secs(60);
/// The services of the example.
const SERVICES: &[&str] = &["frontend", "web", "web-v2", "database", "load"];

#[test]
fn the_compose_example_tells_its_whole_story_with_compose_v1() {
    tell(Compose::v1(), "1.29", heal::one_of_each_kind);
}

#[test]
fn the_compose_example_tells_its_whole_story_with_compose_v2() {
    tell(Compose::v2(), "v2", heal::every_container);
}

fn tell(compose: Option<Compose>, which: &str, heal: fn(&Project<'_>)) {
    let Some((docker, compose)) = docker_and(compose, which) else { return };
    let before = host::traces(&docker);
    let project = Project::of_folder(&docker, &compose, &tools::repository().join("examples/compose"));
    publish_elsewhere(&project);
    let plain_file = std::fs::read(project.file()).unwrap();

    project.compose(&["up", "-d"]);
    visits::go_well(&project, SOON);
    let plain = visits::next(&project, 3);
    assert_eq!((plain.failed, plain.of("v1")), (0, plain.ok), "{plain:?}");
    outsider(&project, true);

    inject(&project);
    let injected = visits::next(&project, 5);
    assert_eq!((injected.failed, injected.of("v1")), (0, injected.ok), "{injected:?}");
    outsider(&project, true);

    hardened(&project);
    for (percent, step) in [(5, "canary-5"), (50, "canary-50"), (100, "canary-100")] {
        canary(&project, percent, step);
    }
    strict(&project);
    heal(&project);

    project.leno(&["uninject", "--write", "docker-compose.yml"]);
    assert_eq!(std::fs::read(project.file()).unwrap(), plain_file, "uninject gives the file back");
    project.leno(&["inject", "--write", "docker-compose.yml"]);
    project.down();
    drop(project);
    assert_eq!(host::traces(&docker), before, "the project has left traces on the host");
}

/// The example's port 8080 may be somebody's on this machine.
fn publish_elsewhere(project: &Project<'_>) {
    let text = std::fs::read_to_string(project.file()).unwrap();
    let port = format!("127.0.0.1:{}:8080", project.free_port());
    assert!(text.contains("127.0.0.1:8080:8080"));
    std::fs::write(project.file(), text.replace("127.0.0.1:8080:8080", &port)).unwrap();
}

fn inject(project: &Project<'_>) {
    project.compose(&["down", "--timeout", "20"]);
    project.leno(&["inject", "--write", "docker-compose.yml"]);
    project.compose(&["up", "-d"]);
    project.settled(UP);
    let status = project.leno(&["status"]);
    for service in SERVICES {
        assert!(status.contains(&format!("ns/default/sa/{service}")), "{service} is not in\n{status}");
    }
    visits::go_well(project, SOON);
}

/// What every sidecar and the control plane gave up, as the kernel says it of the real containers; and that each has closed to itself all
/// files but its state's, whether its root is mounted read-only or not.
fn hardened(project: &Project<'_>) {
    let ours = |service: &str| service.ends_with("-sidecar") || service == "leno-control-plane";
    let containers: Vec<_> = project.containers().into_iter().filter(|container| ours(&container.service)).collect();
    assert_eq!(containers.len(), SERVICES.len() + 1, "{containers:?}");
    for container in containers {
        let status = std::fs::read_to_string(format!("/proc/{}/status", container.pid)).unwrap();
        let of = |field: &str| {
            status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim().to_owned()
        };
        let seen = ["CapEff:", "CapPrm:", "NoNewPrivs:", "Seccomp:"].map(of);
        assert_eq!(seen, ["0000000000000000", "0000000000000000", "1", "2"], "{}", container.service);
        assert!(of("Uid:").split_whitespace().all(|uid| uid != "0"), "{}: {status}", container.service);
        let log = project.log(&container.service, "");
        assert!(log.contains("are read-only to this process"), "{}: {log}", container.service);
    }
}

/// Moves the split, and counts what the next visits see.
fn canary(project: &Project<'_>, percent: usize, step: &str) {
    project.leno(&["apply", "--wait", "-f", &format!("steps/{step}.yaml")]);
    let seen = visits::next(project, 10);
    assert_eq!(seen.failed, 0, "a moved split costs no visit: {seen:?}");
    let likely = binomial_999(seen.ok, percent as f64 / 100.0);
    assert!(likely.contains(&seen.of("v2")), "{percent} % of {} are {likely:?}: {seen:?}", seen.ok);
    tools::note(&format!("FIGURE compose canary {percent} %: {} of {} visits saw v2", seen.of("v2"), seen.ok));
}

fn strict(project: &Project<'_>) {
    outsider(project, true);
    project.leno(&["apply", "--wait", "-f", "steps/strict.yaml"]);
    outsider(project, false);
    let inside = visits::next(project, 3);
    assert_eq!(inside.failed, 0, "those inside notice nothing: {inside:?}");
}

/// A client in the same network, but not in the mesh, gets an answer in plaintext, or does not.
fn outsider(project: &Project<'_>, answered: bool) {
    let network = ["--network", &project.network()];
    let mut last = String::new();
    let mut ask = || {
        let output = project.get_by(&network, "http://web:8080/");
        last = format!("{output:?}");
        (output.status.success() == answered).then_some(output)
    };
    let output = until(&format!("outsiders are answered: {answered}"), SOON, &mut ask, || project.state());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(said.contains("web v"), answered, "{said}");
}
