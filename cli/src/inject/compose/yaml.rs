//! Reads a compose file into a tree of places, with bounds: a file from a stranger costs no more than its size allows.
//!
//! The control plane's reader (`config::yaml`) makes values of what it reads; this one keeps how each was written, since what is
//! moved within a file must mean the same to every other reader of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput, Tag};

use super::node::{Content, Field, Node, Place, Scalar};

/// Deepest nesting.
const MOST_DEPTH: usize = 64;
/// Most nodes of one file, those that aliases repeat included (which is what stops a billion laughs).
const MOST_NODES: usize = 100_000;
/// Most bytes of all texts of one file, those that aliases repeat included.
const MOST_TEXT: usize = 4 << 20;

/// Why a file is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    pub place: Place,
    pub message: String,
    pub hint: &'static str,
}

/// A file with its anchors.
#[derive(Debug)]
pub struct Document<'a> {
    /// The one document of the file.
    pub root: Node,
    /// Without their ends' line feeds.
    pub lines: Vec<&'a str>,
    /// Where each alias stands, and the line of the anchor that it means.
    pub aliases: Vec<(Place, u32)>,
    /// The lines that texts of several lines cover: a mark in them is text and no comment.
    pub texts: Vec<(u32, u32)>,
}

/// Reads the one document of `text`.
///
/// # Errors
/// It is no YAML that we take, or not one document.
pub fn read(text: &str) -> Result<Document<'_>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(error) = unreadable(text) {
        return Err(error);
    }
    let mut reader = Reader {
        lines: text.split('\n').collect(),
        parser: Parser::new_from_str(text),
        nodes: 0,
        text: 0,
        anchors: HashMap::new(),
        open: HashSet::new(),
        found: BTreeMap::new(),
        texts: Vec::new(),
    };
    let root = reader.document()?;
    let aliases = std::mem::take(&mut reader.found).into_values().collect();
    Ok(Document { root, lines: reader.lines, aliases, texts: reader.texts })
}

/// Control characters are no part of YAML (1.2, 5.1); a lone carriage return is a line's end to some readers and not to others.
fn unreadable(text: &str) -> Option<SyntaxError> {
    let control =
        |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r') || matches!(c, '\u{fffe}' | '\u{ffff}');
    let lone = |at: usize, c: char| c == '\r' && !text[at + 1..].starts_with('\n');
    let (at, found) = text.char_indices().find(|(at, c)| control(*c) || lone(*at, *c))?;
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[..at].bytes().filter(|b| *b == b'\n').count() + 1;
    let place = Place { line: number(line), column: number(text[start..at].chars().count() + 1) };
    let message = format!("this is not YAML: it holds the control character {found:?}");
    Some(refuse(place, message, "save it as plain text, with line ends \\n or \\r\\n"))
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    parser: Parser<'a, StrInput<'a>>,
    nodes: usize,
    text: usize,
    anchors: HashMap<usize, Node>,
    /// Anchors of nodes that are not complete yet.
    open: HashSet<usize>,
    /// Aliases by their places.
    found: BTreeMap<(u32, u32), (Place, u32)>,
    texts: Vec<(u32, u32)>,
}

type Read<T> = Result<T, SyntaxError>;

