//! What the status of the control plane and of its sidecars, and what sidecars see, say about the health of the mesh.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::client::{ControlPlane, Edge, Edges, Expiring, Federated, Sidecar, Status};
use crate::output::{count, thousands};
use crate::spans::span;

/// From here on the disk of the state folder is told of: bytes left.
const LITTLE_ROOM: u64 = 64 << 20;
const NO_ROOM: u64 = 8 << 20;

/// How bad it is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Something does not work, or will not within a day.
    Error,
    /// Something will not work, or does not do what was meant.
    Warning,
    /// Worth to know.
    Info,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Stable, for scripts.
    pub(super) code: &'static str,
    pub(super) what: String,
    /// The command that mends it, or what to do.
    pub(super) mend: String,
}

impl Finding {
    pub(super) fn new(severity: Severity, code: &'static str, what: String, mend: impl Into<String>) -> Self {
        Self { severity, code, what, mend: mend.into() }
    }

    /// As `-o json` has it.
    pub(super) fn value(&self) -> Value {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        json!({"severity": severity, "code": self.code, "what": self.what, "mend": self.mend})
    }
}

/// Clocks may differ by so much; certificates begin that much early.
const MOST_SKEW: Duration = Duration::seconds(30);

pub(super) fn of_status(status: &Status, now: OffsetDateTime) -> Vec<Finding> {
    let plane = &status.control_plane;
    let mut findings: Vec<_> = clock(plane, now).into_iter().chain(root(plane, now)).chain(disk(plane)).collect();
    for problem in &status.problems {
        let what = crate::client::problem_text(problem);
        findings.push(Finding::new(
            Severity::Error,
            "config_refused",
            what,
            "correct the file; its last good version is in force",
        ));
    }
    findings.extend(status.expiring.iter().filter_map(|one| expiring(one, now)));
    findings.extend(status.federation.iter().flat_map(|domain| federated(domain, now)));
    findings.extend(status.sidecars.iter().flat_map(|sidecar| of_sidecar(sidecar, plane, now)));
    findings
}

/// A skew makes certificates expired or not yet valid for some.
fn clock(plane: &ControlPlane, now: OffsetDateTime) -> Option<Finding> {
    let there = OffsetDateTime::parse(&plane.time, &Rfc3339).ok()?;
    let skew = there - now;
    (skew.abs() > MOST_SKEW).then(|| {
        let way = if skew.is_negative() { "behind" } else { "ahead of" };
        let what = format!("the control plane's clock is {} {way} this machine's", span(skew.abs().whole_seconds()));
        Finding::new(Severity::Error, "clock_skew", what, "set the clocks by NTP: timedatectl set-ntp true")
    })
}

/// Without room no change, token or join can be written down, and what cannot be is refused.
fn disk(plane: &ControlPlane) -> Option<Finding> {
    let free = plane.state_bytes_free.filter(|free| *free < LITTLE_ROOM)?;
    let severity = if free < NO_ROOM { Severity::Error } else { Severity::Warning };
    let what = format!(
        "the disk of the control plane's state folder has {} kB left; changes are refused once it is full",
        free / 1000
    );
    Some(Finding::new(severity, "disk_full", what, "make room there, or move the folder; nothing has to be restarted"))
}

/// At 30, 7 and 1 days.
fn root(plane: &ControlPlane, now: OffsetDateTime) -> Option<Finding> {
    let (left, severity) = ends(&plane.root_expires, now)?;
    let what = match left.is_positive() {
        true => format!("the root certificate of the mesh expires in {}", span(left.whole_seconds())),
        false => "the root certificate of the mesh has expired: no sidecar trusts another one".to_owned(),
    };
    Some(Finding::new(severity, "root_expires", what, "leno ca rotate"))
}

/// What users have put into Secrets and ConfigMaps, at the same times.
fn expiring(one: &Expiring, now: OffsetDateTime) -> Option<Finding> {
    let (left, severity) = ends(&one.expires, now)?;
    let what = match left.is_positive() {
        true => format!("the certificate in {} expires in {}", one.what, span(left.whole_seconds())),
        false => format!("the certificate in {} has expired", one.what),
    };
    Some(Finding::new(severity, "certificate_expires", what, "apply the object with a new certificate"))
}

