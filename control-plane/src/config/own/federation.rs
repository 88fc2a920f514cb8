//! FederatedTrustDomain: another mesh whose workloads are believed to be who they are. The fields are called as those of SPIRE's
//! ClusterFederatedTrustDomain.

use serde::{Deserialize, Serialize};

/// How the roots of another trust domain are learned.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FederatedTrustDomainSpec {
    /// An `https://` URL that serves them (SPIFFE Federation, section 5).
    #[serde(default, rename = "bundleEndpointURL")]
    pub bundle_endpoint_url: Option<String>,
    /// How the server of that URL proves itself.
    #[serde(default)]
    pub bundle_endpoint_profile: Option<WrittenProfile>,
    /// The roots to begin with, in the SPIFFE bundle format, as text.
    #[serde(default)]
    pub trust_domain_bundle: Option<String>,
}

/// How a bundle's server proves itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenProfile {
    /// `https_spiffe` or `https_web`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its identity, for `https_spiffe`.
    #[serde(default, rename = "endpointSPIFFEID")]
    pub endpoint_spiffe_id: Option<String>,
}
