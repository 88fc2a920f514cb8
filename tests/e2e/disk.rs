//! A file system that is small, so that it can be full.

use std::path::PathBuf;
use std::process::Command;

/// Unmounted when this is dropped.
pub struct Disk(pub PathBuf);

impl Disk {
    /// None: this machine lets nobody mount one.
    pub fn mount(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&at).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Takes all that is left, and says by which file.
    pub fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut chunk = 1 << 20;
        while chunk > 0 {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
            if file.write_all(&vec![0; chunk]).is_err() {
                chunk /= 2;
            }
        }
        ballast
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
