//! Why a TLS handshake failed, in the words that are logged and counted.

use std::io;

use leno_certs::CertError;
use rustls::{CertificateError, Error, OtherError};

use crate::ca::Refusal;

/// The refusal behind the error of an accept.
pub(super) fn refusal(error: &io::Error) -> Refusal {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(why)) => certificate(why),
        Some(other) => Refusal::TlsHandshake(other.to_string()),
        None => Refusal::TlsHandshake(error.to_string()),
    }
}

fn certificate(why: &CertificateError) -> Refusal {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => Refusal::CertificateExpired,
        CertificateError::Other(OtherError(inner)) => match inner.downcast_ref::<CertError>() {
            Some(why @ CertError::WrongTrustDomain { .. }) => Refusal::WrongTrustDomain(why.to_string()),
            _ => Refusal::CertificateUntrusted(inner.to_string()),
        },
        other => Refusal::CertificateUntrusted(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn reason(error: Error) -> &'static str {
        refusal(&io::Error::new(io::ErrorKind::InvalidData, error)).reason()
    }

    #[test]
    fn each_kind_of_bad_certificate_has_its_reason() {
        let other = |why| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))));
        assert_eq!(reason(Error::InvalidCertificate(CertificateError::Expired)), "certificate_expired");
        assert_eq!(reason(Error::InvalidCertificate(CertificateError::UnknownIssuer)), "certificate_untrusted");
        assert_eq!(reason(Error::InvalidCertificate(CertificateError::BadSignature)), "certificate_untrusted");
        let foreign = CertError::WrongTrustDomain { theirs: "a".into(), ours: "b".into() };
        assert_eq!(reason(other(foreign)), "wrong_trust_domain");
        assert_eq!(reason(other(CertError::UriNames(0))), "certificate_untrusted");
        assert_eq!(reason(Error::HandshakeNotComplete), "tls_handshake");
        assert_eq!(refusal(&io::Error::from(io::ErrorKind::UnexpectedEof)).reason(), "tls_handshake");
    }
}
