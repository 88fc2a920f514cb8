//! `v1` Secret and ConfigMap: certificates are read once, here. That there are none, or that they are no certificates, is no
//! reason to refuse the object: it shows in the `status` of what refers to it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap as WrittenMap, Secret as WrittenSecret};
use leno_certs::jwt::KeySet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::check::Check;
use crate::config::FieldPath;
use crate::model::{Authorities, ConfigMap, KeyPair, Secret};

/// Most certificates of one chain or bundle.
const MOST_CERTIFICATES: usize = 64;
/// Longest name of an entry, as Kubernetes has it.
const MOST_NAME: usize = 253;
/// The type whose entries are a certificate and its key.
const TLS: &str = "kubernetes.io/tls";

pub(super) fn secret(check: &mut Check<'_>, written: &WrittenSecret) -> Secret {
    let mut data: std::collections::BTreeMap<&str, &[u8]> =
        written.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice())).collect();
    data.extend(written.string_data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes())));
    for key in data.keys() {
        name(check, "data", key);
    }
    if written.type_.as_deref() == Some(TLS) {
        for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !data.contains_key(key)) {
            let message = format!("a Secret of the type {TLS} has the entries tls.crt and tls.key");
            check.error(&FieldPath::of("data").key(key), message, "add it, or write `type: Opaque`");
        }
    }
    let entry = |key: &str| data.get(key).copied().ok_or_else(|| format!("it has no entry {key}"));
    Secret {
        key_pair: entry("tls.crt").and_then(|chain| key_pair(chain, entry("tls.key")?)).map(Arc::new),
        authorities: entry("ca.crt").and_then(authorities),
    }
}

pub(super) fn config_map(check: &mut Check<'_>, written: &WrittenMap) -> ConfigMap {
    for key in written.data.iter().flatten().map(|(key, _)| key) {
        name(check, "data", key);
    }
    let text = written.data.as_ref().and_then(|data| data.get("ca.crt")).map(String::as_bytes);
    let binary = written.binary_data.as_ref().and_then(|data| data.get("ca.crt")).map(|value| value.0.as_slice());
    let found = text.or(binary).ok_or_else(|| "it has no entry ca.crt".to_owned());
    let jwks = written.data.as_ref().and_then(|data| data.get("jwks.json"));
    ConfigMap { authorities: found.and_then(authorities), jwks: key_set(jwks) }
}

fn key_set(json: Option<&String>) -> Result<Arc<str>, String> {
    let json = json.ok_or_else(|| "it has no entry jwks.json".to_owned())?;
    match KeySet::parse(json.as_bytes()) {
        Ok(_) => Ok(json.as_str().into()),
        Err(why) => Err(format!("no tokens can be verified by jwks.json: {why}")),
    }
}

fn name(check: &mut Check<'_>, field: &str, key: &str) {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.is_empty() || key.len() > MOST_NAME || !key.bytes().all(good) {
        check.error(&FieldPath::of(field).key(key), "is no name of an entry", "write A-Z, a-z, 0-9, -, _ and .");
    }
}

/// The certificates of a PEM text. `what` is said when there are none.
fn certificates(pem: &[u8], what: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| format!("{what} is no PEM"))?;
        if found.len() == MOST_CERTIFICATES {
            return Err(format!("{what} has more than {MOST_CERTIFICATES} certificates"));
        }
        if leno_certs::verify::not_after(&certificate).is_err() {
            return Err(format!("{what} holds something that is no X.509 certificate"));
        }
        found.push(certificate.to_vec());
    }
    if found.is_empty() {
        return Err(format!("{what} holds no PEM certificate"));
    }
    Ok(found)
}

fn authorities(pem: &[u8]) -> Result<Authorities, String> {
    let found = certificates(pem, "ca.crt")?;
    // What the sidecar does with them, so that it never meets one that cannot be an anchor.
    let mut store = rustls::RootCertStore::empty();
    for certificate in &found {
        let added = store.add(CertificateDer::from(certificate.as_slice()));
        added.map_err(|_| "ca.crt holds a certificate that can be no trust anchor".to_owned())?;
    }
    Ok(Arc::new(found))
}

/// A key that is not the certificate's would only be found out in a handshake.
fn key_pair(chain: &[u8], key: &[u8]) -> Result<KeyPair, String> {
    let chain = certificates(chain, "tls.crt")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "tls.key holds no PEM private key".to_owned())?;
    let ders = chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(ders, key.clone_key(), &provider) {
        Ok(_) => Ok(KeyPair { chain, key: key.secret_der().to_vec() }),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err("tls.key is not the key of the certificate in tls.crt".to_owned())
        }
        Err(_) => Err("tls.key is no key that can be used".to_owned()),
    }
}
