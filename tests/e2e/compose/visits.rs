//! What the example's visitors print: a line a second.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use leno_tests::docker::{Project, until};

/// What some seconds of visits came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visits {
    pub ok: usize,
    pub failed: usize,
    pub versions: BTreeMap<String, usize>,
    /// The lines that have failures, as they were printed.
    pub reasons: Vec<String>,
}

impl Visits {
    /// Reads `ok=50 failed=1 v1=48 v2=2 | 1 x why`.
    pub fn add(&mut self, line: &str) -> Option<()> {
        let (counts, reasons) = line.split_once(" | ").map_or((line, None), |(counts, why)| (counts, Some(why)));
        let mut read = Vec::new();
        for count in counts.split_whitespace() {
            let (name, n) = count.split_once('=')?;
            read.push((name, n.parse::<usize>().ok()?));
        }
        let [("ok", ok), ("failed", failed), versions @ ..] = &read[..] else { return None };
        self.ok += ok;
        self.failed += failed;
        for (version, n) in versions {
            *self.versions.entry((*version).to_owned()).or_default() += n;
        }
        self.reasons.extend(reasons.map(|_| line.to_owned()));
        Some(())
    }

    /// Visits that saw this version.
    pub fn of(&self, version: &str) -> usize {
        self.versions.get(version).copied().unwrap_or_default()
    }
}

/// Now, as Docker reads it.
fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}

/// The whole seconds that were printed since then; the first one began before, so it is left out.
fn seconds_since(project: &Project<'_>, since: &str) -> Vec<String> {
    let log = project.log("load", since);
    log.lines().filter(|line| line.starts_with("ok=")).skip(1).map(str::to_owned).collect()
}

/// The next `n` seconds of visits.
pub fn next(project: &Project<'_>, n: usize) -> Visits {
    let since = now();
    let deadline = Duration::from_secs(30 + 3 * n as u64);
    let lines = || Some(seconds_since(project, &since)).filter(|lines| lines.len() >= n);
    let lines = until(&format!("{n} seconds of visits"), deadline, lines, || project.state());
    let mut visits = Visits::default();
    for line in &lines[..n] {
        visits.add(line).unwrap_or_else(|| panic!("{line:?} is no second of visits"));
    }
    visits
}

/// Waits until for three seconds in a row there were visits and all went well.
pub fn go_well(project: &Project<'_>, deadline: Duration) {
    let since = now();
    let well = || {
        let lines = seconds_since(project, &since);
        let last = &lines[lines.len().checked_sub(3)?..];
        let mut visits = Visits::default();
        last.iter().try_for_each(|line| visits.add(line))?;
        (visits.failed == 0 && visits.ok >= 60).then_some(())
    };
    let printed = || format!("{}\n{}", seconds_since(project, &since).join("\n"), project.state());
    until("visits go well", deadline, well, printed);
}

#[test]
fn a_line_of_the_visitors_is_read() {
    let mut visits = Visits::default();
    visits.add("ok=50 failed=0 v1=48 v2=2").unwrap();
    visits.add("ok=10 failed=1 v1=10 | 1 x web answered 503 no_endpoint").unwrap();
    assert_eq!((visits.ok, visits.failed, visits.of("v1"), visits.of("v2")), (60, 1, 58, 2));
    assert_eq!(visits.reasons.len(), 1);
    assert_eq!(visits.add("ready"), None);
}
