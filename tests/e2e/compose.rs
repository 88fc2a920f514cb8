//! With the real Docker Engine: the images, and `examples/compose` from a plain compose file to a mesh and back.

mod figures;
mod heal;
mod host;
mod joining;
mod story;
mod visits;

use leno_tests::docker::{Compose, Docker};
use leno_tests::tools;

/// The engine, or a test that says that it is skipped.
fn docker() -> Option<Docker> {
    Docker::start().map_err(|why| tools::skip(&why)).ok()
}

/// The engine and a Compose, or a test that says that it is skipped.
fn docker_and(compose: Option<Compose>, which: &str) -> Option<(Docker, Compose)> {
    let Some(compose) = compose else {
        tools::skip(&format!("docker-compose {which} is not installed"));
        return None;
    };
    Some((docker()?, compose))
}

#[test]
fn the_images_are_small_and_hold_one_program_that_runs_without_anything_else() {
    let Some(docker) = docker() else { return };
    let megabytes = |image| docker.image_size(image) as f64 / 1e6;
    let sizes = ["leno-proxy", "leno-control-plane", "leno"].map(megabytes);
    tools::note(&format!(
        "FIGURE images: leno-proxy {:.1} MB, leno-control-plane {:.1} MB, leno {:.1} MB",
        sizes[0], sizes[1], sizes[2]
    ));
    assert!(sizes[0] < 20.0, "the sidecar's image has {:.1} MB", sizes[0]);
    for image in ["leno-proxy", "leno-control-plane", "leno"] {
        let version = docker.run(&["run", "--rm", "--network", "none", image, "--version"]);
        assert!(version.starts_with(image), "{version}");
    }
    // A check that cannot succeed says so and fails: what Docker needs of a health check.
    let health = docker.output(&["run", "--rm", "--network", "none", "leno-control-plane", "health"]);
    assert_eq!(health.status.code(), Some(69), "{health:?}");
}
