//! Programs of other people that a test needs, and what happens when one is not installed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Set to 1 where everything must be installed: then a missing tool is a failure and not a skip.
const NO_SKIP: &str = "LENO_NO_SKIP";

/// Finds `program` in PATH, and in the `sbin` folders that are not always in it.
pub fn find(program: &str) -> Option<PathBuf> {
    find_all(program).into_iter().next()
}

/// All programs of that name, the one that a shell would run first.
pub fn find_all(program: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).filter(|file| file.is_file()).collect()
}

/// True when a Python with the module can be run.
pub fn python_has(module: &str) -> bool {
    let import = format!("import {module}");
    Command::new("python3").args(["-c", &import]).output().is_ok_and(|out| out.status.success())
}

/// True for the super-user, who may capture packets.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Lets this process open as many files as it may, for tests that hold connections in masses.
pub fn many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it is not allowed, what is there has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Says that the running test is skipped, and why. Panics instead when skipping is forbidden.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var(NO_SKIP).as_deref() != Ok("1"), "{test} may not be skipped, but {reason}");
    note(&format!("SKIPPED {test}: {reason}"));
}

/// Prints a line that the test runner does not capture: a skip, or a figure that is printed and not asserted.
pub fn note(line: &str) {
    // Best effort: a closed standard error is no failure of the product.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The first of `programs` that is not installed.
pub fn missing<'a>(programs: &[&'a str]) -> Option<&'a str> {
    programs.iter().copied().find(|program| find(program).is_none())
}

/// The repository's top folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace")
}

/// Ends the test as skipped unless every program named is installed.
#[macro_export]
macro_rules! require_tools {
    ($($program:expr),+ $(,)?) => {
        if let Some(program) = $crate::tools::missing(&[$($program),+]) {
            return $crate::tools::skip(&format!("{program} is not installed"));
        }
    };
}

/// How long a test goes on that may take any time: what `LENO_SOAK` says (`10m`, `90s`), else `usual`.
pub fn soak_time(usual: Duration) -> Duration {
    let Ok(text) = std::env::var("LENO_SOAK") else { return usual };
    let (number, unit) = text.split_at(text.len() - 1);
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("LENO_SOAK is {text:?}, and not 90s or 10m"));
    Duration::from_secs(if unit == "m" { number * 60 } else { number })
}
