//! Apps, sidecars and control planes in network namespaces joined by a bridge: the nearest thing to hosts, containers and pods
//! that needs neither. Everything here needs root; [`unavailable`] says whether it can be had.

mod greeter;
mod mesh;
mod network;
mod sidecar;

use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};

use crate::{Process, wait};

pub use greeter::{Greeted, Greeter, greeting};
pub use mesh::{NetMesh, output, succeeded};
pub use network::{Namespace, Network, remove_leftovers, unavailable};
pub use sidecar::{Intercepting, SIDECAR_UID};

/// The mesh port.
pub const MESH_PORT: u16 = 15008;
/// The control plane's stream.
pub const XDS_PORT: u16 = 15010;

/// Ends the test as skipped unless network namespaces can be made and every program named is installed.
#[macro_export]
macro_rules! require_netns {
    ($($program:expr),* $(,)?) => {
        if let Some(reason) = $crate::netns::unavailable() {
            return $crate::tools::skip(&reason);
        }
        if let Some(program) = $crate::tools::missing(&[$($program),*]) {
            return $crate::tools::skip(&format!("{program} is not installed"));
        }
    };
}

/// A connection from inside `host`.
pub async fn connect(host: &Namespace, addr: SocketAddr) -> std::io::Result<TcpStream> {
    let host = host.clone();
    let stream = tokio::task::spawn_blocking(move || host.connect(addr, wait::DEADLINE)).await.expect("no panic")?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// A listener inside `host`.
pub fn listen(host: &Namespace, addr: SocketAddr) -> TcpListener {
    let listener = host.listen(addr).unwrap_or_else(|error| panic!("listen on {addr} in {}: {error}", host.name()));
    listener.set_nonblocking(true).expect("a socket option");
    TcpListener::from_std(listener).expect("a listener")
}

/// The addresses of `family` (4 or 6) that `name` has inside `host`, as programs there would get them.
pub async fn resolve(host: &Namespace, family: u8, name: &str) -> Vec<IpAddr> {
    let mut getent = host.command("getent");
    getent.args([&format!("ahostsv{family}"), name]);
    let found = output(getent).await;
    let mut addresses: Vec<IpAddr> = String::from_utf8_lossy(&found.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    addresses.dedup();
    addresses
}

/// The only address of `family` that `name` must have inside `host`.
pub async fn resolve_one(host: &Namespace, family: u8, name: &str) -> IpAddr {
    match resolve(host, family, name).await[..] {
        [addr] => addr,
        ref others => panic!("{name} has the addresses {others:?} in {}", host.name()),
    }
}

/// Waits until something inside `host` listens on `port` of 127.0.0.1; `process` must not end in the meantime.
pub async fn listens(host: &Namespace, port: u16, process: &mut Process) {
    let what = format!("{} listens on port {port}", process.name());
    wait::eventually(&what, wait::DEADLINE, || {
        process.assert_running();
        async move { connect(host, SocketAddr::from(([127, 0, 0, 1], port))).await.ok().map(drop) }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn exists(name: &str) -> bool {
        Path::new("/run/netns").join(name).exists()
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_living_one_has_is_not() {
        crate::require_netns!();
        let mut network = Network::new().unwrap();
        let host = network.host("host").unwrap();
        // No process has this number; and the second is our number, but not our start time.
        let me = std::process::id();
        for left in [format!("leno-test-{}-1-0-left", u32::MAX), format!("leno-test-{me}-1-0-left")] {
            succeeded("ip", std::process::Command::new("ip").args(["netns", "add", &left]).output().unwrap());
            remove_leftovers();
            assert!(!exists(&left), "{left} is still there");
        }
        assert!(exists(host.name()));
        // A process that still runs inside does not keep a namespace.
        let mut sleeper = host.command("sleep").arg("600").spawn().unwrap();
        let name = host.name().to_owned();
        drop(network);
        assert!(!exists(&name));
        assert!(!sleeper.wait().unwrap().success());
    }

    #[test]
    fn hosts_reach_each_other_over_both_families_and_the_host_itself_stays_untouched() {
        crate::require_netns!();
        let links = || std::fs::read_dir("/sys/class/net").unwrap().count();
        let before = links();
        let mut network = Network::new().unwrap();
        let [a, b] = ["a", "b"].map(|name| network.host(name).unwrap());
        for addr in b.addresses() {
            let listener = b.listen(SocketAddr::new(addr, 0)).unwrap();
            a.connect(listener.local_addr().unwrap(), wait::DEADLINE).unwrap();
        }
        assert_eq!(links(), before);
    }
}
