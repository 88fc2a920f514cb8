//! The certificate authority: the root of the mesh, its key at rest, join tokens, and the signing of leaves.

mod context;
mod limit;
mod record;
mod refusal;
mod root;
mod rotation;
mod seal;
mod secrets;
mod server;
mod service_account;
pub mod signer;
mod signings;
mod state;
mod token;
mod user;
mod vault;
mod view;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leno_certs::csr::Csr;
use leno_certs::{Authority, CertError, Lineage, NONCE_BYTES, SpiffeId, TrustBundle, lineage};
use leno_runtime::metrics::{Counter, Registry as Metrics};
use time::OffsetDateTime;
use tokio::sync::watch;

pub use context::{AdminToken, Context};
pub use limit::JoinLimit;
pub use record::{Origin, Phase};
pub use refusal::{Refusal, Refusals};
pub use root::{OpenError, Opened, Passphrase, open};
pub use rotation::{Import, KeyAt, RotationError, Start, Step};
pub use secrets::JoinSecrets;
pub use server::ServerIdentity;
pub use service_account::{KeySource, Proven, ServiceAccounts};
pub use token::{MOST_TOKEN_TTL, NewToken, TokenError, new_id};
pub use user::UserToken;
pub use view::{AuthorityView, View};

use rotation::{RotationMetrics, Tell};
use signings::Signings;
use state::Issuing;
use vault::Vault;

use crate::model::Revocations;
use crate::model::audit::{Actor, Event};
use crate::store::{Showing, ShownToken, Store, TokenRefusal};

/// How long a root lives.
pub const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How far a clock may be behind ours and still take a new leaf for valid.
const MOST_SKEW: Duration = Duration::from_secs(30);

/// Signs for the identities that were proven. Clones share it.
#[derive(Clone)]
pub struct CertificateAuthority(Arc<Inner>);

struct Inner {
    store: Store,
    trust_domain: String,
    vault: Arc<Vault>,
    state: watch::Sender<Arc<Issuing>>,
    /// Held by who changes the state.
    turn: tokio::sync::Mutex<()>,
    told: OnceLock<Tell>,
    leaf_ttl: Duration,
    metrics: RotationMetrics,
    signings: Signings,
    joins: Counter,
    secret_joins: Counter,
    account_joins: Counter,
    renewals: Counter,
}

/// A leaf that was just signed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Whose leaf it is.
    pub id: SpiffeId,
    /// Leaf first, DER.
    pub chain: Vec<Vec<u8>>,
    /// From when it is valid.
    pub not_before: OffsetDateTime,
    /// Until when it is valid.
    pub not_after: OffsetDateTime,
}

/// What a verified client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Who it is.
    pub id: SpiffeId,
    /// When the certificate expires; a connection may outlive it.
    pub not_after: OffsetDateTime,
    /// Which sidecar it is; None: an older version has signed it.
    pub lineage: Option<Lineage>,
    /// Which authority has signed it ([`leno_certs::verify::authority_key_id`]).
    pub signed_by: Option<Vec<u8>>,
}

impl PeerCertificate {
    /// That its holder was not revoked.
    ///
    /// # Errors
    /// It was.
    pub fn stands(&self, revocations: &Revocations) -> Result<(), Refusal> {
        if revocations.refuse(self.id.as_str(), self.lineage.as_ref()) { Err(Refusal::Revoked) } else { Ok(()) }
    }
}

impl CertificateAuthority {
    /// Signs with the authority that was opened by [`open`]; leaves live `leaf_ttl`.
    pub fn new(store: Store, opened: Opened, leaf_ttl: Duration, metrics: &Metrics) -> Self {
        let signings = |kind| metrics.counter("leno_ca_signings_total", &[("kind", kind)]);
        let (joins, secret_joins, renewals) = (signings("join"), signings("join_secret"), signings("renew"));
        let account_joins = signings("service_account");
        let metrics = RotationMetrics::new(metrics);
        let Opened { record, current, other, vault } = opened;
        let trust_domain = current.trust_domain().to_owned();
        let state = Arc::new(Issuing { record, current, other, revision: store.committed().revision });
        metrics.show(&state);
        let (state, turn, told) = (watch::Sender::new(state), tokio::sync::Mutex::new(()), OnceLock::new());
        Self(Arc::new(Inner {
            store,
            trust_domain,
            vault,
            state,
            turn,
            told,
            leaf_ttl,
            metrics,
            signings: Signings::default(),
            joins,
            secret_joins,
            account_joins,
            renewals,
        }))
    }

