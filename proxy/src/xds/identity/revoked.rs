//! Who was revoked, on disk: `STATE_DIR/revocations.bin`, the SHA-256 of the list and the list as it came. Apart from the snapshot, which is
//! written when there is time, and left out when it cannot be read.

use std::path::{Path, PathBuf};

use leno_proto::v1;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::model::Revoked;
use crate::tls::MeshTls;
use crate::xds::files;

const FILE: &str = "revocations.bin";
/// Largest file that is read, in bytes; what comes over the stream is smaller.
const MOST_BYTES: u64 = 16 << 20;

/// The file, and whether it could be read.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    whole: bool,
}

impl File {
    /// Puts in force what an earlier life was told.
    pub(super) fn open(state_dir: &Path, tls: &MeshTls) -> Self {
        let path = state_dir.join(FILE);
        let whole = match read(&path) {
            Ok(revoked) => {
                tls.revoke(revoked);
                true
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "the saved revocations cannot be read; nothing that was saved is used until the control plane says them again");
                false
            }
        };
        Self { path, whole }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn replace(&self, list: &[u8], tls: &MeshTls) -> Result<(), String> {
        let revoked = decode(list)?;
        if revoked.count() > 0 {
            tracing::info!(entries = revoked.count(), "revocations are in force");
        }
        tls.revoke(revoked);
        let content = [&Sha256::digest(list)[..], list].concat();
        files::replace(&self.path, &content).map_err(|why| {
            format!("they are in force, but a restart would forget them: {}: {why}", self.path.display())
        })
    }
}

/// None were ever told where there is no file.
fn read(path: &Path) -> Result<Revoked, String> {
    let Some(content) = files::read(path, MOST_BYTES).map_err(|why| why.to_string())? else {
        return Ok(Revoked::default());
    };
    let (digest, list) = content.split_first_chunk::<32>().ok_or("it is too short")?;
    if Sha256::digest(list).as_slice() != digest {
        return Err("its checksum is wrong".to_owned());
    }
    decode(list)
}

fn decode(list: &[u8]) -> Result<Revoked, String> {
    let wire = v1::Revocations::decode(list).map_err(|why| why.to_string())?;
    Revoked::try_from(wire).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use leno_certs::{Authority, Identity, Key, SpiffeId, TrustBundle};
    use time::OffsetDateTime;

    use super::*;
    use crate::model::PeerKey;
    use crate::tls::Watched;

    fn tls() -> MeshTls {
        let now = OffsetDateTime::now_utc();
        let authority = Authority::generate("cluster.local", now, std::time::Duration::from_secs(600)).unwrap();
        let bundle = TrustBundle::new("cluster.local", vec![authority.root_der().to_vec()]);
        let (key, id) = (Key::generate().unwrap(), SpiffeId::new("cluster.local", "default", "web").unwrap());
        let leaf = authority.issue(&key, &id, &[], now, now + std::time::Duration::from_secs(60)).unwrap();
        MeshTls::new(&Identity::new(vec![leaf], key).unwrap(), &bundle).unwrap()
    }

    fn list() -> Vec<u8> {
        let identities = vec!["spiffe://cluster.local/ns/default/sa/bad".to_owned()];
        v1::Revocations { instances: vec![vec![7; 8]], identities }.encode_to_vec()
    }

    fn is_revoked(tls: &MeshTls) -> bool {
        let id = "spiffe://cluster.local/ns/default/sa/web".into();
        Watched::new(tls.clone(), PeerKey { id, instance: Some([7; 8]) }).is_revoked()
    }

    #[test]
    fn a_list_is_in_force_and_on_disk_and_in_force_again_in_the_next_life() {
        let (dir, first, second) = (tempfile::tempdir().unwrap(), tls(), tls());
        let file = File::open(dir.path(), &first);
        assert!(file.is_whole() && !is_revoked(&first), "there was none");
        file.replace(&list(), &first).unwrap();
        assert!(is_revoked(&first));
        assert!(File::open(dir.path(), &second).is_whole());
        assert!(is_revoked(&second));
        assert!(file.replace(b"no list", &first).is_err());
        assert!(is_revoked(&first), "the last good one stays");
        file.replace(&[], &first).unwrap();
        assert!(!is_revoked(&first), "an empty list revokes nobody");
    }

    #[test]
    fn a_damaged_file_is_said_so_and_never_taken_for_an_empty_list() {
        let (dir, tls) = (tempfile::tempdir().unwrap(), tls());
        File::open(dir.path(), &tls).replace(&list(), &tls).unwrap();
        let path = dir.path().join(FILE);
        let good = std::fs::read(&path).unwrap();
        for damaged in [&good[..20], &good[..good.len() - 1], &[&good[..], b"x"].concat()] {
            std::fs::write(&path, damaged).unwrap();
            assert!(!File::open(dir.path(), &tls).is_whole());
        }
    }

    #[tokio::test]
    async fn who_holds_a_connection_is_woken_by_the_list_that_names_its_peer_and_by_no_other() {
        let (dir, tls) = (tempfile::tempdir().unwrap(), tls());
        let file = File::open(dir.path(), &tls);
        let peer =
            |instance| PeerKey { id: "spiffe://cluster.local/ns/default/sa/web".into(), instance: Some(instance) };
        let (bad, good) = (Watched::new(tls.clone(), peer([7; 8])), Watched::new(tls.clone(), peer([8; 8])));
        let (bad, good) =
            (tokio::spawn(async move { bad.revoked().await }), tokio::spawn(async move { good.revoked().await }));
        file.replace(&[], &tls).unwrap();
        tokio::task::yield_now().await;
        assert!(!bad.is_finished());
        file.replace(&list(), &tls).unwrap();
        bad.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!good.is_finished());
        good.abort();
    }
}
