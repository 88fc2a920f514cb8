//! A file as a tree in which every node knows which characters it is, with bounds: a file from a stranger costs no more than
//! its size allows.

mod read;

use std::ops::Range;

use serde_json::Value;

pub(super) use read::documents;

/// Line and column, both from 1; the column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub line: u32,
    pub column: u32,
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    pub node: Node,
    /// What YAML allows and an object of Kubernetes does not: told only when the document has pods, since everything else
    /// passes through as it is.
    pub complaints: Vec<Wrong>,
}

/// What is wrong somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub line: u32,
    pub column: u32,
    pub message: String,
    pub hint: &'static str,
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The bytes of the file. Of a block collection, from its first key or item to the end of its last one.
    pub span: Range<usize>,
    pub place: Place,
    /// It is an alias, or aliases refer to it: a change here would be one elsewhere, too.
    pub shared: bool,
    pub content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Neither list nor map.
    Scalar(Value),
    List {
        items: Vec<Node>,
        flow: bool,
    },
    Map {
        fields: Vec<Field>,
        flow: bool,
    },
}

/// A key with its value.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub key: String,
    /// The bytes of the key.
    pub span: Range<usize>,
    pub place: Place,
    pub value: Node,
}

impl Field {
    /// The bytes from the key to the end of the value.
    pub(super) fn whole(&self) -> Range<usize> {
        self.span.start..self.span.end.max(self.value.span.end)
    }
}

impl Node {
    /// The value without the places.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List { items, .. } => items.iter().map(Self::to_value).collect(),
            Content::Map { fields, .. } => {
                Value::Object(fields.iter().map(|field| (field.key.clone(), field.value.to_value())).collect())
            }
        }
    }

    /// The fields of a map; none of anything else.
    pub(super) fn fields(&self) -> &[Field] {
        match &self.content {
            Content::Map { fields, .. } => fields,
            _ => &[],
        }
    }

    /// A field of a map with its key.
    pub(super) fn field(&self, key: &str) -> Option<&Field> {
        self.fields().iter().find(|field| field.key == key)
    }

    /// The value of a field of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.field(key).map(|field| &field.value)
    }

    /// What stands at the end of a path of fields.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.content {
            Content::List { items, .. } => items,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        self.scalar()?.as_str()
    }

    pub(super) fn int(&self) -> Option<i64> {
        self.scalar()?.as_i64()
    }

    pub(super) fn is_true(&self) -> bool {
        self.scalar().and_then(Value::as_bool) == Some(true)
    }

    pub(super) fn is_null(&self) -> bool {
        self.scalar().is_some_and(Value::is_null)
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.content, Content::Map { .. })
    }

    /// Written with brackets.
    pub(super) fn is_flow(&self) -> bool {
        matches!(self.content, Content::Map { flow: true, .. } | Content::List { flow: true, .. })
    }

    fn scalar(&self) -> Option<&Value> {
        match &self.content {
            Content::Scalar(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is a flow collection, or holds one, that covers these bytes; gives the outermost.
    pub(super) fn outermost_flow(&self, bytes: &Range<usize>) -> Option<Range<usize>> {
        if self.shared || self.span.start > bytes.start || self.span.end < bytes.end {
            return None;
        }
        if self.is_flow() {
            return Some(self.span.clone());
        }
        let mut inner = self.fields().iter().map(|field| &field.value).chain(self.items());
        inner.find_map(|node| node.outermost_flow(bytes))
    }

    /// The bytes of every scalar, keys included, below and including this one.
    pub(super) fn scalars(&self, found: &mut Vec<Range<usize>>) {
        if matches!(self.content, Content::Scalar(_)) && !self.span.is_empty() {
            found.push(self.span.clone());
        }
        self.items().iter().for_each(|item| item.scalars(found));
        for field in self.fields() {
            found.push(field.span.clone());
            field.value.scalars(found);
        }
    }
}
