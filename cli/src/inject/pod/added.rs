//! What a pod gets: the interception, the sidecar, and their volumes.

use super::Options;
use super::annotations::{self, Settings};
use super::check::{INTERCEPT, Pod, SIDECAR, SIDECAR_USER, STATE_VOLUME, TOKEN_VOLUME};
use super::item::Item;
use super::kinds::Unit;
use super::probes::{self, HEALTH_PORT, Rewritten};
use super::report::{Report, clip};
use super::tree::{Field, Node};

/// Most labels, and most ports, that a workload registers.
const MOST: usize = 64;
const TOKEN_FOLDER: &str = "/var/run/secrets/leno.dev";
const STATE_FOLDER: &str = "/var/lib/leno";

/// What is added to one pod.
#[derive(Debug)]
pub(super) struct Added {
    /// Before the pod's own init containers, so that those have the mesh, too.
    pub init_containers: Vec<Item>,
    pub volumes: Vec<Item>,
}

/// Builds it. What cannot be, is told.
pub(super) fn build(
    unit: &Unit<'_>,
    pod: &Pod<'_>,
    settings: &Settings,
    options: &Options,
    probes: &[Rewritten<'_>],
    report: &mut Report,
) -> Added {
    let service = service(unit, settings, report);
    let labels = labels(unit, report);
    let ports = ports(unit, pod, settings, report);
    let image = settings.image.as_deref().unwrap_or(&options.image);
    let sidecar = Sidecar { service, labels, ports, probes: probes::text(probes), options, settings, image };
    Added {
        init_containers: vec![intercept(image, settings), sidecar.container()],
        volumes: volumes(settings, options),
    }
}

/// The service that the pod is an instance of.
fn service(unit: &Unit<'_>, settings: &Settings, report: &mut Report) -> String {
    if let Some(name) = &settings.service {
        return name.clone();
    }
    let metadata = unit.template.get("metadata");
    let labels = metadata.and_then(|metadata| metadata.get("labels"));
    let found = ["app", "app.kubernetes.io/name"].iter().find_map(|key| labels?.field(key));
    let annotation = format!("add the annotation leno.dev/service to {}", unit.field("metadata.annotations"));
    let Some(field) = found else {
        let at = metadata.map_or(unit.template.place, |metadata| metadata.place);
        let message = "nothing says which service the pod is an instance of";
        report.error(at, &unit.field("metadata.labels"), message, format!("add the label app, or {annotation}"));
        return String::new();
    };
    let name = field.value.text().unwrap_or_default();
    if !annotations::is_name(name) {
        let message = format!("{:?} is no name of a service", clip(name, 80));
        let path = unit.field(&format!("metadata.labels[{}]", field.key));
        report.error(field.place, &path, message, format!("{annotation}: at most 63 of a-z, 0-9 and '-'"));
    }
    name.to_owned()
}

/// The keys of the labels by which Services select the pod. The values come from the pod itself, so that whoever changes them
/// later changes them here, too.
fn labels(unit: &Unit<'_>, report: &mut Report) -> Vec<String> {
    let fields = unit.template.at(&["metadata", "labels"]).map(Node::fields).unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let bad = |field: &&Field| field.key.is_empty() || field.key.len() > 317 || !field.key.chars().all(good);
    for field in fields.iter().filter(bad) {
        let message = format!("{:?} is no key of a label", clip(&field.key, 80));
        report.error(
            field.place,
            &unit.field("metadata.labels"),
            message,
            "use letters, digits, '-', '_', '.' and one '/'",
        );
    }
    let mut keys: Vec<String> = fields.iter().map(|field| field.key.clone()).collect();
    if unit.kind.name == "StatefulSet" {
        // Kubernetes adds it, and Services for single instances select by it.
        keys.push("statefulset.kubernetes.io/pod-name".to_owned());
    }
    // The sidecar adds `app` where it is missing.
    if keys.len() >= MOST {
        let at = fields.first().map_or(unit.template.place, |field| field.place);
        let message = format!("more than {} labels cannot be registered", MOST - 1);
        report.error(at, &unit.field("metadata.labels"), message, "make some of them annotations");
    }
    keys
}

/// Ports by name, for Services whose targetPort is a name. By number every port is reached anyway.
fn ports(unit: &Unit<'_>, pod: &Pod<'_>, settings: &Settings, report: &mut Report) -> Vec<(String, u16)> {
    let mut found = settings.ports.clone();
    let all = pod.containers.iter().flat_map(|c| c.node.get("ports").map(Node::items).unwrap_or_default());
    for port in all {
        let text = |key| port.get(key).and_then(Node::text);
        if !matches!(text("protocol"), None | Some("TCP")) {
            continue;
        }
        let number = port.get("containerPort").and_then(Node::int).and_then(|n| u16::try_from(n).ok());
        if let (Some(name), Some(number)) = (text("name").filter(|name| annotations::is_name(name)), number)
            && !found.iter().any(|(known, _)| known == name)
        {
            found.push((name.to_owned(), number));
        }
    }
    if found.len() > MOST {
        let message = format!("more than {MOST} ports with names cannot be registered");
        report.error(pod.spec.place, &unit.field("spec"), message, "leave out the names that no Service uses");
    }
    found
}

fn resources(settings: &Settings) -> Item {
    let amounts = |cpu: &str, memory: &str| Item::Map(vec![("cpu", cpu.into()), ("memory", memory.into())]);
    Item::Map(vec![
        ("requests", amounts(&settings.cpu, &settings.memory)),
        ("limits", amounts(&settings.cpu_limit, &settings.memory_limit)),
    ])
}

/// Root with one capability, since only that may program the network namespace; it ends before anything else begins.
fn intercept(image: &str, settings: &Settings) -> Item {
    let mut args = vec![Item::from("intercept")];
    if let Some(ports) = &settings.exclude_outbound {
        args.push(format!("--exclude-outbound-ports={ports}").into());
    }
    if let Some(ports) = &settings.exclude_inbound {
        args.push(format!("--exclude-inbound-ports={ports}").into());
    }
    Item::Map(vec![
        ("name", INTERCEPT.into()),
        ("image", image.into()),
        ("imagePullPolicy", "IfNotPresent".into()),
        ("args", Item::List(args)),
        ("resources", resources(settings)),
        ("securityContext", security(0, &["NET_ADMIN"])),
    ])
}

fn security(user: i64, capabilities: &[&str]) -> Item {
    let mut held = vec![("drop", Item::List(vec!["ALL".into()]))];
    if !capabilities.is_empty() {
        held.push(("add", Item::List(capabilities.iter().map(|name| Item::from(*name)).collect())));
    }
    Item::Map(vec![
        ("allowPrivilegeEscalation", Item::Bool(false)),
        ("capabilities", Item::Map(held)),
        ("privileged", Item::Bool(false)),
        ("readOnlyRootFilesystem", Item::Bool(true)),
        // Said outright, since the pod may say otherwise for its own containers.
        ("runAsNonRoot", Item::Bool(user != 0)),
        ("runAsUser", Item::Int(user)),
        ("runAsGroup", Item::Int(user)),
        ("seccompProfile", Item::Map(vec![("type", "RuntimeDefault".into())])),
    ])
}

struct Sidecar<'a> {
    service: String,
    labels: Vec<String>,
    ports: Vec<(String, u16)>,
    probes: String,
    options: &'a Options,
    settings: &'a Settings,
    image: &'a str,
}

