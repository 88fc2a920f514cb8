//! Counters, gauges and histograms for Prometheus: plain atomics that the request path holds directly, so that counting is
//! one relaxed addition and never an allocation, a lock or a look-up.
//!
//! A registry is bounded: past [`MOST_SERIES`] series a name's further ones are folded into one with the label
//! `overflow="true"`, so that no traffic can make it grow.

mod named;
mod process;
mod render;

pub use named::{Kind, Named, counter, gauge, histogram, markdown};

use render::Form;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Most series in a registry; a histogram counts as one.
pub const MOST_SERIES: usize = 2_000;

/// A series that nobody can count in any more is forgotten after this.
const IDLE: Duration = Duration::from_secs(3_600);

/// Upper bounds of a histogram's buckets, in seconds.
pub const BUCKETS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The bounds in nanoseconds, so that observing needs no floating point.
const BUCKET_NANOS: [u64; 16] = {
    let mut nanos = [0; 16];
    let mut at = 0;
    while at < BUCKETS.len() {
        nanos[at] = (BUCKETS[at] * 1e9) as u64;
        at += 1;
    }
    nanos
};

/// Only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// What was counted.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicU64>);

impl Gauge {
    /// Is now `value`.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// Changes by `by`, which may be negative.
    pub fn add(&self, by: f64) {
        let _ = self.0.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + by).to_bits()));
    }

    /// The value.
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

#[derive(Debug, Default)]
struct Distribution {
    /// One more than the bounds: the last is for everything above.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum_nanos: AtomicU64,
    /// The newest traced one of each bucket; made with the first.
    exemplars: OnceLock<Mutex<[Option<Exemplar>; BUCKETS.len() + 1]>>,
}

/// One of those that were counted, and whose trace is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Exemplar {
    trace: u128,
    took: Duration,
    /// Since 1970.
    at: Duration,
}

/// A distribution of durations.
#[derive(Debug, Clone, Default)]
pub struct Histogram(Arc<Distribution>);

impl Histogram {
    /// One more of this length.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let at = BUCKET_NANOS.partition_point(|bound| *bound < nanos);
        self.0.buckets[at].fetch_add(1, Relaxed);
        self.0.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// Names the trace of one that was or will be observed.
    pub fn exemplar(&self, duration: Duration, trace: u128, at: SystemTime) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKET_NANOS.partition_point(|bound| *bound < nanos);
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let exemplars = self.0.exemplars.get_or_init(Mutex::default);
        exemplars.lock().unwrap_or_else(PoisonError::into_inner)[bucket] = Some(Exemplar { trace, took: duration, at });
    }

    /// How many were observed.
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    fn counts(&self) -> [u64; BUCKETS.len() + 1] {
        std::array::from_fn(|bucket| self.0.buckets[bucket].load(Relaxed))
    }
}

#[derive(Debug, Clone)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

/// What a series says now.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A counter.
    Count(u64),
    /// A gauge.
    Level(f64),
    /// A histogram: how many fell between each bound of [`BUCKETS`] and the one before; the last: above all.
    Times([u64; BUCKETS.len() + 1]),
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    series: BTreeMap<Vec<(String, String)>, Kept>,
}

/// A series, and since when it says the same.
#[derive(Debug)]
struct Kept {
    series: Series,
    said: (u64, Instant),
}

impl Series {
    /// Whether somebody holds a handle, and so may count at any time.
    fn is_held(&self) -> bool {
        let handles = match self {
            Self::Counter(counter) => Arc::strong_count(&counter.0),
            Self::Gauge(gauge) => Arc::strong_count(&gauge.0),
            Self::Histogram(histogram) => Arc::strong_count(&histogram.0),
        };
        handles > 1
    }

    fn reading(&self) -> Reading {
        match self {
            Self::Counter(counter) => Reading::Count(counter.get()),
            Self::Gauge(gauge) => Reading::Level(gauge.get()),
            Self::Histogram(histogram) => Reading::Times(histogram.counts()),
        }
    }

    fn says(&self) -> u64 {
        match self {
            Self::Counter(counter) => counter.get(),
            Self::Gauge(gauge) => gauge.0.load(Relaxed),
            Self::Histogram(histogram) => histogram.count(),
        }
    }
}

