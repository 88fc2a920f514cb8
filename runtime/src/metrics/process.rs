//! What the kernel says of this process, under the names that every Prometheus client uses; read when somebody asks.

use std::fmt::Write as _;

use super::render::Form;

/// What `/proc` counts processor time in: 100 a second on every Linux (USER_HZ).
const TICKS: f64 = 100.0;
const PAGE: u64 = 4096;

/// One of them.
struct Figure {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: f64,
}

pub(super) fn text(out: &mut String, form: Form) {
    for Figure { name, kind, help, value } in figures() {
        let of = match form {
            Form::OpenMetrics => name.strip_suffix("_total").unwrap_or(name),
            Form::Prometheus => name,
        };
        let _ = writeln!(out, "# HELP {of} {help}\n# TYPE {of} {kind}\n{name} {value}");
    }
}

/// None: the kernel does not say it.
fn figures() -> impl Iterator<Item = Figure> {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in front may hold blanks and brackets.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let field = move |n: usize| fields.get(n - 3).and_then(|text| text.parse::<f64>().ok());
    let booted = std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok()));
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|open| open.count() as f64);
    // By their numbers in proc(5).
    let figures = [
        (
            "process_cpu_seconds_total",
            "counter",
            "User and system processor time.",
            field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
        ),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", field(24).map(|pages| pages * PAGE as f64)),
        ("process_virtual_memory_bytes", "gauge", "Address space.", field(23)),
        ("process_threads", "gauge", "Threads.", field(20)),
        ("process_open_fds", "gauge", "Open file descriptors.", open),
        (
            "process_start_time_seconds",
            "gauge",
            "When the process was started, since 1970.",
            field(22).zip(booted).map(|(ticks, booted)| booted + ticks / TICKS),
        ),
    ];
    figures.into_iter().filter_map(|(name, kind, help, value)| Some(Figure { name, kind, help, value: value? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_all_of_them() {
        let figures: Vec<Figure> = figures().collect();
        let of = |name: &str| figures.iter().find(|figure| figure.name == name).unwrap().value;
        assert!(of("process_resident_memory_bytes") > 1e6 && of("process_open_fds") >= 3.0);
        assert!(of("process_threads") >= 1.0 && of("process_cpu_seconds_total") >= 0.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - 7200.0..=now + 1.0).contains(&of("process_start_time_seconds")));
        let mut text = String::new();
        super::text(&mut text, Form::OpenMetrics);
        assert!(text.contains("# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total "), "{text}");
    }
}
