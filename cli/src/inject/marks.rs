//! The marks that make an injection reversible: what is added stands between two comments, and a line that is replaced is kept
//! behind one. Whoever reads the file sees what was done, and [`remove`] needs nothing but the file to undo it.

use std::collections::BTreeMap;

/// What some editors put at a file's start.
pub const BOM: &str = "\u{feff}";
/// Begins what was added.
const BEGIN: &str = "# leno:begin";
/// Ends what was added.
const END: &str = "# leno:end";
/// Stands before a line that was replaced.
const WAS: &str = "# leno:was|";
/// The last line of a file whose last line had no end.
const NO_FINAL_NEWLINE: &str = "# leno:no-final-newline";

/// What a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark<'a> {
    Begin,
    End,
    /// With the line as it was.
    Was(&'a str),
    NoFinalNewline,
    /// A line of the user's.
    None,
}

fn mark(line: &str) -> Mark<'_> {
    let trimmed = line.trim_start_matches([' ', '\t']);
    if let Some(was) = trimmed.strip_prefix(WAS) {
        return Mark::Was(was);
    }
    let word = |mark: &str| trimmed.strip_prefix(mark).is_some_and(|rest| rest.trim_start().len() < rest.len());
    // A last line without an end is as good.
    if word(BEGIN) || trimmed == BEGIN {
        Mark::Begin
    } else if word(END) || trimmed == END {
        Mark::End
    } else if word(NO_FINAL_NEWLINE) || trimmed == NO_FINAL_NEWLINE {
        Mark::NoFinalNewline
    } else {
        Mark::None
    }
}

/// Why the marks of a file cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// From 1.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

/// The lines of `text`, each with its end.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n')
}

/// The lines, from 1, that are marks.
pub fn marked(text: &str) -> Vec<u32> {
    (1..).zip(lines(text)).filter(|(_, line)| mark(line) != Mark::None).map(|(number, _)| number).collect()
}

/// The lines, from 1, that [`remove`] keeps, in the order of what it gives.
pub fn kept(text: &str) -> Vec<u32> {
    let mut open = false;
    let mut kept = Vec::new();
    for (number, line) in (1..).zip(lines(text)) {
        match mark(line) {
            Mark::Begin => open = true,
            Mark::End => open = false,
            Mark::Was(_) | Mark::None if !open => kept.push(number),
            _ => {}
        }
    }
    kept
}

/// The file as it was before anything was injected, with the user's later changes.
///
/// # Errors
/// A begin has no end, or the other way round: what is the user's cannot be told from what was added.
pub fn remove(text: &str) -> Result<String, Broken> {
    let broken = |line, message: &str, hint| Broken { line, message: message.to_owned(), hint };
    // The first line may be one that was replaced, and the mark is before that line's text.
    let (bom, text) = text.strip_prefix(BOM).map_or(("", text), |rest| (BOM, rest));
    let mut out = String::with_capacity(text.len());
    out.push_str(bom);
    let mut open: Option<u32> = None;
    let mut cut = false;
    for (number, line) in (1..).zip(lines(text)) {
        match (mark(line), open) {
            (Mark::Begin, None) => open = Some(number),
            (Mark::Begin, Some(_)) => {
                return Err(broken(
                    number,
                    "`# leno:begin` before the last one's end",
                    "restore the line `# leno:end`",
                ));
            }
            (Mark::End, Some(_)) => open = None,
            (Mark::End, None) => {
                return Err(broken(
                    number,
                    "`# leno:end` without a begin",
                    "restore `# leno:begin` or remove this line",
                ));
            }
            (_, Some(_)) => {}
            (Mark::NoFinalNewline, None) => {
                cut = true;
                continue;
            }
            (Mark::Was(was), None) => out.push_str(was),
            (Mark::None, None) => out.push_str(line),
        }
        // Whoever adds lines at the end wants their line ends.
        cut &= open.is_some() || mark(line) == Mark::End;
    }
    if let Some(line) = open {
        return Err(broken(line, "this `# leno:begin` has no end", "restore the line `# leno:end` where it was"));
    }
    if cut {
        let end = if out.ends_with("\r\n") { 2 } else { usize::from(out.ends_with('\n')) };
        out.truncate(out.len() - end);
    }
    Ok(out)
}

