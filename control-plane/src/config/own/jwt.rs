//! JwtProvider: who issues the tokens that AuthorizationPolicies look at.

use serde::{Deserialize, Serialize};

/// An issuer, and how its tokens are verified.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtProviderSpec {
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// One of these is in the `aud` of a token.
    pub audiences: Vec<String>,
    /// Its public keys.
    pub jwks: WrittenJwks,
    /// What tokens may be signed by; without it RS256 and ES256.
    #[serde(default)]
    pub algorithms: Option<Vec<String>>,
    /// Where a request has its token; without it `Authorization: Bearer`.
    #[serde(default)]
    pub from_headers: Option<Vec<WrittenPlace>>,
}

/// One of the three.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenJwks {
    /// An `https://` URL that the control plane fetches.
    #[serde(default)]
    pub url: Option<String>,
    /// A ConfigMap of the same namespace, with the entry `jwks.json`.
    #[serde(default)]
    pub config_map: Option<String>,
    /// The set itself, as text.
    #[serde(default)]
    pub inline: Option<String>,
}

/// A header that may hold a token.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrittenPlace {
    /// Its name.
    pub name: String,
    /// What stands before the token.
    #[serde(default)]
    pub prefix: Option<String>,
}
