//! A value into a type of the Gateway API or Kubernetes, with every unknown field and every wrong value named at once.
//!
//! Serde stops at the first wrong value, so a wrong one is cut out and the rest is read again, until the rest fits.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::field::{FieldPath, Segment};
use super::hint;
use super::problem::clip;

/// Most wrong values that are named per object.
const MOST_WRONG: usize = 32;
/// Most unknown fields that are named per object.
const MOST_UNKNOWN: usize = 64;

/// One thing that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub path: FieldPath,
    pub message: String,
    pub hint: String,
}

/// Reads `value`, which stands at `base` in its object. None when a value is missing or of the wrong type; unknown
/// fields are misfits too, but do not keep the rest from being read.
pub(super) fn decode<T: DeserializeOwned>(value: &Value, base: &FieldPath) -> (Option<T>, Vec<Misfit>) {
    let mut rest = value.clone();
    let mut cuts = Cuts::default();
    let mut misfits = Vec::new();
    let mut unknown = BTreeSet::new();
    let mut decoded = None;
    while misfits.len() < MOST_WRONG {
        let pass = pass::<T>(&rest);
        unknown.extend(pass.unknown.iter().map(|path| Ordered(cuts.original(path))));
        match pass.result {
            Ok(found) => {
                decoded = Some(found);
                break;
            }
            Err((path, message)) => {
                let at = cuts.original(&path);
                // What is now missing only because it was cut is no news.
                let missing = missing_field(&message).map(|name| at.key(name));
                if missing.as_ref().is_none_or(|field| !cuts.fields.contains(field)) {
                    misfits.push(misfit(missing.unwrap_or_else(|| at.clone()), &message));
                }
                if path.0.is_empty() || !cuts.cut(&mut rest, &path, at) {
                    break;
                }
            }
        }
    }
    let clean = misfits.is_empty();
    for Ordered(path) in unknown.into_iter().take(MOST_UNKNOWN) {
        let hint = suggestion::<T>(value, &path);
        misfits.push(Misfit { path, message: "unknown field".to_owned(), hint });
    }
    for misfit in &mut misfits {
        misfit.path = FieldPath(base.0.iter().chain(&misfit.path.0).cloned().collect());
    }
    (decoded.filter(|_| clean), misfits)
}

struct Pass<T> {
    result: Result<T, (FieldPath, String)>,
    unknown: Vec<FieldPath>,
}

fn pass<T: DeserializeOwned>(value: &Value) -> Pass<T> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let mut note = |path: serde_ignored::Path<'_>| {
        if unknown.len() < MOST_UNKNOWN {
            unknown.push(ignored_path(&path));
        }
    };
    let result = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note));
    let result = result.map_err(|error| (error_path(&track.path()), error.to_string()));
    Pass { result, unknown }
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> FieldPath {
    use serde_ignored::Path;
    match path {
        Path::Root => FieldPath::default(),
        Path::Seq { parent, index } => ignored_path(parent).index(*index),
        Path::Map { parent, key } => ignored_path(parent).key(key.as_str()),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_path(parent)
        }
    }
}

fn error_path(path: &serde_path_to_error::Path) -> FieldPath {
    use serde_path_to_error::Segment as Step;
    let steps = path.iter().filter_map(|step| match step {
        Step::Seq { index } => Some(Segment::Index(*index)),
        Step::Map { key } => Some(Segment::Key(key.clone())),
        Step::Enum { .. } | Step::Unknown => None,
    });
    FieldPath(steps.collect())
}

/// `missing field `name`` is serde's wording.
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn misfit(path: FieldPath, message: &str) -> Misfit {
    if missing_field(message).is_some() {
        return Misfit { path, message: "is required and missing".to_owned(), hint: "add it".to_owned() };
    }
    Misfit { path, hint: type_hint(message), message: clip(message.to_owned(), 300) }
}

