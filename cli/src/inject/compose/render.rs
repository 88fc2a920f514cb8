//! Writes a part of a tree anew, in block style. Every scalar keeps its spelling as far as it matters: `22:22` without quotes is
//! one thing to one reader and another to the next, so what had no quotes gets none.

use super::node::{Content, Node, Place, Scalar};

/// The lines of `key: value`, indented by `indent`, `step` more for what is inside. Aliases and merges are written out.
pub fn field(key: &Scalar, value: &Node, indent: usize, step: usize) -> Vec<String> {
    let mut lines = Vec::new();
    after(&format!("{}{}:", " ".repeat(indent), scalar(key)), value, indent + step, step, &mut lines);
    lines
}

/// Writes `value` behind `head`, which is `key:` or `-`.
fn after(head: &str, value: &Node, indent: usize, step: usize, lines: &mut Vec<String>) {
    let tag = value.tag.as_ref().map(|tag| format!(" {tag}")).unwrap_or_default();
    if let Some(text) = flow(value) {
        return lines.push(format!("{head}{tag} {text}"));
    }
    match &value.content {
        Content::Scalar(s) if s.plain && s.text.is_empty() => lines.push(format!("{head}{tag}")),
        Content::Scalar(s) => lines.push(format!("{head}{tag} {}", scalar(s))),
        Content::List { items, .. } if items.is_empty() => lines.push(format!("{head}{tag} []")),
        Content::List { items, .. } => {
            lines.push(format!("{head}{tag}"));
            for item in items {
                after(&format!("{}-", " ".repeat(indent)), item, indent + step, step, lines);
            }
        }
        Content::Map { .. } => {
            let fields = value.fields();
            if fields.is_empty() {
                lines.push(format!("{head}{tag} {{}}"));
                return;
            }
            lines.push(format!("{head}{tag}"));
            for inner in fields {
                lines.extend(field(&inner.key, &inner.value, indent, step));
            }
        }
    }
}

/// What we made ourselves to be in one line. What was written in flow style is written in block style all the same: an alias in it
/// may have brought in what is not right between brackets.
fn flow(value: &Node) -> Option<String> {
    if value.place != Place::default() {
        return None;
    }
    match &value.content {
        Content::List { items, flow: true } => {
            let items: Option<Vec<String>> = items.iter().map(flow_scalar).collect();
            items.map(|items| format!("[{}]", items.join(", ")))
        }
        Content::Map { fields, flow: true } => {
            let fields: Option<Vec<String>> = fields
                .iter()
                .map(|f| flow_scalar(&f.value).map(|value| format!("{}: {value}", scalar(&f.key))))
                .collect();
            fields.map(|fields| format!("{{{}}}", fields.join(", ")))
        }
        _ => None,
    }
}

fn flow_scalar(value: &Node) -> Option<String> {
    match &value.content {
        Content::Scalar(s) => Some(scalar(s)),
        _ => None,
    }
}

/// One scalar in one line.
pub fn scalar(scalar: &Scalar) -> String {
    if scalar.plain && !scalar.text.contains('\n') { scalar.text.clone() } else { quoted(&scalar.text) }
}

/// A text in double quotes, so that no reader takes it for anything else.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // Line ends to readers of YAML 1.1.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
