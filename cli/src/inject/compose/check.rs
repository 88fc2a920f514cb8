//! The last look at an edited file: it means what was meant, and nothing else of it has changed.

use super::marks;
use super::node::{Meaning, Node};
use super::service::Service;
use super::yaml;

/// What is wrong with an edited file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// These services are not what they were meant to be.
    Services(Vec<usize>),
    /// Something else, in words.
    Other(String),
}

/// Compares the edited `text` with what it was and what it was meant to become.
pub fn compare(text: &str, original: &str, expected: &Node, services: &[Service<'_>]) -> Result<(), Wrong> {
    if marks::remove(text).ok().as_deref() != Some(original) {
        return Err(Wrong::Other("it could not be taken out again".to_owned()));
    }
    let found = yaml::read(text).map_err(|error| {
        Wrong::Other(format!("line {} of the result is not readable: {}", error.place.line, error.message))
    })?;
    let (found, expected) = (found.root.meaning(), expected.meaning());
    if found == expected {
        return Ok(());
    }
    let differs = |service: &Service<'_>| {
        let of = |tree| get(tree, "services").and_then(|tree| get(tree, service.name()));
        of(&found) != of(&expected)
    };
    let wrong: Vec<usize> = (0..services.len()).filter(|index| services.get(*index).is_some_and(differs)).collect();
    Err(if wrong.is_empty() { Wrong::Other(difference(&found, &expected)) } else { Wrong::Services(wrong) })
}

fn get<'a>(tree: &'a Meaning, key: &str) -> Option<&'a Meaning> {
    match tree {
        Meaning::Map(fields, _) => fields.get(key),
        _ => None,
    }
}

/// The top-level field that differs.
fn difference(found: &Meaning, expected: &Meaning) -> String {
    let (Meaning::Map(a, _), Meaning::Map(b, _)) = (found, expected) else { return "the file as a whole".to_owned() };
    let differing = a.keys().chain(b.keys()).find(|key| a.get(*key) != b.get(*key));
    differing.map_or_else(|| "the file as a whole".to_owned(), |key| format!("the field {key:?}"))
}