fn type_hint(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let written = rest.split('`').next().unwrap_or_default();
        let known: Vec<&str> = rest.split('`').skip(2).step_by(2).collect();
        let near = hint::nearest(written, &known).map(|near| format!("did you mean {near}? "));
        return format!("{}write one of {}", near.unwrap_or_default(), known.join(", "));
    }
    if !message.starts_with("invalid type") {
        return String::new();
    }
    let expected = message.split("expected ").nth(1).unwrap_or_default();
    if expected.contains("string") && !message.contains("map") && !message.contains("sequence") {
        "put it in quotes".to_owned()
    } else if expected.contains("sequence") {
        "write a list: each entry begins with `- `".to_owned()
    } else if expected.contains("struct") || expected.contains("map") {
        "write fields, `name: value`, one a line and indented".to_owned()
    } else if expected.starts_with('i') || expected.starts_with('u') {
        "write a whole number without quotes".to_owned()
    } else {
        String::new()
    }
}

/// The known field nearest to an unknown one, of those that the type has at this very place: the field is renamed and
/// the type is asked again.
fn suggestion<T: DeserializeOwned>(value: &Value, path: &FieldPath) -> String {
    let none = || "remove it or check the spelling".to_owned();
    let Some((Segment::Key(written), parent)) = path.0.split_last() else { return none() };
    let candidates = hint::ranked(written, hint::FIELDS);
    for candidate in candidates.into_iter().take(4) {
        let mut renamed = value.clone();
        let Some(Value::Object(fields)) = descend(&mut renamed, parent) else { continue };
        if fields.contains_key(candidate) {
            continue;
        }
        let Some(moved) = fields.remove(written) else { continue };
        fields.insert(candidate.to_owned(), moved);
        let known = FieldPath(parent.to_vec()).key(candidate);
        if !pass::<T>(&renamed).unknown.contains(&known) {
            return format!("did you mean {candidate}?");
        }
    }
    none()
}

fn descend<'a>(value: &'a mut Value, path: &[Segment]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Key(key) => value.get_mut(key.as_str()),
        Segment::Index(index) => value.get_mut(*index),
    })
}

/// What was cut out so far, so that a path in the rest can be told as the path that it was in the file.
#[derive(Default)]
struct Cuts {
    fields: Vec<FieldPath>,
    /// List and the index in it, both as they were in the file.
    elements: Vec<(FieldPath, usize)>,
}

impl Cuts {
    fn original(&self, path: &FieldPath) -> FieldPath {
        path.0.iter().fold(FieldPath::default(), |so_far, segment| match segment {
            Segment::Key(_) => so_far.then(segment.clone()),
            Segment::Index(index) => {
                let mut gone: Vec<usize> =
                    self.elements.iter().filter(|(list, _)| *list == so_far).map(|(_, index)| *index).collect();
                gone.sort_unstable();
                let index = gone.into_iter().fold(*index, |index, gone| index + usize::from(gone <= index));
                so_far.index(index)
            }
        })
    }

    /// Removes what stands at `path`, which was at `original` in the file. False when nothing is there.
    fn cut(&mut self, value: &mut Value, path: &FieldPath, original: FieldPath) -> bool {
        let Some((last, parent)) = path.0.split_last() else { return false };
        match (descend(value, parent), last) {
            (Some(Value::Object(fields)), Segment::Key(key)) => {
                self.fields.push(original);
                fields.remove(key).is_some()
            }
            (Some(Value::Array(items)), Segment::Index(index)) if *index < items.len() => {
                items.remove(*index);
                if let Some((Segment::Index(index), list)) = original.0.split_last() {
                    self.elements.push((FieldPath(list.to_vec()), *index));
                }
                true
            }
            _ => false,
        }
    }
}

/// Paths in the order of their text.
#[derive(PartialEq, Eq)]
struct Ordered(FieldPath);

impl Ord for Ordered {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.to_string().cmp(&other.0.to_string())
    }
}

impl PartialOrd for Ordered {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