/// Changes of a text by whole lines.
#[derive(Debug, Default)]
pub struct Edits {
    /// What stands before a line, counted from 1.
    added: BTreeMap<u32, Vec<Vec<String>>>,
    /// Lines that are replaced, and how far the mark is indented.
    replaced: BTreeMap<u32, usize>,
}

impl Edits {
    /// Adds `lines`, without their ends, before the line `at`. Added twice at one place, they stand in the order of the calls.
    pub fn add(&mut self, at: u32, lines: Vec<String>) {
        self.added.entry(at).or_default().push(lines);
    }

    /// Takes the lines `first` to `last` out of force, keeping them as comments indented by `indent`.
    pub fn replace(&mut self, first: u32, last: u32, indent: usize) {
        self.replaced.extend((first..=last).map(|line| (line, indent)));
    }

    /// Whether the line is taken out of force.
    pub fn replaces(&self, line: u32) -> bool {
        self.replaced.contains_key(&line)
    }

    /// The text with the changes in it.
    pub fn apply(&self, text: &str) -> String {
        let end = if lines(text).next().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" };
        let mut out = String::with_capacity(text.len() * 2);
        let mut number = 1;
        for line in lines(text) {
            self.added_before(number, end, &mut out);
            if let Some(indent) = self.replaced.get(&number) {
                out.push_str(&" ".repeat(*indent));
                out.push_str(WAS);
            }
            out.push_str(line);
            number += 1;
        }
        let complete = text.is_empty() || text.ends_with('\n');
        if !complete {
            out.push_str(end);
        }
        self.added_before(number, end, &mut out);
        if !complete {
            out.push_str(NO_FINAL_NEWLINE);
            out.push_str(end);
        }
        out
    }

    fn added_before(&self, number: u32, end: &str, out: &mut String) {
        for added in self.added.get(&number).into_iter().flatten() {
            let first = added.first().map_or("", String::as_str);
            let indent = &first[..first.len() - first.trim_start().len()];
            let begin =
                format!("{indent}{BEGIN} (by `leno inject`; `leno uninject` takes it out, with any change to it)");
            let last = format!("{indent}{END}");
            for line in std::iter::once(&begin).chain(added).chain(std::iter::once(&last)) {
                out.push_str(line);
                out.push_str(end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str) -> String {
        let mut edits = Edits::default();
        edits.add(2, vec!["  x: 1".into(), "  y: 2".into()]);
        edits.replace(2, 2, 2);
        let lines = u32::try_from(lines(text).count()).unwrap();
        edits.add(lines + 1, vec!["z: 3".into()]);
        edits.apply(text)
    }

    #[test]
    fn what_was_done_is_undone_byte_for_byte() {
        for text in
            ["a:\n  b: 1\nc: 2\n", "a:\r\n  b: 1\r\nc: 2\r\n", "a:\n  b: 1\nc: 2", "a:\r\n  b: 1\n\n\n", "a:\n  b: 1"]
        {
            let edited = edited(text);
            assert!(edited.contains("# leno:was|  b: 1") && edited.contains("x: 1"), "{edited}");
            assert_eq!(remove(&edited).unwrap(), text);
            assert_eq!(remove(text).unwrap(), text, "nothing to undo");
        }
    }

    #[test]
    fn what_the_user_changed_later_stays() {
        let text = edited("a:\n  b: 1\nc: 2").replace("c: 2", "c: 4").replace("was|  b: 1", "was|  b: 9") + "d: 5\n";
        assert_eq!(remove(&text).unwrap(), "a:\n  b: 9\nc: 4\nd: 5\n");
    }

    #[test]
    fn a_mark_without_its_partner_is_refused_with_its_line() {
        for (text, line) in [
            ("a: 1\n# leno:begin\nb: 1\n", 2),
            ("a: 1\n  # leno:end\n", 2),
            ("# leno:begin x\n# leno:begin\n# leno:end\n", 2),
        ] {
            assert_eq!(remove(text).unwrap_err().line, line, "{text}");
        }
        assert_eq!(remove("# leno:beginning\n").unwrap(), "# leno:beginning\n");
    }
}
