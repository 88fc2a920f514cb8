//! Reading identities from certificates. The chain itself is verified by webpki, see [`crate::tls`].

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::{CertError, Lineage, SpiffeId};

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| CertError::Malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(CertError::Malformed("bytes follow the certificate".to_owned()));
    }
    Ok(certificate)
}

fn names<T>(der: &[u8], wanted: impl Fn(&GeneralName<'_>) -> Option<T>) -> Result<Vec<T>, CertError> {
    let certificate = parse(der)?;
    let names = certificate.subject_alternative_name().map_err(|e| CertError::Malformed(e.to_string()))?;
    Ok(names.iter().flat_map(|names| &names.value.general_names).filter_map(wanted).collect())
}

/// The URI names of a certificate.
///
/// # Errors
/// It is unreadable.
pub fn uri_names(der: &[u8]) -> Result<Vec<String>, CertError> {
    names(der, |name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    })
}

/// The DNS names of a certificate, in lower case.
///
/// # Errors
/// It is unreadable.
pub fn dns_names(der: &[u8]) -> Result<Vec<String>, CertError> {
    names(der, |name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    })
}

/// The one URI name of a certificate.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn uri_name(der: &[u8]) -> Result<String, CertError> {
    let mut uris = uri_names(der)?;
    match (uris.pop(), uris.len()) {
        (Some(uri), 0) => Ok(uri),
        (last, more) => Err(CertError::UriNames(more + usize::from(last.is_some()))),
    }
}

/// The identity that a leaf certificate carries: exactly one URI name, a SPIFFE ID (SPIFFE X.509-SVID, section 2), on a
/// certificate that is no authority and whose key signs handshakes and nothing else (section 5.2). The chain must have been
/// verified already.
///
/// # Errors
/// Anything else.
pub fn peer_id(leaf_der: &[u8]) -> Result<SpiffeId, CertError> {
    let leaf = parse(leaf_der)?;
    if leaf.is_ca() {
        return Err(CertError::AuthorityLeaf);
    }
    let id = SpiffeId::parse(&uri_name(leaf_der)?)?;
    let usage = leaf.key_usage().map_err(|e| CertError::Malformed(e.to_string()))?.map(|usage| usage.value);
    if usage.is_some_and(|usage| usage.key_cert_sign() || usage.crl_sign()) {
        return Err(CertError::KeyUsage("the leaf's key may sign certificates or revocations"));
    }
    if !usage.is_some_and(|usage| usage.digital_signature()) {
        return Err(CertError::KeyUsage("the leaf's key may not sign handshakes"));
    }
    Ok(id)
}

/// That a certificate between leaf and root may sign certificates, which webpki takes from its basic constraints alone.
///
/// # Errors
/// It may not, or is unreadable.
pub(crate) fn may_sign(authority_der: &[u8]) -> Result<(), CertError> {
    let authority = parse(authority_der)?;
    let usage = authority.key_usage().map_err(|e| CertError::Malformed(e.to_string()))?;
    match usage.is_none_or(|usage| usage.value.key_cert_sign()) {
        true => Ok(()),
        false => Err(CertError::KeyUsage("an intermediate's key may not sign certificates")),
    }
}

/// Whether a certificate is one of an authority.
pub(crate) fn is_authority(der: &[u8]) -> Result<bool, CertError> {
    Ok(parse(der)?.is_ca())
}

/// The subject's public key, DER.
pub(crate) fn public_key(der: &[u8]) -> Result<Vec<u8>, CertError> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

/// By which the leaves of an authority say who has signed them (RFC 5280, 4.2.1.2).
///
/// # Errors
/// It is unreadable or has none.
pub(crate) fn subject_key_id(der: &[u8]) -> Result<Vec<u8>, CertError> {
    let certificate = parse(der)?;
    let found = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    found.ok_or_else(|| CertError::Malformed("it has no subject key identifier (RFC 5280, 4.2.1.2)".to_owned()))
}

/// Which authority has signed a leaf (RFC 5280, 4.2.1.1); None: it does not say.
pub fn authority_key_id(der: &[u8]) -> Option<Vec<u8>> {
    parse(der).ok()?.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    })
}

/// Which sidecar a leaf belongs to; None: it was signed by another authority, or by one of an older version.
pub fn lineage(der: &[u8]) -> Option<Lineage> {
    Lineage::of_serial(parse(der).ok()?.raw_serial())
}

/// When a certificate expires.
///
/// # Errors
/// It is unreadable.
pub fn not_after(der: &[u8]) -> Result<OffsetDateTime, CertError> {
    Ok(validity(der)?.1)
}

/// From when until when a certificate is valid.
///
/// # Errors
/// It is unreadable.
pub fn validity(der: &[u8]) -> Result<(OffsetDateTime, OffsetDateTime), CertError> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok((validity.not_before.to_datetime(), validity.not_after.to_datetime()))
}
