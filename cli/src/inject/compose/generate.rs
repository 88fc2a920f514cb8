//! What is added to a compose file: what an app's service gets, its pod and sidecar, the control plane and the secrets.
//!
//! Three containers a service, so that each can die and come back: the pod holds the namespaces and never has a reason to end; the
//! sidecar and the app join them. When the pod is killed its process namespace takes the other two along.

use super::node::{Content, Field, Node, Place, Scalar};
use super::refuse::API_PORT;
use super::service::{CONTROL_PLANE, Service};
use super::{Options, secret_name};

/// What an app cannot have once its network is the pod's. The pod gets them.
pub const MOVED: [&str; 12] = [
    "hostname",
    "domainname",
    "mac_address",
    "dns",
    "dns_search",
    "dns_opt",
    "extra_hosts",
    "ports",
    "expose",
    "external_links",
    "links",
    "networks",
];
/// Variables, so that a registry's name needs no change of the file.
const PROXY_IMAGE: &str = "${LENO_PROXY_IMAGE:-leno-proxy:latest}";
const CONTROL_PLANE_IMAGE: &str = "${LENO_CONTROL_PLANE_IMAGE:-leno-control-plane:latest}";
/// What a sidecar needs until it has made the rules and become its own user: to make them; to read its secret and give its
/// state to that user; to become it; and to give all of this up.
const SIDECAR_CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "NET_ADMIN", "SETGID", "SETPCAP", "SETUID"];

/// The state folder of a sidecar.
const STATE: &str = "/var/lib/leno";

fn node(content: Content) -> Node {
    Node { place: Place::default(), last: 0, tag: None, alias: false, content }
}

/// A text in quotes.
pub fn text(text: impl Into<String>) -> Node {
    node(Content::Scalar(Scalar { text: text.into(), plain: false }))
}

/// A word, number or nothing that needs no quotes.
fn plain(text: &str) -> Node {
    node(Content::Scalar(Scalar { text: text.to_owned(), plain: true }))
}

fn list(items: Vec<Node>) -> Node {
    node(Content::List { items, flow: false })
}

/// A list in one line.
fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Node {
    let items = items.into_iter().map(|item| text(item.as_ref())).collect();
    node(Content::List { items, flow: true })
}

/// A list with a line for each.
fn lines<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Node {
    list(items.into_iter().map(|item| text(item.as_ref())).collect())
}

/// A map.
pub fn map(fields: Vec<Field>) -> Node {
    node(Content::Map { fields, flow: false })
}

/// A field whose key needs no quotes.
pub fn field(key: &str, value: Node) -> Field {
    Field { key: Scalar { text: key.to_owned(), plain: true }, place: Place::default(), value }
}

/// The fields of an app that are put in the place of its own ones of the same names.
pub fn app(service: &Service<'_>, services: &[Service<'_>]) -> Vec<Field> {
    let mut fields = vec![field("depends_on", depends_on(service, services))];
    fields.push(field("network_mode", text(format!("service:{}", service.pod()))));
    if !service.labels.own_pids {
        fields.push(field("pid", text(format!("service:{}", service.pod()))));
    }
    fields
}

/// Whether the app's own field of this name is taken out.
pub fn replaces(service: &Service<'_>, key: &str) -> bool {
    MOVED.contains(&key) || matches!(key, "depends_on" | "network_mode") || key == "pid" && !service.labels.own_pids
}

/// What it waited for already, and its sidecar.
fn depends_on(service: &Service<'_>, services: &[Service<'_>]) -> Node {
    let started = || condition("service_started");
    let mut fields: Vec<Field> = Vec::new();
    let own = service.get("depends_on");
    for item in own.and_then(Node::items).unwrap_or_default() {
        if let Content::Scalar(key) = &item.content {
            fields.push(Field { key: key.clone(), place: Place::default(), value: started() });
        }
    }
    fields.extend(own.iter().flat_map(|node| node.fields()).map(|field| {
        let value = if field.value.is_null() { started() } else { field.value.clone() };
        Field { value, ..field.clone() }
    }));
    // A link is a dependency, too.
    for item in service.get("links").and_then(Node::items).unwrap_or_default() {
        let target = item.text().unwrap_or_default().split(':').next().unwrap_or_default();
        let known = fields.iter().any(|field| field.key.text == target);
        if !known && services.iter().any(|other| other.name() == target) {
            fields.push(field(target, started()));
        }
    }
    fields.push(field(&service.sidecar(), condition("service_healthy")));
    map(fields)
}

