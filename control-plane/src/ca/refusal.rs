//! Why an identity was not given or not believed.

use std::fmt;

use leno_certs::jwt::Refused;
use leno_runtime::metrics::Registry as Metrics;
use tonic::{Code, Status};

use crate::model::audit::{Actor, Event};
use crate::store::Trail;

/// A refusal. Each has a stable reason, which is the metric's label, a log field, and the start of the gRPC message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    TokenUnknown,
    TokenUsed,
    TokenExpired,
    TokenMalformed,
    /// It was made void before it was redeemed.
    TokenRevoked,
    /// The identity or the sidecar was revoked.
    Revoked,
    /// A sidecar that was revoked holds the join secret, too.
    SecretRevoked,
    /// No file of --join-secrets holds a secret with this id, or there is no such folder.
    SecretUnknown,
    /// The proof was not made with the secret of that id.
    SecretWrong,
    /// The request for a proof, or a proof, has the wrong form.
    ProofMalformed,
    /// There is no --service-account-issuer.
    JwtNotTaken,
    /// The service-account token is not believed.
    Jwt(Refused),
    /// It is believed, and does not say whose it is.
    JwtClaims(&'static str),
    /// It lives for longer than a day.
    JwtLongLived,
    /// Another key has used it before.
    JwtReplayed,
    /// There are no keys to believe a service-account token by.
    JwksUnavailable(String),
    WrongIdentity {
        asked: String,
        proven: String,
    },
    CsrInvalid(String),
    NoCertificate,
    CertificateExpired,
    /// The handshake failed: the code of [`leno_certs::tls::refusal`], and what is wrong.
    Handshake(&'static str, String),
    /// One address joins too often.
    TooMany,
    /// The holder of the key of the authority does not sign.
    SignerUnavailable,
    /// Not the caller's fault.
    Internal(String),
}

impl Refusal {
    /// The stable reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TokenUnknown => "token_unknown",
            Self::TokenUsed => "token_used",
            Self::TokenExpired => "token_expired",
            Self::TokenMalformed => "token_malformed",
            Self::TokenRevoked => "token_revoked",
            Self::Revoked => "revoked",
            Self::SecretRevoked => "secret_revoked",
            Self::SecretUnknown => "secret_unknown",
            Self::SecretWrong => "secret_wrong",
            Self::ProofMalformed => "proof_malformed",
            Self::JwtNotTaken => "jwt_not_taken",
            Self::Jwt(refused) => of_jwt(*refused),
            Self::JwtClaims(_) => "jwt_claims",
            Self::JwtLongLived => "jwt_long_lived",
            Self::JwtReplayed => "jwt_replayed",
            Self::JwksUnavailable(_) => "jwks_unavailable",
            Self::WrongIdentity { .. } => "wrong_identity",
            Self::CsrInvalid(_) => "csr_invalid",
            Self::NoCertificate => "no_certificate",
            Self::CertificateExpired => "certificate_expired",
            Self::Handshake(code, _) => code,
            Self::TooMany => "rate_limited",
            Self::SignerUnavailable => "signer_unavailable",
            Self::Internal(_) => "internal",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::WrongIdentity { .. } | Self::Revoked | Self::SecretRevoked => Code::PermissionDenied,
            Self::CsrInvalid(_) | Self::ProofMalformed => Code::InvalidArgument,
            Self::TooMany => Code::ResourceExhausted,
            Self::Internal(_) => Code::Internal,
            Self::JwksUnavailable(_) | Self::SignerUnavailable => Code::Unavailable,
            _ => Code::Unauthenticated,
        }
    }

    /// The refusal as the caller gets it: `REASON: what and what to do`.
    pub fn to_status(&self) -> Status {
        Status::new(self.code(), format!("{}: {self}", self.reason()))
    }
}

