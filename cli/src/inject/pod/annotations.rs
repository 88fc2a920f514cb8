//! What a pod's annotations ask for: the same words as the labels of a compose file.

use super::kinds::Unit;
use super::report::{Report, clip};
use super::tree::{Field, Node};

/// What all our words begin with.
const PREFIX: &str = "leno.dev/";
const KNOWN: [&str; 11] = [
    "inject",
    "service",
    "ports",
    "exclude-ports",
    "exclude-inbound-ports",
    "join-secret",
    "proxy-image",
    "proxy-cpu",
    "proxy-cpu-limit",
    "proxy-memory",
    "proxy-memory-limit",
];

/// How one pod's sidecar is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub service: Option<String>,
    /// Name and number of ports of the app, besides those that its containers name.
    pub ports: Vec<(String, u16)>,
    /// As `leno-proxy intercept` takes them.
    pub exclude_outbound: Option<String>,
    pub exclude_inbound: Option<String>,
    /// The Secret that holds a join secret, instead of a token of the service account.
    pub join_secret: Option<String>,
    pub image: Option<String>,
    pub cpu: String,
    pub cpu_limit: String,
    pub memory: String,
    pub memory_limit: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            service: None,
            ports: Vec::new(),
            exclude_outbound: None,
            exclude_inbound: None,
            join_secret: None,
            image: None,
            cpu: "20m".to_owned(),
            cpu_limit: "1".to_owned(),
            memory: "24Mi".to_owned(),
            memory_limit: "256Mi".to_owned(),
        }
    }
}

impl Settings {
    /// Whether connections to this port of the app go round the sidecar.
    pub(super) fn leaves_inbound(&self, port: u16) -> bool {
        let ranges = self.exclude_inbound.iter().flat_map(|list| list.split(','));
        let ends = ranges.map(|range| range.split_once('-').unwrap_or((range, range)));
        ends.filter_map(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?))
            .any(|range| range.contains(&port))
    }
}

/// Reads the annotations. None: the pod is to have no sidecar, since they say so, or since they do not ask for one and
/// `only_labelled` wants that.
pub(super) fn read(unit: &Unit<'_>, only_labelled: bool, report: &mut Report) -> Option<Settings> {
    misplaced(unit, report);
    let mut settings = Settings::default();
    let mut inject = !only_labelled;
    let annotations = unit.template.at(&["metadata", "annotations"]).map(Node::fields).unwrap_or_default();
    for field in annotations {
        let Some(word) = field.key.strip_prefix(PREFIX) else { continue };
        // A value that is no text is told by the check of types.
        let Some(text) = field.value.text() else { continue };
        match word {
            "inject" => match text {
                "true" => inject = true,
                "false" => inject = false,
                _ => refuse(unit, field, report, format!("{text:?} is neither \"true\" nor \"false\""), ""),
            },
            word => {
                if let Err((what, todo)) = take(&mut settings, word, text) {
                    refuse(unit, field, report, what, &todo);
                }
            }
        }
    }
    inject.then_some(settings)
}

type Refusal = (String, String);

fn take(settings: &mut Settings, word: &str, text: &str) -> Result<(), Refusal> {
    match word {
        "service" => settings.service = Some(name(text)?),
        "ports" => settings.ports = ports(text)?,
        "exclude-ports" => settings.exclude_outbound = Some(port_list(text)?),
        "exclude-inbound-ports" => settings.exclude_inbound = Some(port_list(text)?),
        "join-secret" => settings.join_secret = Some(secret(text)?),
        "proxy-image" => settings.image = Some(image(text)?),
        "proxy-cpu" => settings.cpu = amount(text)?,
        "proxy-cpu-limit" => settings.cpu_limit = amount(text)?,
        "proxy-memory" => settings.memory = amount(text)?,
        "proxy-memory-limit" => settings.memory_limit = amount(text)?,
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn unknown(word: &str) -> Refusal {
    let todo = match word {
        "service-account" => "the account is the pod's own: set spec.serviceAccountName".to_owned(),
        "labels" => "the labels are the pod's own: metadata.labels".to_owned(),
        "job" => {
            "remove it: Kubernetes ends a native sidecar by itself when the job's containers have ended".to_owned()
        }
        "share-pid" => "remove it: a pod's sidecar needs no common process namespace".to_owned(),
        word => match nearest(word) {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None => format!("known are {}", KNOWN.map(|known| format!("{PREFIX}{known}")).join(", ")),
        },
    };
    ("there is no such annotation for pods".to_owned(), todo)
}

/// The known word that one slip of the pen, or two, would make of this one.
fn nearest(word: &str) -> Option<&'static str> {
    let distance = |known: &str| {
        let (a, b): (Vec<char>, Vec<char>) = (word.chars().take(40).collect(), known.chars().collect());
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let substituted = diagonal + usize::from(x != y);
                diagonal = row[j + 1];
                row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
            }
        }
        row[b.len()]
    };
    let (near, least) = KNOWN.iter().map(|known| (*known, distance(known))).min_by_key(|(_, distance)| *distance)?;
    (least <= 1 + near.len() / 5).then_some(near)
}

