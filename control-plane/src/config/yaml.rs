//! YAML to located trees, with bounds: a file from a stranger costs no more than its size allows.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::Value;

use super::node::{Content, Node, Place};
use super::{problem::clip, scalar};

/// Deepest nesting.
const MOST_DEPTH: usize = 64;
/// Most nodes of one file, those that aliases repeat included (which is what stops a billion laughs).
const MOST_NODES: usize = 100_000;
/// Most bytes of all texts of one file, those that aliases repeat included.
const MOST_TEXT: usize = 4 << 20;

/// Why a file is no YAML that we take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub place: Place,
    pub message: String,
    pub hint: &'static str,
}

/// The documents of a file up to its end or its first error.
pub(super) fn documents(text: &str) -> (Vec<Node>, Option<SyntaxError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(error) = unprintable(text) {
        return (Vec::new(), Some(error));
    }
    let parser = Parser::new_from_str(text);
    let mut reader = Reader { source: text, parser, nodes: 0, text: 0, anchors: HashMap::new(), open: HashSet::new() };
    let mut found = Vec::new();
    loop {
        match reader.document() {
            Ok(Some(node)) => found.push(node),
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

/// Control characters are no part of YAML (1.2, 5.1), and the parser would take a NUL for the end of the file.
fn unprintable(text: &str) -> Option<SyntaxError> {
    let no_text =
        |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r') || matches!(c, '\u{fffe}' | '\u{ffff}');
    let (at, found) = text.char_indices().find(|(_, c)| no_text(*c))?;
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = number(text[..at].bytes().filter(|b| *b == b'\n').count() + 1);
    let place = Place { line, column: number(text[line_start..at].chars().count() + 1) };
    Some(refuse(place, format!("this is not YAML: it holds the control character {found:?}"), "save it as plain text"))
}

struct Reader<'a> {
    source: &'a str,
    parser: Parser<'a, StrInput<'a>>,
    nodes: usize,
    text: usize,
    anchors: HashMap<usize, Node>,
    /// Anchors of nodes that are not complete yet.
    open: HashSet<usize>,
}

type Read<T> = Result<T, SyntaxError>;

impl<'a> Reader<'a> {
    /// The next document that is not empty.
    fn document(&mut self) -> Read<Option<Node>> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(None),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                event => {
                    let node = self.node(event, span, 0)?;
                    if node.content != Content::Scalar(Value::Null) {
                        return Ok(Some(node));
                    }
                }
            }
        }
    }

    fn next(&mut self) -> Read<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let place = self.tab(error.info(), place(*error.marker()));
                let message = clip(format!("this is not YAML: {}", error.info()), 300);
                Err(SyntaxError { place, message, hint: hint(error.info()) })
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The parser blames a tab on the scalar before it; the tab itself is what has to go.
    fn tab(&self, error: &str, place: Place) -> Place {
        if !error.contains("tab") {
            return place;
        }
        let lines = (1..).zip(self.source.lines()).skip(place.line.saturating_sub(1) as usize).take(100);
        let mut indented = lines.filter_map(|(line, text): (u32, _)| {
            let indent = text.len() - text.trim_start().len();
            text[..indent].chars().position(|c| c == '\t').map(|at| (line, at))
        });
        indented.next().map_or(place, |(line, at)| Place { line, column: u32::try_from(at + 1).unwrap_or(1) })
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Read<Node> {
        let place = place(span.start);
        if depth >= MOST_DEPTH {
            return Err(refuse(place, format!("nested deeper than {MOST_DEPTH} levels"), "flatten it"));
        }
        self.charge(1, 0, place)?;
        let (anchor, tag) = match &event {
            Event::Alias(id) => return self.alias(*id, place),
            Event::Scalar(_, _, anchor, tag) | Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => {
                (*anchor, tag.as_deref())
            }
            _ => return Err(refuse(place, "unexpected end of a collection", "close every bracket that is opened")),
        };
        check_tag(tag, place)?;
        self.open.insert(anchor);
        let content = match &event {
            Event::Scalar(text, style, _, tag) => {
                self.charge(0, text.len(), place)?;
                Content::Scalar(value(text, *style, tag.as_deref(), place)?)
            }
            Event::SequenceStart(..) => Content::List(self.list(depth)?),
            _ => Content::Map(self.map(depth)?),
        };
        self.open.remove(&anchor);
        let node = Node { place, content };
        // The anchor zero means 'none'.
        if anchor != 0 {
            let (nodes, text) = node.weight();
            self.charge(nodes, text, place)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, place: Place) -> Read<Node> {
        if self.open.contains(&id) {
            return Err(refuse(place, "an alias refers to the node that it is in", "write the value out"));
        }
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(refuse(
                place,
                "an alias refers to an anchor that is not in this document",
                "write the value out",
            ));
        };
        let (nodes, text) = node.weight();
        self.charge(nodes, text, place)?;
        Ok(Node { place, ..node })
    }

    fn list(&mut self, depth: usize) -> Read<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Read<Vec<(String, Place, Node)>> {
        let mut fields = Vec::new();
        let mut seen: HashMap<String, Place> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(fields);
            }
            let at = place(span.start);
            let key = self.key(&event, at)?;
            if let Some(first) = seen.insert(key.clone(), at) {
                let message = format!("the key {:?} is here twice, first in line {}", clip(key, 80), first.line);
                return Err(refuse(at, message, "remove one of them"));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            fields.push((key, at, value));
        }
    }

    /// A key is a text; a number or a boolean is taken as it is spelt, as JSON has no other keys.
    fn key(&mut self, event: &Event<'_>, at: Place) -> Read<String> {
        let Event::Scalar(text, style, _, tag) = event else {
            return Err(refuse(
                at,
                "a key must be a text",
                "write `key: value`; quote a text that begins with { [ * or ?",
            ));
        };
        check_tag(tag.as_deref(), at)?;
        if text == "<<" && *style == ScalarStyle::Plain {
            return Err(refuse(at, "merge keys (<<) are not supported", "write the fields out"));
        }
        self.charge(0, text.len(), at)?;
        Ok(text.to_string())
    }

    fn charge(&mut self, nodes: usize, text: usize, at: Place) -> Read<()> {
        self.nodes += nodes;
        self.text += text;
        if self.nodes > MOST_NODES {
            let message = format!("more than {MOST_NODES} values in one file, repeated aliases included");
            return Err(refuse(at, message, "split the file"));
        }
        if self.text > MOST_TEXT {
            let message = format!("more than {MOST_TEXT} bytes of text in one file, repeated aliases included");
            return Err(refuse(at, message, "split the file"));
        }
        Ok(())
    }
}

