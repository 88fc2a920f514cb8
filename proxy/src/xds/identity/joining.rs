//! What joining by a service account's token needs beside the token: the roots from a file, and a key that stays the same.
//!
//! The control plane gives a leaf to the first key that comes with a token, and to no other. A sidecar that is killed after it has asked and
//! before it has saved the answer asks again with the same token, so the key is on the disk before it asks for the first time.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use leno_certs::{Key, KeyKind, Zeroizing};
use pem::Pem;

use crate::settings::Settings;
use crate::xds::files;

/// Largest file of roots, in bytes.
const MOST_BYTES: u64 = 1024 * 1024;

/// The certificates of `--control-plane-ca`, DER.
pub(super) fn root_certificates(settings: &Settings) -> Result<Vec<Vec<u8>>, String> {
    let path = settings.control_plane_ca.as_ref().ok_or(
        "the token of a service account does not say which control plane to trust; give --control-plane-ca the mesh's root certificates",
    )?;
    let failed = |why: String| format!("--control-plane-ca {}: {why}", path.display());
    let text = files::read(path, MOST_BYTES).map_err(|why| failed(why.to_string()))?;
    let text = text.ok_or_else(|| failed("there is no such file".to_owned()))?;
    let blocks = pem::parse_many(text).map_err(|why| failed(why.to_string()))?;
    let roots: Vec<Vec<u8>> =
        blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(Pem::into_contents).collect();
    if roots.is_empty() { Err(failed("it holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Their hashes.
pub(super) fn roots(settings: &Settings) -> Result<Vec<[u8; 32]>, String> {
    Ok(root_certificates(settings)?.iter().map(|root| super::sha256(root)).collect())
}

fn path(identity: &Path) -> PathBuf {
    identity.with_file_name("joining.pem")
}

/// The key of an attempt that did not end, or a new one, which is on the disk when this returns. `identity` is where the identity
/// will be saved.
pub(super) fn key(identity: &Path, kind: KeyKind) -> io::Result<Key> {
    let path = path(identity);
    let kept = files::read(&path, MOST_BYTES)?.map(Zeroizing::new);
    let kept = kept.and_then(|text| pem::parse(&*text).ok()).map(|block| Zeroizing::new(block.into_contents()));
    if let Some(key) = kept.and_then(|der| Key::from_pkcs8(&der).ok()).filter(|key| key.kind() == kind) {
        return Ok(key);
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let key = Key::generate_as(kind).map_err(io::Error::other)?;
    let text = Zeroizing::new(pem::encode(&Pem::new("PRIVATE KEY", key.to_pkcs8().as_slice())));
    files::replace(&path, text.as_bytes())?;
    Ok(key)
}

/// The identity is saved: the key is in there.
pub(super) fn done(identity: &Path) {
    let path = path(identity);
    match fs::remove_file(&path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "a key that is not needed any more cannot be removed: {why}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_the_same_until_the_identity_is_saved() {
        let dir = tempfile::tempdir().unwrap();
        let identity = dir.path().join("identity").join("identity.json");
        let text = |key: Key| key.to_pkcs8().to_vec();
        let first = text(key(&identity, KeyKind::EcdsaP256).unwrap());
        let mode = fs::metadata(path(&identity)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(text(key(&identity, KeyKind::EcdsaP256).unwrap()), first, "as after a kill -9");
        fs::write(path(&identity), "damaged").unwrap();
        let second = text(key(&identity, KeyKind::EcdsaP256).unwrap());
        assert_ne!(second, first);
        done(&identity);
        done(&identity);
        assert_ne!(text(key(&identity, KeyKind::EcdsaP256).unwrap()), second);
    }
}
