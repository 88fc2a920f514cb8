//! The configuration folder, read as a whole. Whatever lies in it, reading ends: links that run in circles, pipes,
//! devices and files without end are named and passed by.

use std::collections::HashSet;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::problem::Problem;
use super::{MOST_FILE_BYTES, Parsed, parse};

/// Most files of a folder.
const MOST_FILES: usize = 10_000;
/// Most entries that are looked at, files of other kinds included.
const MOST_ENTRIES: usize = 100_000;
/// Most bytes of all files together.
const MOST_BYTES: usize = 64 << 20;
/// Deepest folder in a folder.
const MOST_DEPTH: usize = 32;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Folder {
    /// The objects and problems of each file, by the file's path, in the order of the paths.
    pub files: Vec<(String, Parsed)>,
    /// Problems of files that could not be read at all.
    pub problems: Vec<Problem>,
    /// True: a bound was met and the rest was not looked at, so that any missing object may only be out of sight.
    pub truncated: bool,
}

/// Why there is no folder to read.
#[derive(Debug)]
pub struct FolderError {
    path: PathBuf,
    cause: io::Error,
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the configuration folder {}: {}", self.path.display(), self.cause)
    }
}

impl std::error::Error for FolderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Reads every `*.yaml`, `*.yml` and `*.json` in `dir` and below. Entries whose name begins with a dot are passed by:
/// they are an editor's or, in a mounted ConfigMap (`..data`), a second way to the same files.
pub fn read(dir: &Path) -> Result<Folder, FolderError> {
    let root = std::fs::metadata(dir).and_then(|meta| std::fs::read_dir(dir).map(|_| meta));
    let root = root.map_err(|cause| FolderError { path: dir.to_owned(), cause })?;
    let mut walk = Walk { above: HashSet::new(), folder: Folder::default(), entries: 0, files: 0, bytes: 0 };
    walk.directory(dir, &root, 0);
    Ok(walk.folder)
}

struct Walk {
    /// Device and inode of the folders that we are in.
    above: HashSet<(u64, u64)>,
    folder: Folder,
    entries: usize,
    files: usize,
    bytes: usize,
}

impl Walk {
    fn refuse(&mut self, path: &Path, message: impl Into<String>, hint: &str) {
        self.folder.problems.push(Problem::of_file(path.to_string_lossy(), message, hint));
    }

    /// Said once per bound; what follows is passed by.
    fn stop(&mut self, path: &Path, message: String) {
        if !self.folder.truncated {
            self.folder.truncated = true;
            self.refuse(path, message, "use fewer or smaller files");
        }
    }

    fn directory(&mut self, path: &Path, meta: &Metadata, depth: usize) {
        let id = (meta.dev(), meta.ino());
        if !self.above.insert(id) {
            return self.refuse(path, "this link leads back to a folder that it is in", "remove the link");
        }
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let mut paths: Vec<PathBuf> = Vec::new();
                for entry in entries {
                    match entry {
                        Ok(entry) => paths.push(entry.path()),
                        Err(error) => self.refuse(path, format!("cannot be listed: {error}"), "check its permissions"),
                    }
                    if paths.len() > MOST_ENTRIES {
                        break;
                    }
                }
                paths.sort();
                for path in paths {
                    self.entry(&path, depth);
                }
            }
            Err(error) => self.refuse(path, format!("cannot be read: {error}"), "check its permissions"),
        }
        self.above.remove(&id);
    }

    fn entry(&mut self, path: &Path, depth: usize) {
        self.entries += 1;
        if self.entries > MOST_ENTRIES {
            return self.stop(path, format!("more than {MOST_ENTRIES} entries; the rest is not read"));
        }
        if path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.')) {
            return;
        }
        let ours = is_ours(path);
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() && ours => self.refuse(path, "this is a folder, not a file", "rename it"),
            Ok(meta) if meta.is_dir() && depth == MOST_DEPTH => {
                self.stop(path, format!("folders are nested deeper than {MOST_DEPTH}; this one is not read"));
            }
            Ok(meta) if meta.is_dir() => self.directory(path, &meta, depth + 1),
            _ if !ours => {}
            Ok(meta) if !meta.is_file() => {
                self.refuse(path, "this is a pipe, socket or device, not a file", "remove it")
            }
            Ok(_) => self.file(path),
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => "let the control plane's user read it",
            io::ErrorKind::NotFound => "the link leads nowhere: mend or remove it",
            _ => "mend or remove it",
        };
        self.refuse(path, format!("cannot be read: {error}"), hint);
    }

    fn file(&mut self, path: &Path) {
        self.files += 1;
        if self.files > MOST_FILES {
            return self.stop(path, format!("more than {MOST_FILES} files; this and the rest are not read"));
        }
        match read_bounded(path) {
            Ok(bytes) => {
                self.bytes += bytes.len();
                if self.bytes > MOST_BYTES {
                    return self
                        .stop(path, format!("more than {MOST_BYTES} bytes in all; this and the rest are not read"));
                }
                let name = path.to_string_lossy().into_owned();
                let parsed = parse(&name, &bytes);
                self.folder.files.push((name, parsed));
            }
            Err(error) => self.unreadable(path, &error),
        }
    }
}

