//! Who signs, and whom that lets believe what.

use std::sync::Arc;

use leno_certs::{Authority, TrustBundle};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::record::{Phase, Record, Vouched, decode};

/// The authorities as they are in force; replaced as one.
pub struct Issuing {
    pub(super) record: Record,
    pub(super) current: Arc<Authority>,
    /// The next one, or the one before, see [`Record::other`].
    pub(super) other: Option<Arc<Authority>>,
    /// The revision that this is.
    pub(super) revision: u64,
}

impl Issuing {
    /// What every sidecar believes: the root that signs, and the one that is to come or was before.
    pub(super) fn bundle(&self) -> TrustBundle {
        let authorities = [Some(&self.current), self.other.as_ref()].into_iter().flatten();
        let mut roots: Vec<Vec<u8>> = authorities.map(|authority| authority.root_der().to_vec()).collect();
        // Two intermediates of one root.
        roots.dedup();
        TrustBundle::new(self.current.trust_domain(), roots)
    }

    /// What the control plane itself believes of those who connect: as [`Self::bundle`], and the roots whose last leaves may come back.
    pub(super) fn believed(&self, now: OffsetDateTime) -> TrustBundle {
        let mut bundle = self.bundle();
        for retired in self.record.retired.iter().filter(|retired| retired.until_unix > now.unix_timestamp()) {
            bundle.roots.extend(decode(&retired.root).ok().filter(|root| !bundle.roots.contains(root)));
        }
        bundle
    }

    /// What is shown behind a leaf. While roots overlap, the word of the one before is with it: a sidecar that has not heard of the new
    /// one yet takes the leaf by it.
    pub(super) fn behind_leaves(&self) -> Vec<Vec<u8>> {
        let mut shown = self.current.intermediates().to_vec();
        if self.record.phase == Phase::Reissuing {
            shown.extend(self.record.current.vouched.iter().take(1).flat_map(certificates));
        }
        shown
    }

    /// What the control plane shows behind its own leaf: all that lets whoever knows but a root of before believe it, and the roots, since
    /// a sidecar that joins knows but the hash of one.
    pub(super) fn behind_own_leaf(&self) -> Vec<Vec<u8>> {
        let vouched = &self.record.current.vouched;
        let vouching = vouched.iter().flat_map(certificates);
        let mut shown: Vec<Vec<u8>> = self.current.intermediates().iter().cloned().chain(vouching).collect();
        let roots = self.bundle().roots.into_iter().chain(vouched.iter().filter_map(|v| decode(&v.root).ok()));
        for root in roots {
            if !shown.contains(&root) {
                shown.push(root);
            }
        }
        shown
    }

    /// Whether a join token that pins the root of this hash leads here.
    pub(super) fn knows_root(&self, sha256: &[u8; 32]) -> bool {
        let vouched = self.record.current.vouched.iter().filter_map(|Vouched { root, .. }| decode(root).ok());
        self.bundle().roots.into_iter().chain(vouched).any(|root| <[u8; 32]>::from(Sha256::digest(&root)) == *sha256)
    }
}

fn certificates(of: &Vouched) -> impl Iterator<Item = Vec<u8>> {
    of.certificates.iter().filter_map(|text| decode(text).ok())
}