/// What is known of a federated domain holds while nothing can be fetched, until its roots end or are replaced.
fn federated(domain: &Federated, now: OffsetDateTime) -> Vec<Finding> {
    let (name, mut findings) = (&domain.trust_domain, Vec::new());
    if let Some(problem) = &domain.problem {
        let what = format!("the roots of the federated trust domain {name} cannot be fetched: {problem}");
        let mend = "correct bundleEndpointURL and endpointSPIFFEID, or write its present `leno ca bundle` into trustDomainBundle";
        findings.push(Finding::new(Severity::Warning, "federation_unreachable", what, mend));
    }
    if domain.roots == 0 {
        let what = format!("no root of the federated trust domain {name} is known: none of its workloads is believed");
        findings.push(Finding::new(
            Severity::Error,
            "federation_no_roots",
            what,
            "write trustDomainBundle into the object",
        ));
    }
    if let Some((left, severity)) = domain.expires.as_deref().and_then(|expires| ends(expires, now)) {
        let what = match left.is_positive() {
            true => {
                format!("the last root of the federated trust domain {name} expires in {}", span(left.whole_seconds()))
            }
            false => format!("every root of the federated trust domain {name} has expired"),
        };
        findings.push(Finding::new(severity, "federation_expires", what, "have that mesh run `leno ca rotate`"));
    }
    findings
}

fn ends(expires: &str, now: OffsetDateTime) -> Option<(Duration, Severity)> {
    let left = OffsetDateTime::parse(expires, &Rfc3339).ok()? - now;
    let severity = match left.whole_days() {
        ..1 => Severity::Error,
        1..7 => Severity::Warning,
        7..30 => Severity::Info,
        _ => return None,
    };
    Some((left, severity))
}

fn of_sidecar(sidecar: &Sidecar, plane: &ControlPlane, now: OffsetDateTime) -> Vec<Finding> {
    let who = &sidecar.workload;
    let mut findings = Vec::new();
    let mut found = |severity, code, what: String, mend: &str| findings.push(Finding::new(severity, code, what, mend));
    if !sidecar.connected {
        let what = format!("the sidecar of {who} is not connected; it goes on by what it had");
        found(
            Severity::Warning,
            "disconnected",
            what,
            "see its log, and whether it reaches the control plane's port 15010",
        );
    }
    if let Some(nack) = &sidecar.nack {
        let what =
            format!("{who} refuses {} of revision {}: {}", nack.resources.join(", "), nack.revision, nack.reason);
        found(Severity::Error, "nack", what, "correct the object, or `leno rollback` to the revision before");
    } else if sidecar.connected && sidecar.revision < plane.revision && sidecar.ack != "ACK" {
        let what = format!("{who} has revision {} in force, and the newest is {}", sidecar.revision, plane.revision);
        found(Severity::Warning, "behind", what, "wait for it; when it lasts, see the log of the sidecar");
    }
    if sidecar.state == "unhealthy" {
        found(
            Severity::Warning,
            "unhealthy",
            format!("the app of {who} fails its health check and gets no new requests"),
            "see the app's log; `leno get trafficpolicies -o yaml` has the check",
        );
    }
    let expires = OffsetDateTime::parse(&sidecar.certificate_expires, &Rfc3339).ok();
    if expires.is_some_and(|expires| expires <= now) {
        found(
            Severity::Error,
            "certificate_expired",
            format!("the certificate of {who} has expired: nobody in the mesh takes it any more"),
            "start its sidecar with a new token: leno token create --service-account NAME",
        );
    }
    if !sidecar.version.is_empty() && sidecar.version != plane.version {
        let what = format!("{who} runs version {}, and the control plane {}", sidecar.version, plane.version);
        found(Severity::Info, "version_skew", what, "restart it with the newer version when it suits");
    }
    findings
}

/// Who still sends plaintext, before the door is closed or after.
pub(super) fn of_edges(edges: &Edges) -> Vec<Finding> {
    let mut plaintext: BTreeMap<(&str, String, u16), (u64, u64)> = BTreeMap::new();
    for edge in edges.edges.iter().filter(|edge| !edge.mtls && edge.source != "others" && edge.requests > 0) {
        let (requests, refused) = plaintext.entry((&edge.source, edge.whom(), edge.port)).or_default();
        *requests += edge.requests;
        *refused += edge.failures;
    }
    let said = |((source, whom, port), (requests, refused)): ((&str, String, u16), (u64, u64))| {
        let what = format!(
            "{source} sends plaintext to port {port} of {whom}: {} within {} min, {} of them refused",
            count(requests, "connection"),
            edges.minutes,
            thousands(refused),
        );
        let mend = "give it a sidecar before you set mtls: STRICT, or remove what calls there; `leno edges -A` has all";
        Finding::new(Severity::Warning, "plaintext", what, mend)
    };
    plaintext.into_iter().map(said).chain(edges.edges.iter().filter_map(failing)).collect()
}

