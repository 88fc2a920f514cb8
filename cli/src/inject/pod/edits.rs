//! Changes of a text. Lines that are added stand between marks, lines that are replaced are kept behind one.

use std::collections::BTreeMap;
use std::ops::Range;

use super::marks::{BEGIN, END, WAS};

/// Said after each begin, for who reads the file.
const WHOSE: &str = "added by `leno inject`, removed by `leno uninject`";

/// Where from, where to, and what stands there then.
type Change = (Range<usize>, String);

/// What is to change, in bytes of the text.
#[derive(Debug)]
pub(super) struct Edits<'a> {
    text: &'a str,
    /// They never overlap.
    changes: Vec<Change>,
    /// Changes within brackets, by the lines of the outermost ones, which are replaced whole.
    bracketed: BTreeMap<(usize, usize), Vec<Change>>,
}

impl<'a> Edits<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, changes: Vec::new(), bracketed: BTreeMap::new() }
    }

    /// How far the line of `at` is indented up to there; None when there is more than spaces.
    pub(super) fn indent(&self, at: usize) -> Option<usize> {
        let before = &self.text[self.line_start(at)..at];
        before.bytes().all(|b| b == b' ').then_some(before.len())
    }

    /// The dash of the list item that begins at `at`, in the same line.
    pub(super) fn dash(&self, at: usize) -> Option<usize> {
        let before = &self.text[self.line_start(at)..at];
        let dash = before.trim_end_matches(' ').len().checked_sub(1)?;
        (before.as_bytes()[dash] == b'-').then_some(at - before.len() + dash)
    }

    /// The text that these bytes are.
    pub(super) fn slice(&self, bytes: Range<usize>) -> &'a str {
        &self.text[bytes]
    }

    /// Adds lines before the line of `at`, and before the comment that belongs to that line.
    pub(super) fn add(&mut self, at: usize, indent: usize, lines: Vec<String>) {
        let mut start = self.line_start(at);
        while start > 0 {
            let above = self.line_start(start - 1);
            let line = &self.text[above..start];
            if line.len() - line.trim_start_matches(' ').len() != indent || !line[indent..].starts_with('#') {
                break;
            }
            start = above;
        }
        let marked = self.marked(indent, &lines, self.end_of_line(at));
        self.changes.push((start..start, marked));
    }

    /// Replaces the lines of these bytes.
    pub(super) fn replace(&mut self, bytes: &Range<usize>, indent: usize, lines: Vec<String>) {
        let range = self.lines_of(bytes);
        let new = self.marked(indent, &lines, self.end_of_line(bytes.start));
        self.push_replaced(range, indent, new);
    }

    /// Changes something between brackets. `outermost` are the outermost ones; None: the whole document is in brackets (JSON),
    /// where no comment can be.
    pub(super) fn within(&mut self, outermost: Option<Range<usize>>, bytes: Range<usize>, text: String) {
        match outermost {
            Some(outermost) => {
                let lines = self.lines_of(&outermost);
                self.bracketed.entry((lines.start, lines.end)).or_default().push((bytes, text));
            }
            None => self.changes.push((bytes, text)),
        }
    }

    /// The text with every change.
    pub(super) fn apply(mut self) -> String {
        for ((start, end), changes) in std::mem::take(&mut self.bracketed) {
            let changed = changed(self.text, start..end, changes);
            let line_end = self.end_of_line(start);
            let indent = self.text[start..].len() - self.text[start..].trim_start_matches(' ').len();
            let lines: Vec<String> = changed.lines().map(str::to_owned).collect();
            let new = self.marked(indent, &lines, line_end);
            self.push_replaced(start..end, indent, new);
        }
        changed(self.text, 0..self.text.len(), self.changes)
    }

    fn push_replaced(&mut self, range: Range<usize>, indent: usize, mut new: String) {
        for line in self.text[range.clone()].split_inclusive('\n') {
            new.push_str(&" ".repeat(indent));
            new.push_str(WAS);
            new.push_str(line);
        }
        self.changes.push((range, new));
    }

    fn marked(&self, indent: usize, lines: &[String], line_end: &str) -> String {
        let margin = " ".repeat(indent);
        let first = format!("{margin}{BEGIN} {WHOSE}");
        let last = format!("{margin}{END}");
        let all = std::iter::once(&first).chain(lines).chain(std::iter::once(&last));
        all.fold(String::new(), |text, line| text + line + line_end)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |end| end + 1)
    }

    /// From the start of the first line to after the last one's end.
    fn lines_of(&self, bytes: &Range<usize>) -> Range<usize> {
        let last = bytes.end.max(bytes.start + 1).min(self.text.len());
        let end = self.text[last - 1..].find('\n').map_or(self.text.len(), |end| last + end);
        self.line_start(bytes.start)..end
    }

    fn end_of_line(&self, at: usize) -> &'static str {
        match self.text[at..].find('\n').or_else(|| self.text.find('\n')) {
            Some(end) if self.text[..self.text[at..].find('\n').map_or(end, |end| at + end)].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }
}

/// A part of the text with changes.
fn changed(text: &str, part: Range<usize>, mut changes: Vec<Change>) -> String {
    // Stable: what is added at one place keeps its order, and stands before what is replaced there.
    changes.sort_by_key(|(range, _)| range.start);
    let (mut out, mut at) = (String::with_capacity(part.len() * 2), part.start);
    for (range, new) in changes {
        // Two changes of one place: the result will not be what was asked for, and the check of it says so.
        if range.start < at {
            continue;
        }
        out.push_str(&text[at..range.start]);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(&text[at..part.end]);
    out
}
