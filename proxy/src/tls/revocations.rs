//! Who was revoked, as everybody who holds connections of the mesh sees it. It is looked at when a connection is made and when the list
//! changes, and never for a request.

use std::sync::Arc;

use tokio::sync::watch;

use super::MeshTls;
use crate::model::{PeerKey, Revoked};

/// The list in force.
#[derive(Debug, Default)]
pub(super) struct Revocations(watch::Sender<Arc<Revoked>>);

impl Revocations {
    pub(super) fn replace(&self, revoked: Revoked) {
        self.0.send_if_modified(|current| {
            let news = **current != revoked;
            *current = Arc::new(revoked);
            news
        });
    }

    pub(super) fn contains(&self, peer: &PeerKey) -> bool {
        self.0.borrow().contains(peer)
    }

    async fn until(&self, peer: &PeerKey) {
        let mut list = self.0.subscribe();
        // The sender lives as long as we wait, so this comes back for no other reason.
        let _ = list.wait_for(|revoked| revoked.contains(peer)).await;
    }
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
