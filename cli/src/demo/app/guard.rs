//! Starts a program so that it cannot outlive the demo.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::failure::{Exit, Failure};

/// Becomes `program`. On Linux the kernel kills it when `parent` dies in whatever way: the request survives exec (prctl(2),
/// PR_SET_PDEATHSIG). It is made here, in a process of our own, since between fork and exec it would need unsafe code.
///
/// # Errors
/// The program cannot be started.
pub fn run(parent: u32, program: &OsStr, args: &[OsString]) -> Result<(), Failure> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(|e| {
        Failure::new(Exit::Failed, format!("cannot bind the life of {program:?} to the demo's: {e}"), "")
    })?;
    // The parent may have died before the request was made.
    if std::os::unix::process::parent_id() != parent {
        return Err(Failure::new(Exit::Failed, "the demo is gone", ""));
    }
    let why = Command::new(program).args(args).exec();
    Err(Failure::new(Exit::Failed, format!("cannot start {}: {why}", program.display()), ""))
}