impl<'a> Reader<'a> {
    fn document(&mut self) -> Read<Node> {
        let mut root: Option<Node> = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                event if root.is_none() => root = Some(self.node(event, span, 0)?),
                _ => {
                    let hint = "write it as a file of its own, and name both with docker-compose -f";
                    return Err(refuse(place(span.start), "a second document in one file", hint));
                }
            }
        }
        root.ok_or_else(|| refuse(Place { line: 1, column: 1 }, "the file is empty", "write services: with a service"))
    }

    fn next(&mut self) -> Read<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => {
                let message: String = error.info().chars().take(300).collect();
                let at = self.tab(error.info(), place(*error.marker()));
                Err(refuse(at, format!("this is not YAML: {message}"), hint(error.info())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The parser blames a tab on the scalar before it; the tab itself is what has to go.
    fn tab(&self, error: &str, at: Place) -> Place {
        let lines = (1..).zip(&self.lines).skip(at.line.saturating_sub(1) as usize).take(100);
        let indented = |text: &str| text.len() - text.trim_start().len();
        let mut tabs = lines.filter(|(_, text)| text[..indented(text)].contains('\t'));
        match tabs.next().filter(|_| error.contains("tab")) {
            Some((line, text)) => Place { line, column: number(text.find('\t').unwrap_or(0) + 1) },
            None => at,
        }
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
                (*anchor, tag.as_deref().map(written_tag))
            }
            _ => return Err(refuse(place, "unexpected end of a collection", "close every bracket that is opened")),
        };
        self.open.insert(anchor);
        // A block begins where its first key does, a flow with its bracket.
        let flow = span.start != span.end;
        let (content, last) = match event {
            Event::Scalar(text, style, ..) => self.scalar(&text, style, span)?,
            Event::SequenceStart(..) => {
                let (items, last) = self.list(depth, place)?;
                (Content::List { items, flow }, last)
            }
            _ => {
                let (fields, last) = self.map(depth, place)?;
                (Content::Map { fields, flow }, last)
            }
        };
        self.open.remove(&anchor);
        let node = Node { place, last, tag, alias: false, content };
        // The anchor zero means 'none'.
        if anchor != 0 {
            let (nodes, text) = node.weight();
            self.charge(nodes, text, place)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, span: Span) -> Read<(Content, u32)> {
        self.charge(0, text.len(), place(span.start))?;
        let last = self.last_line(span, style);
        let first = number(span.start.line());
        if last > first || matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            self.texts.push((first, last.max(first)));
        }
        let empty = style == ScalarStyle::Plain && span.start == span.end;
        let text = if empty { String::new() } else { text.to_owned() };
        Ok((Content::Scalar(Scalar { text, plain: style == ScalarStyle::Plain }), last))
    }

    /// A block scalar's span reaches to what comes next; its text ends in the line before.
    fn last_line(&self, span: Span, style: ScalarStyle) -> u32 {
        let end = span.end.line();
        if !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return number(end);
        }
        let line = self.lines.get(end.saturating_sub(1)).copied().unwrap_or_default();
        let blank = line.chars().take(span.end.col()).all(char::is_whitespace);
        number(if blank { end.saturating_sub(1) } else { end })
    }

    fn alias(&mut self, id: usize, place: Place) -> Read<Node> {
        if self.open.contains(&id) {
            let message = "circular: an alias refers to the node that it is in";
            return Err(refuse(place, message, "write the value out"));
        }
        let Some(node) = self.anchors.get(&id).cloned() else {
            let message = "an alias refers to an anchor that is not in this file";
            return Err(refuse(place, message, "write the value out"));
        };
        let (nodes, text) = node.weight();
        self.charge(nodes, text, place)?;
        self.found.insert((place.line, place.column), (place, node.place.line));
        Ok(Node { place, last: place.line, alias: true, ..node })
    }

    fn list(&mut self, depth: usize, start: Place) -> Read<(Vec<Node>, u32)> {
        let (mut items, mut last) = (Vec::new(), start.line);
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((items, closing(span, last))),
                (event, span) => {
                    let item = self.node(event, span, depth + 1)?;
                    last = last.max(item.last);
                    items.push(item);
                }
            }
        }
    }

    fn map(&mut self, depth: usize, start: Place) -> Read<(Vec<Field>, u32)> {
        let mut fields: Vec<Field> = Vec::new();
        let mut seen: HashMap<String, u32> = HashMap::new();
        let mut last = start.line;
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((fields, closing(span, last)));
            }
            let at = place(span.start);
            let Event::Scalar(text, style, ..) = &event else {
                let hint = "write `key: value`; quote a text that begins with { [ * or ?";
                return Err(refuse(at, "a key must be a text", hint));
            };
            self.charge(0, text.len(), at)?;
            let key = Scalar { text: text.to_string(), plain: *style == ScalarStyle::Plain };
            if let Some(first) = seen.insert(key.text.clone(), at.line) {
                let shown: String = key.text.chars().take(80).collect();
                let message = format!("the key {shown:?} is here twice, first in line {first}");
                return Err(refuse(at, message, "remove one of them"));
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            last = last.max(value.last).max(at.line);
            fields.push(Field { key, place: at, value });
            self.check_merge(&fields)?;
        }
    }

    fn check_merge(&self, fields: &[Field]) -> Read<()> {
        let Some(field) = fields.last().filter(|field| field.is_merge()) else { return Ok(()) };
        let good = match &field.value.content {
            Content::List { items, .. } => items.iter().all(Node::is_map),
            content => matches!(content, Content::Map { .. }),
        };
        if good {
            return Ok(());
        }
        Err(refuse(field.place, "a merge key (<<) takes a map or a list of maps", "write `<<: *anchor` of a map"))
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

/// A flow ends at its bracket; a block ends where its last part does, since its span reaches to what comes next.
fn closing(span: Span, last: u32) -> u32 {
    if span.start == span.end { last } else { last.max(number(span.end.line())) }
}

fn written_tag(tag: &Tag) -> String {
    if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { format!("{}{}", tag.handle, tag.suffix) }
}

fn refuse(place: Place, message: impl Into<String>, hint: &'static str) -> SyntaxError {
    SyntaxError { place, message: message.into(), hint }
}

fn place(marker: Marker) -> Place {
    Place { line: number(marker.line()), column: number(marker.col() + 1) }
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn hint(error: &str) -> &'static str {
    let error = error.to_lowercase();
    if error.contains("tab") {
        "indent with spaces"
    } else if error.contains("anchor") || error.contains("alias") {
        "define the anchor (&name) before its alias (*name)"
    } else if error.contains("indent") || error.contains("mapping") {
        "check the indentation, and quote a text that holds `: `"
    } else {
        "check the indentation, quotes and brackets of this line and the one before it"
    }
}
