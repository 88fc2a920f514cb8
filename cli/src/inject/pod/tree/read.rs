//! From text to trees.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::{Number, Value};

use super::{Content, Document, Field, Node, Place, Wrong};
use crate::inject::pod::report::clip;

/// Deepest nesting.
const MOST_DEPTH: usize = 64;
/// Most nodes of one file, those that aliases repeat included (which is what stops a billion laughs).
const MOST_NODES: usize = 200_000;

type Read<T> = Result<T, Wrong>;

/// The documents of a file, those that are empty left out.
pub(in crate::inject::pod) fn documents(text: &str) -> Read<Vec<Document>> {
    let skipped = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let source = &text[skipped..];
    printable(source)?;
    // Marks count characters, spans count bytes.
    let mut offsets: Vec<usize> = source.char_indices().map(|(at, _)| at + skipped).collect();
    offsets.push(text.len());
    let mut events = Vec::new();
    for event in Parser::new_from_str(source) {
        events.push(event.map_err(|error| {
            let message = clip(&format!("this is not YAML: {}", error.info()), 300);
            wrong(place(*error.marker()), message, hint(error.info()))
        })?);
        if events.len() > 2 * MOST_NODES {
            let message = format!("more than {MOST_NODES} values in one file");
            return Err(wrong(Place::default(), message, "split the file"));
        }
    }
    let aliased = events.iter().filter_map(|(event, _)| if let Event::Alias(id) = event { Some(*id) } else { None });
    let aliased = aliased.collect();
    let mut reader = Reader {
        text,
        offsets,
        events: events.into_iter(),
        aliased,
        anchors: HashMap::new(),
        open: HashSet::new(),
        nodes: 0,
        complaints: Vec::new(),
    };
    let mut found = Vec::new();
    while let Some(document) = reader.document()? {
        found.push(document);
    }
    Ok(found)
}

/// Control characters are no part of YAML (1.2, 5.1), and the parser would take a NUL for the end of the file: what comes after
/// it would pass for injected.
fn printable(text: &str) -> Read<()> {
    let bad =
        |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r') || matches!(c, '\u{fffe}' | '\u{ffff}');
    let Some((at, found)) = text.char_indices().find(|(_, c)| bad(*c)) else { return Ok(()) };
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = text[..at].matches('\n').count() + 1;
    let place = Place { line: number(line), column: number(text[line_start..at].chars().count() + 1) };
    Err(wrong(place, format!("this is not YAML: it holds the control character {found:?}"), "save it as plain text"))
}

struct Reader<'a> {
    text: &'a str,
    /// Byte of each character.
    offsets: Vec<usize>,
    events: std::vec::IntoIter<(Event<'a>, Span)>,
    /// Anchors that something refers to.
    aliased: HashSet<usize>,
    anchors: HashMap<usize, Node>,
    /// Anchors of nodes that are not complete yet.
    open: HashSet<usize>,
    nodes: usize,
    complaints: Vec<Wrong>,
}

