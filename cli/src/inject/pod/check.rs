//! The parts of a pod, and why one is refused: what would go round the sidecar, or stand in its way.

use super::annotations::Settings;
use super::kinds::Unit;
use super::probes;
use super::report::{Report, clip};
use super::tree::{Node, Place};

/// The container that redirects the pod's traffic.
pub(super) const INTERCEPT: &str = "leno-intercept";
/// The sidecar.
pub(super) const SIDECAR: &str = "leno-sidecar";
/// The volume with what proves who the pod is.
pub(super) const TOKEN_VOLUME: &str = "leno-token";
/// The volume for identity and snapshot.
pub(super) const STATE_VOLUME: &str = "leno-state";
/// The user that the sidecar runs as, whose traffic is not redirected.
pub(super) const SIDECAR_USER: i64 = 15008;
/// Ports that the sidecar takes, and what for.
const PORTS: [(i64, &str); 6] = [
    (15000, "administration"),
    (15001, "outbound traffic"),
    (15006, "inbound traffic"),
    (15008, "the mesh"),
    (15020, "health checks"),
    (15053, "DNS"),
];

/// A container of the user's, and where it stands.
#[derive(Debug)]
pub(super) struct Container<'a> {
    pub node: &'a Node,
    pub name: &'a str,
    /// `spec.containers[0]`, below the template.
    pub path: String,
}

/// A pod's spec, taken apart.
#[derive(Debug)]
pub(super) struct Pod<'a> {
    pub spec: &'a Node,
    /// The whole document.
    pub document: &'a Node,
    /// Init containers and containers.
    pub containers: Vec<Container<'a>>,
}

/// Takes the pod apart. None: there is none, and that was told.
pub(super) fn pod<'a>(unit: &Unit<'a>, report: &mut Report) -> Option<Pod<'a>> {
    let spec = match unit.template.get("spec") {
        Some(spec) if spec.is_map() => spec,
        _ => {
            report.error(unit.template.place, &unit.field("spec"), "the pod has no spec", "add spec.containers");
            return None;
        }
    };
    if spec.get("containers").map(Node::items).unwrap_or_default().is_empty() {
        report.error(spec.place, &unit.field("spec.containers"), "the pod has no containers", "add at least one");
        return None;
    }
    let of = |list: &'static str| {
        let items = spec.get(list).map(Node::items).unwrap_or_default();
        items.iter().enumerate().map(move |(index, node)| Container {
            node,
            name: node.get("name").and_then(Node::text).unwrap_or_default(),
            path: format!("spec.{list}[{index}]"),
        })
    };
    let containers = of("initContainers").chain(of("containers")).collect();
    Some(Pod { spec, document: unit.document, containers })
}

/// Whether the pod has our sidecar already: in a file without marks, such as one that a cluster printed.
pub(super) fn already(pod: &Pod<'_>) -> bool {
    let ours = |name: &str, word: &str| {
        pod.containers.iter().any(|container| {
            let args = container.node.get("args").map(Node::items).unwrap_or_default();
            container.name == name && args.first().and_then(Node::text) == Some(word)
        })
    };
    ours(SIDECAR, "--transparent") && ours(INTERCEPT, "intercept")
}

/// Notes everything that a sidecar cannot live with.
pub(super) fn refusals(unit: &Unit<'_>, pod: &Pod<'_>, settings: &Settings, report: &mut Report) {
    host(unit, pod, report);
    name_of_a_pod(unit, report);
    user(unit, "spec", pod.spec, report);
    for container in &pod.containers {
        taken_names(unit, container, report);
        user(unit, &container.path, container.node, report);
        ports(unit, container, report);
        hooks(unit, container, settings, report);
        privileges(unit, container, report);
    }
    for (index, volume) in pod.spec.get("volumes").map(Node::items).unwrap_or_default().iter().enumerate() {
        let name = volume.get("name").and_then(Node::text).unwrap_or_default();
        if [TOKEN_VOLUME, STATE_VOLUME].contains(&name) {
            let field = unit.field(&format!("spec.volumes[{index}].name"));
            report.error(
                place(volume, "name"),
                &field,
                format!("{name} is the name of a volume of the sidecar's"),
                "rename it",
            );
        }
    }
}

fn place(node: &Node, key: &str) -> Place {
    node.field(key).map_or(node.place, |field| field.place)
}

fn host(unit: &Unit<'_>, pod: &Pod<'_>, report: &mut Report) {
    if pod.spec.get("hostNetwork").is_some_and(Node::is_true) {
        report.error(
            place(pod.spec, "hostNetwork"),
            &unit.field("spec.hostNetwork"),
            "the pod is in the host's network, where interception would take the traffic of the whole machine",
            "remove it, or leave the pod out with the annotation leno.dev/inject: \"false\"",
        );
    }
    let os = pod.spec.at(&["os", "name"]).and_then(Node::text);
    let selected = pod.spec.at(&["nodeSelector", "kubernetes.io/os"]).and_then(Node::text);
    for (key, found) in [("os", os), ("nodeSelector", selected)] {
        if found == Some("windows") {
            report.error(
                place(pod.spec, key),
                &unit.field(&format!("spec.{key}")),
                "the pod runs on Windows, and the sidecar on Linux",
                "leave the pod out with the annotation leno.dev/inject: \"false\"",
            );
        }
    }
}

