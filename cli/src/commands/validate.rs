//! `leno validate`: checks files with the control plane's own validators, without a control plane.

use std::path::PathBuf;

use leno_control_plane::model::Mesh;
use leno_control_plane::{config, validate};
use serde_json::{Value, json};

use super::report::print_problems;
use crate::args::Global;
use crate::client::{Problem, read};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, count};
use crate::sources::Sources;

/// Check files without a control plane: all errors at once, with file, line, field and a hint
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A file, a folder with all that is below it, or - for standard input; may be given several times
    #[arg(short, long = "file", required = true, value_name = "FILE")]
    pub file: Vec<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  leno validate -f canary.yaml
  leno validate -f mesh/                     In a pipeline: ends with 1 when anything would be refused
  leno apply -f mesh/ --dry-run              Also against what is in force in a control plane";

/// Runs the command.
///
/// # Errors
/// Something in the files would be refused.
pub fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let sources = Sources::read(&args.file)?;
    let checked = check(&sources);
    if global.output != Format::Table {
        output::value(&checked, global.output)?;
    }
    let problems: Vec<Problem> = read(&checked["problems"])?;
    let errors = print_problems(sources.problems.iter().chain(&problems));
    let objects = checked["objects"].as_u64().unwrap_or_default();
    if errors > 0 {
        return Err(Failure::new(
            Exit::Failed,
            format!("{} in {}", count(errors, "problem"), count(objects, "object")),
            "",
        ));
    }
    match global.output {
        Format::Table => output::line(format!("{} in {}, no problem", count(objects, "object"), files(&sources))),
        _ => Ok(()),
    }
}

fn files(sources: &Sources) -> String {
    count(sources.files.len() as u64, "file")
}

/// As `POST /v1/validate` answers, by the same code.
fn check(sources: &Sources) -> Value {
    let mut objects = Vec::new();
    let mut problems = Vec::new();
    for source in &sources.files {
        let parsed = config::parse(&source.name, source.content.as_bytes());
        objects.extend(parsed.objects);
        problems.extend(parsed.problems);
    }
    let count = objects.len();
    let checked = validate::batch(objects);
    problems.extend(checked.problems);
    let mut mesh = Mesh::default();
    checked.valid.iter().for_each(|object| object.put_into(&mut mesh, 0));
    problems.extend(validate::warnings(&mesh, &checked.valid));
    json!({"objects": count, "problems": problems})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(content: &str) -> Vec<Problem> {
        let files = vec![crate::sources::Source { name: "a.yaml".into(), content: content.into() }];
        read(&check(&Sources { files, problems: Vec::new() })["problems"]).unwrap()
    }

    #[test]
    fn every_shipped_example_is_without_a_problem() {
        let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let yaml = |folder: PathBuf| {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect::<Vec<_>>()
        };
        // One set, and then each step of the compose example, which replaces what the step before had.
        let together = [yaml(examples.clone()), vec![examples.join("compose/mesh")]];
        let steps = yaml(examples.join("compose/steps")).into_iter().map(|step| vec![step]);
        assert!(steps.len() >= 4);
        let mut objects = 0;
        for files in together.into_iter().chain(steps) {
            let checked = check(&Sources::read(&files).unwrap());
            objects += checked["objects"].as_u64().unwrap();
            let problems: Vec<Problem> = read(&checked["problems"]).unwrap();
            // Services of the compose example need no object, so that there is none is no news.
            let told = problems.iter().filter(|p| p.is_error() || !p.file.contains("compose")).collect::<Vec<_>>();
            assert!(told.is_empty(), "{told:?}");
        }
        assert!(objects >= 15);
    }

    #[test]
    fn a_problem_is_found_at_its_place() {
        let problems = checked("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: -1}]\n");
        let problem = problems.iter().find(|p| p.is_error()).unwrap();
        assert_eq!((problem.file.as_str(), problem.line), ("a.yaml", 5));
        assert!(problem.field.contains("port"), "{problem:?}");
    }
}
