//! Packets on an interface, and what TLS says about itself in them (RFC 8446, 5.1 and 4.1.3).

mod pcap;
mod record;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::netns::Namespace;
use crate::{Process, tools, wait};

pub use pcap::Flow;

/// A running `tcpdump`.
pub struct Capture {
    process: Process,
    file: PathBuf,
    ports: Vec<u16>,
    /// Where the last packet is sent from, on a wire.
    bridge: Option<Namespace>,
}

impl Capture {
    /// Captures everything on loopback from and to the TCP `ports`. Needs root.
    pub async fn start(dir: &Path, ports: &[u16]) -> Self {
        let filter: Vec<String> = ports.iter().map(|port| format!("tcp port {port}")).collect();
        let tcpdump = Command::new(tools::find("tcpdump").expect("tcpdump"));
        Self::run(dir, tcpdump, "lo", &filter.join(" or "), ports).await
    }

    /// Captures every packet that passes the bridge of a network and `filter`. TLS is expected on the TCP `ports`, and nothing
    /// else is.
    pub async fn wire(dir: &Path, bridge: &Namespace, filter: &str, ports: &[u16]) -> Self {
        let tcpdump = bridge.command(tools::find("tcpdump").expect("tcpdump"));
        Self { bridge: Some(bridge.clone()), ..Self::run(dir, tcpdump, "br0", filter, ports).await }
    }

    async fn run(dir: &Path, mut tcpdump: Command, interface: &str, filter: &str, ports: &[u16]) -> Self {
        let file = dir.join("mesh.pcap");
        // -Z root: else it gives up its rights before it opens the file in our folder. -U: packet by packet.
        tcpdump
            .args(["-i", interface, "-n", "-U", "-Z", "root", "-s", "0", "-B", "65536", "-w"])
            .arg(&file)
            .arg(filter);
        let process = Process::spawn("tcpdump", &mut tcpdump, dir);
        wait::until("tcpdump listens", wait::DEADLINE, || process.log().contains("listening on")).await;
        Self { process, file, ports: ports.to_vec(), bridge: None }
    }

    /// Stops after the packets so far and reads them.
    pub async fn stop(mut self) -> Packets {
        if let Some(bridge) = &self.bridge {
            let last = bridge.enter(|| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.send_to(pcap::LAST, "10.77.0.2:9")
            });
            last.and_then(|sent| sent).expect("a packet on the bridge");
            wait::until("the last packet is captured", wait::DEADLINE, || {
                let bytes = std::fs::read(&self.file).unwrap_or_default();
                bytes.windows(pcap::LAST.len()).any(|window| window == pcap::LAST)
            })
            .await;
        }
        // Packets wait in the kernel's ring for tcpdump: it reads them before it obeys the interrupt, as long as it has
        // been told only after the file has stopped growing.
        let mut before = u64::MAX;
        wait::until("the capture is written", wait::DEADLINE, || {
            let now = std::fs::metadata(&self.file).map_or(0, |meta| meta.len());
            std::mem::replace(&mut before, now) == now
        })
        .await;
        self.process.signal(Signal::INT);
        self.process.wait(wait::DEADLINE).await;
        assert!(self.process.log().contains("0 packets dropped by kernel"), "{}", self.process.tail());
        let bytes = std::fs::read(&self.file).expect("the capture");
        let contents = pcap::read(&bytes);
        Packets { flows: contents.flows, others: contents.others, ports: self.ports }
    }
}

/// A finished capture.
pub struct Packets {
    /// One a direction of a connection.
    pub flows: Vec<Flow>,
    /// What is neither TCP nor what any network has (ARP, ICMP, ICMPv6), in words.
    pub others: BTreeSet<String>,
    ports: Vec<u16>,
}

/// What all connections had in common.
#[derive(Debug, Default)]
pub struct Summary {
    /// Connections from which a server's answer was captured.
    pub connections: usize,
    /// Encrypted records.
    pub encrypted: usize,
    /// Everything that TLS 1.3 does not allow, in words.
    pub wrong: Vec<String>,
}

impl Packets {
    /// Reads every byte of every flow as TLS 1.3.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { wrong: self.others.iter().cloned().collect(), ..Summary::default() };
        for flow in &self.flows {
            let from_server = self.ports.contains(&flow.from.port());
            if !from_server && !self.ports.contains(&flow.to.port()) {
                summary.wrong.push(format!("{} to {}: {} bytes past the mesh", flow.from, flow.to, flow.bytes.len()));
                continue;
            }
            match record::tls13(&flow.bytes, from_server) {
                Ok(encrypted) => summary.encrypted += encrypted,
                Err(what) => summary.wrong.push(format!("{} to {}: {what}", flow.from, flow.to)),
            }
            summary.connections += usize::from(from_server && !flow.bytes.is_empty());
        }
        summary
    }

    /// True when `text` is anywhere in what was sent.
    pub fn contains(&self, text: &str) -> bool {
        let found = |flow: &Flow| flow.bytes.windows(text.len()).any(|window| window == text.as_bytes());
        self.flows.iter().any(found)
    }
}
