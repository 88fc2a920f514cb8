//! Where asynchronous code runs: on the thread that asked for it.

use std::future::Future;

use crate::failure::{Exit, Failure};

/// Runs `command` to its end on this thread.
///
/// # Errors
/// Those of the command.
pub fn block_on<F: Future<Output = Result<(), Failure>>>(command: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, format!("cannot start: {e}"), ""))?;
    runtime.block_on(command)
}
