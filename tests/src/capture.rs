//! Packets on the loopback interface, and what TLS says about itself in them (RFC 8446, 5.1 and 4.1.3).

mod pcap;
mod record;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::{Process, tools, wait};

pub use pcap::Flow;

/// A running `tcpdump`.
pub struct Capture {
    process: Process,
    file: PathBuf,
    ports: Vec<u16>,
}

impl Capture {
    /// Captures everything on loopback from and to the TCP `ports`. Needs root.
    pub async fn start(dir: &Path, ports: &[u16]) -> Self {
        let file = dir.join("mesh.pcap");
        let filter: Vec<String> = ports.iter().map(|port| format!("tcp port {port}")).collect();
        let mut command = Command::new(tools::find("tcpdump").expect("tcpdump"));
        // -Z root: else it gives up its rights before it opens the file in our folder. -U: packet by packet.
        command.args(["-i", "lo", "-U", "-Z", "root", "-s", "0", "-B", "65536", "-w"]).arg(&file);
        command.arg(filter.join(" or "));
        let process = Process::spawn("tcpdump", &mut command, dir);
        wait::until("tcpdump listens", wait::DEADLINE, || process.log().contains("listening on")).await;
        Self { process, file, ports: ports.to_vec() }
    }

    /// Stops after the packets so far and reads them.
    pub async fn stop(mut self) -> Packets {
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
        Packets { flows: pcap::flows(&bytes), ports: self.ports }
    }
}

/// A finished capture.
pub struct Packets {
    /// One a direction of a connection.
    pub flows: Vec<Flow>,
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
        let mut summary = Summary::default();
        for flow in &self.flows {
            let from_server = self.ports.contains(&flow.from.port());
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