    /// The roots that vouch for the trust domain, the one that signs first.
    pub fn trust_bundle(&self) -> TrustBundle {
        self.state().bundle()
    }

    /// Whose authority this is.
    pub fn trust_domain(&self) -> &str {
        &self.0.trust_domain
    }

    /// When the first certificate of the authority expires that signs.
    pub fn root_not_after(&self) -> OffsetDateTime {
        self.state().current.not_after()
    }

    /// How long a leaf lives.
    pub fn leaf_ttl(&self) -> Duration {
        self.0.leaf_ttl
    }

    /// Makes a join token for an identity of this trust domain and keeps the hash of its secret.
    ///
    /// # Errors
    /// The life is too short or too long, the identity is the control plane's own or of another trust domain, or the store
    /// cannot write.
    pub fn create_token(
        &self,
        id: &SpiffeId,
        ttl: Duration,
        now: OffsetDateTime,
        by: &Actor,
    ) -> Result<NewToken, TokenError> {
        token::create(&self.0.store, &self.trust_bundle(), id, ttl, now, by)
    }

    /// Redeems a join token and signs a leaf for the identity that it is bound to. Blocks on the store.
    ///
    /// A token is spent even when the request asks for another identity: whoever tries that gets no second try.
    ///
    /// # Errors
    /// The token or the request is refused.
    pub fn join(&self, token: &str, csr: &[u8], now: OffsetDateTime, address: &str) -> Result<Signed, Refusal> {
        let token = token::Token::parse(token).ok_or(Refusal::TokenMalformed)?;
        if !self.state().knows_root(&token.root_sha256) {
            return Err(Refusal::TokenUnknown);
        }
        let csr = parse_csr(csr)?;
        let record = self.0.store.consume_token(&token.id, token.secret_sha256(), now, address);
        let record = record.map_err(|refused| match refused {
            TokenRefusal::Unknown => Refusal::TokenUnknown,
            TokenRefusal::Used => Refusal::TokenUsed,
            TokenRefusal::Expired => Refusal::TokenExpired,
            TokenRefusal::Revoked => Refusal::TokenRevoked,
            TokenRefusal::Store(why) => Refusal::Internal(why.to_string()),
        })?;
        let id = SpiffeId::parse(&record.identity).map_err(|why| Refusal::Internal(why.to_string()))?;
        let signed = self.sign(&csr, &id, &begin(None)?, now)?;
        self.0.joins.inc();
        Ok(signed)
    }

    /// Proves to whoever holds the join secret of this id that we know it, too, and which root is ours: the hash of the root, and
    /// the proof. Reads a file.
    ///
    /// # Errors
    /// There is no such secret, or the nonce is none.
    pub fn prove(&self, secrets: &JoinSecrets, id: &str, nonce: &[u8]) -> Result<([u8; 32], Vec<u8>), Refusal> {
        let nonce: &[u8; NONCE_BYTES] = nonce.try_into().map_err(|_| Refusal::ProofMalformed)?;
        let (secret, _) = secrets.find(id)?;
        let root = self.trust_bundle().root_hash();
        Ok((root, secret.prove_root(nonce, &root)))
    }

    /// Signs a leaf for the identity that a join secret is bound to; `mac` proves that the caller knows the secret. Reads a file.
    ///
    /// # Errors
    /// The secret is not known, the proof is wrong, or the request is refused.
    pub fn join_by_secret(
        &self,
        secrets: &JoinSecrets,
        id: &str,
        mac: &[u8],
        csr: &[u8],
        now: OffsetDateTime,
        address: &str,
    ) -> Result<Signed, Refusal> {
        let (secret, identity) = secrets.find(id)?;
        if !secret.request_is_proven(csr, mac) {
            return Err(Refusal::SecretWrong);
        }
        // A sidecar that was revoked still has the secret.
        if self.0.store.revocations().borrow().refuse_origin(&lineage::origin(id)) {
            return Err(Refusal::SecretRevoked);
        }
        let signed = self.sign(&parse_csr(csr)?, &identity, &begin(Some(id))?, now)?;
        self.note_join(&identity, address, format!("join secret {id}"))?;
        self.0.secret_joins.inc();
        Ok(signed)
    }

