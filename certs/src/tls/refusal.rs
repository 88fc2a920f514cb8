//! Why a TLS handshake was refused, as a stable code for logs and metrics.

use std::io;

use rustls::{CertificateError, Error};

use crate::CertError;

/// The code of a failed handshake: `no_certificate`, `certificate_expired`, `certificate_untrusted`, `wrong_trust_domain` …
pub fn refusal(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::TimedOut {
        return "handshake_timeout";
    }
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return "connection_lost";
    };
    match tls {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(certificate) => certificate_refusal(certificate),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "not_tls"
        }
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "incompatible",
        Error::AlertReceived(_) => "refused_by_peer",
        _ => "tls_handshake",
    }
}

fn certificate_refusal(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate_not_yet_valid",
        CertificateError::UnknownIssuer
        | CertificateError::BadSignature
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. } => "certificate_untrusted",
        CertificateError::BadEncoding => "certificate_malformed",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "wrong_purpose",
        CertificateError::UnhandledCriticalExtension => "unknown_extension",
        CertificateError::Other(other) => {
            let own = other.0.downcast_ref::<CertError>().map(identity_refusal);
            own.or_else(|| other.0.downcast_ref::<webpki::Error>().map(path_refusal)).unwrap_or("certificate_invalid")
        }
        _ => "certificate_invalid",
    }
}

fn identity_refusal(error: &CertError) -> &'static str {
    match error {
        CertError::WrongTrustDomain { .. } => "wrong_trust_domain",
        CertError::UriNames(0) => "no_identity",
        CertError::UriNames(_) => "several_identities",
        CertError::Id(_) => "malformed_identity",
        CertError::AuthorityLeaf => "authority_leaf",
        CertError::KeyUsage(_) => "wrong_key_usage",
        CertError::Malformed(_) => "certificate_malformed",
        CertError::NoAuthority => "not_an_authority",
        CertError::EndsSoon(_) => "certificate_expired",
        CertError::WrongIdentity { .. } | CertError::BadSignature | CertError::Signer => "certificate_identity",
    }
}

fn path_refusal(error: &webpki::Error) -> &'static str {
    match error {
        webpki::Error::CaUsedAsEndEntity => "authority_leaf",
        webpki::Error::EndEntityUsedAsCa => "not_an_authority",
        webpki::Error::PathLenConstraintViolated | webpki::Error::MaximumPathDepthExceeded => "path_too_long",
        webpki::Error::NameConstraintViolation => "name_constraint",
        webpki::Error::UnsupportedCriticalExtension => "unknown_extension",
        webpki::Error::TrailingData(_) | webpki::Error::BadDer => "certificate_malformed",
        _ => "certificate_invalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_refusal_has_its_code() {
        let code = |tls: Error| refusal(&io::Error::new(io::ErrorKind::InvalidData, tls));
        assert_eq!(code(Error::NoCertificatesPresented), "no_certificate");
        assert_eq!(code(Error::InvalidCertificate(CertificateError::Expired)), "certificate_expired");
        assert_eq!(code(Error::InvalidCertificate(CertificateError::UnknownIssuer)), "certificate_untrusted");
        assert_eq!(code(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)), "not_tls");
        let other = CertError::WrongTrustDomain { theirs: "a".into(), ours: "b".into() };
        assert_eq!(code(crate::tls::client::refused(other)), "wrong_trust_domain");
        assert_eq!(refusal(&io::ErrorKind::UnexpectedEof.into()), "connection_lost");
        assert_eq!(refusal(&io::ErrorKind::TimedOut.into()), "handshake_timeout");
    }
}
