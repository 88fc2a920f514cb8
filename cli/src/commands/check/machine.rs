//! `leno check --machine`: whether this machine lets a control plane, a sidecar and interception start. Nobody is asked; what is looked at
//! stands in `/proc`.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use super::findings::{Finding, Severity};

/// Ports that are taken unless somebody says otherwise: by whom, and how that is said.
const PORTS: [(u16, &str, &str); 10] = [
    (15000, "leno-proxy", "--admin-addr"),
    (15001, "leno-proxy", "--http-proxy-addr"),
    (15006, "leno-proxy", "--inbound-port"),
    (15008, "leno-proxy", "--mesh-addr"),
    (15010, "leno-control-plane", "--xds-addr"),
    (15012, "leno-control-plane", "--api-addr"),
    (15013, "leno-control-plane", "--federation-addr"),
    (15014, "leno-control-plane", "--admin-addr"),
    (15020, "leno-proxy", "--health-addr"),
    (15053, "leno-proxy", "--dns-port"),
];
/// `CAP_NET_ADMIN` of capabilities(7).
const NET_ADMIN: u32 = 12;
/// Files and sockets that a process should be able to hold open.
const FILES: u64 = 4_096;

/// What is wrong here.
pub(super) fn findings() -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let ports = PORTS.iter().filter_map(|(port, of, flag)| taken(*port, of, flag));
    ports.chain(privilege(&status)).chain(files(&limits)).collect()
}

fn taken(port: u16, of: &str, flag: &str) -> Option<Finding> {
    let why = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).err()?;
    let (severity, what) = match (why.kind(), owner(port)) {
        // Its own is no fault.
        (ErrorKind::AddrInUse, Some(owner)) if owner == of => return None,
        (ErrorKind::AddrInUse, Some(owner)) => {
            (Severity::Warning, format!("port {port}, which {of} listens on by default, is taken by {owner}"))
        }
        (ErrorKind::AddrInUse, None) => (
            Severity::Warning,
            format!("port {port}, which {of} listens on by default, is taken by another user's process"),
        ),
        _ => (Severity::Error, format!("port {port} cannot be listened on: {why}")),
    };
    let mend = format!("`ss -ltnp 'sport = :{port}'` says who it is; stop that, or start {of} with another {flag}");
    Some(Finding::new(severity, "port_taken", what, mend))
}

/// The name of the process that listens on a port, as far as this user may know.
fn owner(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let inodes = tables.iter().flat_map(|table| listening(table, port));
    let sockets: HashSet<String> = inodes.map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |process: &Path| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        links.any(|link| sockets.contains(&*link.to_string_lossy()))
    };
    let mut processes = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let process = processes.find(|process| holds(process))?;
    let program = std::fs::read_link(process.join("exe")).ok()?;
    Some(program.file_name()?.to_string_lossy().into_owned())
}

/// Inodes of the sockets that listen on a port, in a table of proc_net(5).
fn listening(table: &str, port: u16) -> Vec<&str> {
    const LISTEN: &str = "0A";
    let row = |line: &'_ str| -> Option<bool> {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?.rsplit_once(':')?.1;
        Some(u16::from_str_radix(local, 16).ok()? == port && fields.nth(1)? == LISTEN)
    };
    let rows = table.lines().skip(1).filter(|line| row(line) == Some(true));
    rows.filter_map(|line| line.split_whitespace().nth(9)).collect()
}

/// Interception needs a capability; everything else needs none.
fn privilege(status: &str) -> Option<Finding> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    (effective & (1 << NET_ADMIN) == 0).then(|| {
        let what =
            "this user has no CAP_NET_ADMIN: a sidecar cannot intercept traffic (--intercept) by itself".to_owned();
        let mend = "nothing, if apps are given the sidecar's ports; else run `leno-proxy intercept` as root first";
        Finding::new(Severity::Info, "no_capability", what, mend)
    })
}

fn files(limits: &str) -> Option<Finding> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let most: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    (most < FILES).then(|| {
        let what = format!("a process may have {most} files and sockets open at most");
        Finding::new(Severity::Warning, "few_files", what, format!("ulimit -n {FILES}, or LimitNOFILE= of its unit"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_ours_that_a_stranger_has_is_named_with_its_owner() {
        // Any port will do: what is looked at is the kernel's own table.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = taken(port, "leno-proxy", "--mesh-addr").unwrap();
        let own = std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        assert!(found.what.contains(&format!("port {port}")) && found.what.ends_with(&own), "{found:?}");
        assert!(found.mend.contains("--mesh-addr"), "{found:?}");
        assert_eq!(taken(port, &own, "--mesh-addr"), None, "its own");
        drop(listener);
        assert_eq!(taken(port, "leno-proxy", "--mesh-addr"), None);
    }

    #[test]
    fn a_missing_capability_and_a_low_limit_are_told() {
        assert_eq!(privilege("CapEff:\t000001ffffffffff\n"), None);
        assert_eq!(privilege("CapEff:\t0000000000000000\n").unwrap().code, "no_capability");
        let limit =
            |most: &str| format!("Max open files            1024                 {most}               files     \n");
        assert_eq!(files(&limit("4096")), None);
        assert_eq!(files(&limit("1024")).unwrap().code, "few_files");
        assert_eq!(files(&limit("unlimited")), None);
    }
}
