//! `leno.dev/v1alpha1` JwtProvider.

use leno_certs::jwt::{Algorithm, KeySet};

use super::check::Check;
use crate::config::{FieldPath, JwtProviderSpec, WrittenJwks};
use crate::model::{HttpsUrl, JwtKeys, JwtProvider, TokenPlace};

/// Most audiences, and most headers.
const MOST: usize = 16;
/// Most bytes of an issuer, an audience or a prefix.
const MOST_BYTES: usize = 512;
/// Without `algorithms`.
const USUAL: [Algorithm; 2] = [Algorithm::Rs256, Algorithm::Es256];

pub(super) fn check(check: &mut Check<'_>, spec: &JwtProviderSpec) -> JwtProvider {
    let path = FieldPath::of("spec");
    text(check, &path.key("issuer"), &spec.issuer);
    let at = path.key("audiences");
    if spec.audiences.is_empty() {
        let hint = "write the audience that the issuer puts into tokens for you; without one every token of the issuer would do";
        check.error(&at, "a token has to be meant for somebody", hint);
    }
    check.most(&at, spec.audiences.len(), MOST);
    spec.audiences.iter().take(MOST).enumerate().for_each(|(n, one)| text(check, &at.index(n), one));
    JwtProvider {
        issuer: spec.issuer.clone(),
        audiences: spec.audiences.clone(),
        algorithms: algorithms(check, &path.key("algorithms"), spec.algorithms.as_deref()),
        keys: keys(check, &path.key("jwks"), &spec.jwks),
        places: places(check, &path.key("fromHeaders"), spec),
    }
}

fn text(check: &mut Check<'_>, path: &FieldPath, text: &str) {
    if text.is_empty() || text.len() > MOST_BYTES {
        check.error(path, format!("has between 1 and {MOST_BYTES} bytes"), "write what stands in the tokens");
    }
}

fn algorithms(check: &mut Check<'_>, path: &FieldPath, written: Option<&[String]>) -> Vec<Algorithm> {
    let Some(written) = written else { return USUAL.to_vec() };
    if written.is_empty() {
        check.error(path, "without an algorithm no token is right", "remove the field, or name one");
    }
    let mut found = Vec::new();
    for (n, name) in written.iter().enumerate() {
        match Algorithm::parse(name) {
            Some(algorithm) => found.push(algorithm),
            None => {
                let hint = format!("write some of {}", Algorithm::ALL.map(Algorithm::as_str).join(", "));
                let message = format!("{name:?} is no algorithm that tokens are trusted by");
                check.error(&path.index(n), message, hint);
            }
        }
    }
    found.dedup();
    found
}

fn keys(check: &mut Check<'_>, path: &FieldPath, written: &WrittenJwks) -> JwtKeys {
    let inline = JwtKeys::Inline("".into());
    match (&written.url, &written.config_map, &written.inline) {
        (Some(url), None, None) => match HttpsUrl::parse(url) {
            Ok(url) => JwtKeys::Url(url),
            Err(why) => {
                check.error(&path.key("url"), format!("the URL {why}"), "write it as https://id.example.com/jwks.json");
                inline
            }
        },
        (None, Some(name), None) => {
            check.dns_subdomain(&path.key("configMap"), name);
            JwtKeys::ConfigMap(name.to_string())
        }
        (None, None, Some(set)) => {
            if let Err(why) = KeySet::parse(set.as_bytes()) {
                let hint = "write the JSON that the issuer serves, with public keys alone";
                check.error(&path.key("inline"), format!("no tokens can be verified by it: {why}"), hint);
            }
            JwtKeys::Inline(set.as_str().into())
        }
        _ => {
            check.error(path, "keys come from one place", "write one of `url`, `configMap` and `inline`");
            inline
        }
    }
}

fn places(check: &mut Check<'_>, path: &FieldPath, spec: &JwtProviderSpec) -> Vec<TokenPlace> {
    let bearer = TokenPlace { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() };
    let Some(written) = &spec.from_headers else { return vec![bearer] };
    if written.is_empty() {
        check.error(path, "without a header no token is ever found", "remove the field, or name a header");
    }
    check.most(path, written.len(), MOST);
    let mut found: Vec<TokenPlace> = Vec::new();
    for (n, place) in written.iter().take(MOST).enumerate() {
        let at = path.index(n);
        let prefix = place.prefix.clone().unwrap_or_default();
        if http::HeaderValue::from_str(&prefix).is_err() || prefix.len() > MOST_BYTES {
            check.error(&at.key("prefix"), format!("{prefix:?} cannot stand in a header"), "write visible characters");
        }
        match http::HeaderName::try_from(place.name.as_str()) {
            Ok(name) if found.iter().any(|other| other.name == name.as_str()) => {
                check.error(&at.key("name"), format!("{name} is there twice"), "write a header once");
            }
            Ok(name) => found.push(TokenPlace { name: name.to_string(), prefix }),
            Err(_) => check.error(&at.key("name"), format!("{:?} is no name of a header", place.name), "correct it"),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::validate;

    fn problems(spec: &str) -> Vec<String> {
        let yaml =
            format!("{{apiVersion: leno.dev/v1alpha1, kind: JwtProvider, metadata: {{name: id}}, spec: {{{spec}}}}}");
        let checked = validate::batch(config::parse("a.yaml", yaml.as_bytes()).objects);
        checked.problems.into_iter().map(|problem| problem.message).collect()
    }

    const KEY: &str = "inline: '{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'";

    #[test]
    fn a_provider_says_whose_tokens_for_whom_by_which_keys() {
        let url = "jwks: {url: 'https://id.example/jwks'}";
        for good in [
            format!("issuer: a, audiences: [b], {url}"),
            format!("issuer: a, audiences: [b], jwks: {{{KEY}}}, algorithms: [EdDSA]"),
            "issuer: a, audiences: [b], jwks: {configMap: keys}".to_owned(),
            format!(
                "issuer: a, audiences: [b], {url}, fromHeaders: [{{name: X-Token}}, {{name: authorization, prefix: 'Bearer '}}]"
            ),
        ] {
            assert_eq!(problems(&good), [""; 0], "{good}");
        }
        for bad in [
            format!("issuer: '', audiences: [b], {url}"),
            format!("issuer: a, audiences: [], {url}"),
            format!("issuer: a, audiences: [''], {url}"),
            "issuer: a, audiences: [b], jwks: {}".to_owned(),
            format!("issuer: a, audiences: [b], jwks: {{{KEY}, configMap: keys}}"),
            "issuer: a, audiences: [b], jwks: {url: 'http://id.example/jwks'}".to_owned(),
            "issuer: a, audiences: [b], jwks: {url: 'file:///etc/passwd'}".to_owned(),
            "issuer: a, audiences: [b], jwks: {inline: '{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\"}]}'}".to_owned(),
            format!("issuer: a, audiences: [b], {url}, algorithms: []"),
            format!("issuer: a, audiences: [b], {url}, algorithms: [none]"),
            format!("issuer: a, audiences: [b], {url}, algorithms: [HS256]"),
            format!("issuer: a, audiences: [b], {url}, fromHeaders: []"),
            format!("issuer: a, audiences: [b], {url}, fromHeaders: [{{name: 'a b'}}]"),
            format!("issuer: a, audiences: [b], {url}, fromHeaders: [{{name: a}}, {{name: A}}]"),
        ] {
            assert_eq!(problems(&bad).len(), 1, "{bad}");
        }
    }
}
