//! A YAML tree that knows where each part of it stands in the file and how it was written, so that it can be moved without
//! being changed.

use std::collections::{BTreeMap, HashSet};

/// Line and column, both from 1; the end of a node's text is a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

/// A scalar as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scalar {
    /// The text that it stands for.
    pub text: String,
    /// Whether it was written without quotes, so that `1`, `true` and nothing at all are no texts.
    pub plain: bool,
}

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub place: Place,
    /// The last line of its text; that of the alias, when it is one.
    pub last: u32,
    /// As it is written, `!!str` or `!reset`.
    pub tag: Option<String>,
    /// It stands somewhere else in the file.
    pub alias: bool,
    pub content: Content,
}

/// The kinds of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Scalar(Scalar),
    List {
        items: Vec<Node>,
        flow: bool,
    },
    /// In the order of the file, without duplicates; merge keys are fields named `<<`.
    Map {
        fields: Vec<Field>,
        flow: bool,
    },
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub key: Scalar,
    pub place: Place,
    pub value: Node,
}

impl Field {
    /// The last line of its text.
    pub fn last(&self) -> u32 {
        self.value.last.max(self.place.line)
    }

    /// Whether it brings the fields of another map in.
    pub fn is_merge(&self) -> bool {
        self.key.plain && self.key.text == "<<"
    }
}

/// What a value means, without how and where it was written; merges are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    Scalar(Scalar, Option<String>),
    List(Vec<Meaning>, Option<String>),
    Map(BTreeMap<String, Meaning>, Option<String>),
}

impl Node {
    /// Nothing was written, or `null` was.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(s) if s.plain && matches!(s.text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is not null: `8080` and `"8080"` are alike.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) if !self.is_null() => Some(&scalar.text),
            _ => None,
        }
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self.content, Content::Map { .. })
    }

    /// The elements of a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The fields of a map as they are written, merges not done.
    pub fn written(&self) -> &[Field] {
        match &self.content {
            Content::Map { fields, .. } => fields,
            _ => &[],
        }
    }

    /// The fields of a map with those that merge keys bring in: what is written in the map itself comes first and wins, then an
    /// earlier merged map over a later one.
    pub fn fields(&self) -> Vec<&Field> {
        let mut found: Vec<&Field> = self.written().iter().filter(|field| !field.is_merge()).collect();
        let mut known: HashSet<&str> = found.iter().map(|field| field.key.text.as_str()).collect();
        for merge in self.written().iter().filter(|field| field.is_merge()) {
            let merged = match &merge.value.content {
                Content::List { items, .. } => items.iter().collect(),
                _ => vec![&merge.value],
            };
            for field in merged.into_iter().flat_map(Node::fields) {
                if known.insert(&field.key.text) {
                    found.push(field);
                }
            }
        }
        found
    }

    /// A field of a map, written or merged.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.field(key).map(|field| &field.value)
    }

    /// A field of a map with its key, written or merged.
    pub fn field(&self, key: &str) -> Option<&Field> {
        self.fields().into_iter().find(|field| field.key.text == key)
    }

    /// What it means.
    pub fn meaning(&self) -> Meaning {
        let tag = self.tag.clone();
        match &self.content {
            // A text over several lines is a text in every style.
            Content::Scalar(s) if s.text.contains('\n') => Meaning::Scalar(Scalar { plain: false, ..s.clone() }, tag),
            Content::Scalar(scalar) => Meaning::Scalar(scalar.clone(), tag),
            Content::List { items, .. } => Meaning::List(items.iter().map(Self::meaning).collect(), tag),
            Content::Map { .. } => {
                let fields = self.fields().into_iter().map(|f| (f.key.text.clone(), f.value.meaning()));
                Meaning::Map(fields.collect(), tag)
            }
        }
    }

    /// How many nodes the tree has, and how many bytes its texts.
    pub fn weight(&self) -> (usize, usize) {
        let add = |(nodes, bytes): (usize, usize), (n, b)| (nodes + n, bytes + b);
        match &self.content {
            Content::Scalar(scalar) => (1, scalar.text.len()),
            Content::List { items, .. } => items.iter().map(Self::weight).fold((1, 0), add),
            Content::Map { fields, .. } => {
                fields.iter().map(|f| add((1, f.key.text.len()), f.value.weight())).fold((1, 0), add)
            }
        }
    }
}
