//! Gathering problems, so that all are told at once.

use leno_control_plane::config::{Problem, Severity};

use super::kinds::Unit;
use super::tree::Place;

/// Most problems of one file.
const MOST: usize = 200;

/// The problems of one file.
#[derive(Debug)]
pub(super) struct Report {
    file: String,
    object: String,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), object: String::new(), problems: Vec::new() }
    }

    /// What follows is about this object.
    pub(super) fn about(&mut self, unit: &Unit<'_>) {
        self.object = unit.name();
    }

    /// What follows is about an object of this kind that has no pod.
    pub(super) fn about_kind(&mut self, kind: &str) {
        kind.clone_into(&mut self.object);
    }

    /// The object is refused.
    pub(super) fn error(&mut self, at: Place, field: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, at, field, message.into(), hint.into());
    }

    /// How much was refused so far.
    pub(super) fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.is_error()).count()
    }

    /// The object is taken all the same.
    pub(super) fn warning(&mut self, at: Place, field: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, at, field, message.into(), hint.into());
    }

    fn add(&mut self, severity: Severity, at: Place, field: &str, message: String, hint: String) {
        if self.problems.len() >= MOST {
            return;
        }
        let problem = Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            object: self.object.clone(),
            field: clip(field, 200),
            message: clip(&message, 400),
            hint: clip(&hint, 400),
            severity,
        };
        // An alias shows one mistake several times.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// The warnings, when nothing is refused.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.problems.iter().any(Problem::is_error) { Err(self.problems) } else { Ok(self.problems) }
    }
}

/// A text that holds what a user wrote, cut to what fits on a screen.
pub(super) fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}
