//! The authorities as they are shown: no key is in it.

use leno_certs::{Authority, verify};
use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

use super::record::{Kept, KeptKey, Phase, decode};
use super::{CertificateAuthority, Origin};

/// The state of the authority.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub trust_domain: String,
    /// `idle`, `distributing` or `reissuing`.
    pub phase: &'static str,
    /// RFC 3339.
    pub since: String,
    /// An operator holds the rotation.
    pub paused: bool,
    /// Seconds after which a step goes on whoever is missing; null: never.
    pub force_after_seconds: Option<u64>,
    /// The old key is in wrong hands.
    pub compromised: bool,
    /// How often every sidecar was asked to renew its leaf.
    pub generation: u64,
    /// How long a leaf lives, in seconds.
    pub leaf_seconds: u64,
    /// The roots that the control plane's own certificate leads to, PEM.
    pub certificate_authority: String,
    /// The one that signs first.
    pub authorities: Vec<AuthorityView>,
}

/// One authority.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityView {
    /// `signs`, `next`, `previous`; or `retired`: only the control plane itself believes leaves of it, until `notAfter`.
    pub role: &'static str,
    /// `generated` or `imported`; null for one that is retired.
    pub origin: Option<&'static str>,
    /// The socket of who holds its key; null: it is here, sealed.
    pub signer: Option<String>,
    /// SHA-256 of the root certificate, in hex: what join tokens pin.
    pub root_sha256: String,
    /// How many certificates there are between a leaf and the root.
    pub intermediates: usize,
    /// When the first of its certificates expires, RFC 3339.
    pub not_after: String,
    /// Earlier roots that vouch for it.
    pub vouched: usize,
}

impl CertificateAuthority {
    /// What is shown of it.
    pub fn view(&self) -> View {
        let (state, now) = (self.state(), OffsetDateTime::now_utc());
        let record = &state.record;
        let mut authorities = vec![authority("signs", &record.current, &state.current)];
        let role = if record.phase == Phase::Distributing { "next" } else { "previous" };
        if let (Some(kept), Some(other)) = (&record.other, &state.other) {
            authorities.push(authority(role, kept, other));
        }
        for retired in record.retired.iter().filter(|retired| retired.until_unix > now.unix_timestamp()) {
            let root = decode(&retired.root).unwrap_or_default();
            let until = OffsetDateTime::from_unix_timestamp(retired.until_unix).unwrap_or(now);
            let until = verify::not_after(&root).map_or(until, |end| end.min(until));
            authorities.push(AuthorityView {
                role: "retired",
                origin: None,
                signer: None,
                root_sha256: hash(&root),
                intermediates: 0,
                not_after: rfc3339(until),
                vouched: 0,
            });
        }
        View {
            trust_domain: state.current.trust_domain().to_owned(),
            phase: record.phase.as_str(),
            since: rfc3339(OffsetDateTime::from_unix_timestamp(record.since_unix).unwrap_or(now)),
            paused: record.paused,
            force_after_seconds: record.force_after,
            compromised: record.compromised,
            generation: record.generation,
            leaf_seconds: self.leaf_ttl().as_secs(),
            certificate_authority: state.bundle().to_pem().replace('\r', ""),
            authorities,
        }
    }
}

fn authority(role: &'static str, kept: &Kept, of: &Authority) -> AuthorityView {
    AuthorityView {
        role,
        origin: Some(match kept.origin {
            Origin::Generated => "generated",
            Origin::Imported => "imported",
        }),
        signer: match &kept.key {
            KeptKey::Sealed(_) => None,
            KeptKey::Signer(socket) => Some(socket.display().to_string()),
        },
        root_sha256: hash(of.root_der()),
        intermediates: of.intermediates().len(),
        not_after: rfc3339(of.not_after()),
        vouched: kept.vouched.len(),
    }
}

fn hash(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}