/// Labels of a metric have to be known beforehand.
fn of_jwt(refused: Refused) -> &'static str {
    match refused {
        Refused::TooLong => "jwt_too_long",
        Refused::Malformed(_) => "jwt_malformed",
        Refused::Critical => "jwt_crit",
        Refused::Algorithm => "jwt_algorithm",
        Refused::UnknownKey => "jwt_unknown_key",
        Refused::Signature => "jwt_signature",
        Refused::Issuer => "jwt_issuer",
        Refused::Audience => "jwt_audience",
        Refused::NoExpiry => "jwt_no_expiry",
        Refused::Expired => "jwt_expired",
        Refused::NotYet => "jwt_not_yet_valid",
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const AGAIN: &str = "make a new one with `leno token create`";
        match self {
            Self::TokenUnknown => write!(f, "this control plane did not make the join token; {AGAIN}"),
            Self::TokenUsed => write!(f, "the join token was used before, and each is good for one join; {AGAIN}"),
            Self::TokenExpired => write!(f, "the join token has expired; {AGAIN}"),
            Self::TokenMalformed => {
                write!(f, "this is no join token; it starts with leno1. and is given out by `leno token create`")
            }
            Self::TokenRevoked => write!(f, "the join token was revoked before it was used; {AGAIN}"),
            Self::Revoked => {
                write!(
                    f,
                    "it was revoked, and is in the mesh no more until `leno revoke undo` (see `leno revoke list`)"
                )
            }
            Self::SecretRevoked => write!(
                f,
                "a sidecar that was revoked joined by this secret; replace the secret, or take back the revocation by `leno revoke undo`"
            ),
            Self::SecretUnknown => {
                write!(f, "this control plane knows no join secret of that id; its --join-secrets needs the file")
            }
            Self::SecretWrong => {
                write!(f, "the join secret is not the one that this control plane knows by its id")
            }
            Self::ProofMalformed => write!(f, "the proof of a join secret has the wrong form"),
            Self::JwtNotTaken => {
                write!(
                    f,
                    "this control plane takes no service-account tokens; it is started without --service-account-issuer"
                )
            }
            Self::Jwt(why) => write!(f, "the service-account token is not believed: {why}"),
            Self::JwtClaims(why) => write!(f, "the token is not that of a service account: {why}"),
            Self::JwtLongLived => write!(
                f,
                "the service-account token lives for more than a day; mount one by a projected volume with expirationSeconds"
            ),
            Self::JwtReplayed => write!(
                f,
                "another sidecar has joined by this service-account token; kubelet renews the file before its hour is over, or make the \
                 pod anew"
            ),
            Self::JwksUnavailable(why) => {
                write!(f, "the control plane has no keys to verify a service-account token by: {why}")
            }
            Self::WrongIdentity { asked, proven } => write!(f, "{asked} was asked for, but {proven} was proven"),
            Self::CsrInvalid(why) => write!(f, "the signing request is not valid: {why}"),
            Self::NoCertificate => write!(f, "this needs a client certificate; join with a token first"),
            Self::CertificateExpired => write!(f, "the client certificate has expired; join with a new token"),
            Self::Handshake(_, why) => write!(f, "the TLS handshake failed: {why}"),
            Self::SignerUnavailable => {
                write!(f, "the holder of the authority's key does not sign; see the control plane's log")
            }
            Self::TooMany => write!(f, "too many joins from this address; try again in a second"),
            Self::Internal(why) => write!(f, "the control plane could not do it: {why}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Logs and counts refusals; clones share the counters.
#[derive(Debug, Clone)]
pub struct Refusals {
    metrics: Metrics,
    trail: Option<Trail>,
}

impl Refusals {
    /// Counts into these metrics.
    pub fn new(metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), trail: None }
    }

    /// Notes them in the audit log, too.
    pub fn noting(self, trail: Trail) -> Self {
        Self { trail: Some(trail), ..self }
    }

    /// Says that `peer` was refused.
    pub fn record(&self, refusal: &Refusal, peer: impl fmt::Display) {
        let reason = refusal.reason();
        // Whoever is no TLS client at all is not worth an entry: scanners come all day.
        const STRANGERS: [&str; 6] =
            ["not_tls", "connection_lost", "handshake_timeout", "incompatible", "tls_handshake", "refused_by_peer"];
        if let Some(trail) = self.trail.as_ref().filter(|_| !STRANGERS.contains(&reason)) {
            let actor = Actor { address: peer.to_string(), ..Actor::default() };
            let (action, result) = ("identity".to_owned(), reason.to_owned());
            trail.refused(Event { actor, action, result, detail: refusal.to_string(), ..Event::default() });
        }
        tracing::warn!(reason, %peer, "identity refused: {refusal}");
        self.metrics.counter("leno_identity_refusals_total", &[("reason", reason)]).inc();
    }
}
