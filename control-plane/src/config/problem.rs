//! What is wrong with something that a user wrote, said so that it can be mended: where, what, and what to do.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether the object is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object is refused; its last good version stays in force.
    #[default]
    Error,
    /// The object is taken, but it will not do what its author probably wants.
    Warning,
}

/// One problem of one file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The file as its sender named it.
    pub file: String,
    /// From 1; 0 when the problem is of the file as a whole.
    pub line: u32,
    /// From 1, in characters; 0 when the problem is of the file as a whole.
    pub column: u32,
    /// `HTTPRoute default/web`; empty when the file could not be read that far.
    pub object: String,
    /// `spec.rules[0].matches`; empty when the problem is of the object or the file as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// Whether the object is refused.
    #[serde(default)]
    pub severity: Severity,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { file: file.into(), message: clip(message.into(), 400), hint: hint.into(), ..Self::default() }
    }

    /// Whether the object is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `canary.yaml:12:9: HTTPRoute default/web: spec.rules[0].x: unknown field; did you mean y?`
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        for part in [&self.object, &self.field, &self.message] {
            if !part.is_empty() {
                write!(f, ": {part}")?;
            }
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

/// Cuts a text that holds what a user wrote, so that one hostile file cannot make an answer or a log line of a
/// megabyte.
pub(super) fn clip(mut text: String, most: usize) -> String {
    if let Some((cut, _)) = text.char_indices().nth(most) {
        text.truncate(cut);
        text.push('…');
    }
    text
}
