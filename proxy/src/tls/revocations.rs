//! Who was revoked, and whose trust domain is believed no more, as everybody who holds connections of the mesh sees it. It is looked at
//! when a connection is made and when the list changes, and never for a request.

use std::sync::Arc;

use leno_certs::TrustBundle;
use tokio::sync::watch;

use super::MeshTls;
use crate::model::{PeerKey, Revoked, is_foreign};

/// Whose connections stand.
#[derive(Debug)]
pub(super) struct Revocations(watch::Sender<Standing>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    revoked: Arc<Revoked>,
    /// Our own, and those that it is federated with.
    trust_domains: Arc<[String]>,
}

impl Standing {
    fn refuses(&self, peer: &PeerKey) -> bool {
        let trusted = self.trust_domains.iter().any(|domain| !is_foreign(&peer.id, domain));
        !trusted || self.revoked.contains(peer)
    }
}

impl Revocations {
    /// Nobody was revoked of these domains.
    pub(super) fn new(bundle: &TrustBundle) -> Self {
        Self(watch::Sender::new(Standing { revoked: Arc::default(), trust_domains: domains(bundle) }))
    }

    pub(super) fn replace(&self, revoked: Revoked) {
        self.change(|standing| standing.revoked = Arc::new(revoked));
    }

    /// Only domains of this bundle are believed from now on.
    pub(super) fn believe(&self, bundle: &TrustBundle) {
        self.change(|standing| standing.trust_domains = domains(bundle));
    }

    fn change(&self, change: impl FnOnce(&mut Standing)) {
        self.0.send_if_modified(|standing| {
            let before = standing.clone();
            change(standing);
            *standing != before
        });
    }

    pub(super) fn contains(&self, peer: &PeerKey) -> bool {
        self.0.borrow().refuses(peer)
    }

    async fn until(&self, peer: &PeerKey) {
        let mut list = self.0.subscribe();
        // The sender lives as long as we wait, so this comes back for no other reason.
        let _ = list.wait_for(|standing| standing.refuses(peer)).await;
    }
}

fn domains(bundle: &TrustBundle) -> Arc<[String]> {
    let federated = bundle.federated.iter().filter(|domain| !domain.roots.is_empty());
    let names = federated.map(|domain| domain.trust_domain.clone());
    std::iter::once(bundle.trust_domain.clone()).chain(names).collect()
}

/// The peer of one open connection, to be let go when it is revoked.
#[derive(Debug, Clone)]
pub struct Watched {
    tls: MeshTls,
    peer: PeerKey,
}

impl Watched {
    /// A peer that has proven this.
    pub fn new(tls: MeshTls, peer: PeerKey) -> Self {
        Self { tls, peer }
    }

    /// Whether it is.
    pub fn is_revoked(&self) -> bool {
        self.tls.0.revocations.contains(&self.peer)
    }

    /// Comes back once it is.
    pub async fn revoked(&self) {
        self.tls.0.revocations.until(&self.peer).await;
    }
}

/// Comes back once the peer of a connection is revoked; never for one that leads out of the mesh.
pub async fn revoked(watched: Option<Watched>) {
    match watched {
        Some(watched) => watched.revoked().await,
        None => std::future::pending().await,
    }
}
