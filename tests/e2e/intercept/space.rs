//! Network namespaces joined by a cable, and what a connection in them arrives at.

use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use leno_tests::{Process, binaries, tools, wait};
use rustix::process::{Gid, Uid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_res_gid, set_thread_res_uid};
use socket2::SockRef;

/// The user that a sidecar runs as.
pub const SIDECAR: u32 = 15008;
/// Some other user.
pub const APP: u32 = 1000;
/// How long a connection may take.
const SOON: Duration = Duration::from_secs(5);

/// A network namespace, held by a process that does nothing.
pub struct Space {
    holder: Process,
    net: File,
}

impl Space {
    /// A new one whose loopback is up.
    pub async fn new(name: &str, dir: &Path) -> Self {
        let holder = Process::spawn(name, Command::new("unshare").args(["-n", "sleep", "infinity"]), dir);
        let path = format!("/proc/{}/ns/net", holder.pid());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait::until("the namespace", wait::DEADLINE, || std::fs::read_link(&path).is_ok_and(|net| net != own)).await;
        let space = Self { net: File::open(path).unwrap(), holder };
        space.sh("ip link set lo up");
        space
    }

    /// Joins two by a cable: `eth0` at this end.
    pub fn cable(&self, other: &Self, there: &str, nets: [(&str, &str); 2]) {
        let (here, other_pid) = (self.holder.pid(), other.holder.pid());
        self.sh(&format!("ip link add eth0 netns {here} type veth peer name {there} netns {other_pid}"));
        for ((space, device), side) in [(self, "eth0"), (other, there)].into_iter().zip(0..) {
            for (ours, theirs) in nets {
                let address = [ours, theirs][side];
                let nodad = if address.contains(':') { "nodad" } else { "" };
                space.sh(&format!("ip addr add {address} dev {device} {nodad}"));
            }
            space.sh(&format!("ip link set {device} up"));
        }
    }

    /// Runs `work` in the namespace as the user.
    pub fn inside<T: Send>(&self, user: u32, work: impl FnOnce() -> T + Send) -> T {
        let run = || {
            move_into_link_name_space(self.net.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            // These change this thread alone.
            let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        };
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    /// Runs a shell command in the namespace as root and gives its output, however it ends.
    pub fn output(&self, script: &str) -> Output {
        let script = script.replace("leno-proxy", &binaries::proxy().display().to_string());
        // Also finds what stands in the folders of the super-user.
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        self.inside(0, || Command::new("sh").args(["-c", &script]).env("PATH", path).output().unwrap())
    }

    /// Runs a shell command that must succeed, and gives what it prints.
    pub fn sh(&self, script: &str) -> String {
        let output = self.output(script);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{script}: {}\n{}{error}",
            output.status,
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Listens, as any user could.
    pub fn listen(&self, addr: &str) -> TcpListener {
        let listener = self.inside(APP, || TcpListener::bind(addr).unwrap_or_else(|why| panic!("{addr}: {why}")));
        listener.set_nonblocking(true).unwrap();
        listener
    }

    /// Connects.
    pub fn connect(&self, user: u32, to: &str) -> std::io::Result<TcpStream> {
        let to: SocketAddr = to.parse().unwrap();
        self.inside(user, || TcpStream::connect_timeout(&to, SOON))
    }
}

/// What a connection arrived at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// At a port of the sidecar, with the destination that the kernel remembers.
    Sidecar { port: u16, original: SocketAddr },
    /// Where it was meant to go.
    Direct,
    /// Nowhere, and it was told so.
    Refused,
}

/// An app's namespace with listeners in the sidecar's place, and another host.
pub struct Pair {
    /// The app's.
    pub app: Space,
    /// The other host's.
    pub host: Space,
    listeners: Vec<TcpListener>,
}

/// The app's addresses and the other host's.
pub const NETS: [(&str, &str); 2] = [("10.77.0.1/24", "10.77.0.2/24"), ("fd77::1/64", "fd77::2/64")];

impl Pair {
    /// Everything but the rules.
    pub async fn new(dir: &Path) -> Self {
        let (app, host) = (Space::new("app", dir).await, Space::new("host", dir).await);
        app.cable(&host, "eth0", NETS);
        // As a sidecar has it: outbound on both loopbacks, the rest on every address.
        let ours =
            ["127.0.0.1:15001", "[::1]:15001", "[::]:15006", "[::]:15008", "[::]:15020", "[::]:8080", "[::]:9100"];
        let theirs = ["[::]:80", "[::]:5432", "[::]:8080"];
        app.sh("sysctl -qw net.ipv4.ip_unprivileged_port_start=0");
        host.sh("sysctl -qw net.ipv4.ip_unprivileged_port_start=0");
        let ours = ours.map(|addr| app.listen(addr));
        let theirs = theirs.map(|addr| host.listen(addr));
        let listeners = ours.into_iter().chain(theirs).collect();
        Self { app, host, listeners }
    }

    /// Runs `leno-proxy intercept` in the app's namespace.
    pub fn intercept(&self, flags: &str) -> String {
        self.app.sh(&format!("leno-proxy intercept {flags}"))
    }

    /// Where a connection of the app's namespace arrives.
    pub fn outbound(&self, user: u32, to: &str) -> Arrived {
        self.arrival(self.app.connect(user, to))
    }

    /// Where a connection from the other host arrives.
    pub fn inbound(&self, to: &str) -> Arrived {
        self.arrival(self.host.connect(APP, to))
    }

    fn arrival(&self, stream: std::io::Result<TcpStream>) -> Arrived {
        let stream = match stream {
            Ok(stream) => stream,
            Err(why) if why.kind() == ErrorKind::ConnectionRefused => return Arrived::Refused,
            Err(why) => panic!("neither connected nor refused: {why}"),
        };
        let (port, to) = (stream.local_addr().unwrap().port(), stream.peer_addr().unwrap());
        let end = Instant::now() + SOON;
        loop {
            for listener in &self.listeners {
                let Ok((accepted, from)) = listener.accept() else { continue };
                if from.port() == port {
                    return arrived(&accepted, to);
                }
            }
            assert!(Instant::now() < end, "a connection to {to} arrived nowhere");
            std::thread::yield_now();
        }
    }
}

/// Where the kernel says that an accepted connection was meant to go, if it was redirected at all.
pub fn original(accepted: &TcpStream) -> Option<SocketAddr> {
    let local = plain(accepted.local_addr().unwrap());
    let socket = SockRef::from(accepted);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    original.ok().and_then(|address| address.as_socket()).map(plain)
}

/// An IPv4 address as such.
fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

fn arrived(accepted: &TcpStream, to: SocketAddr) -> Arrived {
    let port = accepted.local_addr().unwrap().port();
    match original(accepted) {
        Some(original) if original.port() != port || original.ip() != to.ip() => Arrived::Sidecar { port, original },
        _ if port != to.port() => Arrived::Sidecar { port, original: plain(accepted.local_addr().unwrap()) },
        _ => Arrived::Direct,
    }
}

/// At the sidecar's `port`, meant for `to`.
pub fn at(port: u16, to: &str) -> Arrived {
    Arrived::Sidecar { port, original: to.parse().unwrap() }
}

/// True when the test can run here; else it is skipped.
pub fn possible(programs: &[&str]) -> bool {
    if let Some(program) = tools::missing(programs) {
        tools::skip(&format!("{program} is not installed"));
        return false;
    }
    if !tools::is_root() {
        tools::skip("only root makes network namespaces");
        return false;
    }
    true
}

/// An address and a port as text.
pub fn addr(ip: &str, port: u16) -> String {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port).to_string()
}
