//! The services of a compose file, with what `leno inject` has to know of each.

use std::collections::BTreeMap;

use super::Options;
use super::findings::{At, Findings};
use super::labels::{self, Labels};
use super::node::{Field, Node, Place};

/// The control plane's service.
pub const CONTROL_PLANE: &str = "leno-control-plane";

/// Most services of one file.
pub const MOST_SERVICES: usize = 500;

/// One service of the user's.
#[derive(Debug)]
pub struct Service<'a> {
    /// In `services`.
    pub field: &'a Field,
    /// Whether it gets a sidecar.
    pub injected: bool,
    pub labels: Labels,
    /// Its name in the mesh.
    pub mesh_name: String,
    /// The last part of its identity.
    pub account: String,
}

impl Service<'_> {
    /// As it is written in the file.
    pub fn name(&self) -> &str {
        &self.field.key.text
    }

    /// The container that holds its namespaces.
    pub fn pod(&self) -> String {
        format!("{}-pod", self.name())
    }

    /// Its sidecar's container.
    pub fn sidecar(&self) -> String {
        format!("{}-sidecar", self.name())
    }

    /// A field, written or merged.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.field.value.get(key).filter(|node| !node.is_null())
    }

    /// Where a field stands; the service itself when it is not there.
    pub fn place(&self, key: &str) -> Place {
        self.field.value.field(key).map_or(self.field.place, |field| field.place)
    }

    /// For a problem of one of its fields.
    pub fn at<'b>(&'b self, field: &'b str) -> At<'b> {
        let key = field.split(['.', '[']).next().unwrap_or(field);
        At { service: self.name(), field, place: self.place(key) }
    }
}

/// The services of the map `services`, each with its labels read and its names chosen.
pub fn read<'a>(services: &'a Node, options: &Options, findings: &mut Findings) -> Vec<Service<'a>> {
    let mut found = Vec::new();
    if services.written().len() > MOST_SERVICES {
        let at = At { service: "", field: "services", place: services.place };
        findings.refuse(at, format!("more than {MOST_SERVICES} services"), "split the file");
        return found;
    }
    for field in services.written() {
        let at = At { service: &field.key.text, field: "", place: field.place };
        if !field.value.is_map() {
            findings.refuse(at, "a service must be a map", "write `image:` or `build:` below it");
            continue;
        }
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if field.key.text.is_empty() || !field.key.text.chars().all(word) {
            findings.refuse(at, "this is no name of a service", "use a-z, 0-9, '.', '_' and '-'");
            continue;
        }
        let labels = labels::read(&field.key.text, field.value.get("labels"), findings);
        let injected = labels.inject.unwrap_or(!options.only_labelled);
        let own = mesh_name(&field.key.text);
        let mesh_name = labels.service.clone().unwrap_or_else(|| own.clone());
        let account = labels.service_account.clone().unwrap_or(own);
        found.push(Service { field, injected, labels, mesh_name, account });
    }
    check_names(&found, findings);
    found
}

/// Compose takes `_`, `.` and capitals in a name, DNS does not.
fn mesh_name(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// No name of ours is taken, and no two services become one by accident.
fn check_names(services: &[Service<'_>], findings: &mut Findings) {
    let mut ours = BTreeMap::from([(CONTROL_PLANE.to_owned(), "the control plane".to_owned())]);
    let mut chosen: BTreeMap<String, &str> = BTreeMap::new();
    for service in services.iter().filter(|service| service.injected) {
        ours.insert(service.pod(), format!("the container that holds the network of {}", service.name()));
        ours.insert(service.sidecar(), format!("the sidecar of {}", service.name()));
        let own = mesh_name(service.name());
        let (name, account) = (&service.mesh_name, &service.account);
        if *name == own || *account == own {
            if !labels::is_dns_label(&own) {
                let hint = "choose names with the labels leno.dev/service and leno.dev/service-account";
                findings.refuse(
                    service.at(""),
                    "the name cannot be one of the mesh (at most 63 of a-z, 0-9 and '-')",
                    hint,
                );
            } else if let Some(other) = chosen.insert(own.clone(), service.name()) {
                let hint = "choose another one with the labels leno.dev/service and leno.dev/service-account";
                findings.refuse(service.at(""), format!("{other} would have the same name in the mesh, {own}"), hint);
            } else if own != service.name() {
                let hint = "the label leno.dev/service chooses another one";
                findings.warn(service.at(""), format!("the mesh knows it as {name}"), hint);
            }
        }
    }
    for service in services {
        if let Some(what) = ours.get(service.name()) {
            let message = format!("the name is taken: `leno inject` gives it to {what}");
            findings.refuse(service.at(""), message, "rename this service");
        }
    }
}
