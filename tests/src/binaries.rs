//! Where the programs under test are, and building them when they are not there yet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder with ready programs to test instead of the debug build, for example `target/release`.
const BIN_DIR: &str = "LENO_BIN_DIR";

/// Path of `leno-control-plane`.
pub fn control_plane() -> PathBuf {
    directory().join("leno-control-plane")
}

/// Path of `leno-proxy`.
pub fn proxy() -> PathBuf {
    directory().join("leno-proxy")
}

/// Path of `leno`.
pub fn leno() -> PathBuf {
    directory().join("leno")
}

/// The folder of the three programs. The first call builds them, which is quick when they are fresh.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os(BIN_DIR) {
        Some(dir) => std::path::absolute(dir).expect("a folder"),
        None => build(),
    })
}

/// Builds all programs of the workspace, with the workspace's features, so that what `cargo test --workspace` has compiled
/// is used again.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(crate::tools::repository())
        .status()
        .expect("cargo can be run");
    assert!(status.success(), "the programs under test do not build");
    debug_directory()
}

/// The test program itself is TARGET/debug/deps/e2e-HASH.
fn debug_directory() -> PathBuf {
    let me = std::env::current_exe().expect("the path of the test program");
    let deps = me.parent().expect("a folder");
    deps.parent().expect("the folder of the programs").to_owned()
}