fn condition(word: &str) -> Node {
    node(Content::Map { fields: vec![field("condition", plain(word))], flow: true })
}

/// The container that holds the namespaces.
pub fn pod(service: &Service<'_>, services: &[Service<'_>]) -> Field {
    let command: &[&str] = if service.labels.job { &["hold", "--until-apps-end"] } else { &["hold"] };
    let mut fields = vec![field("image", text(PROXY_IMAGE)), field("command", texts(command))];
    fields.push(field("user", text("15008:15008")));
    fields.extend(lean());
    for key in MOVED {
        let Some(own) = service.field.value.field(key).filter(|field| !field.value.is_null()) else { continue };
        match key {
            "networks" => {}
            "links" => fields.push(field("links", links(&own.value, services))),
            _ => fields.push(own.clone()),
        }
    }
    fields.push(field("networks", networks(service)));
    fields.push(field("restart", restart(service)));
    fields.extend(profiles(service));
    field(&service.pod(), map(fields))
}

/// Neither a pod nor a control plane needs any privilege.
fn lean() -> Vec<Field> {
    vec![
        field("cap_drop", texts(["ALL"])),
        field("security_opt", texts(["no-new-privileges:true"])),
        field("read_only", plain("true")),
    ]
}

fn restart(service: &Service<'_>) -> Node {
    text(if service.labels.job { "no" } else { "unless-stopped" })
}

fn profiles(service: &Service<'_>) -> Option<Field> {
    service.get("profiles").map(|profiles| field("profiles", profiles.clone()))
}