/// The sidecar registers under the pod's name, which has to be a label for that. Names that Kubernetes makes up are.
fn name_of_a_pod(unit: &Unit<'_>, report: &mut Report) {
    let name = unit.object.at(&["metadata", "name"]);
    if let (true, Some(node)) = (unit.kind.name == "Pod", name) {
        let text = node.text().unwrap_or_default();
        if !super::annotations::is_name(text) {
            let message = format!("{:?} cannot be the name of a workload", clip(text, 80));
            report.error(node.place, "metadata.name", message, "write at most 63 of a-z, 0-9 and '-'");
        }
    }
    let account = unit.template.at(&["spec", "serviceAccountName"]);
    if let Some(node) = account.filter(|node| node.text().is_some_and(|text| !super::annotations::is_name(text))) {
        let message = format!("{:?} cannot be part of an identity", clip(node.text().unwrap_or_default(), 80));
        let field = unit.field("spec.serviceAccountName");
        report.error(node.place, &field, message, "name an account with at most 63 of a-z, 0-9 and '-'");
    }
}

fn taken_names(unit: &Unit<'_>, container: &Container<'_>, report: &mut Report) {
    if [SIDECAR, INTERCEPT].contains(&container.name) {
        let field = unit.field(&format!("{}.name", container.path));
        let message = format!("{} is the name of a container of the mesh's", container.name);
        report.error(place(container.node, "name"), &field, message, "rename it");
    }
}

fn user(unit: &Unit<'_>, path: &str, node: &Node, report: &mut Report) {
    let Some(context) = node.get("securityContext") else { return };
    if context.get("runAsUser").and_then(Node::int) == Some(SIDECAR_USER) {
        report.error(
            place(context, "runAsUser"),
            &unit.field(&format!("{path}.securityContext.runAsUser")),
            format!("{SIDECAR_USER} is the sidecar's user, whose traffic is not intercepted"),
            "run the app as another user",
        );
    }
}

fn ports(unit: &Unit<'_>, container: &Container<'_>, report: &mut Report) {
    let ports = container.node.get("ports").map(Node::items).unwrap_or_default();
    for (index, port) in ports.iter().enumerate() {
        let number = port.get("containerPort").and_then(Node::int);
        if let Some((number, what)) = PORTS.iter().find(|(taken, _)| Some(*taken) == number) {
            report.error(
                place(port, "containerPort"),
                &unit.field(&format!("{}.ports[{index}].containerPort", container.path)),
                format!("port {number} is the sidecar's, for {what}"),
                "let the app listen on another port",
            );
        }
    }
}

/// Kubelet sends a hook in plaintext from outside the mesh. It is not passed on as a probe is: a hook does something (it may stop
/// the app), and kubelet proves to nobody that it is kubelet.
fn hooks(unit: &Unit<'_>, container: &Container<'_>, settings: &Settings, report: &mut Report) {
    for hook in ["postStart", "preStop"] {
        let Some(field) = container.node.at(&["lifecycle", hook]).and_then(|handler| handler.field("httpGet")) else {
            continue;
        };
        let port = field.value.get("port").and_then(|port| probes::port(container, port).ok());
        if port.is_some_and(|port| settings.leaves_inbound(port)) {
            continue;
        }
        report.error(
            field.place,
            &unit.field(&format!("{}.lifecycle.{hook}.httpGet", container.path)),
            "kubelet sends this hook in plaintext from outside the mesh, where strict mutual TLS refuses it",
            "write it as exec, or leave its port out of the mesh with the annotation leno.dev/exclude-inbound-ports",
        );
    }
}

/// Such a container can undo the interception. That is for who writes the pod to decide, but not unknowingly.
fn privileges(unit: &Unit<'_>, container: &Container<'_>, report: &mut Report) {
    let Some(context) = container.node.get("securityContext") else { return };
    let todo = "remove the privilege if the app can do without";
    if context.get("privileged").is_some_and(Node::is_true) {
        let field = unit.field(&format!("{}.securityContext.privileged", container.path));
        report.warning(
            place(context, "privileged"),
            &field,
            "a privileged container can undo the interception of its pod",
            todo,
        );
    }
    let added = context.at(&["capabilities", "add"]).map(Node::items).unwrap_or_default();
    let strong = ["NET_ADMIN", "CAP_NET_ADMIN", "SYS_ADMIN", "CAP_SYS_ADMIN", "ALL"];
    for node in added.iter().filter(|node| node.text().is_some_and(|text| strong.contains(&text))) {
        let field = unit.field(&format!("{}.securityContext.capabilities.add", container.path));
        let message =
            format!("with {} a container can undo the interception of its pod", node.text().unwrap_or_default());
        report.warning(node.place, &field, message, todo);
    }
}
