mod random;
mod refusals;

use std::path::PathBuf;

use serde_yaml_ng::Value;

use super::*;

fn options() -> Options {
    Options { namespace: "default".into(), only_labelled: false, mesh_folder: false, owner: (1000, 1000) }
}

fn injected_text(text: &str) -> String {
    inject(text, "c.yml", &options()).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}")).text
}

fn value(text: &str) -> Value {
    let mut value: Value = serde_yaml_ng::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    // What is merged may itself hold a merge.
    (0..3).for_each(|_| value.apply_merge().unwrap());
    value
}

/// Injects, and checks all that holds for every file.
fn round(text: &str) -> Value {
    let once = injected_text(text);
    assert_eq!(injected_text(&once), once, "idempotent");
    assert_eq!(marks::remove(&once).unwrap(), text, "gives the bytes back");
    value(&once)
}

fn corpus() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compose");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_file_of_the_corpus_is_injected_once_and_comes_back_byte_for_byte() {
    let corpus = corpus();
    assert!(corpus.len() >= 15);
    for (path, text) in corpus {
        let (before, after) = (value(&text), round(&text));
        for (name, service) in before["services"].as_mapping().unwrap() {
            let outside = match service["labels"].as_sequence() {
                Some(list) => list.contains(&Value::from("leno.dev/inject=false")),
                None => service["labels"]["leno.dev/inject"].as_str() == Some("false"),
            };
            let (was, is) = (service.as_mapping().unwrap(), &after["services"][name]);
            let name = name.as_str().unwrap();
            assert_eq!(
                is["network_mode"] == format!("service:{name}-pod").as_str(),
                !outside,
                "{} {name}",
                path.display()
            );
            for (key, field) in was {
                let key = key.as_str().unwrap();
                let moves = generate::MOVED.contains(&key) && !outside;
                let kept = is.get(key);
                assert_eq!(kept.is_none(), moves, "{} {name}.{key}", path.display());
                if !moves && !["depends_on", "pid"].contains(&key) {
                    assert_eq!(kept, Some(field), "{} {name}.{key}", path.display());
                }
            }
        }
    }
}

#[test]
fn an_app_lives_in_its_pod_after_its_sidecar_after_the_control_plane() {
    let file = round("services:\n  web:\n    image: web\n    depends_on: [db]\n  db:\n    image: db\n");
    let services = &file["services"];
    let web = &services["web"];
    assert_eq!(web["network_mode"], "service:web-pod");
    assert_eq!(web["pid"], "service:web-pod");
    assert_eq!(web["depends_on"]["db"]["condition"], "service_started");
    assert_eq!(web["depends_on"]["web-sidecar"]["condition"], "service_healthy");
    let sidecar = &services["web-sidecar"];
    assert_eq!(sidecar["network_mode"], "service:web-pod");
    assert_eq!(sidecar["depends_on"]["leno-control-plane"]["condition"], "service_healthy");
    assert_eq!(services["web-pod"]["command"][0], "hold");
    assert_eq!(services["web-pod"]["networks"]["default"]["aliases"][0], "web");
    assert_eq!(file["secrets"]["default.web"]["file"], "./.leno/secrets/default.web");
    assert_eq!(services["leno-control-plane"]["user"], "1000:1000");
    assert_eq!(services["leno-control-plane"]["secrets"], value("[default.web, default.db]"));
}

#[test]
fn what_belongs_to_the_network_moves_to_the_pod_and_means_the_same_there() {
    let text = "services:\n  web:\n    image: web\n    container_name: shop\n    hostname: h\n    ports: ['8080:80', 22:22]\n    \
                networks: {a: {aliases: [x, web]}, b: }\n    links: ['db:store', old]\n    extra_hosts: ['h:1.2.3.4']\n  db:\n    \
                image: db\n    networks: [a]\n  old:\n    image: old\n    labels: ['leno.dev/inject=false']\nnetworks: {a: , b: }\n";
    let file = round(text);
    let (web, pod) = (&file["services"]["web"], &file["services"]["web-pod"]);
    assert_eq!(web["container_name"], "shop");
    assert_eq!(pod["hostname"], "h");
    assert_eq!(pod["networks"]["a"]["aliases"], value("[web, shop, x]"));
    assert_eq!(pod["networks"]["b"]["aliases"], value("[web, shop]"));
    assert_eq!(pod["links"], value("['db-pod:store', old]"));
    assert_eq!(web["depends_on"]["db"]["condition"], "service_started", "a link is a dependency");
    assert_eq!(file["services"]["leno-control-plane"]["networks"], value("[a, b]"));
    let text = injected_text(text);
    assert!(text.contains("      - 22:22\n"), "60ths to one reader and a text to the next: as it was written\n{text}");
}

