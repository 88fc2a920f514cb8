//! Probes that kubelet makes over the network. It has no certificate, so strict mutual TLS would refuse it: it asks the
//! sidecar's health port instead, and the sidecar asks the app.

use serde_json::{Map, Value, json};

use super::check::{Container, Pod};
use super::item::Item;
use super::report::{Report, clip};
use super::tree::{Field, Node};

/// Where the sidecar answers.
pub(super) const HEALTH_PORT: u16 = 15020;
/// The field, and its word in the path on the health port.
const KINDS: [(&str, &str); 3] =
    [("livenessProbe", "liveness"), ("readinessProbe", "readiness"), ("startupProbe", "startup")];
/// The ways to probe that go over the network; `exec` does not.
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];
/// As the sidecar bounds it: it must never refuse to start over what it is told here.
const MOST_TEXT: usize = 64 << 10;
const MOST_PROBES: usize = 192;
const MOST_TIMEOUT: i64 = 3600;
const MOST_HEADERS: usize = 64;

/// One probe that is turned to the sidecar.
#[derive(Debug)]
pub(super) struct Rewritten<'a> {
    /// `web/liveness`.
    pub name: String,
    /// Where its container stands, below the template: `spec.containers[0]`.
    pub container: String,
    /// `livenessProbe`.
    pub key: &'static str,
    /// The probe.
    pub probe: &'a Node,
    /// The part that says how it is made.
    pub handler: &'a Field,
    /// What the sidecar is told to do in its place.
    pub original: Value,
}

impl Rewritten<'_> {
    /// What kubelet is told to ask for.
    pub(super) fn http_get(&self) -> Item {
        let path = format!("/probe/{}", self.name);
        Item::Map(vec![("path", path.into()), ("port", Item::Int(HEALTH_PORT.into()))])
    }
}

/// Every probe that has to be turned.
pub(super) fn read<'a>(pod: &Pod<'a>, report: &mut Report) -> Vec<Rewritten<'a>> {
    let mut found = Vec::new();
    for container in &pod.containers {
        for (key, word) in KINDS {
            let Some(probe) = container.node.get(key) else { continue };
            let handlers: Vec<&Field> = HANDLERS.iter().filter_map(|handler| probe.field(handler)).collect();
            let [handler] = handlers[..] else {
                if let Some(second) = handlers.get(1) {
                    let field = format!("{}.{key}", container.path);
                    report.error(
                        second.place,
                        &field,
                        "a probe has one of httpGet, tcpSocket and grpc",
                        "remove the other",
                    );
                }
                continue;
            };
            if let Some(original) = original(container, key, probe, handler, report) {
                let name = format!("{}/{word}", container.name);
                found.push(Rewritten { name, container: container.path.clone(), key, probe, handler, original });
            }
        }
    }
    if found.len() > MOST_PROBES || text(&found).len() > MOST_TEXT {
        let message = format!("a pod has at most {MOST_PROBES} probes, of {MOST_TEXT} bytes in all");
        report.error(pod.spec.place, "", message, "write fewer and shorter ones");
    }
    found
}

fn original(container: &Container<'_>, key: &str, probe: &Node, handler: &Field, report: &mut Report) -> Option<Value> {
    let path = format!("{}.{key}.{}", container.path, handler.key);
    if !super::annotations::is_name(container.name) {
        report.error(container.node.place, &container.path, "the container has no name", "add a name");
        return None;
    }
    let Value::Object(mut fields) = handler.value.to_value() else {
        report.error(handler.place, &path, "must have fields", "write at least a port");
        return None;
    };
    fields.retain(|_, value| !value.is_null());
    let port = match handler.value.field("port") {
        Some(field) => match port(container, &field.value) {
            Ok(port) => port,
            Err(why) => {
                report.error(
                    field.place,
                    &format!("{path}.port"),
                    why,
                    "write the number, or name the port in `ports`",
                );
                return None;
            }
        },
        None => {
            report.error(handler.place, &path, "the probe has no port", "add the port");
            return None;
        }
    };
    fields.insert("port".to_owned(), json!(port));
    if !fields_are_good(handler, &path, report) {
        return None;
    }
    let timeout = probe.get("timeoutSeconds").and_then(Node::int).filter(|seconds| *seconds != 0).unwrap_or(1);
    if !(1..=MOST_TIMEOUT).contains(&timeout) {
        let at = probe.field("timeoutSeconds").map_or(probe.place, |field| field.place);
        report.error(at, &path, format!("a timeout of {timeout} s is none"), format!("write 1 to {MOST_TIMEOUT}"));
        return None;
    }
    let mut told = Map::new();
    told.insert(handler.key.clone(), Value::Object(fields));
    told.insert("timeoutSeconds".to_owned(), json!(timeout));
    Some(Value::Object(told))
}

