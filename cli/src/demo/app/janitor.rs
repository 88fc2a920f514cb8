//! Removes the demo's folder when the demo is killed and cannot do it itself.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{Exit, Failure};

/// How the folder's name begins; nothing else is ever removed.
pub const PREFIX: &str = "leno-demo-";
/// How long processes that are just being killed may still write into the folder.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for the end of standard input, which the demo holds open, and removes `folder` if it is still there.
///
/// # Errors
/// The folder is not one of a demo, or cannot be removed.
pub fn run(folder: &Path) -> Result<(), Failure> {
    let is_ours = folder.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX));
    if !is_ours {
        return Err(Failure::new(Exit::Usage, format!("{} is not the folder of a demo", folder.display()), ""));
    }
    let mut nothing = [0; 64];
    while std::io::stdin().read(&mut nothing).is_ok_and(|n| n > 0) {}
    let start = Instant::now();
    while folder.exists() {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => {}
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            Err(e) => return Err(Failure::new(Exit::Failed, format!("cannot remove {}: {e}", folder.display()), "")),
        }
    }
    Ok(())
}
