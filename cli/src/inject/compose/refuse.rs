//! What cannot be in the mesh as it is written, each said with its line and what to write instead.
//!
//! Privileges of the app are a warning and no refusal: an app that runs as root can become the sidecar's user and so go past
//! the interception in any case, and what comes in is checked by the other sidecar's certificate. What would do so without
//! anybody's intent, the sidecar's own user id, is refused.

use super::findings::{At, Findings};
use super::node::{Content, Node};
use super::ports;
use super::service::Service;

/// The user that a sidecar runs as, whose traffic is not intercepted.
pub const SIDECAR_UID: &str = "15008";
/// Where the control plane's API is published on the host.
pub const API_PORT: u16 = 15012;

/// Checks every service.
pub fn check(services: &[Service<'_>], findings: &mut Findings) {
    for service in services {
        check_published(service, findings);
        if service.injected {
            check_types(service, findings);
            check_network(service, findings);
            check_ports(service, findings);
            check_privileges(service, findings);
            check_copies(service, findings);
        } else {
            check_outside(service, services, findings);
        }
    }
}

/// Everything that is moved or rewritten has a form that is understood.
fn check_types(service: &Service<'_>, findings: &mut Findings) {
    let kinds: [(&str, bool, bool, bool); 14] = [
        // Scalar, list, map.
        ("ports", false, true, false),
        ("expose", false, true, false),
        ("networks", false, true, true),
        ("depends_on", false, true, true),
        ("links", false, true, false),
        ("external_links", false, true, false),
        ("dns", true, true, false),
        ("dns_search", true, true, false),
        ("dns_opt", false, true, false),
        ("extra_hosts", false, true, true),
        ("hostname", true, false, false),
        ("domainname", true, false, false),
        ("mac_address", true, false, false),
        ("container_name", true, false, false),
    ];
    for (key, scalar, list, map) in kinds {
        let Some(node) = service.get(key) else { continue };
        let good = match &node.content {
            Content::Scalar(_) => scalar,
            Content::List { items, .. } => list && (key == "ports" || items.iter().all(|item| item.text().is_some())),
            Content::Map { .. } => map,
        };
        if !good {
            let names = [(scalar, "a text"), (list, "a list of texts"), (map, "a map")];
            let wanted: Vec<&str> = names.iter().filter(|(takes, _)| *takes).map(|(_, name)| *name).collect();
            findings.refuse(service.at(key), "wrong type", format!("write {}", wanted.join(" or ")));
        }
        if node.tag.as_ref().is_some_and(|tag| !tag.starts_with("!!")) {
            let hint = "inject the whole configuration: docker-compose config > all.yml, then leno inject all.yml";
            findings.refuse(service.at(key), "a tag that changes another file's field", hint);
        }
    }
}

fn check_network(service: &Service<'_>, findings: &mut Findings) {
    if let Some(mode) = service.get("network_mode") {
        let mode = mode.text().unwrap_or_default();
        let hint = match mode {
            "none" => "it has no network, so label it leno.dev/inject: \"false\"",
            "host" => "remove network_mode and publish its ports, or label it leno.dev/inject: \"false\"",
            "bridge" => "remove network_mode: the project's own network gives it a name, too",
            mode if mode.starts_with("service:") || mode.starts_with("container:") => {
                "label it leno.dev/inject: \"false\": it has the network, and so the sidecar, of the other one"
            }
            _ => "write the network below `networks:` instead",
        };
        let message = format!("network_mode {mode:?}: a meshed service has the network of its own pod");
        findings.refuse(service.at("network_mode"), message, hint);
    }
    if let Some(pid) = service.get("pid").filter(|_| !service.labels.own_pids) {
        let message = format!("pid {:?}: a meshed service shares the processes of its pod", pid.text().unwrap_or(""));
        findings.refuse(service.at("pid"), message, "label it leno.dev/share-pid: \"false\", or remove pid");
    }
}

fn check_ports(service: &Service<'_>, findings: &mut Findings) {
    let mut open = Vec::new();
    for key in ["ports", "expose"] {
        for (index, item) in service.get(key).and_then(Node::items).unwrap_or_default().iter().enumerate() {
            let field = format!("{key}[{index}]");
            let at = At { service: service.name(), field: &field, place: item.place };
            let port = match ports::read(item) {
                Ok(port) => port,
                Err(why) => {
                    findings.refuse(at, why, "write it as in \"8080:80\"");
                    continue;
                }
            };
            let Some(container) = port.container else { continue };
            if let Some(own) = ports::OWN.iter().find(|own| container.contains(own)) {
                let message = format!("port {own} is the sidecar's own");
                findings.refuse(at, message, "let the app listen on another port, and publish that");
            }
            if key == "ports" && port.tcp {
                open.push((container, item.place));
            }
        }
    }
    warn_of_plaintext(service, &open, findings);
}

/// Who comes to a published port has no certificate, and plaintext from outside the mesh is refused.
fn warn_of_plaintext(
    service: &Service<'_>,
    open: &[(std::ops::RangeInclusive<u16>, super::node::Place)],
    findings: &mut Findings,
) {
    let excluded: Vec<_> = service.labels.exclude_inbound_ports.iter().flat_map(|list| list.split(',')).collect();
    let excluded: Vec<_> = excluded.into_iter().filter_map(ports::range).collect();
    for (container, place) in open {
        let covered = excluded.iter().any(|range| range.contains(container.start()) && range.contains(container.end()));
        if !covered {
            let (first, last) = (container.start(), container.end());
            let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
            let at = At { service: service.name(), field: "ports", place: *place };
            let message =
                format!("port {ports} is published, but by default (mtls: STRICT) who has no sidecar is refused there");
            let hint = format!(
                "leno.dev/exclude-inbound-ports: \"{ports}\" leaves it open, and so does a TrafficPolicy with mtls: PERMISSIVE"
            );
            findings.warn(at, message, hint);
        }
    }
}

/// Of every service, meshed or not: the host's port of the control plane is free.
fn check_published(service: &Service<'_>, findings: &mut Findings) {
    for (index, item) in service.get("ports").and_then(Node::items).unwrap_or_default().iter().enumerate() {
        let taken = ports::read(item).is_ok_and(|port| port.tcp && port.host.is_some_and(|h| h.contains(&API_PORT)));
        if taken {
            let field = format!("ports[{index}]");
            let at = At { service: service.name(), field: &field, place: item.place };
            let message = format!("the host's port {API_PORT} is the one of the control plane");
            findings.refuse(at, message, "publish this service on another port of the host");
        }
    }
}

fn check_privileges(service: &Service<'_>, findings: &mut Findings) {
    let user = service.get("user").and_then(Node::text).unwrap_or_default();
    if user.split(':').next() == Some(SIDECAR_UID) {
        let message = format!("user {SIDECAR_UID} is the sidecar's: the app's traffic would not be intercepted");
        findings.refuse(service.at("user"), message, "let the app run as another user");
    }
    let hint = "remove it if the app does not need it: with it the app can take itself out of the mesh";
    if service.get("privileged").and_then(Node::text).is_some_and(|text| text != "false") {
        findings.warn(service.at("privileged"), "the app can undo the interception", hint);
    }
    for item in service.get("cap_add").and_then(Node::items).unwrap_or_default() {
        let capability = item.text().unwrap_or_default().to_ascii_uppercase();
        let capability = capability.trim_start_matches("CAP_");
        if ["NET_ADMIN", "SYS_ADMIN", "ALL"].contains(&capability) {
            let at = At { service: service.name(), field: "cap_add", place: item.place };
            findings.warn(at, format!("with {capability} the app can undo the interception"), hint);
        }
    }
    if service.get("platform").and_then(Node::text).is_some_and(|text| text.starts_with("windows")) {
        findings.refuse(service.at("platform"), "a sidecar needs Linux", "label it leno.dev/inject: \"false\"");
    }
}

/// One pod has one app.
fn check_copies(service: &Service<'_>, findings: &mut Findings) {
    let instead = format!(
        "write each copy as a service of its own (`{0}-2:` with `<<: *{0}`), with the label leno.dev/service: \"{1}\"",
        service.name(),
        service.mesh_name
    );
    let many = |node: &Node| node.text().is_none_or(|text| !matches!(text, "0" | "1"));
    if service.get("scale").is_some_and(many) {
        findings.refuse(service.at("scale"), "a pod has one app: copies need pods of their own", instead.as_str());
    }
    let deploy = service.get("deploy");
    if deploy.and_then(|deploy| deploy.get("replicas")).is_some_and(many) {
        findings.refuse(
            service.at("deploy.replicas"),
            "a pod has one app: copies need pods of their own",
            instead.as_str(),
        );
    }
    let mode = deploy.and_then(|deploy| deploy.get("mode")).and_then(Node::text);
    if mode.is_some_and(|mode| mode != "replicated") {
        let hint = "remove deploy.mode, or label it leno.dev/inject: \"false\"";
        findings.refuse(service.at("deploy.mode"), "this is for Docker Swarm, which cannot share a network", hint);
    }
    if service.get("extends").is_some() {
        let message = "what `extends` brings in cannot be seen here";
        let hint = "use an anchor and `<<: *name`, or inject the whole: docker-compose config > all.yml";
        findings.refuse(service.at("extends"), message, hint);
    }
}

/// A service outside the mesh does not use parts of one that is in it.
fn check_outside(service: &Service<'_>, services: &[Service<'_>], findings: &mut Findings) {
    let meshed = |name: &str| services.iter().any(|other| other.injected && other.name() == name);
    let mode = service.get("network_mode").and_then(Node::text).and_then(|mode| mode.strip_prefix("service:"));
    if let Some(other) = mode.filter(|name| meshed(name)) {
        let message = format!("it has the network of {other}, which is then the pod's");
        let hint = format!("label {other} leno.dev/inject: \"false\" too, or give this one a network of its own");
        findings.refuse(service.at("network_mode"), message, hint);
    }
    for item in service.get("links").and_then(Node::items).unwrap_or_default() {
        let target = item.text().unwrap_or_default().split(':').next().unwrap_or_default();
        if meshed(target) {
            let at = At { service: service.name(), field: "links", place: item.place };
            let hint = "remove the link: services of one network find each other by name";
            findings.refuse(at, format!("a link to {target}, whose network is then its pod's"), hint);
        }
    }
    let extended = service.get("extends").map(|extends| extends.get("service").unwrap_or(extends));
    let local = service.get("extends").is_some_and(|extends| extends.get("file").is_none());
    if let Some(other) = extended.and_then(Node::text).filter(|name| local && meshed(name)) {
        let message = format!("it extends {other}, which becomes one with a sidecar");
        findings.refuse(service.at("extends"), message, "use an anchor and `<<: *name` instead");
    }
}