#[derive(Debug, Default)]
struct Families {
    /// What the program may count; empty: anything.
    known: &'static [Named],
    by_name: BTreeMap<&'static str, Family>,
    series: usize,
}

impl Families {
    /// What the table says of a metric. That everything stands there, with just these labels, is for tests to find out.
    fn help(&self, name: &str, labels: &[(&str, &str)]) -> &'static str {
        let known = self.known.iter().find(|known| known.name == name);
        let labels = || labels.iter().map(|(label, _)| *label);
        debug_assert!(
            self.known.is_empty() || known.is_some_and(|known| known.labels.iter().copied().eq(labels())),
            "{name} {:?} is not in the table of metrics",
            labels().collect::<Vec<_>>()
        );
        known.map_or("", |known| known.help)
    }

    /// Forgets series that nobody holds a handle on and that have said the same for long: services and rules that are no more.
    fn sweep(&mut self, now: Instant) {
        for family in self.by_name.values_mut() {
            let before = family.series.len();
            family.series.retain(|_, kept| {
                let says = kept.series.says();
                // What a gauge says holds until it says something else.
                let holds = matches!(kept.series, Series::Gauge(_)) && says != 0;
                if kept.series.is_held() || holds || says != kept.said.0 {
                    kept.said = (says, now);
                }
                now.saturating_duration_since(kept.said.1) < IDLE
            });
            self.series -= before - family.series.len();
        }
        self.by_name.retain(|_, family| !family.series.is_empty());
    }
}

/// All series of a program. Handles are made once, off the request path, and then used without it.
#[derive(Debug, Clone, Default)]
pub struct Registry(Arc<Mutex<Families>>);

impl Registry {
    /// An empty registry, for tests: anything can be counted in it, and nothing is said of it.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty registry for what stands in this table.
    pub fn of(known: &'static [Named]) -> Self {
        Self(Arc::new(Mutex::new(Families { known, ..Families::default() })))
    }

    /// The counter of this name and these labels; the same handle for the same labels.
    pub fn counter(&self, name: &'static str, labels: &[(&str, &str)]) -> Counter {
        match self.series(name, labels, || Series::Counter(Counter::default())) {
            Series::Counter(counter) => counter,
            _ => Counter::default(),
        }
    }

    /// The gauge of this name and these labels.
    pub fn gauge(&self, name: &'static str, labels: &[(&str, &str)]) -> Gauge {
        match self.series(name, labels, || Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            _ => Gauge::default(),
        }
    }

    /// The histogram of this name and these labels, in seconds.
    pub fn histogram(&self, name: &'static str, labels: &[(&str, &str)]) -> Histogram {
        match self.series(name, labels, || Series::Histogram(Histogram::default())) {
            Series::Histogram(histogram) => histogram,
            _ => Histogram::default(),
        }
    }

    /// All series of a metric with their labels, for who adds them up elsewhere. Locks.
    pub fn read(&self, name: &str) -> Vec<(Vec<(String, String)>, Reading)> {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let series = families.by_name.get(name).into_iter().flat_map(|family| &family.series);
        series.map(|(labels, kept)| (labels.clone(), kept.series.reading())).collect()
    }

    fn series(&self, name: &'static str, labels: &[(&str, &str)], make: impl FnOnce() -> Series) -> Series {
        let mut key: Vec<_> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if families.series >= MOST_SERIES {
            families.sweep(Instant::now());
        }
        let full = families.series >= MOST_SERIES;
        let help = families.help(name, labels);
        let family = families.by_name.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        if full && !family.series.contains_key(&key) {
            key = vec![("overflow".to_owned(), "true".to_owned())];
        }
        if let Some(known) = family.series.get(&key) {
            return known.series.clone();
        }
        let made = make();
        family.series.insert(key, Kept { series: made.clone(), said: (0, Instant::now()) });
        families.series += 1;
        made
    }

    /// Prometheus text, format 0.0.4.
    pub fn render(&self) -> String {
        self.render_as(Form::Prometheus)
    }

