//! Bars as SVG: a panel a result, one above the other, each with a scale of its own that begins at 0. A bar is a median; the line across
//! its end goes from the least to the greatest of the rounds.

use std::fmt::Write as _;

use crate::report::number;
use crate::summary::Summary;

const WIDTH: f64 = 860.0;
/// Where bars begin, and how long the longest value may be.
const LEFT: f64 = 330.0;
const LONGEST: f64 = 340.0;
const ROW: f64 = 22.0;
const BAR: f64 = 14.0;
const HEAD: f64 = 44.0;
/// Ours, and theirs.
const COLOURS: [&str; 2] = ["#2f6f4f", "#9aa5ad"];
/// Longer names would run into the bars.
const LONGEST_NAME: usize = 56;

/// One result.
#[derive(Debug, Clone)]
pub struct Panel {
    pub title: String,
    pub unit: String,
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    pub name: String,
    pub value: Summary,
    /// Digits after the point.
    pub digits: usize,
    /// Whether it is the product's.
    pub ours: bool,
}

/// The panels as one picture.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let (mut body, mut y) = (text(16.0, 26.0, "font-size=\"17\" font-weight=\"bold\"", title), 36.0);
    for panel in panels {
        body += &drawn(panel, y);
        y += height(panel);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{0}\" viewBox=\"0 0 {WIDTH} {0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n",
        y + 12.0
    )
}

fn height(panel: &Panel) -> f64 {
    HEAD + ROW * panel.bars.len() as f64
}

fn drawn(panel: &Panel, top: f64) -> String {
    let unit = if panel.unit.is_empty() { String::new() } else { format!(" ({})", panel.unit) };
    let mut out = text(16.0, top + 24.0, "font-weight=\"bold\"", &format!("{}{unit}", panel.title));
    let scale = scale(&panel.bars);
    for (n, bar) in panel.bars.iter().enumerate() {
        let y = top + HEAD - 8.0 + ROW * n as f64;
        let Summary { median, min, max } = bar.value;
        let (end, middle) = (LEFT + length(median, scale), y + BAR / 2.0);
        let name: String = bar.name.chars().take(LONGEST_NAME).collect();
        out += &text(LEFT - 8.0, y + 11.0, "text-anchor=\"end\"", &name);
        let colour = COLOURS[usize::from(!bar.ours)];
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
            end - LEFT
        );
        let (from, to) = (LEFT + length(min, scale), LEFT + length(max, scale));
        if to > from {
            let _ = writeln!(
                out,
                "<path d=\"M{from:.1} {middle:.1}H{to:.1}M{from:.1} {0:.1}v6M{to:.1} {0:.1}v6\" stroke=\"black\"/>",
                middle - 3.0
            );
        }
        out += &text(to.max(end) + 8.0, y + 11.0, "", &value(bar));
    }
    out
}

fn value(bar: &Bar) -> String {
    let [median, min, max] =
        [bar.value.median, bar.value.min, bar.value.max].map(|value| number(Some(value), bar.digits));
    if min == max { median } else { format!("{median} ({min} … {max})") }
}

/// Pixels for one of the unit; the greatest value of all takes the whole width.
fn scale(bars: &[Bar]) -> f64 {
    let greatest = bars.iter().map(|bar| bar.value.max).filter(|max| max.is_finite()).fold(0.0, f64::max);
    if greatest > 0.0 { LONGEST / greatest } else { 0.0 }
}

/// What is below nothing has no length, and what is no number neither.
fn length(value: f64, scale: f64) -> f64 {
    let length = value * scale;
    if length.is_finite() { length.clamp(0.0, LONGEST) } else { 0.0 }
}

fn text(x: f64, y: f64, attributes: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>\n", escaped(text))
}

/// As text of XML 1.0; of control characters only those that it allows.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, median: f64, min: f64, max: f64) -> Bar {
        Bar { name: name.to_owned(), value: Summary { median, min, max }, digits: 0, ours: name == "leno" }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a<b> & \"c\" 'd'\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot; &apos;d&apos;");
        let panel = Panel { title: "<x>".to_owned(), unit: "a&b".to_owned(), bars: vec![bar("\"", 1.0, 1.0, 1.0)] };
        let drawn = svg("t", &[panel]);
        assert!(drawn.contains("&lt;x&gt; (a&amp;b)") && drawn.contains(">&quot;<"), "{drawn}");
    }

    #[test]
    fn the_greatest_value_takes_the_whole_width_and_others_their_share() {
        let scale = scale(&[bar("leno", 100.0, 90.0, 200.0), bar("other", 50.0, 50.0, 50.0)]);
        let lengths = [200.0, 100.0, 50.0, 0.0, -1.0, f64::NAN].map(|value| length(value, scale));
        assert_eq!(lengths, [LONGEST, LONGEST / 2.0, LONGEST / 4.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn bars_of_nothing_are_drawn_without_a_length() {
        let panel = Panel { title: "x".to_owned(), unit: "y".to_owned(), bars: vec![bar("leno", 0.0, 0.0, 0.0)] };
        let drawn = svg("t", &[panel]);
        assert!(drawn.contains("width=\"0.0\"") && !drawn.contains("NaN"), "{drawn}");
    }
}
