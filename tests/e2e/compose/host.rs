//! What a project may leave on the host: networks, volumes, links and firewall rules.

use std::process::Command;

use leno_tests::docker::Docker;
use leno_tests::tools;

/// What there is now, a line each, without what changes by itself.
pub fn traces(docker: &Docker) -> Vec<String> {
    let mut traces = Vec::new();
    for list in [["network", "ls", "--quiet"], ["volume", "ls", "--quiet"], ["ps", "--all", "--quiet"]] {
        traces.extend(docker.run(&list).lines().map(|id| format!("docker {} {id}", list[0])));
    }
    for command in [&["iptables-save"][..], &["ip6tables-save"], &["nft", "list", "tables"], &["ip", "-o", "link"]] {
        traces.extend(lines(command));
    }
    traces.sort();
    traces
}

/// The lines of a tool's output, each behind the tool's name. A tool that is not there has no rules of ours to show.
fn lines(command: &[&str]) -> Vec<String> {
    let Some(program) = tools::find(command[0]) else { return Vec::new() };
    let output = Command::new(program).args(&command[1..]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(stable).map(|line| format!("{}: {line}", command[0])).collect()
}

/// A line without counters, numbers of links and times.
fn stable(line: &str) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let line = line.split(" [").next().unwrap_or(line);
    match line.split_once(": ") {
        // `7: eth0: <FLAGS> mtu …`: the name is enough.
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            Some(rest.split(':').next().unwrap_or(rest).to_owned())
        }
        _ => Some(line.to_owned()),
    }
}
