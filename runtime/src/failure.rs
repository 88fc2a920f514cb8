//! Why a program stops: one line that says what was wrong and what to do, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// Exit codes; above 2 they are those of sysexits.h.
pub mod exit {
    /// The command line is wrong.
    pub const USAGE: u8 = 2;
    /// Something that is needed is not available: a peer, or a port.
    pub const UNAVAILABLE: u8 = 69;
    /// The state folder or a file in it cannot be made, read or written.
    pub const CANNOT_CREATE: u8 = 73;
    /// The control plane refused who we say we are, or the kernel what we have no right to.
    pub const DENIED: u8 = 77;
    /// A setting is wrong.
    pub const CONFIG: u8 = 78;
}

/// What was wrong, what to do about it, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    what: String,
    todo: String,
}

impl Failure {
    /// `what` names the thing and where it is; `todo` is an instruction.
    pub fn new(code: u8, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { code, what: what.into(), todo: todo.into() }
    }

    /// The exit code, one of [`exit`].
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One line, whatever a peer or a file name put into it.
        let line = format!("{}; {}", self.what, self.todo);
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

impl std::error::Error for Failure {}

/// Ends a `main`: prints the failure on standard error and gives its exit code.
pub fn exit_with(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
