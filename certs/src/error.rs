//! What can be wrong with a key or a certificate.

use std::fmt;

use crate::InvalidSpiffeId;

/// Why a key, a request or a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertError {
    /// The bytes are no such thing, or a library could not make it.
    Malformed(String),
    /// The certificate or request does not carry exactly one URI name.
    UriNames(usize),
    /// Its URI name is no SPIFFE ID of ours.
    Id(InvalidSpiffeId),
    /// A request asks for another identity than was proven.
    WrongIdentity { asked: String, proven: String },
    /// The self-signature of a request does not fit its key.
    BadSignature,
    /// A leaf that would be its own authority.
    AuthorityLeaf,
    /// Whoever holds the key elsewhere did not sign.
    Signer,
    /// A certificate that was to sign others is none of an authority.
    NoAuthority,
    /// An authority that is over before it would be of use.
    EndsSoon(time::OffsetDateTime),
    /// A certificate whose key may not be used for what it was used for.
    KeyUsage(&'static str),
    /// The peer belongs to another trust domain.
    WrongTrustDomain { theirs: String, ours: String },
}

impl fmt::Display for CertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "not a usable key or certificate: {why}"),
            Self::UriNames(n) => write!(f, "has {n} URI names, exactly one is needed (SPIFFE X.509-SVID, section 2)"),
            Self::Id(why) => write!(f, "its URI name is no SPIFFE ID of this mesh: {why}"),
            Self::WrongIdentity { asked, proven } => write!(f, "asks for {asked}, but {proven} was proven"),
            Self::BadSignature => write!(f, "the request is not signed by its own key"),
            Self::Signer => write!(f, "whoever holds the key does not sign"),
            Self::NoAuthority => write!(f, "it is no certificate of an authority (basic constraints, CA:TRUE)"),
            Self::EndsSoon(at) => write!(f, "it expires at {at}, which is too soon to be of use"),
            Self::KeyUsage(what) => write!(f, "{what} (SPIFFE X.509-SVID, section 4.3)"),
            Self::AuthorityLeaf => write!(f, "the leaf certificate is a certificate authority"),
            Self::WrongTrustDomain { theirs, ours } => {
                write!(f, "belongs to the trust domain {theirs}, this mesh is {ours}")
            }
        }
    }
}

impl std::error::Error for CertError {}

impl From<InvalidSpiffeId> for CertError {
    fn from(why: InvalidSpiffeId) -> Self {
        Self::Id(why)
    }
}

impl From<rcgen::Error> for CertError {
    fn from(why: rcgen::Error) -> Self {
        match why {
            rcgen::Error::RemoteKeyError => Self::Signer,
            other => Self::Malformed(other.to_string()),
        }
    }
}

impl From<rustls::Error> for CertError {
    fn from(why: rustls::Error) -> Self {
        Self::Malformed(why.to_string())
    }
}
