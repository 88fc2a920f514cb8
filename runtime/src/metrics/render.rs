//! Prometheus text, format 0.0.4, and OpenMetrics text, version 1.0.0.

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use super::{BUCKETS, Exemplar, Families, Histogram, Kept, Kind, Series};

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Prometheus,
    OpenMetrics,
}

pub(super) fn text(families: &Families, form: Form) -> String {
    let mut out = String::new();
    for (name, family) in &families.by_name {
        let kind = match family.series.values().next().map(|kept| &kept.series) {
            Some(Series::Counter(_)) => Kind::Counter,
            Some(Series::Gauge(_)) => Kind::Gauge,
            Some(Series::Histogram(_)) => Kind::Histogram,
            None => continue,
        };
        // There a counter's family goes without the end that its samples have.
        let of = match (form, kind) {
            (Form::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let _ = writeln!(out, "# HELP {of} {}\n# TYPE {of} {}", family.help, kind.word());
        for (labels, Kept { series, .. }) in &family.series {
            let labels = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escape(v))).collect::<Vec<_>>().join(",");
            let _ = match series {
                Series::Counter(counter) => writeln!(out, "{name}{} {}", braces(&labels), counter.get()),
                Series::Gauge(gauge) => writeln!(out, "{name}{} {}", braces(&labels), gauge.get()),
                Series::Histogram(histogram) => histogram_text(&mut out, name, &labels, histogram, form),
            };
        }
    }
    super::process::text(&mut out, form);
    if form == Form::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn histogram_text(out: &mut String, name: &str, labels: &str, histogram: &Histogram, form: Form) -> std::fmt::Result {
    let exemplars = histogram.0.exemplars.get().filter(|_| form == Form::OpenMetrics);
    let exemplars = exemplars.map(|all| *all.lock().unwrap_or_else(PoisonError::into_inner));
    let comma = if labels.is_empty() { "" } else { "," };
    let mut below = 0;
    for (at, bucket) in histogram.0.buckets.iter().enumerate() {
        below += bucket.load(Relaxed);
        let exemplar = exemplars.and_then(|all| all[at]).map(exemplar_text).unwrap_or_default();
        match BUCKETS.get(at) {
            Some(bound) => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}{exemplar}")?,
            None => writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {below}{exemplar}")?,
        }
    }
    let seconds = histogram.0.sum_nanos.load(Relaxed) as f64 / 1e9;
    writeln!(out, "{name}_sum{} {seconds}\n{name}_count{} {below}", braces(labels), braces(labels))
}

fn exemplar_text(of: Exemplar) -> String {
    let at = format!("{}.{:03}", of.at.as_secs(), of.at.subsec_millis());
    format!(" # {{trace_id=\"{:032x}\"}} {} {at}", of.trace, of.took.as_secs_f64())
}

fn braces(labels: &str) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{labels}}}") }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
