//! Which roots vouch for which trust domain.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::{lenient, roots};
use crate::{CertError, TrustBundle, verify};

/// The trust domains that a verifier knows. A root of one vouches for nobody of another.
#[derive(Debug)]
pub(super) struct Trusted<R> {
    pub(super) own: Domain<R>,
    pub(super) federated: Vec<Domain<R>>,
}

/// A trust domain, and what verifies chains to its roots.
#[derive(Debug)]
pub(super) struct Domain<R> {
    pub(super) name: String,
    pub(super) roots: R,
}

impl Trusted<RootCertStore> {
    /// Our own domain alone: what the control plane is and whom it serves.
    pub(super) fn own(bundle: &TrustBundle) -> Result<Self, CertError> {
        let own = Domain { name: bundle.trust_domain.clone(), roots: roots(&bundle.roots)? };
        Ok(Self { own, federated: Vec::new() })
    }

    /// Our own domain and those that it is federated with. A foreign root that cannot be used is as good as none: it must not
    /// take our own mesh down.
    pub(super) fn all(bundle: &TrustBundle) -> Result<Self, CertError> {
        let federated = bundle.federated.iter().filter(|domain| domain.trust_domain != bundle.trust_domain);
        let federated = federated
            .map(|domain| Domain { name: domain.trust_domain.clone(), roots: lenient(&domain.roots) })
            .filter(|domain| !domain.roots.is_empty());
        Ok(Self { federated: federated.collect(), ..Self::own(bundle)? })
    }
}

impl<R> Trusted<R> {
    /// The domain that a leaf, which nobody has verified yet, has to be verified by. One of a domain that is not known is
    /// verified by our own roots, and refused for its chain or its name.
    pub(super) fn of(&self, leaf: &CertificateDer<'_>) -> &Domain<R> {
        if self.federated.is_empty() {
            return &self.own;
        }
        let Ok(claimed) = verify::peer_id(leaf) else { return &self.own };
        self.federated.iter().find(|domain| domain.name == claimed.trust_domain()).unwrap_or(&self.own)
    }

    /// With something else made of each domain's roots.
    pub(super) fn try_map<T, E>(self, mut make: impl FnMut(R) -> Result<T, E>) -> Result<Trusted<T>, E> {
        let mut made = |domain: Domain<R>| Ok(Domain { name: domain.name, roots: make(domain.roots)? });
        let own = made(self.own)?;
        Ok(Trusted { own, federated: self.federated.into_iter().map(made).collect::<Result<_, E>>()? })
    }
}
