//! Sidecars for pods: `leno inject -f deployment.yaml`.
//!
//! The file is edited as text and never written anew, so that comments, order, quoting and fields that nobody here knows
//! survive. What was added stands between marks, and what was replaced behind one, so [`uninject`] gives the file back. Before
//! a result leaves, it is read again and compared with what it has to mean.

mod added;
mod annotations;
mod check;
mod edits;
mod insert;
mod item;
mod kinds;
mod marks;
mod probes;
mod report;
mod tree;
mod typed;
mod verify;

use leno_control_plane::config::{MOST_FILE_BYTES, Problem};

use edits::Edits;
use kinds::{Unit, units};
use report::Report;
use tree::Document;

/// What every injected pod has in common.
#[derive(Debug, Clone)]
pub struct Options {
    /// Image of the sidecar and of the interception.
    pub image: String,
    /// Where the sidecars reach the control plane, HOST:PORT.
    pub control_plane: String,
    /// The ConfigMap of each pod's own namespace whose `ca.crt` holds the mesh's root certificates.
    pub ca_config_map: String,
    /// Only pods with the annotation `leno.dev/inject: "true"` get a sidecar.
    pub only_labelled: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            image: "leno-proxy:latest".to_owned(),
            control_plane: "leno-control-plane.leno-system:15010".to_owned(),
            ca_config_map: "leno-root".to_owned(),
            only_labelled: false,
        }
    }
}

/// A file that was injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// The whole file.
    pub text: String,
    /// How many objects with pods have a sidecar now, those that had one before included.
    pub pods: usize,
    /// What the user should know, though nothing is refused.
    pub warnings: Vec<Problem>,
}

/// Adds a sidecar to every pod in the file `text`, which its user calls `file`. Injecting a result again changes nothing.
///
/// # Errors
/// Everything that keeps a pod from being injected, all at once. Nothing is injected then.
pub fn inject(text: &str, file: &str, options: &Options) -> Result<Injected, Vec<Problem>> {
    let text = uninject(text, file)?;
    let documents = read(&text, file)?;
    let mut report = Report::new(file);
    let mut edits = Edits::new(&text);
    let mut expected = Vec::new();
    let mut pods = 0;
    for document in &documents {
        let units = units(document, &mut report);
        let mut changed = document.node.to_value();
        for unit in &units {
            if inject_unit(unit, options, &mut edits, &mut changed, &mut report) {
                pods += 1;
            }
        }
        expected.push(changed);
    }
    let warnings = report.finish()?;
    let text = edits.apply();
    verify::same(&text, file, &expected)?;
    Ok(Injected { text, pods, warnings })
}

/// True: the unit has a sidecar, or would have one if nothing had been refused.
fn inject_unit(
    unit: &Unit<'_>,
    options: &Options,
    edits: &mut Edits<'_>,
    changed: &mut serde_json::Value,
    report: &mut Report,
) -> bool {
    report.about(unit);
    typed::check(unit, report);
    let Some(settings) = annotations::read(unit, options.only_labelled, report) else { return false };
    let Some(pod) = check::pod(unit, report) else { return false };
    if check::already(&pod) {
        return true;
    }
    check::refusals(unit, &pod, &settings, report);
    let probes = probes::read(&pod, report);
    let added = added::build(unit, &pod, &settings, options, &probes, report);
    insert::plan(&pod, &added, &probes, edits, report);
    verify::expect(unit, &added, &probes, changed);
    true
}

/// The file as it was before [`inject`], with whatever its user changed since.
///
/// # Errors
/// It is no YAML, its marks are broken, or it was injected in a form that cannot hold marks.
pub fn uninject(text: &str, file: &str) -> Result<String, Vec<Problem>> {
    let documents = read(text, file)?;
    marks::remove(text, &documents).map_err(|broken| {
        let problem = Problem { line: broken.line, column: 1, ..Problem::of_file(file, broken.message, broken.hint) };
        vec![problem]
    })
}

/// True: the file holds a pod that was injected as JSON, which [`uninject`] cannot undo.
pub fn is_unmarked(text: &str, file: &str) -> bool {
    let Ok(documents) = read(text, file) else { return false };
    let mut report = Report::new(file);
    documents.iter().any(|document| {
        units(document, &mut report)
            .iter()
            .any(|unit| check::pod(unit, &mut Report::new(file)).is_some_and(|pod| check::already(&pod)))
    })
}

fn read(text: &str, file: &str) -> Result<Vec<Document>, Vec<Problem>> {
    if text.len() > MOST_FILE_BYTES {
        let message = format!("the file has more than {MOST_FILE_BYTES} bytes");
        return Err(vec![Problem::of_file(file, message, "split it")]);
    }
    tree::documents(text).map_err(|wrong| {
        let of_file = Problem::of_file(file, wrong.message, wrong.hint);
        vec![Problem { line: wrong.line, column: wrong.column, ..of_file }]
    })
}

#[cfg(test)]
mod tests;
