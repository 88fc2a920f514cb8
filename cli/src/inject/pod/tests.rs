//! What an injection promises, on a corpus of files people write (`cli/tests/pods`) and on random ones.

mod invariants;
mod random;
mod refusals;

use std::path::{Path, PathBuf};

use clap::Parser;
use leno_control_plane::config::Problem;
use serde_json::Value;

use super::*;

pub(super) fn options() -> Options {
    Options { image: "leno-proxy:test".into(), control_plane: "control.mesh:15010".into(), ..Options::default() }
}

fn corpus() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pods");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

pub(super) fn injected(text: &str) -> Injected {
    inject(text, "f.yaml", &options()).unwrap_or_else(|problems| panic!("{}\n{text}", listed(&problems)))
}

pub(super) fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn file(name: &str) -> String {
    corpus().into_iter().find(|(file, _)| file.starts_with(name)).unwrap().1
}

pub(super) fn values(text: &str) -> Vec<Value> {
    tree::documents(text).unwrap().iter().map(|document| document.node.to_value()).collect()
}

fn named<'v>(list: &'v Value, name: &str) -> &'v Value {
    list.as_array().unwrap().iter().find(|item| item["name"] == name).unwrap()
}

#[test]
fn every_file_of_the_corpus_keeps_what_an_injection_promises() {
    let corpus = corpus();
    assert!(corpus.len() >= 15, "{}", corpus.len());
    for (name, text) in &corpus {
        let done = inject(text, name, &options()).unwrap_or_else(|problems| panic!("{}", listed(&problems)));
        assert!(done.pods > 0, "{name}");
        invariants::hold(name, text, &done.text);
    }
}

#[test]
fn documents_without_pods_stay_byte_for_byte() {
    let text = file("10");
    let out = injected(&text).text;
    let parts = |text: &str| text.split("---\n").map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (parts(&text), parts(&out));
    assert_eq!(before.len(), after.len());
    assert_eq!((&before[1], &before[3]), (&after[1], &after[3]));
    assert_ne!(before[2], after[2]);

    let alone = "# only this\nkind: ConfigMap\napiVersion: v1\ndata: {a: b, a: c, <<: x}\n";
    assert_eq!(injected(alone), Injected { text: alone.into(), pods: 0, warnings: Vec::new() });
    for text in ["", "\n", "# nothing\n", "- a\n- b\n", "just a text\n", "---\n---\n"] {
        assert_eq!(injected(text).text, text);
    }
}

#[test]
fn an_injected_deployment_reads_as_a_person_would_have_written_it() {
    let out = injected(&file("01")).text;
    let expected = "\
      # the only one
      containers:";
    assert!(out.contains(expected), "{out}");
    let probe = "\
        livenessProbe:
          # leno:begin added by `leno inject`, removed by `leno uninject`
          httpGet:
            path: /probe/web/liveness
            port: 15020
          # leno:end
          # leno:was|          httpGet:      # cheap
          # leno:was|            path: /healthz
          # leno:was|            port: http
          periodSeconds: 5";
    assert!(out.contains(probe), "{out}");
    let told = r#"value: '{"web/liveness":{"httpGet":{"path":"/healthz","port":8080},"timeoutSeconds":2},"web/readiness":{"tcpSocket":{"port":8080},"timeoutSeconds":1}}'"#;
    assert!(out.contains(told), "{out}");
}

#[test]
fn the_sidecar_starts_first_and_is_confined() {
    let pod = &values(&injected(&file("01")).text)[0]["spec"]["template"]["spec"];
    let names: Vec<&str> =
        pod["initContainers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["leno-intercept", "leno-sidecar"]);
    let sidecar = named(&pod["initContainers"], "leno-sidecar");
    let context = &sidecar["securityContext"];
    assert_eq!(context["runAsUser"], 15008);
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}));
    assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/ready");
    let intercept = &named(&pod["initContainers"], "leno-intercept")["securityContext"];
    assert_eq!(intercept["capabilities"], serde_json::json!({"drop": ["ALL"], "add": ["NET_ADMIN"]}));
    assert_eq!((&intercept["runAsUser"], &intercept["runAsNonRoot"]), (&0.into(), &false.into()));
    assert_eq!(intercept["allowPrivilegeEscalation"], false);
    let token = &named(&pod["volumes"], "leno-token")["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(*token, serde_json::json!({"audience": "leno", "expirationSeconds": 3600, "path": "token"}));
    let roots = &named(&pod["volumes"], "leno-token")["projected"]["sources"][1]["configMap"];
    let entry = serde_json::json!({"name": "leno-root", "items": [{"key": "ca.crt", "path": "ca.crt"}]});
    assert_eq!(*roots, entry, "a token is shown to the owner of this root alone");
    let args = sidecar["args"].as_array().unwrap();
    assert!(args.contains(&"--control-plane-ca=/var/run/secrets/leno.dev/ca.crt".into()), "{args:?}");
}

