//! `leno inject` for docker-compose: the same file with a pod and a sidecar for each service, and a control plane.
//!
//! The file is edited by lines and never written anew, so comments, anchors, quotes and fields that nobody here knows stay as
//! they are. What comes out is read again and compared with what was meant, so that an edit that would change anything else is
//! refused and not printed.

mod check;
mod edit;
mod findings;
mod generate;
mod labels;
mod layout;
mod node;
mod ports;
mod refuse;
mod render;
mod service;
mod yaml;

use leno_control_plane::config::{MOST_FILE_BYTES, Problem};

use self::findings::{At, Findings};
use self::node::Place;
use super::marks;

/// What the edit depends on besides the file.
#[derive(Debug, Clone)]
pub struct Options {
    /// Namespace of the services in the mesh.
    pub namespace: String,
    /// Only services with the label `leno.dev/inject: "true"` get a sidecar.
    pub only_labelled: bool,
    /// There is a folder `mesh` beside the file, with objects for the control plane.
    pub mesh_folder: bool,
    /// User and group of the control plane's state and of the secrets.
    pub owner: (u32, u32),
}

/// The new file.
#[derive(Debug)]
pub struct Injected {
    pub text: String,
    /// What its author should know.
    pub warnings: Vec<Problem>,
    /// The names of the secrets that it needs, `NAMESPACE.SERVICE-ACCOUNT`.
    pub secrets: Vec<String>,
}

/// The name of an identity's secret.
fn secret_name(options: &Options, account: &str) -> String {
    format!("{}.{account}", options.namespace)
}

/// Puts the mesh into the compose file `text`. What an earlier injection put there is replaced.
///
/// # Errors
/// Everything for which the file is refused.
pub fn inject(text: &str, file: &str, options: &Options) -> Result<Injected, Vec<Problem>> {
    let mut findings = Findings::new(file);
    match injected(text, options, &mut findings) {
        Some((text, secrets)) if !findings.refused() => {
            Ok(Injected { text, secrets, warnings: findings.into_problems() })
        }
        _ => Err(findings.into_problems()),
    }
}

/// The new file and its secrets; nothing when the findings say why not.
fn injected(text: &str, options: &Options, findings: &mut Findings) -> Option<(String, Vec<String>)> {
    let (bom, text) = text.strip_prefix(marks::BOM).map_or(("", text), |rest| (marks::BOM, rest));
    let original = match marks::remove(text) {
        Ok(original) => original,
        Err(broken) => {
            let place = Place { line: broken.line, column: 1 };
            findings.refuse(At { service: "", field: "", place }, broken.message, broken.hint);
            return None;
        }
    };
    let done = edited(&original, options, findings);
    // Findings are told by the lines of the file as it is, not as it was.
    let kept = marks::kept(text);
    let now = |line: u32| line.checked_sub(1).and_then(|at| kept.get(at as usize).copied()).unwrap_or(line);
    findings.map_lines(now);
    layout::check_marks(text, findings);
    done.map(|(text, secrets)| (format!("{bom}{text}"), secrets))
}

/// Edits a file that holds nothing of ours.
fn edited(original: &str, options: &Options, findings: &mut Findings) -> Option<(String, Vec<String>)> {
    if !labels::is_dns_label(&options.namespace) {
        let at = At { service: "", field: "", place: Place::default() };
        findings.refuse(at, format!("{:?} is no namespace", options.namespace), "use a-z, 0-9 and '-'");
    }
    let document = yaml::read(original).map_err(|error| findings.unreadable(error)).ok()?;
    let services_field = layout::services(&document, findings)?;
    let services = service::read(&services_field.value, options, findings);
    if !findings.refused() && !services.iter().any(|service| service.injected) {
        let at = At { service: "", field: "services", place: services_field.place };
        findings.refuse(at, "no service is to have a sidecar", "label one leno.dev/inject: \"true\"");
    }
    refuse::check(&services, findings);
    let secrets = generate::secrets(&services, options);
    layout::check_secrets(&document.root, &secrets, findings);
    if findings.refused() {
        return None;
    }
    let draft = edit::Draft { text: original, document: &document, services_field, services: &services, options };
    let text = draft.finish(findings)?;
    if text.len() > MOST_FILE_BYTES {
        let message = format!("with the sidecars the file would have more than {MOST_FILE_BYTES} bytes");
        let at = At { service: "", field: "services", place: services_field.place };
        findings.refuse(at, message, "split it");
        return None;
    }
    Some((text, secrets))
}

#[cfg(test)]
mod tests;
