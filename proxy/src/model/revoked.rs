//! Who is in the mesh no more, though his certificate has not expired.

use std::collections::HashSet;
use std::sync::Arc;

use leno_certs::lineage::Instance;
use leno_certs::{SpiffeId, verify};
use leno_proto::v1;

use super::InvalidResource;

/// Most entries that are taken: twice what the control plane keeps.
const MOST: usize = 20_000;

/// What a peer has proven, as far as a revocation looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerKey {
    /// Who it is.
    pub id: Arc<str>,
    /// Which sidecar of that identity; None: its certificate does not say.
    pub instance: Option<Instance>,
}

impl PeerKey {
    /// What a verified leaf says, DER. None: it is no certificate of the mesh.
    pub fn of(leaf: &[u8]) -> Option<Self> {
        let id = verify::peer_id(leaf).ok()?;
        Some(Self { id: id.as_str().into(), instance: verify::lineage(leaf).map(|lineage| lineage.instance) })
    }
}

/// Whether an identity is one of another trust domain than this one.
pub fn is_foreign(id: &str, trust_domain: &str) -> bool {
    let own = id.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(trust_domain));
    !own.is_some_and(|path| path.starts_with('/'))
}

/// Everybody who was revoked.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    instances: HashSet<Instance>,
    identities: HashSet<String>,
}

impl Revoked {
    /// Whether a peer was.
    pub fn contains(&self, peer: &PeerKey) -> bool {
        peer.instance.is_some_and(|instance| self.instances.contains(&instance)) || self.identities.contains(&*peer.id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.instances.len() + self.identities.len()
    }
}

impl TryFrom<v1::Revocations> for Revoked {
    type Error = InvalidResource;

    fn try_from(wire: v1::Revocations) -> Result<Self, InvalidResource> {
        let found = wire.instances.len() + wire.identities.len();
        if found > MOST {
            return Err(InvalidResource(format!("there are {found} revocations, at most {MOST} are taken")));
        }
        let instance = |bytes: Vec<u8>| {
            Instance::try_from(bytes.as_slice())
                .map_err(|_| InvalidResource(format!("an instance has 8 bytes, and not {}", bytes.len())))
        };
        let identity = |text: String| match SpiffeId::parse(&text) {
            Ok(_) => Ok(text),
            Err(why) => Err(InvalidResource(format!("{text:?}: {why}"))),
        };
        Ok(Self {
            instances: wire.instances.into_iter().map(instance).collect::<Result<_, _>>()?,
            identities: wire.identities.into_iter().map(identity).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "spiffe://cluster.local/ns/default/sa/web";

    fn peer(id: &str, instance: Option<Instance>) -> PeerKey {
        PeerKey { id: id.into(), instance }
    }

    #[test]
    fn a_workload_is_told_from_others_of_its_identity_and_an_identity_takes_all_of_them() {
        let one = v1::Revocations { instances: vec![vec![1; 8]], identities: vec![] };
        let revoked = Revoked::try_from(one).unwrap();
        assert!(revoked.contains(&peer(WEB, Some([1; 8]))));
        assert!(!revoked.contains(&peer(WEB, Some([2; 8]))) && !revoked.contains(&peer(WEB, None)));
        let all = Revoked::try_from(v1::Revocations { instances: vec![], identities: vec![WEB.to_owned()] }).unwrap();
        assert!(all.contains(&peer(WEB, Some([2; 8]))) && all.contains(&peer(WEB, None)));
        assert!(!all.contains(&peer("spiffe://cluster.local/ns/default/sa/web2", None)));
    }

    #[test]
    fn a_list_that_cannot_be_right_or_is_too_long_is_refused() {
        for wire in [
            v1::Revocations { instances: vec![vec![1; 7]], identities: vec![] },
            v1::Revocations { instances: vec![], identities: vec!["web".to_owned()] },
            v1::Revocations { instances: vec![vec![1; 8]; MOST + 1], identities: vec![] },
        ] {
            assert!(Revoked::try_from(wire).is_err());
        }
        let most = (0..MOST as u64).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(Revoked::try_from(v1::Revocations { instances: most, identities: vec![] }).unwrap().count(), MOST);
    }
}
