//! Certificate signing requests (PKCS#10): a workload asks for its identity without showing its key.

use rcgen::{CertificateParams, DistinguishedName, SanType};
use rustls_pki_types::SignatureVerificationAlgorithm;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ED25519};
use x509_parser::prelude::FromDer;

use crate::{CertError, Key, SpiffeId};

/// Largest request that is looked at, in bytes. One of ours has about 250.
const MOST_BYTES: usize = 8 * 1024;

/// A request for `id`, signed by `key`; PKCS#10, DER.
///
/// # Errors
/// The key cannot sign.
pub fn create(key: &Key, id: &SpiffeId) -> Result<Vec<u8>, CertError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri(id)?)];
    Ok(params.serialize_request(&key.pair)?.der().to_vec())
}

pub(crate) fn uri(id: &SpiffeId) -> Result<rcgen::string::Ia5String, CertError> {
    id.as_str().try_into().map_err(|e: rcgen::Error| CertError::Malformed(e.to_string()))
}

/// A request whose signature was checked.
#[derive(Debug, Clone)]
pub struct Csr {
    requested: SpiffeId,
    /// SubjectPublicKeyInfo, DER.
    pub(crate) public_key: Vec<u8>,
}

impl Csr {
    /// SHA-256 of the public key, by which one key is told from another.
    pub fn key_sha256(&self) -> [u8; 32] {
        use sha2::Digest;
        sha2::Sha256::digest(&self.public_key).into()
    }

    /// Reads a request and checks that its own key signed it.
    ///
    /// # Errors
    /// It is malformed, not signed by its key, or does not ask for exactly one SPIFFE ID.
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        if der.len() > MOST_BYTES {
            return Err(CertError::Malformed(format!(
                "the request has {} bytes, at most {MOST_BYTES} are read",
                der.len()
            )));
        }
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|e| CertError::Malformed(format!("no PKCS#10 request: {e}")))?;
        if !rest.is_empty() {
            return Err(CertError::Malformed("bytes follow the request".to_owned()));
        }
        let public_key = request.certification_request_info.subject_pki.raw.to_vec();
        verify_signature(&request)?;
        Ok(Self { requested: requested_id(&request)?, public_key })
    }

    /// Whom it asks to be.
    pub fn requested(&self) -> &SpiffeId {
        &self.requested
    }
}

fn requested_id(request: &X509CertificationRequest<'_>) -> Result<SpiffeId, CertError> {
    let mut uris = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            for name in &names.general_names {
                match name {
                    GeneralName::URI(uri) => uris.push(*uri),
                    other => return Err(CertError::Malformed(format!("asks for a name that is no URI: {other}"))),
                }
            }
        }
    }
    match uris[..] {
        [uri] => Ok(SpiffeId::parse(uri)?),
        _ => Err(CertError::UriNames(uris.len())),
    }
}

/// ECDSA on P-256 with SHA-256 and Ed25519 are the only signatures taken; a request with another fails here.
fn verify_signature(request: &X509CertificationRequest<'_>) -> Result<(), CertError> {
    let algorithm = &request.signature_algorithm.algorithm;
    let by: &dyn SignatureVerificationAlgorithm = if *algorithm == OID_SIG_ECDSA_WITH_SHA256 {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    } else if *algorithm == OID_SIG_ED25519 {
        webpki::aws_lc_rs::ED25519
    } else {
        return Err(CertError::Malformed(
            "the request is signed neither by ECDSA with SHA-256 nor by Ed25519".to_owned(),
        ));
    };
    if request.signature_value.unused_bits != 0 {
        return Err(CertError::BadSignature);
    }
    let asked = &request.certification_request_info;
    // A key of another kind is none that this signature can be of.
    if asked.subject_pki.algorithm.algorithm.to_id_string() != key_of(by) {
        return Err(CertError::BadSignature);
    }
    let key = &asked.subject_pki.subject_public_key.data;
    by.verify_signature(key, asked.raw, &request.signature_value.data).map_err(|_| CertError::BadSignature)
}

/// The kind of key that an algorithm is for (RFC 5480, RFC 8410).
fn key_of(by: &dyn SignatureVerificationAlgorithm) -> &'static str {
    if by.public_key_alg_id() == rustls_pki_types::alg_id::ED25519 { "1.3.101.112" } else { "1.2.840.10045.2.1" }
}
