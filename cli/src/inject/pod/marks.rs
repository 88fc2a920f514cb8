//! The marks that make an injection reversible. They are those of compose files, too.

use std::ops::Range;

use super::kinds::units;
use super::report::Report;
use super::tree::Document;

/// Begins what was added.
pub(super) const BEGIN: &str = "# leno:begin";
/// Ends what was added.
pub(super) const END: &str = "# leno:end";
/// Stands before a line that was replaced.
pub(super) const WAS: &str = "# leno:was|";

/// Why the marks of a file cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub line: u32,
    pub message: &'static str,
    pub hint: &'static str,
}

/// The text without what stands between marks, and with what was replaced. Only documents with pods have marks of ours: what
/// looks like one elsewhere, or inside a value, is the user's.
pub(super) fn remove(text: &str, documents: &[Document]) -> Result<String, Broken> {
    let mut report = Report::new("");
    let mut scalars = Vec::new();
    let mut parts: Vec<Range<usize>> = Vec::new();
    for (n, document) in documents.iter().enumerate() {
        document.node.scalars(&mut scalars);
        if !units(document, &mut report).is_empty() {
            // From the document before to the one after: a mark may stand before the first field and after the last one.
            let start = n.checked_sub(1).and_then(|n| documents.get(n)).map_or(0, |before| before.node.span.end);
            let end = documents.get(n + 1).map_or(text.len(), |next| next.node.span.start);
            parts.push(start..end);
        }
    }
    scalars.sort_by_key(|range| range.start);
    let mut remover = Remover { out: String::with_capacity(text.len()), begun: None };
    let (mut start, mut number) = (0, 0);
    let (mut part, mut scalar) = (parts.iter().peekable(), scalars.iter().peekable());
    for line in text.split_inclusive('\n') {
        number += 1;
        while part.next_if(|part| part.end <= start).is_some() {}
        while scalar.next_if(|scalar| scalar.end <= start).is_some() {}
        let ours = part.peek().is_some_and(|part| part.start <= start);
        // A line with a part of a value is no comment, whatever it looks like.
        let in_text = scalar.peek().is_some_and(|scalar| scalar.start < start + line.len());
        remover.line(line, number, ours && !in_text)?;
        start += line.len();
    }
    remover.end()
}

struct Remover {
    out: String,
    /// The line of the begin that has no end yet.
    begun: Option<u32>,
}

impl Remover {
    fn line(&mut self, line: &str, number: u32, may_be_mark: bool) -> Result<(), Broken> {
        let broken = |message, hint| Err(Broken { line: number, message, hint });
        let mark = if may_be_mark { line.trim_start_matches([' ', '\t']) } else { "" };
        if word(mark, BEGIN) {
            if self.begun.is_some() {
                return broken("`# leno:begin` before the last one's end", "restore the line `# leno:end`");
            }
            self.begun = Some(number);
        } else if word(mark, END) {
            if self.begun.take().is_none() {
                return broken("`# leno:end` without a begin", "restore `# leno:begin`, or remove this line");
            }
        } else if self.begun.is_none() {
            self.out.push_str(mark.strip_prefix(WAS).unwrap_or(line));
        }
        Ok(())
    }

    fn end(self) -> Result<String, Broken> {
        match self.begun {
            None => Ok(self.out),
            Some(line) => Err(Broken {
                line,
                message: "this `# leno:begin` has no end",
                hint: "restore the line `# leno:end` where it was",
            }),
        }
    }
}

fn word(line: &str, mark: &str) -> bool {
    line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\r', '\n']))
}