#[test]
fn labels_become_flags() {
    let labels = "{leno.dev/ports: 'http=8080,9090', leno.dev/service: shop, leno.dev/service-account: acc, \
                  leno.dev/labels: 'version=v2, tier=web', leno.dev/exclude-ports: '3306, 5000-5010', \
                  leno.dev/exclude-inbound-ports: 80, leno.dev/job: true}";
    let text = format!("services:\n  web:\n    image: web\n    labels: {labels}\n");
    let options = Options { namespace: "prod".into(), mesh_folder: true, ..options() };
    let done = inject(&text, "c.yml", &options).unwrap();
    assert_eq!(done.secrets, ["prod.acc"]);
    let file = value(&done.text);
    let sidecar = &file["services"]["web-sidecar"];
    let wanted = "[--control-plane=leno-control-plane:15010, --token-file=/run/secrets/prod.acc, --state-dir=/var/lib/leno, \
                  --service=shop, --namespace=prod, --service-account=acc, --label=version=v2, --label=tier=web, \
                  '--port=http=127.0.0.1:8080', '--port=9090=127.0.0.1:9090', '--exclude-outbound-ports=3306,5000-5010', \
                  --exclude-inbound-ports=80, --intercept, --exit-with-app]";
    assert_eq!(sidecar["command"], value(wanted));
    assert_eq!(sidecar["restart"], "no");
    assert_eq!(file["services"]["web-pod"]["command"], value("[hold, --until-apps-end]"));
    let control_plane = serde_yaml_ng::to_string(&file["services"]["leno-control-plane"]).unwrap();
    assert!(
        control_plane.contains("--config-dir=/etc/leno/mesh") && control_plane.contains("./mesh:/etc/leno/mesh:ro")
    );
}

#[test]
fn only_labelled_leaves_the_others_out() {
    let text = "services:\n  a:\n    image: a\n    labels: {leno.dev/inject: 'true'}\n  b:\n    image: b\n";
    let options = Options { only_labelled: true, ..options() };
    let file = value(&inject(text, "c.yml", &options).unwrap().text);
    assert!(file["services"].get("a-pod").is_some() && file["services"].get("b-pod").is_none());
}

#[test]
fn a_later_change_of_the_file_stays_and_is_injected_anew() {
    let once = injected_text("services:\n  web:\n    image: web:1\n    ports:\n      - '80:80'\n");
    let edited = once.replace("image: web:1", "image: web:2").replace("- '80:80'", "- '81:80'");
    let twice = injected_text(&edited);
    assert!(twice.contains("    ports:\n      - \"81:80\"\n"), "{twice}");
    assert_eq!(marks::remove(&twice).unwrap(), "services:\n  web:\n    image: web:2\n    ports:\n      - '81:80'\n");
}

#[test]
fn a_byte_order_mark_stays_first() {
    for text in ["\u{feff}secrets: {}\nservices:\n  web:\n    image: web\n", "\u{feff}services:\n  web: {image: a}\n"] {
        let once = injected_text(text);
        assert!(once.starts_with('\u{feff}') && once.matches('\u{feff}').count() == 1);
        assert_eq!(injected_text(&once), once);
        assert_eq!(marks::remove(&once).unwrap(), text);
    }
}

#[test]
fn problems_of_an_injected_file_are_told_by_its_own_lines() {
    let once = injected_text("services:\n  web:\n    image: web\n    ports: ['80:80']\n");
    let edited = once.replace("'80:80'", "'80:15008'");
    let problems = inject(&edited, "c.yml", &options()).unwrap_err();
    let line = edited.lines().position(|line| line.contains("15008']")).unwrap() + 1;
    assert_eq!(problems[0].line as usize, line, "{problems:?}");
}
