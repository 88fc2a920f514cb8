//! What an authority that somebody else has made must be.

use std::time::Duration;

use rcgen::string::{BmpString, Ia5String, PrintableString, TeletexString};
use rcgen::{DistinguishedName, DnType, DnValue};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Authority;
use crate::{CertError, Key, SpiffeId, TrustBundle, tls, verify};

/// One that ends sooner is not worth its import.
const LEAST_LEFT: Duration = Duration::from_secs(3600);

/// That a certificate may sign others, and is of this trust domain if it is of any (SPIFFE X.509-SVID, section 3.1).
pub(super) fn is_authority(der: &[u8], trust_domain: &str) -> Result<(), CertError> {
    if !verify::is_authority(der)? {
        return Err(CertError::NoAuthority);
    }
    verify::may_sign(der)?;
    let ours = format!("spiffe://{trust_domain}");
    match verify::uri_names(der)?.into_iter().find(|uri| uri.starts_with("spiffe://") && *uri != ours) {
        Some(theirs) => Err(CertError::WrongTrustDomain { theirs, ours }),
        None => Ok(()),
    }
}

/// Signs a leaf and verifies it as a peer would: by a root alone and what is shown between, at this time.
pub(super) fn try_out(
    authority: &Authority,
    between: &[Vec<u8>],
    root: &[u8],
    now: OffsetDateTime,
) -> Result<(), CertError> {
    if authority.not_after < now + LEAST_LEFT {
        return Err(CertError::EndsSoon(authority.not_after));
    }
    let (key, id) = (Key::generate()?, SpiffeId::new(&authority.trust_domain, "leno-try", "out")?);
    let leaf = authority.issue(&key, &id, &[], now - time::Duration::MINUTE, now + time::Duration::HOUR)?;
    let roots = TrustBundle::new(authority.trust_domain.clone(), vec![root.to_vec()]);
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or_default();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    tls::verify_chain(&leaf, between, &roots, now)
}

/// The subject of a certificate, so that it can be repeated byte for byte.
pub(super) fn subject(der: &[u8]) -> Result<DistinguishedName, CertError> {
    let malformed = |what: &str| CertError::Malformed(format!("its subject {what}"));
    let (_, certificate) = X509Certificate::from_der(der).map_err(|why| CertError::Malformed(why.to_string()))?;
    let mut subject = DistinguishedName::new();
    for part in certificate.subject().iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err(malformed("has a part with several values"));
        };
        let kind = attribute.attr_type().iter().ok_or_else(|| malformed("has a part of an unknown kind"))?;
        let value = attribute.attr_value();
        let text = || std::str::from_utf8(value.data).map_err(|_| malformed("is no text"));
        let value = match value.header.tag() {
            Tag::Utf8String => DnValue::Utf8String(text()?.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(PrintableString::try_from(text()?)?),
            Tag::Ia5String => DnValue::Ia5String(Ia5String::try_from(text()?)?),
            Tag::T61String => DnValue::TeletexString(TeletexString::try_from(text()?)?),
            Tag::BmpString => DnValue::BmpString(BmpString::from_utf16be(value.data.to_vec())?),
            _ => return Err(malformed("has a part of an unknown form")),
        };
        subject.push(DnType::from_oid(&kind.collect::<Vec<_>>()), value);
    }
    Ok(subject)
}
