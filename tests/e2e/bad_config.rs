//! A configuration folder full of mistakes: each is named, the good objects are in force, and nothing breaks.

mod broken;

use std::path::Path;
use std::time::{Duration, Instant};

use leno_tests::mesh::{service, split, web_services};
use leno_tests::{HttpApp, Mesh, client, wait};
use serde_json::Value;

use broken::{Broken, Place};

/// Writes everything that is broken below `dir`, the configuration folder.
fn write_all(dir: &Path) {
    for broken in broken::all() {
        let path = dir.join(broken.file);
        match broken.place {
            Place::File(content) => std::fs::write(path, content).unwrap(),
            Place::Link(to) => std::os::unix::fs::symlink(to, path).unwrap(),
            Place::Folder => std::fs::create_dir(path).unwrap(),
            Place::Loop => {
                std::fs::create_dir(&path).unwrap();
                std::os::unix::fs::symlink("..", path.join("back")).unwrap();
            }
            Place::Pipe => {
                let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
                assert!(made.success());
            }
        }
    }
}

/// What the control plane logs of a problem, a line each.
fn problems(mesh: &Mesh) -> Vec<String> {
    let log = mesh.control_plane.log();
    log.lines().filter(|line| line.contains(".yaml") || line.contains("loop")).map(str::to_owned).collect()
}

fn missing<'a>(all: &'a [Broken], lines: &[String]) -> Vec<&'a Broken> {
    let named = |broken: &Broken| {
        lines.iter().any(|line| {
            let lower = line.to_lowercase();
            line.contains(broken.file) && broken.says.iter().all(|word| lower.contains(&word.to_lowercase()))
        })
    };
    all.iter().filter(|broken| !named(broken)).collect()
}

async fn service_names(mesh: &Mesh) -> Vec<String> {
    let list = mesh.control_plane.api().get("/v1/objects/services").await.unwrap();
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_thirty_broken_files_are_each_named_while_the_good_ones_are_in_force() {
    let all = broken::all();
    assert!(all.len() >= 30, "only {} kinds of mistakes", all.len());
    let good = [
        ("a-good.yaml", service("good-a", "app: a", 80, "http")),
        ("z-good.yaml", service("good-z", "app: z", 80, "http")),
        // One bad object in the middle of a file does not take its neighbours with it.
        (
            "m-mixed.yaml",
            service("good-m1", "app: m", 80, "http")
                + "apiVersion: v1\nkind: Service\nmetadata: {name: bad-m}\nspec: {ports: [{port: 99999}]}\n---\n"
                + &service("good-m2", "app: m", 80, "http"),
        ),
    ];
    let good: Vec<(&str, &str)> = good.iter().map(|(name, content)| (*name, content.as_str())).collect();
    let mut mesh = Mesh::start_with_config(&good).await;
    write_all(&mesh.config_dir());

    let deadline = Instant::now() + Duration::from_secs(30);
    wait::until("each broken file is named with its error", Duration::from_secs(60), || {
        let missing = missing(&all, &problems(&mesh));
        assert!(missing.is_empty() || Instant::now() < deadline, "not named: {missing:#?}");
        missing.is_empty()
    })
    .await;
    let metrics = mesh.control_plane.metrics().await;
    assert!(metrics.sum("leno_config_problems", &[]) >= all.len() as f64, "{}", metrics.text());
    let names = service_names(&mesh).await;
    for name in ["good-a", "good-z", "good-m1", "good-m2"] {
        assert!(names.iter().any(|n| n == name), "{name} is not in force: {names:?}");
    }
    assert!(!names.iter().any(|n| n == "bad-m"), "{names:?}");

    // The same folder at a start.
    mesh.control_plane.stop().await;
    mesh.control_plane.start_again().await;
    assert_eq!(service_names(&mesh).await, names);
    mesh.control_plane.process().assert_running();
    assert_eq!(client::get_direct(mesh.control_plane.admin(), "/ready").await.unwrap().status, 200);
    assert!(!mesh.control_plane.log().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_version_of_an_object_stays_in_force_until_its_file_is_mended() {
    let mesh = Mesh::start_with_config(&[("services.yaml", &web_services()), ("route.yaml", &split(100, 0, ""))]).await;
    let apps = [HttpApp::start("v1").await, HttpApp::start("v2").await];
    let _one = mesh.sidecar("web-v1", "web").await.label("version", "v1").port("http", apps[0].addr()).start().await;
    let _two = mesh.sidecar("web-v2", "web").await.label("version", "v2").port("http", apps[1].addr()).start().await;
    let frontend = mesh.sidecar("frontend", "frontend").await.start().await;
    mesh.connected(3).await;
    mesh.reachable(&frontend, "http://web/").await;
    let route = mesh.config_dir().join("route.yaml");
    let answer = async || frontend.get("http://web/").await.unwrap().text();

    std::fs::write(&route, split(0, 100, "").replace("weight: 100", "weight: -100")).unwrap();
    wait::until("the negative weight is named", wait::DEADLINE, || {
        problems(&mesh).iter().any(|line| line.contains("route.yaml") && line.contains("weight"))
    })
    .await;
    for _ in 0..20 {
        assert_eq!(answer().await, "v1", "the last good version is gone");
    }
    // A file that cannot be read takes its objects away no more than a bad one does.
    std::fs::write(&route, "\tnot: [yaml").unwrap();
    wait::until("the syntax error is named", wait::DEADLINE, || {
        problems(&mesh).iter().filter(|line| line.contains("route.yaml")).count() >= 2
    })
    .await;
    for _ in 0..20 {
        assert_eq!(answer().await, "v1", "the last good version is gone");
    }
    std::fs::write(&route, split(0, 100, "")).unwrap();
    wait::eventually("the mended route is in force", wait::DEADLINE, async || (answer().await == "v2").then_some(()))
        .await;
    wait::eventually("no problem is left", wait::DEADLINE, async || {
        (mesh.control_plane.metrics().await.sum("leno_config_problems", &[]) == 0.0).then_some(())
    })
    .await;
}
