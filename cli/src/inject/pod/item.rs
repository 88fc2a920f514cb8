//! Values that are written into a file, as lines of YAML or as JSON in one line.

use serde_json::Value;

/// A value of ours. Maps keep the order in which people expect their fields.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Text(String),
    Int(i64),
    Bool(bool),
    List(Vec<Item>),
    Map(Vec<(&'static str, Item)>),
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Item {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Item {
    /// As a value.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => Value::from(text.as_str()),
            Self::Int(n) => Value::from(*n),
            Self::Bool(b) => Value::from(*b),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Map(fields) => {
                Value::Object(fields.iter().map(|(key, item)| ((*key).to_owned(), item.to_value())).collect())
            }
        }
    }

    /// As JSON in one line, which is YAML in brackets, too.
    pub(super) fn flow(&self) -> String {
        match self {
            Self::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            Self::Map(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(key, item)| format!("\"{key}\": {}", item.flow())).collect();
                format!("{{{}}}", fields.join(", "))
            }
            scalar => scalar.to_value().to_string(),
        }
    }

    /// `key: value` as lines, indented by `indent`.
    pub(super) fn field(key: &str, item: &Item, indent: usize) -> Vec<String> {
        let margin = " ".repeat(indent);
        match item {
            Self::List(items) if !items.is_empty() => {
                let mut lines = vec![format!("{margin}{key}:")];
                lines.extend(items.iter().flat_map(|item| item.entry(indent)));
                lines
            }
            Self::Map(fields) if !fields.is_empty() => {
                let mut lines = vec![format!("{margin}{key}:")];
                lines.extend(fields.iter().flat_map(|(key, item)| Self::field(key, item, indent + 2)));
                lines
            }
            item => vec![format!("{margin}{key}: {}", item.inline())],
        }
    }

    /// `- value` as lines, the dash indented by `indent`.
    pub(super) fn entry(&self, indent: usize) -> Vec<String> {
        let margin = " ".repeat(indent);
        match self {
            Self::Map(fields) if !fields.is_empty() => {
                let mut lines: Vec<String> =
                    fields.iter().flat_map(|(key, item)| Self::field(key, item, indent + 2)).collect();
                if let Some(first) = lines.first_mut() {
                    first.replace_range(indent..indent + 1, "-");
                }
                lines
            }
            item => vec![format!("{margin}- {}", item.inline())],
        }
    }

    fn inline(&self) -> String {
        match self {
            Self::Text(text) if is_plain(text) => text.clone(),
            // Readable where it is JSON itself.
            Self::Text(text) if text.bytes().all(|b| (b' '..=b'~').contains(&b)) && text.contains('"') => {
                format!("'{}'", text.replace('\'', "''"))
            }
            item => item.flow(),
        }
    }
}

/// Needs no quotes in any version of YAML.
fn is_plain(text: &str) -> bool {
    const RESERVED: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_./=,:$()".contains(&b);
    let body = text.strip_prefix("--").unwrap_or(text);
    body.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.bytes().all(good)
        && !text.ends_with(':')
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str())
}