impl Reader<'_> {
    fn document(&mut self) -> Read<Option<Document>> {
        while let Some((event, span)) = self.events.next() {
            match event {
                Event::Nothing
                | Event::StreamStart
                | Event::StreamEnd
                | Event::DocumentStart(_)
                | Event::DocumentEnd => {}
                event => {
                    self.complaints.clear();
                    let node = self.node(event, span, 0)?;
                    if !node.is_null() {
                        return Ok(Some(Document { node, complaints: std::mem::take(&mut self.complaints) }));
                    }
                }
            }
        }
        Ok(None)
    }

    fn node(&mut self, event: Event<'_>, span: Span, depth: usize) -> Read<Node> {
        let at = place(span.start);
        if depth >= MOST_DEPTH {
            return Err(wrong(at, format!("nested deeper than {MOST_DEPTH} levels"), "flatten it"));
        }
        self.charge(1, at)?;
        let start = self.byte(span.start);
        let (anchor, mut node) = match event {
            Event::Alias(id) => return self.alias(id, self.bytes(span), at),
            Event::Scalar(text, style, anchor, tag) => {
                self.tag(tag.as_deref(), at);
                let value = value(&text, style, tag.as_deref());
                (
                    anchor,
                    Node { span: self.scalar(span, style), place: at, shared: false, content: Content::Scalar(value) },
                )
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_deref(), at);
                self.open.insert(anchor);
                let (items, end) = self.list(depth)?;
                (anchor, self.collection(start, end, at, |flow| Content::List { items, flow }, '['))
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_deref(), at);
                self.open.insert(anchor);
                let (fields, end) = self.map(depth)?;
                (anchor, self.collection(start, end, at, |flow| Content::Map { fields, flow }, '{'))
            }
            _ => return Err(wrong(at, "unexpected end of a collection", "close every bracket that is opened")),
        };
        self.open.remove(&anchor);
        // The anchor zero means 'none'.
        if anchor != 0 && self.aliased.contains(&anchor) {
            share(&mut node);
            self.charge(weight(&node), at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// `end` is where the parser saw the collection end: right for brackets only.
    fn collection(
        &self,
        start: usize,
        end: Span,
        at: Place,
        content: impl FnOnce(bool) -> Content,
        bracket: char,
    ) -> Node {
        let flow = self.text[start..].starts_with(bracket);
        let content = content(flow);
        let last = match &content {
            Content::List { items, .. } => items.last().map(|item| item.span.end),
            Content::Map { fields, .. } => fields.last().map(|field| field.whole().end),
            Content::Scalar(_) => None,
        };
        let end = if flow { self.byte(end.start) + 1 } else { last.unwrap_or(start).max(start) };
        Node { span: start..end, place: at, shared: false, content }
    }

    fn alias(&mut self, id: usize, span: Range<usize>, at: Place) -> Read<Node> {
        if self.open.contains(&id) {
            return Err(wrong(at, "an alias refers to the node that it is in", "write the value out"));
        }
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(wrong(at, "an alias refers to an anchor that is not here", "write the value out"));
        };
        self.charge(weight(&node), at)?;
        Ok(Node { span, place: at, ..node })
    }

    fn list(&mut self, depth: usize) -> Read<(Vec<Node>, Span)> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((items, span)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Read<(Vec<Field>, Span)> {
        let mut fields: Vec<Field> = Vec::new();
        let mut seen: HashMap<String, u32> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                return Ok((fields, span));
            }
            let key = self.node(event, span, depth + 1)?;
            let name = self.key(&key);
            if let Some(first) = seen.insert(name.clone(), key.place.line) {
                let message = format!("the key {:?} is here twice, first in line {first}", clip(&name, 80));
                self.complain(key.place, message, "remove one of them");
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            fields.push(Field { key: name, span: key.span, place: key.place, value });
        }
    }

    /// A key is a text; a number or a boolean is taken as it is spelt, as JSON has no other keys.
    fn key(&mut self, key: &Node) -> String {
        match &key.content {
            Content::Scalar(Value::String(text)) => {
                if text == "<<" {
                    self.complain(key.place, "merge keys (<<) are not supported".into(), "write the fields out");
                }
                text.clone()
            }
            Content::Scalar(_) => self.text.get(key.span.clone()).unwrap_or_default().to_owned(),
            _ => {
                let hint = "write `key: value`; quote a text that begins with { [ * or ?, such as a template's {{…}}";
                self.complain(key.place, "a key must be a text".into(), hint);
                String::new()
            }
        }
    }

    fn next(&mut self) -> Read<(Event<'static>, Span)> {
        let cut = || wrong(Place::default(), "the file ends in the middle", "close every bracket that is opened");
        let (event, span) = self.events.next().ok_or_else(cut)?;
        Ok((owned(event), span))
    }

    /// Only the tags of the core schema have a meaning in JSON.
    fn tag(&mut self, tag: Option<&Tag>, at: Place) {
        let Some(tag) = tag else { return };
        let known = ["str", "int", "float", "bool", "null", "map", "seq"].contains(&tag.suffix.as_str());
        let lone = tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty();
        if !(lone || tag.is_yaml_core_schema() && known) {
            self.complain(at, clip(&format!("the tag {tag} is not supported"), 120), "remove it");
        }
    }

    fn complain(&mut self, at: Place, message: String, hint: &'static str) {
        if self.complaints.len() < 100 {
            self.complaints.push(wrong(at, message, hint));
        }
    }

    fn charge(&mut self, nodes: usize, at: Place) -> Read<()> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            let message = format!("more than {MOST_NODES} values in one file, repeated aliases included");
            return Err(wrong(at, message, "split the file"));
        }
        Ok(())
    }

    fn byte(&self, marker: Marker) -> usize {
        self.offsets.get(marker.index()).copied().unwrap_or(self.text.len())
    }

    fn bytes(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start);
        start..self.byte(span.end).max(start)
    }

    /// Of a block scalar the parser counts in the white space up to the next token.
    fn scalar(&self, span: Span, style: ScalarStyle) -> Range<usize> {
        let bytes = self.bytes(span);
        match style {
            ScalarStyle::Literal | ScalarStyle::Folded => {
                let kept = self.text[bytes.clone()].trim_end().len();
                bytes.start..bytes.start + kept
            }
            _ => bytes,
        }
    }
}

