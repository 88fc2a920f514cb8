//! Who issues the tokens (JWT) that rules look at, as the control plane says it.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use leno_certs::jwt::{Algorithm, KeySet};
use leno_proto::v1;

use super::convert::InvalidResource;

/// An issuer, and how its tokens are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtProvider {
    /// NAMESPACE/NAME
    pub name: String,
    /// The `iss` of its tokens; empty: there is none, and no token is right.
    pub issuer: String,
    /// One of these is in their `aud`.
    pub audiences: Vec<String>,
    /// What they are signed by.
    pub algorithms: Vec<Algorithm>,
    /// Its keys; empty: there are none now, and no token is right.
    pub keys: KeySet,
    /// Where a request has a token.
    pub places: Vec<TokenPlace>,
}

/// A header that may hold a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPlace {
    /// Its name.
    pub name: HeaderName,
    /// What stands before the token; its case does not matter.
    pub prefix: String,
}

/// By name. Keys that cannot be read leave the provider without any, so that no token is right; everything else that cannot be right is
/// refused as a whole.
pub(super) fn providers(wire: &[v1::JwtProvider]) -> Result<BTreeMap<String, Arc<JwtProvider>>, InvalidResource> {
    wire.iter().map(|said| Ok((said.name.clone(), Arc::new(provider(said)?)))).collect()
}

fn provider(wire: &v1::JwtProvider) -> Result<JwtProvider, InvalidResource> {
    let name = &wire.name;
    let algorithm = |text: &String| {
        Algorithm::parse(text)
            .ok_or_else(|| InvalidResource(format!("JwtProvider {name}: the algorithm {text:?} is not known")))
    };
    let place = |said: &v1::TokenPlace| {
        let header = said
            .name
            .parse()
            .map_err(|_| InvalidResource(format!("JwtProvider {name}: {:?} is no name of a header", said.name)))?;
        Ok(TokenPlace { name: header, prefix: said.prefix.clone() })
    };
    let keys = if wire.jwks.is_empty() { Ok(KeySet::default()) } else { KeySet::parse(wire.jwks.as_bytes()) };
    let keys = keys.unwrap_or_else(|why| {
        tracing::warn!(provider = %name, "no token of this provider is right: its keys cannot be used: {why}");
        KeySet::default()
    });
    Ok(JwtProvider {
        name: name.clone(),
        issuer: wire.issuer.clone(),
        audiences: wire.audiences.clone(),
        algorithms: wire.algorithms.iter().map(algorithm).collect::<Result<_, _>>()?,
        keys,
        places: wire.places.iter().map(place).collect::<Result<_, InvalidResource>>()?,
    })
}