/// Whether the sidecar can do what the fields besides the port say.
fn fields_are_good(handler: &Field, path: &str, report: &mut Report) -> bool {
    let before = report.errors();
    let mut refuse = |field: &Field, message: String, todo: &str| {
        report.error(field.place, &format!("{path}.{}", clip(&field.key, 80)), message, todo);
    };
    for field in handler.value.fields() {
        let text = field.value.text().unwrap_or_default();
        match (handler.key.as_str(), field.key.as_str()) {
            (_, "port") | ("httpGet", "path") | ("grpc", "service") => {}
            ("httpGet", "scheme") if ["", "HTTP", "HTTPS"].contains(&text) => {}
            ("httpGet", "scheme") => refuse(field, format!("{:?} is no scheme", clip(text, 80)), "write HTTP or HTTPS"),
            ("httpGet" | "tcpSocket", "host") if is_host(text) => {}
            ("httpGet" | "tcpSocket", "host") => {
                refuse(
                    field,
                    format!("{:?} is no host", clip(text, 80)),
                    "write a name or an address, or leave it out",
                );
            }
            ("httpGet", "httpHeaders") => {
                let headers = field.value.items();
                if headers.len() > MOST_HEADERS || !headers.iter().all(is_header) {
                    refuse(
                        field,
                        "these headers cannot be sent".to_owned(),
                        "write at most 64, each value in one line",
                    );
                }
            }
            _ => refuse(field, "unknown field of a probe".to_owned(), "remove it, or write the probe as exec"),
        }
    }
    report.errors() == before
}

fn is_host(text: &str) -> bool {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    bare.parse::<std::net::IpAddr>().is_ok() || bare.len() <= 253 && bare.chars().all(good)
}

fn is_header(header: &Node) -> bool {
    let text = |key| header.get(key).and_then(Node::text).unwrap_or_default().as_bytes();
    http::HeaderName::from_bytes(text("name")).is_ok() && http::HeaderValue::from_bytes(text("value")).is_ok()
}

/// The number of a port that is written as one, or by its name in the same container.
pub(super) fn port(container: &Container<'_>, written: &Node) -> Result<u16, String> {
    if let Some(number) = written.int() {
        return u16::try_from(number).ok().filter(|n| *n != 0).ok_or_else(|| format!("{number} is no port"));
    }
    let Some(name) = written.text() else { return Err("this is no port".to_owned()) };
    let ports = container.node.get("ports").map(Node::items).unwrap_or_default();
    let named = ports.iter().find(|port| port.get("name").and_then(Node::text) == Some(name));
    let number = named.and_then(|port| port.get("containerPort")).and_then(Node::int);
    // A number in quotes is a number, as Kubernetes takes it.
    let number = number.or_else(|| name.parse().ok());
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|n| *n != 0)
        .ok_or_else(|| format!("the container {} has no port {:?}", container.name, clip(name, 63)))
}

/// What the sidecar is told, as it stands in `LENO_PROBES`. Kubernetes replaces `$(NAME)` in the environment; a `$` that is to
/// stay one is doubled.
pub(super) fn text(probes: &[Rewritten<'_>]) -> String {
    let all: Map<String, Value> = probes.iter().map(|probe| (probe.name.clone(), probe.original.clone())).collect();
    Value::Object(all).to_string().replace('$', "$$")
}
