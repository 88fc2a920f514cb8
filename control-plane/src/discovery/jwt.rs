//! The issuers of tokens, as the sidecars of a namespace are told of them: those that its policies name, with their keys.

use std::collections::{BTreeMap, BTreeSet};

use leno_proto::v1;

use crate::jwks::Published;
use crate::model::{JwtKeys, JwtProvider, Mesh, Name};

/// Where a token is looked for when nobody says where.
const BEARER: (&str, &str) = ("authorization", "Bearer ");

/// The issuers that the policies of one namespace name.
pub fn told(mesh: &Mesh, namespace: &str, fetched: &Published) -> Vec<v1::JwtProvider> {
    of(mesh, fetched).remove(namespace).unwrap_or_default()
}

/// By namespace. One that is named and not there is told, too: without keys, so that no token is right for it.
pub(super) fn of(mesh: &Mesh, fetched: &Published) -> BTreeMap<String, Vec<v1::JwtProvider>> {
    let mut named: BTreeSet<Name> = BTreeSet::new();
    for (policy, said) in &mesh.authorization_policies {
        let claims = said.rules.iter().flat_map(|rule| &rule.to).flat_map(|to| &to.claims);
        named.extend(claims.map(|claim| Name::new(&policy.namespace, &claim.provider)));
    }
    let mut told: BTreeMap<String, Vec<v1::JwtProvider>> = BTreeMap::new();
    for name in named {
        let provider = mesh.jwt_providers.get(&name);
        let wire = provider.map_or_else(|| missing(&name), |provider| one(mesh, fetched, &name, provider));
        told.entry(name.namespace).or_default().push(wire);
    }
    told
}

fn missing(name: &Name) -> v1::JwtProvider {
    let place = v1::TokenPlace { name: BEARER.0.to_owned(), prefix: BEARER.1.to_owned() };
    v1::JwtProvider { name: name.to_string(), places: vec![place], ..v1::JwtProvider::default() }
}

fn one(mesh: &Mesh, fetched: &Published, name: &Name, provider: &JwtProvider) -> v1::JwtProvider {
    let jwks = match &provider.keys {
        JwtKeys::Inline(json) => Some(json.clone()),
        JwtKeys::ConfigMap(map) => {
            let map = mesh.config_maps.get(&Name::new(&name.namespace, map));
            map.and_then(|map| map.jwks.as_ref().ok().cloned())
        }
        JwtKeys::Url(url) => fetched.get(url).map(|keys| keys.json.clone()),
    };
    let place =
        |place: &crate::model::TokenPlace| v1::TokenPlace { name: place.name.clone(), prefix: place.prefix.clone() };
    v1::JwtProvider {
        name: name.to_string(),
        issuer: provider.issuer.clone(),
        audiences: provider.audiences.clone(),
        algorithms: provider.algorithms.iter().map(|algorithm| algorithm.as_str().to_owned()).collect(),
        jwks: jwks.as_deref().unwrap_or_default().to_owned(),
        places: provider.places.iter().map(place).collect(),
    }
}

#[cfg(test)]
mod tests {
    use leno_certs::jwt::{Algorithm, KeySet};

    use super::*;
    use crate::jwks::Keys;
    use crate::model::{
        AuthorizationAction, AuthorizationPolicy, AuthorizationRule, ClaimCondition, ConfigMap, HttpsUrl, RequestMatch,
        TokenPlace,
    };

    fn policy(providers: &[&str]) -> AuthorizationPolicy {
        let claim = |name: &&str| ClaimCondition { provider: (*name).to_owned(), ..ClaimCondition::default() };
        let to = RequestMatch { claims: providers.iter().map(claim).collect(), ..RequestMatch::default() };
        AuthorizationPolicy {
            action: AuthorizationAction::Allow,
            targets: vec![],
            of_namespace: true,
            rules: vec![AuthorizationRule { name: "0".into(), from: vec![], to: vec![to] }],
        }
    }

    #[test]
    fn only_what_policies_name_is_told_and_without_keys_no_token_is_right() {
        let mut mesh = Mesh::default();
        let url = HttpsUrl::parse("https://id.example/jwks").unwrap();
        let provider = |keys| JwtProvider {
            issuer: "i".into(),
            audiences: vec!["a".into()],
            algorithms: vec![Algorithm::Es256],
            keys,
            places: vec![TokenPlace { name: "x".into(), prefix: String::new() }],
        };
        for (name, keys) in [
            ("url", JwtKeys::Url(url.clone())),
            ("map", JwtKeys::ConfigMap("keys".into())),
            ("inline", JwtKeys::Inline("{}".into())),
            ("unused", JwtKeys::Inline("{}".into())),
        ] {
            mesh.jwt_providers.insert(Name::new("shop", name), provider(keys));
        }
        mesh.authorization_policies.insert(Name::new("shop", "p"), policy(&["url", "map", "inline", "nowhere", "url"]));
        mesh.authorization_policies.insert(Name::new("other", "p"), policy(&["inline"]));
        let keys = |mesh: &Mesh, fetched: &Published| -> Vec<(String, String, String)> {
            let told = told(mesh, "shop", fetched);
            told.into_iter().map(|one| (one.name, one.issuer, one.jwks)).collect()
        };
        let row = |name: &str, issuer: &str, jwks: &str| (format!("shop/{name}"), issuer.to_owned(), jwks.to_owned());
        let before = [row("inline", "i", "{}"), row("map", "i", ""), row("nowhere", "", ""), row("url", "i", "")];
        assert_eq!(keys(&mesh, &Published::new()), before);
        let map = ConfigMap { authorities: Err(String::new()), jwks: Ok("{map}".into()) };
        mesh.config_maps.insert(Name::new("shop", "keys"), map);
        let fetched = Published::from([(url, Keys { json: "{url}".into(), set: KeySet::default().into() })]);
        let after =
            [row("inline", "i", "{}"), row("map", "i", "{map}"), row("nowhere", "", ""), row("url", "i", "{url}")];
        assert_eq!(keys(&mesh, &fetched), after);
        assert_eq!(super::told(&mesh, "other", &fetched)[0].issuer, "", "a provider is its namespace's alone");
    }
}
