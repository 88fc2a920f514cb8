//! What is wrong with a compose file, collected so that everything is said at once.

use leno_control_plane::config::{Problem, Severity};

use super::node::Place;
use super::yaml::SyntaxError;

/// The problems and warnings of one file.
#[derive(Debug)]
pub struct Findings {
    file: String,
    found: Vec<Problem>,
}

/// Of what a problem is.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The service; empty for the file as a whole.
    pub service: &'a str,
    /// `ports[0]`.
    pub field: &'a str,
    /// Where it stands.
    pub place: Place,
}

impl Findings {
    /// Nothing yet.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new() }
    }

    /// The file is refused for it.
    pub fn refuse(&mut self, at: At<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.push(at, message.into(), hint.into(), Severity::Error);
    }

    /// The file is taken, but its author should know.
    pub fn warn(&mut self, at: At<'_>, message: impl Into<String>, hint: impl Into<String>) {
        self.push(at, message.into(), hint.into(), Severity::Warning);
    }

    /// The file cannot be read.
    pub fn unreadable(&mut self, error: SyntaxError) {
        let at = At { service: "", field: "", place: error.place };
        self.refuse(at, error.message, error.hint);
    }

    /// Whether the file is refused.
    pub fn refused(&self) -> bool {
        self.found.iter().any(Problem::is_error)
    }

    /// Says all lines by another count.
    pub fn map_lines(&mut self, line: impl Fn(u32) -> u32) {
        self.found.iter_mut().for_each(|problem| problem.line = line(problem.line));
    }

    /// All of them, in the order of the file.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|p| (p.line, p.column));
        self.found.dedup();
        self.found
    }

    fn push(&mut self, at: At<'_>, message: String, hint: String, severity: Severity) {
        let clip = |text: String| if text.chars().count() > 400 { text.chars().take(400).collect() } else { text };
        let object = if at.service.is_empty() { String::new() } else { clip(format!("service {}", at.service)) };
        self.found.push(Problem {
            file: self.file.clone(),
            line: at.place.line,
            column: at.place.column,
            object,
            field: clip(at.field.to_owned()),
            message: clip(message),
            hint,
            severity,
        });
    }
}
