//! The files of an injection: read with bounds, written whole or not at all, and the secrets beside them.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use leno_certs::JoinSecret;
use tempfile::{Builder, NamedTempFile};

use crate::failure::{Exit, Failure};

/// The folder beside a compose file that holds what must not be in it.
pub const FOLDER: &str = ".leno";

/// The folder in which `path` is; that of the process for standard input.
pub fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if path.as_os_str() != "-" && !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whom the control plane's container runs as where root injects: nobody's number, since it needs none of root's powers.
const NOT_ROOT: u32 = 15012;

/// Who is to own the control plane's state below `folder`, and is its container's user: its owner, when it is there already, or who runs this,
/// and never root.
pub fn owner(folder: &Path) -> (u32, u32) {
    let (uid, gid) = match fs::metadata(folder.join(FOLDER).join("control-plane")) {
        Ok(there) => (there.uid(), there.gid()),
        Err(_) => (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    if uid == 0 { (NOT_ROOT, NOT_ROOT) } else { (uid, gid) }
}

/// Gives what the control plane has to read and write to its owner, where root made it, now or when it was root's own.
fn give(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let there = fs::symlink_metadata(path)?;
    if there.uid() == uid || there.is_symlink() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    chown(path, Some(uid), Some(gid))?;
    if there.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), (uid, gid))?;
        }
    }
    Ok(())
}

/// Puts `text` in the place of the file's content in one step: who reads the file sees the old one or the new one. A link stays a
/// link, and the file keeps its owner and permissions.
///
/// # Errors
/// It cannot be written; it is unchanged then.
pub fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let target = fs::canonicalize(path)?;
        let was = fs::metadata(&target)?;
        let folder = target.parent().ok_or_else(|| io::Error::other("it is in no folder"))?;
        let mut file = Builder::new().prefix(".leno-inject-").tempfile_in(folder)?;
        file.write_all(text.as_bytes())?;
        let now = file.as_file().metadata()?;
        if (now.uid(), now.gid()) != (was.uid(), was.gid()) {
            chown(file.path(), Some(was.uid()), Some(was.gid()))?;
        }
        file.as_file().set_permissions(Permissions::from_mode(was.mode() & 0o7777))?;
        file.as_file().sync_all()?;
        file.persist(&target).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| cannot("write", path, &e))
}

/// Makes the secrets that are missing below `folder`, and the folder of the control plane's state, for nobody but `owner`. Gives the
/// names of those that were made. The secrets are written to these files and nowhere else.
///
/// # Errors
/// A folder or file cannot be made, or there is something else in a secret's place.
pub fn make_secrets(folder: &Path, names: &[String], owner: (u32, u32)) -> Result<Vec<String>, Failure> {
    let top = folder.join(FOLDER);
    for folder in [top.clone(), top.join("secrets"), top.join("control-plane")] {
        make_folder(&folder).map_err(|e| cannot("make the folder", &folder, &e))?;
    }
    let ignore = top.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").map_err(|e| cannot("write", &ignore, &e))?;
    }
    let mut made = Vec::new();
    for name in names {
        let path = top.join("secrets").join(name);
        match fs::read_to_string(&path) {
            Ok(text) => check_secret(&path, &text)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make_secret(&path)?;
                made.push(name.clone());
            }
            Err(e) => return Err(cannot("read", &path, &e)),
        }
        give(&path, owner).map_err(|e| cannot("give to the control plane", &path, &e))?;
    }
    let state = top.join("control-plane");
    give(&state, owner).map_err(|e| cannot("give to the control plane", &state, &e))?;
    Ok(made)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        other => other,
    }
}

fn check_secret(path: &Path, text: &str) -> Result<(), Failure> {
    JoinSecret::parse(text).map(drop).map_err(|why| {
        let what = format!("{} is no join secret: {why}", path.display());
        Failure::new(Exit::Failed, what, "remove the file, and a new one is made")
    })
}

fn make_secret(path: &Path) -> Result<(), Failure> {
    let secret = JoinSecret::generate().map_err(|e| Failure::new(Exit::Failed, format!("no secret: {e}"), ""))?;
    let write = || -> io::Result<()> {
        // Only its owner can read it from the moment on that it exists.
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(secret.to_text().as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        // Whoever made the same one meanwhile was first.
        match file.persist_noclobber(path) {
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop).map_err(|e| e.error),
        }
    };
    write().map_err(|e| cannot("write", path, &e))
}

fn cannot(what: &str, path: &Path, why: &io::Error) -> Failure {
    let hint = "check who owns the folder and whether it can be written";
    Failure::new(Exit::Failed, format!("cannot {what} {}: {why}", path.display()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_once_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["default.web".to_owned(), "default.db".to_owned()];
        assert_eq!(make_secrets(dir.path(), &names, owner(dir.path())).unwrap(), names);
        let path = dir.path().join(".leno/secrets/default.web");
        let text = fs::read_to_string(&path).unwrap();
        assert!(JoinSecret::parse(&text).is_ok());
        assert!(make_secrets(dir.path(), &names, owner(dir.path())).unwrap().is_empty());
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "an identity keeps its secret");
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!(mode(".leno/secrets/default.web"), 0o600);
        assert_eq!([".leno", ".leno/secrets", ".leno/control-plane"].map(mode), [0o700; 3]);
        assert_eq!(fs::read_to_string(dir.path().join(".leno/.gitignore")).unwrap(), "*\n");
        // Whoever runs this, the control plane's container is not root, and may read them.
        let whose = |path: &str| fs::metadata(dir.path().join(path)).unwrap().uid();
        let (uid, _) = owner(dir.path());
        assert_ne!(uid, 0);
        assert_eq!([".leno/secrets/default.web", ".leno/control-plane"].map(whose), [uid; 2]);
    }

    #[test]
    fn what_is_no_secret_is_named_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        make_secrets(dir.path(), &[], owner(dir.path())).unwrap();
        fs::write(dir.path().join(".leno/secrets/default.web"), "hunter2").unwrap();
        let error = make_secrets(dir.path(), &["default.web".to_owned()], owner(dir.path())).unwrap_err().to_string();
        assert!(error.contains("default.web is no join secret") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_file_is_replaced_with_its_permissions_and_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a.yml"), dir.path().join("link.yml"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("a.yml", &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(link.is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
        let error = replace(&dir.path().join("none.yml"), "new").unwrap_err().to_string();
        assert!(error.contains("none.yml"), "{error}");
    }
}
