//! Another mesh whose workloads are believed to be who they are.

use std::sync::Arc;

use leno_certs::SpiffeId;

use super::HttpsUrl;

/// leno.dev/v1alpha1 FederatedTrustDomain; it is called as the trust domain is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedTrustDomain {
    /// Where its roots are told; None: they are what is written.
    pub endpoint: Option<BundleEndpoint>,
    /// The roots to begin with, DER; None: none are believed before some are fetched.
    pub roots: Option<Arc<[Vec<u8>]>>,
}

/// Who tells a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleEndpoint {
    pub url: HttpsUrl,
    /// Whom it has to prove to be, by the roots that are believed at the time (`https_spiffe`); None: whoever the Web's
    /// authorities say has the URL's host (`https_web`).
    pub id: Option<SpiffeId>,
}