/// Our words where nobody reads them: on the object around the template, or as labels.
fn misplaced(unit: &Unit<'_>, report: &mut Report) {
    let ours = |node: Option<&Node>| -> Vec<Field> {
        let fields = node.map(Node::fields).unwrap_or_default();
        fields.iter().filter(|field| field.key.starts_with(PREFIX)).cloned().collect()
    };
    let wanted = unit.field("metadata.annotations");
    let labels = unit.template.at(&["metadata", "labels"]);
    let around = if unit.kind.template.is_empty() { None } else { unit.object.at(&["metadata", "annotations"]) };
    for field in ours(labels).iter().chain(&ours(around)) {
        let message = format!("{} has no effect here", clip(&field.key, 80));
        report.error(field.place, &clip(&field.key, 80), message, format!("move it to {wanted}"));
    }
}

fn refuse(unit: &Unit<'_>, field: &Field, report: &mut Report, what: String, todo: &str) {
    let path = unit.field(&format!("metadata.annotations[{}]", clip(&field.key, 80)));
    report.error(field.place, &path, what, todo);
}

/// A name as Kubernetes takes it for services (RFC 1123 label).
pub(super) fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(good) && !text.starts_with('-') && !text.ends_with('-')
}

fn name(text: &str) -> Result<String, Refusal> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err((format!("{text:?} is no name of a service"), "write at most 63 of a-z, 0-9 and '-'".to_owned()))
}

fn secret(text: &str) -> Result<String, Refusal> {
    if text.len() <= 253 && text.split('.').all(is_name) {
        return Ok(text.to_owned());
    }
    Err((format!("{text:?} is no name of a Secret"), "write the name of a Secret with the key `token`".to_owned()))
}

fn image(text: &str) -> Result<String, Refusal> {
    if !text.is_empty() && text.len() <= 512 && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err((format!("{text:?} is no image"), "write REGISTRY/NAME:TAG".to_owned()))
}

fn port(text: &str) -> Option<u16> {
    text.parse::<u16>().ok().filter(|port| *port != 0 && text.bytes().all(|b| b.is_ascii_digit()))
}

fn ports(text: &str) -> Result<Vec<(String, u16)>, Refusal> {
    let mut ports: Vec<(String, u16)> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let read = part.split_once('=').and_then(|(name, number)| Some((name.trim(), port(number.trim())?)));
        match read.filter(|(name, _)| is_name(name)) {
            Some((name, _)) if ports.iter().any(|(other, _)| other == name) => {
                return Err((format!("the port {name} is here twice"), "remove one of them".to_owned()));
            }
            Some((name, number)) => ports.push((name.to_owned(), number)),
            None if part.contains('/') => {
                let todo = "what a port speaks stands in the Service: appProtocol";
                return Err((format!("{part:?} names a protocol"), todo.to_owned()));
            }
            None => {
                return Err((format!("{part:?} is no NAME=PORT"), "write for example http=8080,admin=9090".to_owned()));
            }
        }
    }
    Ok(ports)
}

fn port_list(text: &str) -> Result<String, Refusal> {
    let good = |part: &str| match part.split_once('-') {
        Some((first, last)) => matches!((port(first), port(last)), (Some(first), Some(last)) if first <= last),
        None => port(part).is_some(),
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    match parts.iter().find(|part| !good(part)) {
        None if parts.len() <= 64 => Ok(parts.join(",")),
        None => Err((format!("{} ports are too many, at most 64", parts.len()), "write ranges".to_owned())),
        Some(part) => {
            Err((format!("{part:?} is no port and no range of ports"), "write for example 5432,8000-8099".to_owned()))
        }
    }
}

/// An amount of CPU or memory, as Kubernetes writes it.
fn amount(text: &str) -> Result<String, Refusal> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let number =
        digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.parse::<f64>().is_ok_and(|n| n > 0.0);
    if number && ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&unit) {
        return Ok(text.to_owned());
    }
    Err((format!("{text:?} is no amount"), "write for example 50m or 0.5 of CPU, 64Mi of memory".to_owned()))
}
