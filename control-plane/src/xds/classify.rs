//! Why a TLS handshake failed, in the words that are logged and counted.

use std::io;

use leno_certs::tls;
use rustls::{CertificateError, Error, OtherError};

use crate::ca::Refusal;

/// The refusal behind the error of an accept.
pub(super) fn refusal(error: &io::Error) -> Refusal {
    Refusal::Handshake(tls::refusal(error), words(error))
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
}

/// Without what rustls and the standard library say around the reason.
fn words(error: &io::Error) -> String {
    match tls_error(error) {
        Some(Error::InvalidCertificate(CertificateError::Other(OtherError(why)))) => why.to_string(),
        Some(Error::InvalidCertificate(why)) => why.to_string(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leno_certs::CertError;

    use super::*;

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
        assert_eq!(reason(other(CertError::UriNames(0))), "no_identity");
        assert_eq!(reason(Error::HandshakeNotComplete), "tls_handshake");
        assert_eq!(refusal(&io::Error::from(io::ErrorKind::UnexpectedEof)).reason(), "connection_lost");
    }
}
