//! Sidecars for what is already written: docker-compose files and Kubernetes manifests, edited by lines so that everything that is
//! not ours stays as it is.

pub mod compose;
pub mod files;
pub mod marks;
pub mod pod;

use leno_control_plane::config::Problem;
use saphyr_parser::{Event, Parser};

/// What a file describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It has a top-level field `services`.
    Compose,
    /// It has a top-level `apiVersion` or `kind`.
    Kubernetes,
}

/// What `text` describes, by the top-level fields of its documents.
///
/// # Errors
/// It describes neither. A file that cannot be read so far counts as a compose file, whose reader says what is wrong.
pub fn kind(text: &str, file: &str) -> Result<Kind, Vec<Problem>> {
    let parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    // In a map, every other event at its depth is a key.
    let (mut depth, mut is_key) = (0usize, false);
    for event in parser {
        let Ok((event, _)) = event else { return Ok(Kind::Compose) };
        match event {
            Event::Scalar(key, ..) if depth == 1 && is_key => match key.as_ref() {
                "services" => return Ok(Kind::Compose),
                "apiVersion" | "kind" => return Ok(Kind::Kubernetes),
                _ => is_key = false,
            },
            Event::Scalar(..) | Event::Alias(_) if depth == 1 => is_key = true,
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                depth += 1;
                is_key = depth == 1 && matches!(event, Event::MappingStart(..));
            }
            Event::MappingEnd | Event::SequenceEnd => {
                depth = depth.saturating_sub(1);
                is_key = depth == 1;
            }
            _ => {}
        }
    }
    let hint = "a compose file has `services:`, a Kubernetes manifest `apiVersion:` and `kind:`";
    Err(vec![Problem::of_file(file, "this is neither a compose file nor a Kubernetes manifest", hint)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_top_level_fields() {
        let of = |text: &str| kind(text, "x.yaml").ok();
        assert_eq!(of("version: '3'\nx-a: {kind: b}\nservices:\n  web: {}\n"), Some(Kind::Compose));
        assert_eq!(of("# c\n---\n---\nmetadata: {services: 1}\nkind: Pod\n"), Some(Kind::Kubernetes));
        assert_eq!(of("{\"apiVersion\": \"v1\"}"), Some(Kind::Kubernetes));
        assert_eq!(of("a: services\nb: [kind]\n"), None);
        assert_eq!(of(""), None);
        assert_eq!(of("a: [\n"), Some(Kind::Compose), "its reader says what is wrong");
    }
}
