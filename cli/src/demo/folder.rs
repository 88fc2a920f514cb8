//! The demo's folder: it holds all state of all processes, and goes with the demo.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::app::JANITOR_PREFIX;
use crate::failure::{Exit, Failure};

/// A temporary folder that is removed when this is dropped; when the demo is killed and cannot do that, a child process does.
#[derive(Debug)]
pub struct Folder {
    // In the order in which they go: the folder first, then the janitor, which finds nothing left to do.
    folder: TempDir,
    _janitor: Janitor,
}

#[derive(Debug)]
struct Janitor(Child);

impl Folder {
    /// Makes the folder, readable by this user only.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self, Failure> {
        let failed = |e: std::io::Error| {
            let what = format!("cannot make a temporary folder in {}: {e}", std::env::temp_dir().display());
            Failure::new(Exit::Failed, what, "set TMPDIR to a folder that is writable")
        };
        let folder = tempfile::Builder::new().prefix(JANITOR_PREFIX).tempdir().map_err(failed)?;
        let janitor = Janitor::start(folder.path()).map_err(failed)?;
        Ok(Self { folder, _janitor: janitor })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Janitor {
    fn start(folder: &Path) -> std::io::Result<Self> {
        use std::os::unix::process::CommandExt;
        let child = Command::new(std::env::current_exe()?)
            .args(["demo-app", "janitor"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is sent to the whole group of the terminal; the janitor must survive it.
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