fn owned(event: Event<'_>) -> Event<'static> {
    use std::borrow::Cow;
    let own = |tag: Option<Cow<'_, Tag>>| tag.map(|tag| Cow::Owned(tag.into_owned()));
    match event {
        Event::Nothing => Event::Nothing,
        Event::StreamStart => Event::StreamStart,
        Event::StreamEnd => Event::StreamEnd,
        Event::DocumentStart(explicit) => Event::DocumentStart(explicit),
        Event::DocumentEnd => Event::DocumentEnd,
        Event::Alias(id) => Event::Alias(id),
        Event::Scalar(text, style, anchor, tag) => {
            Event::Scalar(Cow::Owned(text.into_owned()), style, anchor, own(tag))
        }
        Event::SequenceStart(anchor, tag) => Event::SequenceStart(anchor, own(tag)),
        Event::SequenceEnd => Event::SequenceEnd,
        Event::MappingStart(anchor, tag) => Event::MappingStart(anchor, own(tag)),
        Event::MappingEnd => Event::MappingEnd,
    }
}

fn share(node: &mut Node) {
    node.shared = true;
    match &mut node.content {
        Content::Scalar(_) => {}
        Content::List { items, .. } => items.iter_mut().for_each(share),
        Content::Map { fields, .. } => fields.iter_mut().for_each(|field| share(&mut field.value)),
    }
}

fn weight(node: &Node) -> usize {
    1 + node.items().iter().map(weight).sum::<usize>()
        + node.fields().iter().map(|field| 1 + weight(&field.value)).sum::<usize>()
}

/// The core schema of YAML 1.2 (10.3.2).
fn value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let forced = tag.is_some_and(|tag| tag.suffix == "str" || tag.handle == "!");
    if style != ScalarStyle::Plain || forced {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    number_of(text).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number_of(text: &str) -> Option<Number> {
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(Number::from);
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !body.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let whole = text.strip_prefix('+').unwrap_or(text);
    if let Ok(n) = whole.parse::<i64>() {
        return Some(n.into());
    }
    if let Ok(n) = whole.parse::<u64>() {
        return Some(n.into());
    }
    let float = body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    if float { text.parse::<f64>().ok().and_then(Number::from_f64) } else { None }
}

fn wrong(at: Place, message: impl Into<String>, hint: &'static str) -> Wrong {
    Wrong { line: at.line, column: at.column, message: message.into(), hint }
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
    } else if error.contains("flow") || error.contains("bracket") || error.contains("eof") {
        "close every bracket and quote that is opened; a template (`{{ … }}`) has to be rendered first"
    } else {
        "check the indentation, quotes and brackets of this line and the one before it"
    }
}