/// Calls of which most fail.
fn failing(edge: &Edge) -> Option<Finding> {
    (edge.mtls && edge.requests >= 10 && edge.failures * 2 > edge.requests).then(|| {
        let what = format!(
            "{} of {} calls of {} to port {} of {} failed within the hour",
            thousands(edge.failures),
            thousands(edge.requests),
            edge.who(),
            edge.port,
            edge.whom()
        );
        Finding::new(Severity::Warning, "failing", what, "see the logs of both sidecars, and `leno policy test`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::read;

    fn codes(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
        findings.iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    fn status(plane: Value, sidecar: Value) -> Vec<Finding> {
        let mut control_plane = json!({"version": "1", "revision": 7, "time": "1970-01-01T00:00:00Z", "rootExpires": "1980-01-01T00:00:00Z"});
        let mut one = json!({"workload": "default/web", "connected": true, "state": "ready", "revision": 7, "ack": "ACK",
            "version": "1", "certificateExpires": "1970-01-02T00:00:00Z"});
        for (into, from) in [(&mut control_plane, plane), (&mut one, sidecar)] {
            for (field, value) in from.as_object().unwrap() {
                into[field] = value.clone();
            }
        }
        let status: Status = read(&json!({"controlPlane": control_plane, "sidecars": [one], "problems": []})).unwrap();
        of_status(&status, OffsetDateTime::from_unix_timestamp(0).unwrap())
    }

    #[test]
    fn each_thing_that_is_wrong_is_found_and_a_good_mesh_has_none() {
        assert_eq!(status(json!({}), json!({})), []);
        use Severity::{Error, Info, Warning};
        let cases = [
            (json!({"time": "1970-01-01T00:01:00Z"}), json!({}), "clock_skew", Error),
            (json!({"stateBytesFree": NO_ROOM - 1}), json!({}), "disk_full", Error),
            (json!({"stateBytesFree": LITTLE_ROOM - 1}), json!({}), "disk_full", Warning),
            (json!({"rootExpires": "1970-01-01T12:00:00Z"}), json!({}), "root_expires", Error),
            (json!({"rootExpires": "1970-01-05T00:00:00Z"}), json!({}), "root_expires", Warning),
            (json!({"rootExpires": "1970-01-25T00:00:00Z"}), json!({}), "root_expires", Info),
            (json!({"rootExpires": "1969-01-25T00:00:00Z"}), json!({}), "root_expires", Error),
            (json!({}), json!({"connected": false}), "disconnected", Warning),
            (json!({}), json!({"ack": "PENDING", "revision": 6}), "behind", Warning),
            (
                json!({}),
                json!({"ack": "NACK", "nack": {"reason": "no", "resources": ["x"], "revision": 7}}),
                "nack",
                Error,
            ),
            (json!({}), json!({"state": "unhealthy"}), "unhealthy", Warning),
            (json!({}), json!({"certificateExpires": "1969-12-31T00:00:00Z"}), "certificate_expired", Error),
            (json!({}), json!({"version": "0"}), "version_skew", Info),
        ];
        for (plane, sidecar, code, severity) in cases {
            assert_eq!(codes(&status(plane, sidecar)), [(code, severity)]);
        }
    }

    #[test]
    fn a_certificate_of_a_user_that_ends_is_named_with_its_place() {
        let expiring = json!([{"what": "Secret shop/edge (tls.crt)", "expires": "1970-01-03T00:00:00Z"}]);
        let status: Status =
            read(&json!({"controlPlane": {}, "sidecars": [], "problems": [], "expiring": expiring})).unwrap();
        let found = of_status(&status, OffsetDateTime::from_unix_timestamp(0).unwrap());
        assert_eq!(codes(&found), [("certificate_expires", Severity::Warning)]);
        assert!(found[0].what.contains("Secret shop/edge"), "{found:?}");
    }

    #[test]
    fn who_sends_plaintext_is_named_once_with_what_was_refused() {
        let edge = |source: &str, requests: u64, failures: u64| {
            json!({"source": source, "mtls": source.contains(':'), "port": 80, "protocol": "tcp", "requests": requests,
                "failures": failures, "destination": {"namespace": "default", "services": ["default/web"]}})
        };
        let edges = json!({"minutes": 60, "edges": [edge("10.0.0.9", 3, 1), edge("10.0.0.9", 2, 2), edge("10.0.0.8", 0, 0),
            edge("spiffe://t/ns/a/sa/b", 10, 6), edge("spiffe://t/ns/a/sa/c", 9, 9), edge("others", 5, 0)]});
        let found = of_edges(&read(&edges).unwrap());
        assert_eq!(codes(&found), [("plaintext", Severity::Warning), ("failing", Severity::Warning)]);
        assert!(
            found[0]
                .what
                .starts_with("10.0.0.9 sends plaintext to port 80 of default/web: 5 connections within 60 min, 3 of")
        );
    }
}
