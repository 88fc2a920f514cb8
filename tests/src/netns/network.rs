//! Named network namespaces on one bridge. The benchmark includes this file as it is, so it needs nothing but std and rustix.
//!
//! Names carry the process's number and start time, so that what a killed process left is known for certain and removed by
//! the next one. No interface, address, route or rule of the host's own namespace is ever touched: both ends of every veth
//! pair are made inside the namespaces.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Every namespace's name begins so.
const PREFIX: &str = "leno-test";
/// The bridge's own address, which is every namespace's gateway and resolver. Nothing listens there unless a test starts it.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// Some namespaces that reach each other and nothing else. All of it is gone when this is dropped, whatever still ran in it.
pub struct Network {
    bridge: Namespace,
    hosts: u8,
}

/// One namespace; a handle, cheap to clone. It lives as long as its [`Network`].
#[derive(Debug, Clone)]
pub struct Namespace {
    name: Arc<str>,
    number: u8,
}

impl Network {
    /// A bridge without hosts. Needs root and iproute2.
    pub fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_leftovers);
        let me = std::process::id();
        let start = start_time(me).ok_or_else(|| io::Error::other("/proc/self/stat cannot be read"))?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let bridge = Namespace { name: format!("{PREFIX}-{me}-{start}-{count}-bridge").into(), number: 1 };
        // From here on Drop cleans up, also when one of the next steps fails.
        let network = Self { bridge, hosts: 1 };
        let bridge = &network.bridge;
        bridge.create()?;
        // Without snooping: it would drop neighbour discovery until it has learned the groups.
        bridge.ip("link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0\nlink set br0 up\n")?;
        bridge.ip(&format!("addr add {}/24 dev br0\naddr add {}/64 dev br0 nodad\n", bridge.v4(), bridge.v6()))?;
        Ok(network)
    }

    /// The bridge itself: the wire between all hosts, and their gateway.
    pub fn bridge(&self) -> &Namespace {
        &self.bridge
    }

    /// Another namespace on the bridge, with an IPv4 and an IPv6 address, a default route and a resolv.conf of its own.
    pub fn host(&mut self, name: &str) -> io::Result<Namespace> {
        self.hosts += 1;
        let stem = self.bridge.name.trim_end_matches("bridge");
        let host = Namespace { name: format!("{stem}{name}").into(), number: self.hosts };
        host.create()?;
        let (bridge, port) = (&self.bridge.name, format!("v{}", host.number));
        ip(&format!("link add {port} netns {bridge} type veth peer name eth0 netns {}\n", host.name), &[])?;
        self.bridge.ip(&format!("link set {port} master br0 up\n"))?;
        host.ip(&format!(
            "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via {GATEWAY}\nroute add ::/0 via {}\n",
            host.v4(),
            host.v6(),
            self.bridge.v6()
        ))?;
        host.set_resolvers(&[GATEWAY.into()])?;
        Ok(host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let stem = self.bridge.name.trim_end_matches("bridge");
        for name in namespaces().iter().filter(|name| name.starts_with(stem)) {
            remove(name);
        }
    }
}

impl Namespace {
    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }

    /// Both addresses.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }

    /// `program` inside, as root. The process id is the program's own, since `ip` becomes it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// `program` inside, as another user.
    pub fn command_as(&self, uid: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command("setpriv");
        let id = uid.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program);
        command
    }

    /// Runs `work` on a thread of its own inside; sockets that it makes stay inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let link = File::open(PathBuf::from("/run/netns").join(&*self.name))?;
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A listener inside.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<TcpListener> {
        self.enter(|| TcpListener::bind(addr))?
    }

    /// A connection from inside.
    pub fn connect(&self, addr: SocketAddr, deadline: Duration) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&addr, deadline))?
    }

    /// Writes the resolv.conf that programs started by [`command`](Self::command) see.
    pub fn set_resolvers(&self, servers: &[IpAddr]) -> io::Result<()> {
        let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let dir = etc(&self.name);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("resolv.conf"), text)
    }

    /// Runs commands of `ip` inside, one a line.
    pub fn ip(&self, lines: &str) -> io::Result<()> {
        ip(lines, &["-n", &self.name])
    }

    fn create(&self) -> io::Result<()> {
        ip(&format!("netns add {}\n", self.name), &[])?;
        self.enter(|| {
            // An address may be used at once, and no router is asked for.
            for (key, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")] {
                for scope in ["all", "default"] {
                    std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/{key}"), value)?;
                }
            }
            // The same on every machine, and without pacing, which would be measured along with short exchanges.
            std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno")
        })??;
        self.ip("link set lo up\n")
    }
}

/// Says why no namespaces can be made here, if so.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root may make network namespaces".to_owned());
    }
    let missing = |program: &&str| !Command::new(program).arg("-V").output().is_ok_and(|out| out.status.success());
    ["ip", "setpriv"].iter().find(|program| missing(program)).map(|program| format!("{program} is not installed"))
}

/// Runs lines of `ip -batch`; the first that fails is the error.
fn ip(lines: &str, options: &[&str]) -> io::Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {options:?}: {}\n{lines}", String::from_utf8_lossy(&output.stderr))))
}

fn etc(name: &str) -> PathBuf {
    PathBuf::from("/etc/netns").join(name)
}

fn namespaces() -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Ends what still runs in the namespace `name`, and takes it away. What cannot be removed now is left for the next sweep.
fn remove(name: &str) {
    let pids =
        Command::new("ip").args(["netns", "pids", name]).output().map(|output| output.stdout).unwrap_or_default();
    for pid in String::from_utf8_lossy(&pids).split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        // It may have ended in between.
        let _ = kill_process(pid, Signal::KILL);
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = std::fs::remove_dir_all(etc(name));
}

/// Removes the namespaces whose makers are dead.
pub fn remove_leftovers() {
    for name in namespaces() {
        if owner(&name).is_some_and(|(pid, start)| start_time(pid) != Some(start)) {
            remove(&name);
        }
    }
}

/// Number and start time of the process that made the namespace `name`.
fn owner(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// When a process was started, in clock ticks since boot (proc(5), field 22): together with its number unique.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}
