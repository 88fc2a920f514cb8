//! Prometheus text, format 0.0.4.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use super::{BUCKETS, Families, Histogram, Series};

pub(super) fn text(families: &Families) -> String {
    let mut out = String::new();
    for (name, family) in &families.by_name {
        let kind = match family.series.values().next() {
            Some(Series::Counter(_)) => "counter",
            Some(Series::Gauge(_)) => "gauge",
            Some(Series::Histogram(_)) => "histogram",
            None => continue,
        };
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
        for (labels, series) in &family.series {
            let labels = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect::<Vec<_>>().join(",");
            let _ = match series {
                Series::Counter(counter) => writeln!(out, "{name}{} {}", braces(&labels), counter.get()),
                Series::Gauge(gauge) => writeln!(out, "{name}{} {}", braces(&labels), gauge.get()),
                Series::Histogram(histogram) => histogram_text(&mut out, name, &labels, histogram),
            };
        }
    }
    out
}

fn histogram_text(out: &mut String, name: &str, labels: &str, histogram: &Histogram) -> std::fmt::Result {
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    for (at, bucket) in histogram.0.buckets.iter().enumerate() {
        below += bucket.load(Relaxed);
        match BUCKETS.get(at) {
            Some(bound) => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}")?,
            None => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {below}")?,
        }
    }
    let seconds = histogram.0.sum_nanos.load(Relaxed) as f64 / 1e9;
    writeln!(out, "{name}_sum{} {seconds}\n{name}_count{} {below}", braces(labels), braces(labels))
}

fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