/// A link to a meshed service is one to its pod, under the same name.
fn links(own: &Node, services: &[Service<'_>]) -> Node {
    let items = own.items().unwrap_or_default().iter().map(|item| {
        let link = item.text().unwrap_or_default();
        let (target, alias) = link.split_once(':').unwrap_or((link, link));
        match services.iter().find(|other| other.injected && other.name() == target) {
            Some(other) => text(format!("{}:{alias}", other.pod())),
            None => item.clone(),
        }
    });
    list(items.collect())
}

/// The names of the networks that a service is in.
fn network_names(service: &Service<'_>) -> Vec<Scalar> {
    let own = service.get("networks");
    let listed = own.and_then(Node::items).unwrap_or_default().iter().filter_map(|item| match &item.content {
        Content::Scalar(name) => Some(name.clone()),
        _ => None,
    });
    let mut names: Vec<Scalar> = listed.collect();
    names.extend(own.iter().flat_map(|node| node.fields()).map(|field| field.key.clone()));
    if names.is_empty() {
        names.push(Scalar { text: "default".to_owned(), plain: true });
    }
    names
}

/// The service's networks, in each of which the pod answers to the names that the app had.
fn networks(service: &Service<'_>) -> Node {
    let own = service.get("networks");
    let fields = network_names(service).into_iter().map(|key| {
        let settings = own.and_then(|node| node.get(&key.text));
        let mut names = vec![text(service.name())];
        if let Some(name) = service.get("container_name") {
            names.push(text(name.text().unwrap_or_default()));
        }
        let mut inner = Vec::new();
        for field in settings.iter().flat_map(|node| node.fields()) {
            if field.key.text == "aliases" {
                let own = field.value.items().unwrap_or_default().iter();
                names.extend(own.map(|name| text(name.text().unwrap_or_default())));
            } else {
                inner.push(field.clone());
            }
        }
        inner.push(field("aliases", node(Content::List { items: unique(names), flow: true })));
        Field { key, place: Place::default(), value: map(inner) }
    });
    map(fields.collect())
}

/// Each text once: docker-compose refuses a list that repeats one.
fn unique(items: Vec<Node>) -> Vec<Node> {
    let mut found: Vec<Node> = Vec::new();
    for item in items {
        if !found.iter().any(|known| known.text() == item.text()) {
            found.push(item);
        }
    }
    found
}

/// The sidecar.
pub fn sidecar(service: &Service<'_>, options: &Options) -> Field {
    let pod = format!("service:{}", service.pod());
    let (healthy, started) = (condition("service_healthy"), condition("service_started"));
    let mut fields = vec![
        field("image", text(PROXY_IMAGE)),
        field("command", lines(flags(service, options))),
        field("depends_on", map(vec![field(CONTROL_PLANE, healthy), field(&service.pod(), started)])),
        field("network_mode", text(&pod)),
        field("pid", text(&pod)),
        field("cap_drop", texts(["ALL"])),
        field("cap_add", texts(SIDECAR_CAPABILITIES)),
        field("security_opt", texts(["no-new-privileges:true"])),
        // Its state is in its own file system, which is therefore not read-only: a volume would be left behind by `down`, and a tmpfs
        // would not outlive a restart while the control plane is away.
        field("secrets", texts([secret_name(options, &service.account)])),
        field("healthcheck", healthcheck(&["CMD", "/leno-proxy", "wait", "--timeout", "0s"])),
        // Open requests have 30 s to end.
        field("stop_grace_period", text("35s")),
        field("restart", restart(service)),
    ];
    fields.extend(profiles(service));
    field(&service.sidecar(), map(fields))
}

fn flags(service: &Service<'_>, options: &Options) -> Vec<String> {
    let labels = &service.labels;
    let mut flags: Vec<String> = Vec::new();
    let mut flag = |name: &str, value: &str| flags.push(format!("{name}={value}"));
    flag("--control-plane", &format!("{CONTROL_PLANE}:15010"));
    flag("--token-file", &format!("/run/secrets/{}", secret_name(options, &service.account)));
    flag("--state-dir", STATE);
    flag("--service", &service.mesh_name);
    flag("--namespace", &options.namespace);
    flag("--service-account", &service.account);
    labels.labels.iter().for_each(|label| flag("--label", label));
    labels.ports.iter().for_each(|(name, port)| flag("--port", &format!("{name}=127.0.0.1:{port}")));
    if let Some(ports) = &labels.exclude_ports {
        flag("--exclude-outbound-ports", ports);
    }
    if let Some(ports) = &labels.exclude_inbound_ports {
        flag("--exclude-inbound-ports", ports);
    }
    flags.push("--intercept".to_owned());
    if labels.job {
        flags.push("--exit-with-app".to_owned());
    }
    flags
}

/// Docker starts a process for each check, so they are not more frequent than what starting up may wait for.
fn healthcheck(test: &[&str]) -> Node {
    map(vec![
        field("test", texts(test)),
        field("interval", text("3s")),
        field("timeout", text("5s")),
        field("retries", plain("20")),
    ])
}

/// The control plane of the project.
pub fn control_plane(services: &[Service<'_>], root: &Node, options: &Options) -> Field {
    let mut command = vec!["--state-dir=/var/lib/leno", "--xds-addr=:15010", "--api-addr=:15012"];
    // The address on the host, which stands in the credential that people use.
    command.extend(["--advertise-api-addr=127.0.0.1:${LENO_API_PORT:-15012}", "--join-secrets=/run/secrets"]);
    let mut volumes = vec!["./.leno/control-plane:/var/lib/leno"];
    if options.mesh_folder {
        command.push("--config-dir=/etc/leno/mesh");
        volumes.push("./mesh:/etc/leno/mesh:ro");
    }
    let (uid, gid) = options.owner;
    let mut fields = vec![
        field("image", text(CONTROL_PLANE_IMAGE)),
        field("command", lines(command)),
        field("user", text(format!("{uid}:{gid}"))),
        field("volumes", lines(volumes)),
        field("secrets", texts(secrets(services, options))),
        field("ports", texts([format!("127.0.0.1:${{LENO_API_PORT:-{API_PORT}}}:15012")])),
        field("networks", list(control_plane_networks(services, root))),
    ];
    fields.extend(lean());
    fields.push(field("healthcheck", healthcheck(&["CMD", "/leno-control-plane", "health"])));
    fields.push(field("restart", text("unless-stopped")));
    field(CONTROL_PLANE, map(fields))
}

/// Every network that a sidecar is in; and one that can publish a port, when those are cut off.
fn control_plane_networks(services: &[Service<'_>], root: &Node) -> Vec<Node> {
    let meshed = services.iter().filter(|service| service.injected);
    let names: Vec<Node> = meshed.flat_map(network_names).map(|name| node(Content::Scalar(name))).collect();
    let mut names = unique(names);
    let internal = |name: &Node| {
        let network = root.get("networks").zip(name.text()).and_then(|(networks, name)| networks.get(name));
        network.and_then(|network| network.get("internal")).and_then(Node::text) == Some("true")
    };
    if names.iter().all(internal) {
        names.push(plain("default"));
    }
    unique(names)
}

/// The names of all secrets, one an identity, in the order of the file.
pub fn secrets(services: &[Service<'_>], options: &Options) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for service in services.iter().filter(|service| service.injected) {
        let name = secret_name(options, &service.account);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Where a secret comes from.
pub fn secret(name: &str) -> Field {
    field(name, map(vec![field("file", text(format!("./.leno/secrets/{name}")))]))
}
