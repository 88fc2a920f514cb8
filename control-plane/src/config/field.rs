//! The path of a field in an object.

use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

/// Where a field is: `spec.rules[0].backendRefs[1].weight`. The default is the object itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPath(pub(super) Vec<Segment>);

impl FieldPath {
    /// The path of a field of the object itself.
    pub fn of(key: &str) -> Self {
        Self::default().key(key)
    }

    /// A field of this one.
    #[must_use]
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.then(Segment::Key(key.into()))
    }

    /// An element of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.then(Segment::Index(index))
    }

    pub(super) fn then(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if n == 0 => write!(f, "{}", shorten(key))?,
                Segment::Key(key) => write!(f, ".{}", shorten(key))?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A key is what a user wrote and may be a megabyte long.
fn shorten(key: &str) -> &str {
    key.char_indices().nth(80).map_or(key, |(cut, _)| &key[..cut])
}