    /// Signs a leaf for a service account that was proven by its token. The first key that comes with a token is the only one that
    /// ever gets something for it. Blocks on the store.
    ///
    /// # Errors
    /// Another key has used the token, or the request is refused.
    pub fn join_by_service_account(
        &self,
        proven: &Proven,
        csr: &[u8],
        now: OffsetDateTime,
        address: &str,
    ) -> Result<Signed, Refusal> {
        let csr = parse_csr(csr)?;
        // The pod of a sidecar that was revoked gets new tokens.
        if self.0.store.revocations().borrow().refuse_origin(&lineage::origin(&proven.origin)) {
            return Err(Refusal::Revoked);
        }
        let shown =
            ShownToken { key_sha256: csr.key_sha256(), forget_unix: proven.forget, identity: proven.id.to_string() };
        match self.0.store.show_token(&proven.fingerprint, &shown, now.unix_timestamp()) {
            Ok(Showing::Fine) => {}
            Ok(Showing::OfAnother) => return Err(Refusal::JwtReplayed),
            Err(why) => return Err(Refusal::Internal(why.to_string())),
        }
        let signed = self.sign(&csr, &proven.id, &begin(Some(&proven.origin))?, now)?;
        let whose = proven.pod.as_deref().map_or_else(|| "service account".to_owned(), |pod| format!("pod {pod}"));
        self.note_join(&proven.id, address, whose)?;
        self.0.account_joins.inc();
        Ok(signed)
    }

    fn note_join(&self, id: &SpiffeId, address: &str, by: String) -> Result<(), Refusal> {
        let actor = Actor { address: address.to_owned(), ..Actor::from(id.as_str()) };
        self.0.store.note_now(&Event::done(&actor, "join", by)).map_err(|why| Refusal::Internal(why.to_string()))
    }

    /// Signs a new leaf for the holder of a verified certificate.
    ///
    /// # Errors
    /// The certificate has expired on the open connection, or the request is refused.
    pub fn renew(&self, peer: &PeerCertificate, csr: &[u8], now: OffsetDateTime) -> Result<Signed, Refusal> {
        if peer.not_after <= now {
            return Err(Refusal::CertificateExpired);
        }
        let lineage = peer.lineage.map_or_else(|| begin(None), Ok)?;
        let signed = self.sign(&parse_csr(csr)?, &peer.id, &lineage, now)?;
        self.0.renewals.inc();
        Ok(signed)
    }

    /// For tests that change what it looks at.
    #[cfg(test)]
    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// For tests that need a leaf which no join would give out.
    #[cfg(test)]
    pub(crate) fn authority(&self) -> Arc<Authority> {
        self.state().current.clone()
    }

    /// What signs now.
    fn state(&self) -> Arc<Issuing> {
        self.0.state.borrow().clone()
    }

    fn sign(&self, csr: &Csr, id: &SpiffeId, lineage: &Lineage, now: OffsetDateTime) -> Result<Signed, Refusal> {
        // Whoever comes, and by whatever: the last look before a certificate is there.
        if self.0.store.revocations().borrow().refuse(id.as_str(), Some(lineage)) {
            return Err(Refusal::Revoked);
        }
        let signing = self.0.signings.begin(lineage.instance);
        let state = self.state();
        let (not_before, not_after) = self.life(&state.current, now);
        let leaf = state.current.sign(csr, id, lineage, not_before, not_after).map_err(|why| match why {
            CertError::WrongIdentity { asked, proven } => Refusal::WrongIdentity { asked, proven },
            CertError::Signer => Refusal::SignerUnavailable,
            other => Refusal::CsrInvalid(other.to_string()),
        })?;
        signing.done(state.current.key_id(), state.record.phase != Phase::Idle);
        let chain = std::iter::once(leaf).chain(state.behind_leaves()).collect();
        Ok(Signed { id: id.clone(), chain, not_before, not_after })
    }

    /// The life of a leaf that is signed now. It begins a little early, for clocks that are behind; at most a tenth of the
    /// life, so that who renews at half of it does not find half of a short one over already.
    fn life(&self, by: &Authority, now: OffsetDateTime) -> (OffsetDateTime, OffsetDateTime) {
        let skew = MOST_SKEW.min(self.0.leaf_ttl / 10);
        let not_after = (now + self.0.leaf_ttl).min(by.not_after());
        (whole_seconds(now - skew), whole_seconds(not_after))
    }
}

/// Certificates count in seconds (RFC 5280, 4.1.2.5); what we say of one must be what it says itself.
fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time.replace_nanosecond(0).unwrap_or(time)
}

/// The lineage of a sidecar that joins now.
fn begin(by: Option<&str>) -> Result<Lineage, Refusal> {
    Lineage::begin(by).map_err(|why| Refusal::Internal(why.to_string()))
}

fn parse_csr(der: &[u8]) -> Result<Csr, Refusal> {
    Csr::from_der(der).map_err(|why| Refusal::CsrInvalid(why.to_string()))
}

#[cfg(test)]
mod tests;
