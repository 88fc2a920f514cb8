//! Processor time and memory of a process, and on which core a thread of ours runs.

use std::time::Duration;

use anyhow::{Context, Result};

/// User and system time that `pids` have used so far, all threads: in nanoseconds where the kernel says (`/proc/PID/task/TID/schedstat`), else
/// in ticks of 10 ms (proc(5), `/proc/PID/stat`, fields 14 and 15), which would be a percent of a turn of one second.
pub fn used(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| scheduled(*pid).map_or_else(|| ticked(*pid), Ok)).sum()
}

/// Of threads that have ended it counts nothing; those of proxies do not.
fn scheduled(pid: u32) -> Option<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // One that ends while it is looked at has no time.
        let Ok(stat) = std::fs::read_to_string(thread.ok()?.path().join("schedstat")) else { continue };
        nanos += stat.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (nanos > 0).then(|| Duration::from_nanos(nanos))
}

fn ticked(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("a proxy has ended")?;
    let ticks = ticks_of(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// What it has of memory to itself, and its share of what it shares, in MiB (proc(5), `smaps_rollup`).
pub fn pss(pid: u32) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("the kernel says no PSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1_024.0)
}

/// Keeps the calling thread on `core`.
pub fn pin_this_thread(core: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The program's name, field 2, is in parentheses and may hold blanks and parentheses itself.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_an_ugly_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 1 2 3 4 700 50 5 6 20 0 1 0 100 1000 10";
        assert_eq!(ticks_of(stat), Some(750));
        assert_eq!(ticks_of("42 (x) S 1"), None);
    }

    #[test]
    fn our_own_time_grows() {
        let (before, pid) = (used(&[std::process::id()]).unwrap(), std::process::id());
        while used(&[pid]).unwrap() <= before {}
    }
}
