//! The labels `leno.dev/…` of a compose service: everything that a sidecar's flags need beyond the service's name.

use leno_control_plane::config::nearest_word;

use super::findings::{At, Findings};
use super::node::{Content, Node, Place};
use super::ports;

/// What our labels begin with.
const PREFIX: &str = "leno.dev/";
/// All of them, without the prefix.
const KNOWN: &[&str] = &[
    "inject",
    "ports",
    "service",
    "service-account",
    "labels",
    "exclude-ports",
    "exclude-inbound-ports",
    "job",
    "share-pid",
];

/// What the labels of one service say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// `leno.dev/inject`, when it is there.
    pub inject: Option<bool>,
    /// Ports of the app by name.
    pub ports: Vec<(String, u16)>,
    /// The name in the mesh, when it is not the service's.
    pub service: Option<String>,
    /// The identity's last part, when it is not the service's name.
    pub service_account: Option<String>,
    /// `key=value`.
    pub labels: Vec<String>,
    /// Ports to which the app connects without the mesh.
    pub exclude_ports: Option<String>,
    /// Ports of the app that are reached without the mesh.
    pub exclude_inbound_ports: Option<String>,
    /// It ends by itself.
    pub job: bool,
    /// The app keeps processes of its own.
    pub own_pids: bool,
}

/// Reads the labels of `service`, and names what is wrong with them.
pub fn read(service: &str, labels: Option<&Node>, findings: &mut Findings) -> Labels {
    let mut found = Labels::default();
    let Some(node) = labels.filter(|node| !node.is_null()) else { return found };
    for (key, value, place) in pairs(service, node, findings) {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let field = format!("labels.{key}");
        let at = At { service, field: &field, place };
        if value.contains('$') {
            let hint = "write the value itself: `leno inject` does not know the variables of docker-compose";
            findings.refuse(at, format!("{value:?} holds a variable"), hint);
            continue;
        }
        if let Err((message, hint)) = found.take(name, value.trim()) {
            findings.refuse(at, message, hint);
        }
    }
    if found.job && found.own_pids {
        let at = At { service, field: "labels.leno.dev/job", place: node.place };
        let hint = "remove leno.dev/share-pid: the sidecar of a job has to see that the app has ended";
        findings.refuse(at, "a job whose sidecar cannot see its processes would never end", hint);
    }
    found
}

impl Labels {
    fn take(&mut self, name: &str, value: &str) -> Result<(), (String, String)> {
        let yes = || match value.to_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err((format!("{value:?} is neither true nor false"), "write \"true\" or \"false\"".to_owned())),
        };
        match name {
            "inject" => self.inject = Some(yes()?),
            "job" => self.job = yes()?,
            "share-pid" => self.own_pids = !yes()?,
            "service" => self.service = Some(dns_label(value)?),
            "service-account" => self.service_account = Some(dns_label(value)?),
            "exclude-ports" => self.exclude_ports = Some(port_list(value)?),
            "exclude-inbound-ports" => self.exclude_inbound_ports = Some(port_list(value)?),
            "ports" => self.ports = app_ports(value)?,
            "labels" => self.labels = own_labels(value)?,
            _ => {
                let known = nearest_word(name, KNOWN).map(|word| format!("did you mean {PREFIX}{word}?"));
                let all = || format!("known are {PREFIX}{}", KNOWN.join(&format!(", {PREFIX}")));
                return Err((format!("the label {PREFIX}{name} is not known"), known.unwrap_or_else(all)));
            }
        }
        Ok(())
    }
}

/// The labels of either form, `k: v` or `- k=v`, as key, value and place.
fn pairs<'a>(service: &str, node: &'a Node, findings: &mut Findings) -> Vec<(&'a str, &'a str, Place)> {
    let mut found = Vec::new();
    match &node.content {
        Content::Map { .. } => {
            for field in node.fields() {
                found.push((field.key.text.as_str(), field.value.text().unwrap_or_default(), field.place));
            }
        }
        Content::List { items, .. } => {
            for item in items {
                let text = item.text().unwrap_or_default();
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                found.push((key, value, item.place));
            }
        }
        Content::Scalar(_) => {
            let at = At { service, field: "labels", place: node.place };
            findings.refuse(at, "labels must be a map or a list", "write `labels:` and `  key: \"value\"` below it");
        }
    }
    found
}

/// A name as Kubernetes takes it for services and accounts (RFC 1123 label).
pub fn is_dns_label(name: &str) -> bool {
    let good = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let ends = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = name.as_bytes();
    bytes.len() <= 63 && bytes.iter().all(good) && ends(bytes.first()) && ends(bytes.last())
}

fn dns_label(value: &str) -> Result<String, (String, String)> {
    if is_dns_label(value) {
        return Ok(value.to_owned());
    }
    let hint = "use at most 63 of a-z, 0-9 and '-', not '-' at the ends";
    Err((format!("{value:?} is no name"), hint.to_owned()))
}

fn port_list(value: &str) -> Result<String, (String, String)> {
    let wrong = || (format!("{value:?} is no list of ports"), "write ports as in \"3306,8000-8999\"".to_owned());
    let parts: Vec<&str> = value.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() || parts.iter().any(|part| ports::range(part).is_none()) {
        return Err(wrong());
    }
    Ok(parts.join(","))
}

/// `http=8080,grpc=9090`; a port without a name is named by its number.
fn app_ports(value: &str) -> Result<Vec<(String, u16)>, (String, String)> {
    let hint = || "write ports as in \"http=8080,grpc=9090\"".to_owned();
    let mut found: Vec<(String, u16)> = Vec::new();
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, port) = part.split_once('=').map_or((part, part), |(name, port)| (name.trim(), port.trim()));
        if port.contains('/') {
            let hint = "it is detected, or stands in a Service's appProtocol (in ./mesh)";
            return Err((format!("{part:?} names a protocol"), hint.to_owned()));
        }
        let Some(number) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
            return Err((format!("{part:?} has no port"), hint()));
        };
        if ports::OWN.contains(&number) {
            return Err((
                format!("{number} is a port of the sidecar itself"),
                "let the app use another one".to_owned(),
            ));
        }
        if !is_dns_label(name) {
            return Err((format!("{name:?} is no name of a port"), hint()));
        }
        if found.iter().any(|(known, _)| known == name) {
            return Err((format!("the name {name:?} is here twice"), hint()));
        }
        found.push((name.to_owned(), number));
    }
    if found.is_empty() { Err(("no port is named".to_owned(), hint())) } else { Ok(found) }
}

/// `version=v2,tier=web`, with the characters of Kubernetes' labels.
fn own_labels(value: &str) -> Result<Vec<String>, (String, String)> {
    let hint = || "write labels as in \"version=v2,tier=web\"".to_owned();
    let word = |text: &str, more: &str| {
        text.len() <= 253 && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let mut found = Vec::new();
    for part in value.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let good = part.split_once('=').is_some_and(|(k, v)| !k.is_empty() && word(k, "-_./") && word(v, "-_."));
        if !good {
            return Err((format!("{part:?} is no label"), hint()));
        }
        found.push(part.to_owned());
    }
    if found.is_empty() { Err(("no label is named".to_owned(), hint())) } else { Ok(found) }
}
