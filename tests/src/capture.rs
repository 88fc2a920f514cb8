//! Packets on the loopback interface, and what TLS says about itself in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::{Process, tools, wait};

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
        command.args(["-i", "lo", "-U", "-Z", "root", "-s", "0", "-B", "16384", "-w"]).arg(&file);
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
        Packets { file: self.file, ports: self.ports }
    }
}

/// A finished capture.
pub struct Packets {
    file: PathBuf,
    ports: Vec<u16>,
}

/// What tshark finds in a capture.
#[derive(Debug, Default)]
pub struct Summary {
    /// Packets that carry TCP payload.
    pub with_payload: usize,
    /// Of those, how many are neither a TLS record nor a segment of one.
    pub not_tls: usize,
    /// Versions that servers chose (`supported_versions` of the ServerHello), and how often.
    pub versions: BTreeMap<String, usize>,
    /// TLS records of the type 'application data'.
    pub application_data: usize,
}

impl Packets {
    /// Dissects the capture with tshark, taking the ports for TLS.
    pub fn summary(&self) -> Summary {
        let fields = [
            "tcp.len",
            "tls.record.content_type",
            "tls.record.opaque_type",
            "tls.handshake.extensions.supported_version",
            "tls.handshake.type",
            "tcp.segment",
            "tcp.reassembled_in",
        ];
        let mut summary = Summary::default();
        for line in self.tshark(&fields) {
            let [len, kind, opaque, version, handshake, segment, reassembled] =
                line.split('\t').collect::<Vec<_>>()[..]
            else {
                panic!("tshark printed {line:?}");
            };
            if len.is_empty() || len == "0" {
                continue;
            }
            summary.with_payload += 1;
            let records = !kind.is_empty() || !opaque.is_empty();
            if !records && segment.is_empty() && reassembled.is_empty() {
                summary.not_tls += 1;
            }
            summary.application_data += usize::from(opaque.split(',').chain(kind.split(',')).any(|t| t == "23"));
            if handshake.split(',').any(|t| t == "2") {
                *summary.versions.entry(version.to_owned()).or_default() += 1;
            }
        }
        summary
    }

    fn tshark(&self, fields: &[&str]) -> Vec<String> {
        let mut command = Command::new(tools::find("tshark").expect("tshark"));
        command.arg("-r").arg(&self.file).args(["-2", "-T", "fields"]);
        for port in &self.ports {
            command.args(["-d", &format!("tcp.port=={port},tls")]);
        }
        for field in fields {
            command.args(["-e", field]);
        }
        let output = command.output().expect("tshark can be run");
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// True when `text` is anywhere in the captured bytes.
    pub fn contains(&self, text: &str) -> bool {
        let bytes = std::fs::read(&self.file).expect("the capture");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}