fn value(text: &str, style: ScalarStyle, tag: Option<&Tag>, place: Place) -> Read<Value> {
    let forced = tag.is_some_and(|tag| tag.suffix == "str" || tag.handle == "!");
    if style != ScalarStyle::Plain || forced {
        return Ok(Value::String(text.to_owned()));
    }
    scalar::resolve(text).map_err(|scalar::NotJson| {
        refuse(place, format!("{text} is not a number that is taken here"), "write a finite number")
    })
}

/// Only the tags of the core schema have a meaning in JSON.
fn check_tag(tag: Option<&Tag>, place: Place) -> Read<()> {
    let Some(tag) = tag else { return Ok(()) };
    let known = ["str", "int", "float", "bool", "null", "map", "seq"].contains(&tag.suffix.as_str());
    // A lone `!` says 'not a plain scalar' (YAML 1.2, 6.9.1).
    let lone = tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty();
    if lone || (tag.is_yaml_core_schema() && known) {
        return Ok(());
    }
    Err(refuse(place, clip(format!("the tag {tag} is not supported"), 120), "remove it"))
}

fn refuse(place: Place, message: impl Into<String>, hint: &'static str) -> SyntaxError {
    SyntaxError { place, message: message.into(), hint }
}

fn place(marker: Marker) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: number(marker.line()), column: number(marker.col() + 1) }
}

fn hint(error: &str) -> &'static str {
    let error = error.to_lowercase();
    if error.contains("tab") {
        "indent with spaces"
    } else if error.contains("indent") || error.contains("mapping") {
        "check the indentation, and quote a text that holds `: `"
    } else if error.contains("quot") || error.contains("scalar") {
        "check the quotes"
    } else if error.contains("flow") || error.contains("bracket") || error.contains("eof") {
        "close every bracket and quote that is opened"
    } else {
        "check the indentation, quotes and brackets of this line and the one before it"
    }
}
