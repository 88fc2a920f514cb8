//! `support.txt` and the page that is made of it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::Value;

/// What is said of a field or a feature.
pub struct Row {
    pub supported: bool,
    /// The object around a refused field that is tried, where one with a value that fits the field alone is not enough.
    pub tried: Option<Value>,
    pub note: String,
}

impl Row {
    pub fn supported() -> Self {
        Self { supported: true, tried: None, note: String::new() }
    }
}

#[derive(Default)]
pub struct OfKind {
    pub supported: bool,
    pub note: String,
    pub fields: BTreeMap<String, Row>,
}

/// The whole file.
pub struct Support {
    order: Vec<String>,
    pub kinds: BTreeMap<String, OfKind>,
    pub features: BTreeMap<String, Row>,
}

fn row(rest: &str) -> Row {
    let (rest, note) = rest.split_once(" | ").unwrap_or((rest, ""));
    let (word, tried) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
    assert!(matches!(word, "supported" | "refused"), "neither supported nor refused: {rest}");
    let tried = (!tried.is_empty()).then(|| serde_json::from_str(tried).unwrap());
    Row { supported: word == "supported", tried, note: note.trim().to_owned() }
}

impl Support {
    pub fn parse(text: &str) -> Self {
        let mut all = Self { order: Vec::new(), kinds: BTreeMap::new(), features: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let (name, rest) = line.trim().split_once(' ').unwrap();
            match name {
                "kind" => {
                    let (name, rest) = rest.split_once(' ').unwrap();
                    let Row { supported, note, .. } = row(rest);
                    all.order.push(name.to_owned());
                    all.kinds.insert(name.to_owned(), OfKind { supported, note, fields: BTreeMap::new() });
                }
                "feature" => {
                    let (name, rest) = rest.split_once(' ').unwrap();
                    all.features.insert(name.to_owned(), row(rest));
                }
                path => {
                    let kind = all.order.last().expect("a kind before its fields");
                    all.kinds.get_mut(kind).unwrap().fields.insert(path.to_owned(), row(rest));
                }
            }
        }
        all
    }

    /// docs/gateway-api.md.
    pub fn page(&self) -> String {
        let word = |supported: bool| if supported { "supported" } else { "**refused**" };
        let mut page = String::from(HEAD);
        for name in &self.order {
            let OfKind { supported, note, fields } = &self.kinds[name];
            let note = if note.is_empty() { String::new() } else { format!(": {note}") };
            let _ = write!(page, "\n### {name}\n\n{}{note}.\n", if *supported { "Supported" } else { "**Refused**" });
            if *supported {
                page.push_str("\n| field | | |\n|---|---|---|\n");
            }
            for (path, row) in fields {
                let _ = writeln!(page, "| `{path}` | {} | {} |", word(row.supported), row.note);
            }
        }
        page.push_str("\n## Features\n\n| name | | |\n|---|---|---|\n");
        for (name, row) in &self.features {
            let _ = writeln!(page, "| {name} | {} | {} |", word(row.supported), row.note);
        }
        page
    }
}

/// The file again.
impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |row: &Row| {
            let word = if row.supported { "supported" } else { "refused" };
            let tried = row.tried.as_ref().map(|tried| format!(" {tried}")).unwrap_or_default();
            let note = if row.note.is_empty() { String::new() } else { format!(" | {}", row.note) };
            format!("{word}{tried}{note}")
        };
        f.write_str(FILE)?;
        for name in &self.order {
            let OfKind { supported, note, fields } = &self.kinds[name];
            let row = Row { supported: *supported, tried: None, note: note.clone() };
            writeln!(f, "\nkind {name} {}", said(&row))?;
            for (path, row) in fields {
                writeln!(f, "  {path} {}", said(row))?;
            }
        }
        f.write_str("\n")?;
        self.features.iter().try_for_each(|(name, row)| writeln!(f, "feature {name} {}", said(row)))
    }
}

const FILE: &str = "# What of the Gateway API is supported: docs/gateway-api.md is made of this, and ../gateway_api.rs tries every row.
#
# kind NAME supported|refused [| note]
#   PATH supported|refused [JSON] [| note]
# feature NAME supported|refused [| note]
#
# What is below a refused field has no rows. JSON is the object around a refused field that is tried, where a value that fits the
# field alone is not enough. A supported field stands in an object of KIND.yaml.
";

const HEAD: &str = "# The Gateway API, field by field

Made from `control-plane/tests/gateway_api/support.txt`; `control-plane/tests/gateway_api.rs` tries every row of the fields: what is supported is taken, and
what is refused is refused by name, with file, line and field. Nothing is ignored but `status`. Below a refused field everything is refused.
What a supported field means is what the Gateway API says of it; where that leaves a choice, [configuration.md](configuration.md) says which.

## Kinds
";