fn is_ours(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    matches!(extension.as_deref(), Some("yaml" | "yml" | "json"))
}

/// Reads one byte more than is allowed at most, so that `parse` sees that it is too much. Never blocks: what was a
/// file a moment ago may be a pipe now.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";

    fn problem<'a>(folder: &'a Folder, end: &str) -> &'a Problem {
        folder.problems.iter().find(|p| p.file.ends_with(end)).unwrap_or_else(|| panic!("{end}: {:?}", folder.problems))
    }

    #[test]
    fn what_is_no_file_is_named_and_the_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("sub/deep")).unwrap();
        std::fs::write(at("sub/deep/web.yaml"), SERVICE).unwrap();
        std::fs::write(at("README.md"), "no yaml: [").unwrap();
        std::fs::write(at(".hidden.yaml"), "no yaml: [").unwrap();
        std::fs::create_dir(at("folder.yaml")).unwrap();
        symlink(dir.path(), at("sub/loop")).unwrap();
        symlink(at("self.yaml"), at("self.yaml")).unwrap();
        symlink(at("nowhere"), at("dangling.yml")).unwrap();
        make_fifo(&at("pipe.yaml"));
        std::os::unix::net::UnixListener::bind(at("socket.json")).unwrap();
        let folder = read(dir.path()).unwrap();
        assert_eq!(folder.files.len(), 1);
        assert_eq!(folder.files[0].1.objects.len(), 1);
        assert!(problem(&folder, "sub/loop").message.contains("leads back"));
        assert!(problem(&folder, "folder.yaml").message.contains("folder"));
        assert!(problem(&folder, "self.yaml").message.contains("cannot be read"));
        assert!(problem(&folder, "dangling.yml").hint.contains("leads nowhere"));
        assert!(problem(&folder, "pipe.yaml").message.contains("pipe"));
        assert!(problem(&folder, "socket.json").message.contains("socket"));
        assert_eq!(folder.problems.len(), 6);
    }

    fn make_fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn a_huge_file_is_named_and_not_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let huge = File::create(dir.path().join("huge.yaml")).unwrap();
        huge.set_len(1 << 40).unwrap();
        let folder = read(dir.path()).unwrap();
        assert!(folder.files[0].1.problems[0].message.contains("more than"));
    }

    #[test]
    fn a_mounted_config_map_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("..2026_01")).unwrap();
        std::fs::write(dir.path().join("..2026_01/web.yaml"), SERVICE).unwrap();
        symlink("..2026_01", dir.path().join("..data")).unwrap();
        symlink("..data/web.yaml", dir.path().join("web.yaml")).unwrap();
        let folder = read(dir.path()).unwrap();
        assert_eq!(folder.files.len(), 1);
        assert!(folder.problems.is_empty());
    }

    #[test]
    fn more_files_than_the_bound_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..=MOST_FILES {
            File::create(dir.path().join(format!("{n:06}.yaml"))).unwrap();
        }
        let folder = read(dir.path()).unwrap();
        assert_eq!(folder.files.len(), MOST_FILES);
        assert!(folder.truncated);
        assert_eq!(folder.problems.len(), 1);
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let error = read(Path::new("/nonexistent/leno")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/leno"), "{error}");
    }
}
