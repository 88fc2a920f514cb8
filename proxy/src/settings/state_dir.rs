//! The state folder: private, held by one process at a time, and the source of the workload's stable name.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use leno_runtime::failure::{Failure, exit};
use sha2::{Digest, Sha256};

use super::Settings;

/// The locked state folder. The lock lives as long as this value.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder (0700) if need be and takes its lock, so that two sidecars never share one identity by mistake.
    ///
    /// # Errors
    /// It cannot be written, or another process holds it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let unusable = |why: io::Error| cannot_use(path, &why);
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        }
        // It holds a private key: nobody else looks in, even when the folder was there before with a wider mode.
        if fs::metadata(path).map_err(unusable)?.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join("lock"));
        let lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                exit::CANNOT_CREATE,
                format!("the state folder {} is in use by another leno-proxy", path.display()),
                "stop that one, or give each sidecar a --state-dir of its own",
            )),
            Err(TryLockError::Error(why)) => Err(unusable(why)),
        }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The workload's name: the one chosen by `--name`, or one that stays the same over restarts with this folder.
    ///
    /// The machine's name goes into it too, so that copies of one disk image are different workloads.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn workload_name(&self, settings: &Settings) -> Result<String, Failure> {
        if let Some(name) = &settings.name {
            return Ok(name.clone());
        }
        let id = self.id().map_err(|why| cannot_use(&self.path, &why))?;
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let digest = Sha256::digest(format!("{}\0{}\0{id}", settings.service, host.trim()));
        let suffix: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        // A label has at most 63 characters: a long service name gives way to the suffix.
        let stem: String = settings.service.chars().take(63 - 1 - suffix.len()).collect();
        Ok(format!("{}-{suffix}", stem.trim_end_matches('-')))
    }

    /// A random identifier of the folder, made at its first use.
    fn id(&self) -> io::Result<String> {
        let path = self.path.join("id");
        match fs::read_to_string(&path) {
            Ok(id) if id.trim().len() == 32 => return Ok(id.trim().to_owned()),
            Ok(_) => fs::remove_file(&path)?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => return Err(why),
        }
        let id = format!("{:032x}", fastrand::u128(..));
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&path)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        Ok(id)
    }
}

fn cannot_use(path: &Path, why: &io::Error) -> Failure {
    Failure::new(
        exit::CANNOT_CREATE,
        format!("the state folder {} cannot be used: {why}", path.display()),
        "give --state-dir a folder that this user may write",
    )
}
