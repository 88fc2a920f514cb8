//! A wall clock that can be set, for every process of one test: libfaketime in front of the real binaries.

use std::path::{Path, PathBuf};
use std::process::Command;

const FILE: &str = "clock";

/// The clock of a test's folder. Processes that are started in the folder after this go by it.
pub struct FakeClock(PathBuf);

impl FakeClock {
    /// As the machine's.
    pub fn new(dir: &Path) -> Self {
        let clock = Self(dir.join(FILE));
        clock.set(0);
        clock
    }

    /// Ahead of the machine's by so many seconds.
    pub fn set(&self, seconds: i64) {
        let partial = self.0.with_extension("new");
        std::fs::write(&partial, format!("{seconds:+}s\n")).expect("a file");
        std::fs::rename(partial, &self.0).expect("a file");
    }
}

/// Has a command go by the clock of its folder, if that has one. What goes by the monotonic clock is left alone: that is not set in life either.
pub(crate) fn wear(command: &mut Command, dir: &Path) {
    let file = dir.join(FILE);
    if file.exists() {
        command.env("LD_PRELOAD", library()).env("FAKETIME_TIMESTAMP_FILE", file).env("FAKETIME_NO_CACHE", "1");
        command.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}

fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists()).expect("Debian's faketime is installed")
}
