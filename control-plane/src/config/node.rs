//! A tree of what was written, each node with its place in the file.

use serde_json::Value;

use super::field::{FieldPath, Segment};

/// Line and column, both from 1; zeros when the node came from no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// Neither array nor object.
    Scalar(Value),
    List(Vec<Node>),
    /// Key, where the key stands, value; in the order of the file, without duplicates.
    Map(Vec<(String, Place, Node)>),
}

impl Node {
    /// A tree of a value that came from no file.
    pub fn from_value(value: &Value) -> Self {
        let content = match value {
            Value::Array(items) => Content::List(items.iter().map(Self::from_value).collect()),
            Value::Object(fields) => Content::Map(
                fields.iter().map(|(key, value)| (key.clone(), Place::default(), Self::from_value(value))).collect(),
            ),
            scalar => Content::Scalar(scalar.clone()),
        };
        Self { place: Place::default(), content }
    }

    /// The value without the places.
    pub fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Map(fields) => {
                Value::Object(fields.iter().map(|(key, _, node)| (key.clone(), node.to_value())).collect())
            }
        }
    }

    /// A field of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(fields) => fields.iter().find(|(k, ..)| k == key).map(|(_, _, node)| node),
            _ => None,
        }
    }

    /// The elements of a list.
    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// The text of a scalar that is a string.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Where a field stands: the place of its key, or of the nearest thing around it that was written.
    pub(super) fn locate(&self, path: &FieldPath) -> Place {
        let mut node = self;
        let mut place = self.place;
        for segment in &path.0 {
            let next = match (&node.content, segment) {
                (Content::Map(fields), Segment::Key(key)) => {
                    fields.iter().find(|(k, ..)| k == key).map(|(_, place, node)| (*place, node))
                }
                (Content::List(items), Segment::Index(index)) => items.get(*index).map(|node| (node.place, node)),
                _ => None,
            };
            let Some((found, inner)) = next else { break };
            place = found;
            node = inner;
        }
        place
    }

    /// How many nodes the tree has, and how many bytes its texts.
    pub(super) fn weight(&self) -> (usize, usize) {
        let add = |(nodes, bytes): (usize, usize), (n, b)| (nodes + n, bytes + b);
        match &self.content {
            Content::Scalar(Value::String(text)) => (1, text.len()),
            Content::Scalar(_) => (1, 0),
            Content::List(items) => items.iter().map(Self::weight).fold((1, 0), add),
            Content::Map(fields) => {
                fields.iter().map(|(key, _, node)| add((1, key.len()), node.weight())).fold((1, 0), add)
            }
        }
    }
}
