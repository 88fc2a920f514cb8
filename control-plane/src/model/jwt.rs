//! Who issues the tokens (JWT) that AuthorizationPolicies look at.

use std::sync::Arc;

use leno_certs::jwt::Algorithm;

use super::HttpsUrl;

/// leno.dev/v1alpha1 JwtProvider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtProvider {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// One of these is in their `aud`.
    pub audiences: Vec<String>,
    /// What they are signed by.
    pub algorithms: Vec<Algorithm>,
    pub keys: JwtKeys,
    /// Where a request has them.
    pub places: Vec<TokenPlace>,
}

/// Where the public keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// In the object itself.
    Inline(Arc<str>),
    /// In the entry `jwks.json` of a ConfigMap of the same namespace.
    ConfigMap(String),
    /// Fetched.
    Url(HttpsUrl),
}

/// A header that may hold a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPlace {
    /// Lower case.
    pub name: String,
    /// What stands before it.
    pub prefix: String,
}
