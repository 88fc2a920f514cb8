//! What the tests of validation share.

use super::{Checked, batch};
use crate::config::{Problem, parse};

/// What is found in a file of this text.
pub(super) fn checked(text: &str) -> Checked {
    let parsed = parse("x.yaml", text.as_bytes());
    let mut checked = batch(parsed.objects);
    checked.problems.extend(parsed.problems);
    checked
}

/// Nothing of the text is taken, and an error is told of this line and field with these words in its message or hint.
pub(super) fn refuses(text: &str, line: u32, field: &str, words: &str) {
    let checked = checked(text);
    assert!(checked.valid.is_empty(), "taken: {text}");
    let found = checked.problems.iter().any(|p: &Problem| {
        p.is_error() && p.line == line && p.field == field && (p.message.contains(words) || p.hint.contains(words))
    });
    assert!(found, "{line}: {field}: {words} not in {:#?}\nof {text}", checked.problems);
}
