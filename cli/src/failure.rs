//! How a command fails: an exit code for scripts, and for people what was wrong and what to do.

use std::fmt;
use std::process::ExitCode;

/// Exit codes; those above 2 are of sysexits.h, as the other binaries of Leno use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The request was understood and refused, or part of it failed.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The control plane is not reachable.
    Unreachable = 69,
    /// The credential was refused.
    Denied = 77,
    /// The context or the configuration file is missing or wrong.
    Config = 78,
}

/// Why a command ends without success.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    what: String,
    todo: String,
}

impl Failure {
    /// `what` was wrong, and `todo` says what to do about it (may be empty).
    pub fn new(exit: Exit, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { exit, what: what.into(), todo: todo.into() }
    }

    /// A failure whose reasons are already on the terminal.
    pub fn reported(exit: Exit) -> Self {
        Self::new(exit, "", "")
    }

    /// The exit code.
    #[cfg(test)]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// Prints it on standard error and gives the code for `main`.
    pub fn report(&self) -> ExitCode {
        if !self.what.is_empty() {
            eprintln!("{self}");
        }
        ExitCode::from(self.exit as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if !self.todo.is_empty() {
            write!(f, "\nhint: {}", self.todo)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
