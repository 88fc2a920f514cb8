//! Where the programs of the mesh are: beside this one. Under `cargo run` they are built first when they have to be.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use crate::failure::{Exit, Failure};
use crate::progress::spinner;

/// The real programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// This one, which is the apps too.
    pub leno: PathBuf,
    /// `leno-control-plane`.
    pub control_plane: PathBuf,
    /// `leno-proxy`.
    pub proxy: PathBuf,
}

/// The crates that the programs are made of, as folders of the workspace.
const SOURCES: &[&str] = &["proto", "certs", "runtime", "proxy", "control-plane", "Cargo.toml", "Cargo.lock"];

/// Finds the programs, and builds them when `cargo run` started us and they are missing or older than their sources.
///
/// # Errors
/// They are missing, or do not build.
pub fn find() -> Result<Programs, Failure> {
    let leno = std::env::current_exe()
        .map_err(|e| Failure::new(Exit::Failed, format!("cannot find this program: {e}"), ""))?;
    let folder = leno.parent().unwrap_or(Path::new("/")).to_owned();
    let programs =
        Programs { control_plane: folder.join("leno-control-plane"), proxy: folder.join("leno-proxy"), leno };
    let all = [&programs.control_plane, &programs.proxy];
    if let (Some(cargo), Some(workspace)) = (std::env::var_os("CARGO"), workspace()) {
        let sources = SOURCES.iter().filter_map(|s| newest(&workspace.join(s))).max();
        if all.iter().any(|p| newest(p) < sources) {
            build(&cargo, &workspace, &folder)?;
        }
    }
    match all.iter().find(|p| !p.is_file()) {
        None => Ok(programs),
        Some(missing) => Err(Failure::new(
            Exit::Failed,
            format!("the demo needs {}, which is not there", missing.display()),
            "put leno-control-plane and leno-proxy beside leno; in a clone of the sources, run cargo run --release -- demo",
        )),
    }
}

/// The workspace that `cargo run` runs in: it tells the folder of this crate.
fn workspace() -> Option<PathBuf> {
    let crate_folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    crate_folder.parent().filter(|w| w.join("control-plane/Cargo.toml").is_file()).map(Path::to_owned)
}

/// When the newest file in it was changed; None when there is none.
fn newest(path: &Path) -> Option<SystemTime> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_dir() {
        return metadata.modified().ok();
    }
    let entries = std::fs::read_dir(path).ok()?;
    entries.filter_map(|e| newest(&e.ok()?.path())).max()
}

fn build(cargo: &OsString, workspace: &Path, folder: &Path) -> Result<(), Failure> {
    let profile = match folder.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let message = format!("building leno-control-plane and leno-proxy ({profile})");
    let spinner = spinner(&message);
    if !std::io::stderr().is_terminal() {
        eprintln!("{message}");
    }
    let failed = |what: String| Failure::new(Exit::Failed, what, "run cargo build --workspace to see why");
    // This crate is named too, but not built: dependencies are built with the features that all named crates need together, so
    // those that `cargo run` has just built are used again.
    let mut child = Command::new(cargo)
        .args(["build", "--profile", profile, "-p", "leno-cli", "-p", "leno-control-plane", "-p", "leno-proxy"])
        .args(["--bin", "leno-control-plane", "--bin", "leno-proxy"])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("cannot run cargo: {e}")))?;
    let mut last = Vec::new();
    for line in child.stderr.take().into_iter().flat_map(|e| BufReader::new(e).lines()).map_while(Result::ok) {
        spinner.set_message(format!("{message}: {}", line.trim()));
        if last.len() == 20 {
            last.remove(0);
        }
        last.push(line);
    }
    let status = child.wait().map_err(|e| failed(format!("cargo was lost: {e}")))?;
    spinner.finish_and_clear();
    if status.success() { Ok(()) } else { Err(failed(format!("the programs do not build:\n{}", last.join("\n")))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_of_a_folder_counts_and_nothing_is_older_than_anything() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b/c.rs");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        assert_eq!(newest(dir.path()), None);
        std::fs::write(&file, "").unwrap();
        assert_eq!(newest(dir.path()), Some(std::fs::metadata(&file).unwrap().modified().unwrap()));
        assert!(newest(&dir.path().join("absent")) < newest(&file));
    }
}