impl Sidecar<'_> {
    fn container(&self) -> Item {
        Item::Map(vec![
            ("name", SIDECAR.into()),
            ("image", self.image.into()),
            ("imagePullPolicy", "IfNotPresent".into()),
            // A native sidecar: it starts before the app, ends after it, and keeps no job from ending.
            ("restartPolicy", "Always".into()),
            ("args", Item::List(self.args())),
            ("env", Item::List(self.env())),
            ("ports", Item::List(vec![port("leno-mesh", 15008), port("leno-health", HEALTH_PORT.into())])),
            ("startupProbe", startup()),
            ("resources", resources(self.settings)),
            ("securityContext", security(SIDECAR_USER, &[])),
            (
                "volumeMounts",
                Item::List(vec![mount(TOKEN_VOLUME, TOKEN_FOLDER, true), mount(STATE_VOLUME, STATE_FOLDER, false)]),
            ),
        ])
    }

    fn args(&self) -> Vec<Item> {
        let mut args = vec![
            "--transparent".to_owned(),
            format!("--control-plane={}", self.options.control_plane),
            format!("--token-file={TOKEN_FOLDER}/token"),
            format!("--state-dir={STATE_FOLDER}/sidecar"),
            format!("--service={}", self.service),
            "--namespace=$(LENO_POD_NAMESPACE)".to_owned(),
            "--service-account=$(LENO_SERVICE_ACCOUNT)".to_owned(),
            "--name=$(LENO_POD_NAME)".to_owned(),
            "--advertise-addr=$(LENO_POD_IP)".to_owned(),
        ];
        if self.settings.join_secret.is_none() {
            // A service account's token names no root, as a join secret proves one.
            args.push(format!("--control-plane-ca={TOKEN_FOLDER}/ca.crt"));
        }
        args.extend(self.labels.iter().enumerate().map(|(n, key)| format!("--label={key}=$(LENO_LABEL_{n})")));
        args.extend(self.ports.iter().map(|(name, number)| format!("--port={name}=127.0.0.1:{number}")));
        args.into_iter().map(Item::from).collect()
    }

    fn env(&self) -> Vec<Item> {
        let from = |name: String, path: String| {
            let reference = Item::Map(vec![("fieldPath", path.into())]);
            Item::Map(vec![("name", name.into()), ("valueFrom", Item::Map(vec![("fieldRef", reference)]))])
        };
        let mut env: Vec<Item> = [
            ("LENO_POD_NAME", "metadata.name"),
            ("LENO_POD_NAMESPACE", "metadata.namespace"),
            ("LENO_POD_IP", "status.podIP"),
            ("LENO_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ]
        .map(|(name, path)| from(name.to_owned(), path.to_owned()))
        .into();
        let label = |(n, key): (usize, &String)| from(format!("LENO_LABEL_{n}"), format!("metadata.labels['{key}']"));
        env.extend(self.labels.iter().enumerate().map(label));
        env.push(Item::Map(vec![("name", "LENO_PROBES".into()), ("value", self.probes.as_str().into())]));
        env
    }
}

fn port(name: &str, number: i64) -> Item {
    Item::Map(vec![("name", name.into()), ("containerPort", Item::Int(number))])
}

fn mount(name: &str, path: &str, read_only: bool) -> Item {
    let mut fields = vec![("name", name.into()), ("mountPath", path.into())];
    if read_only {
        fields.push(("readOnly", Item::Bool(true)));
    }
    Item::Map(fields)
}

/// Kubernetes starts the pod's other containers when it has passed.
fn startup() -> Item {
    let ready = Item::Map(vec![("path", "/ready".into()), ("port", Item::Int(HEALTH_PORT.into()))]);
    Item::Map(vec![
        ("httpGet", ready),
        ("periodSeconds", Item::Int(1)),
        ("timeoutSeconds", Item::Int(3)),
        ("failureThreshold", Item::Int(120)),
    ])
}

fn volumes(settings: &Settings, options: &Options) -> Vec<Item> {
    let token = match &settings.join_secret {
        Some(name) => {
            let item = Item::Map(vec![("key", "token".into()), ("path", "token".into())]);
            ("secret", Item::Map(vec![("secretName", name.as_str().into()), ("items", Item::List(vec![item]))]))
        }
        None => {
            let token = Item::Map(vec![
                ("audience", "leno".into()),
                ("expirationSeconds", Item::Int(3600)),
                ("path", "token".into()),
            ]);
            let source = Item::Map(vec![("serviceAccountToken", token)]);
            let root = Item::Map(vec![("key", "ca.crt".into()), ("path", "ca.crt".into())]);
            let roots =
                Item::Map(vec![("name", options.ca_config_map.as_str().into()), ("items", Item::List(vec![root]))]);
            let roots = Item::Map(vec![("configMap", roots)]);
            ("projected", Item::Map(vec![("sources", Item::List(vec![source, roots]))]))
        }
    };
    // In memory: the private key never touches the node's disk.
    let state = Item::Map(vec![("medium", "Memory".into()), ("sizeLimit", "16Mi".into())]);
    vec![
        Item::Map(vec![("name", TOKEN_VOLUME.into()), token]),
        Item::Map(vec![("name", STATE_VOLUME.into()), ("emptyDir", state)]),
    ]
}