#[test]
fn annotations_choose_as_the_labels_of_a_compose_file_do() {
    let out = injected(&file("14"));
    let pod = &values(&out.text)[0]["spec"];
    let sidecar = named(&pod["initContainers"], "leno-sidecar");
    let args: Vec<&str> = sidecar["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    for arg in ["--port=http=127.0.0.1:8080", "--port=metrics=127.0.0.1:9100", "--service=with-sidecar"] {
        assert!(args.contains(&arg), "{arg} in {args:?}");
    }
    assert_eq!(args.iter().filter(|arg| arg.starts_with("--port=")).count(), 2, "{args:?}");
    assert_eq!(sidecar["image"], "registry.example/leno-proxy:0.1.0");
    assert_eq!(sidecar["resources"]["requests"]["cpu"], "100m");
    assert_eq!(sidecar["resources"]["limits"]["cpu"], "2");
    let intercept = named(&pod["initContainers"], "leno-intercept");
    assert_eq!(intercept["args"], serde_json::json!(["intercept", "--exclude-inbound-ports=9100"]));
    assert_eq!(named(&pod["volumes"], "leno-token")["secret"]["secretName"], "shop-joins");
    assert!(!args.iter().any(|arg| arg.starts_with("--control-plane-ca")), "a join secret proves the root");
    // NET_ADMIN in the app is said, and not refused.
    assert!(out.warnings.len() == 1 && out.warnings[0].message.contains("NET_ADMIN"), "{}", listed(&out.warnings));

    let database = &values(&injected(&file("03")).text)[0]["spec"]["template"]["spec"];
    let intercept = named(&database["initContainers"], "leno-intercept");
    assert_eq!(intercept["args"], serde_json::json!(["intercept", "--exclude-outbound-ports=5433,6000-6010"]));
    let names: Vec<&Value> = database["initContainers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["leno-intercept", "leno-sidecar", "prepare"]);
}

#[test]
fn a_pod_that_is_left_out_stays_as_it_is() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {leno.dev/inject: 'false'}\nspec:\n  \
                hostNetwork: true\n  containers: [{name: x}]\n";
    assert_eq!(injected(text), Injected { text: text.into(), pods: 0, warnings: Vec::new() });

    let only = Options { only_labelled: true, ..options() };
    assert_eq!(inject(&file("02"), "f", &only).unwrap().pods, 0);
    let asked = file("02").replace("  labels:", "  annotations: {leno.dev/inject: \"true\"}\n  labels:");
    assert_eq!(inject(&asked, "f", &only).unwrap().pods, 1);
}

#[test]
fn what_a_cluster_printed_of_an_injected_pod_is_left_alone() {
    let value = &values(&injected(&file("02")).text)[0];
    let printed = serde_yaml_ng::to_string(value).unwrap();
    assert_eq!(injected(&printed), Injected { text: printed.clone(), pods: 1, warnings: Vec::new() });
    assert!(is_unmarked(&printed, "f") && !is_unmarked(&file("02"), "f"));
}

#[test]
fn what_the_user_changed_later_survives_a_second_injection_and_an_uninjection() {
    let text = file("01");
    let changed = |text: &str| text.replace("replicas: 3", "replicas: 7").replace("web:1.4.2", "web:1.5.0");
    let again = injected(&changed(&injected(&text).text)).text;
    assert_eq!(again, injected(&changed(&text)).text);
    assert_eq!(uninject(&again, "f").unwrap(), changed(&text));
    // With other options the old sidecar makes way for the new one.
    let other = Options { image: "leno-proxy:2".into(), ..options() };
    let newer = inject(&again, "f", &other).unwrap().text;
    assert!(newer.contains("leno-proxy:2") && !newer.contains("leno-proxy:test"));
}

#[test]
fn the_sidecar_understands_what_it_is_told() {
    for (name, text) in corpus() {
        for unit in invariants::templates(&values(&injected(&text).text)) {
            let Some(containers) = unit["spec"]["initContainers"].as_array() else { continue };
            let Some(sidecar) = containers.iter().find(|c| c["name"] == "leno-sidecar") else { continue };
            let env = invariants::environment(sidecar);
            let expand = |text: &str| {
                env.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("$({name})"), value))
            };
            let args: Vec<String> =
                sidecar["args"].as_array().unwrap().iter().map(|a| expand(a.as_str().unwrap())).collect();
            let probes = env["LENO_PROBES"].replace("$$", "$");
            let line = std::iter::once("leno-proxy".to_owned()).chain(args).chain([format!("--probes={probes}")]);
            let args = leno_proxy::settings::Args::try_parse_from(line).unwrap_or_else(|why| panic!("{name}: {why}"));
            let settings = leno_proxy::settings::Settings::try_from(args).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(settings.labels["app"], settings.service, "{name}");
        }
    }
}