    /// OpenMetrics text, version 1.0.0: the same, and exemplars.
    pub fn render_open_metrics(&self) -> String {
        self.render_as(Form::OpenMetrics)
    }

    fn render_as(&self, form: Form) -> String {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        families.sweep(Instant::now());
        render::text(&families, form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered_as_prometheus_reads_it() {
        let registry = Registry::new();
        registry.counter("leno_requests_total", &[("code", "200")]).add(3);
        registry.gauge("leno_up", &[]).set(1.5);
        let seconds = registry.histogram("leno_request_duration_seconds", &[("route", "a\"\n\\b")]);
        seconds.observe(Duration::from_micros(700));
        seconds.observe(Duration::from_secs(100));
        let text = registry.render();
        for line in [
            "# TYPE leno_requests_total counter",
            r#"leno_requests_total{code="200"} 3"#,
            "leno_up 1.5",
            r#"leno_request_duration_seconds_bucket{route="a\"\n\\b",le="0.0005"} 0"#,
            r#"leno_request_duration_seconds_bucket{route="a\"\n\\b",le="0.001"} 1"#,
            r#"leno_request_duration_seconds_bucket{route="a\"\n\\b",le="+Inf"} 2"#,
            r#"leno_request_duration_seconds_count{route="a\"\n\\b"} 2"#,
            r#"leno_request_duration_seconds_sum{route="a\"\n\\b"} 100.0007"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn open_metrics_has_the_same_and_the_newest_traced_one_of_each_bucket() {
        let registry = Registry::new();
        registry.counter("leno_requests_total", &[("code", "200")]).add(3);
        let seconds = registry.histogram("leno_request_duration_seconds", &[]);
        seconds.observe(Duration::from_micros(700));
        let at = UNIX_EPOCH + Duration::from_millis(1_500);
        for trace in [1, 0xabc] {
            seconds.exemplar(Duration::from_micros(700), trace, at);
        }
        let text = registry.render_open_metrics();
        for line in [
            "# TYPE leno_requests counter",
            r#"leno_requests_total{code="200"} 3"#,
            r#"leno_request_duration_seconds_bucket{le="0.001"} 1 # {trace_id="00000000000000000000000000000abc"} 0.0007 1.500"#,
            r#"leno_request_duration_seconds_bucket{le="0.0025"} 1"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert!(!registry.render().contains("trace_id"), "the older form has none");
    }

    #[test]
    fn the_same_labels_give_the_same_series() {
        let registry = Registry::new();
        registry.counter("leno_x_total", &[("a", "1")]).inc();
        registry.counter("leno_x_total", &[("a", "1")]).inc();
        assert_eq!(registry.counter("leno_x_total", &[("a", "1")]).get(), 2);
    }

    #[test]
    fn a_series_that_nobody_counts_in_is_forgotten_and_makes_room() {
        let registry = Registry::new();
        let held = registry.counter("leno_x_total", &[("n", "held")]);
        let loose = |n: &str| registry.counter("leno_x_total", &[("n", n)]).inc();
        loose("idle");
        loose("used");
        let sweep = |after: Duration| registry.0.lock().unwrap().sweep(Instant::now() + after);
        sweep(IDLE / 2);
        loose("used");
        sweep(IDLE / 2 + IDLE / 4);
        sweep(IDLE + IDLE / 2);
        let text = registry.render();
        assert!(
            !text.contains("idle") && text.contains(r#"{n="used"} 2"#) && text.contains(r#"{n="held"} 0"#),
            "{text}"
        );
        drop(held);
        sweep(IDLE * 4);
        assert_eq!(registry.0.lock().unwrap().series, 0);
    }

    #[test]
    fn past_the_bound_series_are_folded_into_one() {
        let registry = Registry::new();
        for n in 0..MOST_SERIES + 500 {
            registry.counter("leno_x_total", &[("n", &n.to_string())]).inc();
        }
        let text = registry.render();
        assert_eq!(text.lines().filter(|l| l.starts_with("leno_x_total")).count(), MOST_SERIES + 1);
        assert!(text.contains(r#"leno_x_total{overflow="true"} 500"#));
    }
}
