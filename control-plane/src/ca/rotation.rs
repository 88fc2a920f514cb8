//! Rotation: one authority follows another without anybody noticing. Each step is a revision, so who waits for that revision waits for every
//! sidecar to have the step's roots in force.
//!
//! Idle -> Distributing: both roots are believed, the old one signs. -> Reissuing: the new one signs, every sidecar renews. -> Idle: the old
//! root is believed no more; but the control plane lets who was away renew by its last leaf, unless the old key was stolen.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use leno_certs::lineage::Instance;
use leno_certs::{Authority, Key, Signer, Zeroizing};
use leno_runtime::metrics::{Gauge, Registry as Metrics};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::record::{Kept, Origin, Phase, Record, Retired, Vouched, encode};
use super::root::{generate, keep};
use super::signer::SocketSigner;
use super::state::Issuing;
use super::vault::Vault;
use super::{CertificateAuthority, OpenError};
use crate::model::audit::Actor;
use crate::store::StoreError;

/// Most roots of before that vouch for the one that signs; the newest.
const MOST_VOUCHED: usize = 3;
/// Most roots of before whose leaves may come back; the newest.
const MOST_RETIRED: usize = 4;

/// How a rotation begins.
#[derive(Debug, Default)]
pub struct Start {
    /// The operator's own authority; none: a new root is made.
    pub import: Option<Import>,
    /// Seconds after which a step no longer waits for who is missing.
    pub force_after: Option<u64>,
    /// The old key is in wrong hands: it vouches for nothing, and who was away has to join anew.
    pub compromised: bool,
}

/// An authority that the operator has made.
pub struct Import {
    /// The certificate whose key signs first, the root last; PEM.
    pub chain: String,
    pub key: KeyAt,
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").finish_non_exhaustive()
    }
}

/// Where its key is.
pub enum KeyAt {
    /// PKCS#8, PEM.
    Here(Zeroizing<String>),
    /// The socket of who holds it.
    Signer(PathBuf),
}

/// Why a step was not done; nothing has changed then.
#[derive(Debug)]
pub enum RotationError {
    /// One is under way.
    UnderWay(Phase),
    /// None is under way.
    Idle,
    /// The authority cannot be taken.
    Unfit(String),
    /// It could not be signed, sealed or written.
    Failed(String),
    Store(StoreError),
}

impl From<OpenError> for RotationError {
    fn from(why: OpenError) -> Self {
        Self::Failed(why.to_string())
    }
}

/// What a step waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Idle,
    /// Every sidecar to have this revision in force.
    Known { revision: u64 },
    /// Every sidecar to have a leaf of the authority with this key; those may have one of another, whatever they show.
    Renewed { key_id: Vec<u8>, others: Arc<HashSet<Instance>> },
}

/// Whom every step is told: the roots that are believed, and how often all were asked to renew.
pub(super) type Tell = Box<dyn Fn(Vec<Vec<u8>>, u64) + Send + Sync>;

/// What a change makes of the authorities.
struct Next {
    record: Record,
    current: Arc<Authority>,
    other: Option<Arc<Authority>>,
}

impl CertificateAuthority {
    /// Tells which roots are believed and how often all were asked to renew, now and with every step, before its revision is seen.
    pub fn tell(&self, tell: impl Fn(Vec<Vec<u8>>, u64) + Send + Sync + 'static) {
        let tell = self.0.told.get_or_init(|| Box::new(tell));
        let state = self.state();
        tell(state.bundle().roots, state.record.generation);
    }

    /// Tells about every step.
    pub fn watch(&self) -> watch::Receiver<Arc<Issuing>> {
        self.0.state.subscribe()
    }

    /// What the rotation waits for.
    pub fn step(&self) -> Step {
        let state = self.state();
        match state.record.phase {
            Phase::Idle => Step::Idle,
            Phase::Distributing => Step::Known { revision: state.revision },
            Phase::Reissuing => {
                let key_id = state.current.key_id().to_vec();
                Step::Renewed { others: self.0.signings.others(&key_id), key_id }
            }
        }
    }

    /// How far it is, whether it is held, and whether it is to go on whoever is missing.
    pub fn progress(&self, now: OffsetDateTime) -> (Phase, bool, bool) {
        let record = &self.state().record;
        let late =
            |after: u64| now.unix_timestamp() >= record.since_unix.saturating_add(after.try_into().unwrap_or(i64::MAX));
        (record.phase, record.paused, record.force_after.is_some_and(late))
    }

    /// Whether this step has lasted so long. A key in wrong hands is not waited with for anybody.
    pub fn known_for(&self, now: OffsetDateTime, least: std::time::Duration) -> bool {
        let record = &self.state().record;
        // Whole seconds are kept.
        let seconds = i64::try_from(least.as_secs()).unwrap_or(i64::MAX).saturating_add(i64::from(!least.is_zero()));
        record.compromised || now.unix_timestamp().saturating_sub(record.since_unix) >= seconds
    }

    /// Notes how many sidecars are missing, for the metrics.
    pub fn note_missing(&self, n: usize) {
        self.0.metrics.missing.set(n as f64);
    }

    /// Begins one: makes the next root known beside the present one. Gives the revision.
    ///
    /// # Errors
    /// One is under way, or the authority cannot be taken.
    pub async fn begin_rotation(&self, start: Start, actor: &Actor) -> Result<u64, RotationError> {
        let action = if start.import.is_some() { "ca.import" } else { "ca.rotate" };
        let make = move |before: &Issuing, vault: &Vault| begin(before, vault, start);
        self.change(actor, action, "the next root is made known".to_owned(), make).await
    }

    /// Goes on to the next step, if it is still at this one. `missing` did not take part.
    ///
    /// # Errors
    /// None is under way, or the disk fails.
    pub async fn advance(&self, from: Phase, missing: &[String], actor: &Actor) -> Result<u64, RotationError> {
        let (action, mut message) = match from {
            Phase::Idle => return Err(RotationError::Idle),
            Phase::Distributing => ("ca.switch", "the new authority signs, every leaf is renewed".to_owned()),
            Phase::Reissuing => ("ca.retire", "the old root is believed no more".to_owned()),
        };
        if !missing.is_empty() {
            message += &format!("; forced without {}", missing.join(", "));
        }
        let leaf_ttl = self.0.leaf_ttl;
        let make = move |before: &Issuing, _: &Vault| match (from == before.record.phase, from) {
            (false, _) => Err(RotationError::UnderWay(before.record.phase)),
            (true, Phase::Distributing) => switch(before),
            (true, _) => Ok(retire(before, leaf_ttl)),
        };
        self.change(actor, action, message, make).await
    }

    /// Holds it, or lets it go on.
    ///
    /// # Errors
    /// None is under way, or the disk fails.
    pub async fn hold(&self, paused: bool, actor: &Actor) -> Result<u64, RotationError> {
        let (action, message) = if paused { ("ca.pause", "it is held") } else { ("ca.continue", "it goes on") };
        let make = move |before: &Issuing, _: &Vault| {
            if before.record.phase == Phase::Idle {
                return Err(RotationError::Idle);
            }
            let record = Record { paused, since_unix: unix_now(), ..before.record.clone() };
            Ok(Next { record, current: before.current.clone(), other: before.other.clone() })
        };
        self.change(actor, action, message.to_owned(), make).await
    }

    /// Takes it back: the next root is forgotten, or the one before signs again.
    ///
    /// # Errors
    /// None is under way, or the disk fails.
    pub async fn abort_rotation(&self, actor: &Actor) -> Result<u64, RotationError> {
        let make = |before: &Issuing, _: &Vault| match before.record.phase {
            Phase::Idle => Err(RotationError::Idle),
            Phase::Distributing => {
                let record = Record { phase: Phase::Idle, other: None, ..before.record.clone() };
                Ok(Next { record: settled(record), current: before.current.clone(), other: None })
            }
            Phase::Reissuing => {
                let mut next = switch(before)?;
                next.record = settled(next.record);
                Ok(next)
            }
        };
        self.change(actor, "ca.abort", "the authority of before stays".to_owned(), make).await
    }

    async fn change(
        &self,
        actor: &Actor,
        action: &'static str,
        message: String,
        make: impl FnOnce(&Issuing, &Vault) -> Result<Next, RotationError> + Send + 'static,
    ) -> Result<u64, RotationError> {
        let _turn = self.0.turn.lock().await;
        let (before, vault) = (self.state(), self.0.vault.clone());
        // It signs, and somebody else may hold the key.
        let made = tokio::task::spawn_blocking(move || make(&before, &vault)).await;
        let Next { record, current, other } = made.map_err(|why| RotationError::Failed(why.to_string()))??;
        let bytes = record.write().map_err(RotationError::Failed)?;
        tracing::info!(phase = record.phase.as_str(), action, "authority: {message}");
        let this = self.clone();
        // Before the revision is: who sees that sees the roots.
        let publish = move |revision| {
            let state = Issuing { record, current, other, revision };
            if let Some(tell) = this.0.told.get() {
                tell(state.bundle().roots, state.record.generation);
            }
            this.0.metrics.show(&state);
            if state.record.phase == Phase::Idle {
                this.0.signings.forget();
            }
            this.0.state.send_replace(Arc::new(state));
        };
        self.0.store.change_authority(bytes, actor, action, message, publish).await.map_err(RotationError::Store)
    }
}

fn begin(before: &Issuing, vault: &Vault, start: Start) -> Result<Next, RotationError> {
    if before.record.phase != Phase::Idle {
        return Err(RotationError::UnderWay(before.record.phase));
    }
    let (now, domain) = (OffsetDateTime::now_utc(), before.current.trust_domain());
    let (mut kept, next) = match start.import {
        None => generate(vault, domain, now)?,
        Some(import) => take_in(import, vault, domain, now)?,
    };
    if next.key_id() == before.current.key_id() {
        return Err(RotationError::Unfit("its key is the one that signs already".to_owned()));
    }
    if !start.compromised {
        kept.vouched = vouched(before, &next, now)?;
    }
    let record = Record {
        phase: Phase::Distributing,
        other: Some(kept),
        since_unix: now.unix_timestamp(),
        paused: false,
        force_after: start.force_after,
        compromised: start.compromised,
        ..before.record.clone()
    };
    Ok(Next { record, current: before.current.clone(), other: Some(Arc::new(next)) })
}

/// Who vouches for the next one: the present one, and by it whoever vouches for that.
fn vouched(before: &Issuing, next: &Authority, now: OffsetDateTime) -> Result<Vec<Vouched>, RotationError> {
    let earlier = before.record.current.vouched.iter().cloned();
    if next.root_der() == before.current.root_der() {
        return Ok(earlier.take(MOST_VOUCHED).collect());
    }
    let certificate = match before.current.vouch_for(next, now) {
        Ok(certificate) => certificate,
        // An intermediate may be allowed to sign leaves alone (pathlen:0).
        Err(why) => {
            tracing::warn!(%why, "the present authority cannot vouch for the next one; who is away in this rotation has to join anew");
            return Ok(Vec::new());
        }
    };
    let certificates = std::iter::once(&certificate).chain(before.current.intermediates()).map(|der| encode(der));
    let newest = Vouched { root: encode(before.current.root_der()), certificates: certificates.collect() };
    Ok(std::iter::once(newest).chain(earlier).take(MOST_VOUCHED).collect())
}

fn take_in(
    import: Import,
    vault: &Vault,
    domain: &str,
    now: OffsetDateTime,
) -> Result<(Kept, Authority), RotationError> {
    let unfit = |why: String| RotationError::Unfit(why);
    let blocks = pem::parse_many(&import.chain).map_err(|why| unfit(format!("the certificates are no PEM: {why}")))?;
    if let Some(other) = blocks.iter().find(|block| block.tag() != "CERTIFICATE") {
        return Err(unfit(format!("among the certificates is a {}", other.tag())));
    }
    let chain: Vec<Vec<u8>> = blocks.into_iter().map(pem::Pem::into_contents).collect();
    let issuer = chain.first().ok_or_else(|| unfit("there is no certificate in it".to_owned()))?;
    let (signer, socket) = match import.key {
        KeyAt::Here(text) => {
            let hint = "the key is no ECDSA P-256 key in PKCS#8 (`openssl pkcs8 -topk8 -nocrypt` makes one of an EC PRIVATE KEY)";
            let key = Key::from_pem(text.as_bytes()).map_err(|_| unfit(hint.to_owned()))?;
            (Signer::Here(key), None)
        }
        KeyAt::Signer(socket) => {
            let remote = Arc::new(SocketSigner::new(socket.clone()));
            (Signer::remote(issuer, remote).map_err(|why| unfit(why.to_string()))?, Some(socket))
        }
    };
    let authority = Authority::import(chain, signer, domain, now).map_err(|why| unfit(why.to_string()))?;
    let kept = keep(vault, &authority, socket, Origin::Imported)?;
    Ok((kept, authority))
}

/// The other one signs, and the one that signed is still believed.
fn switch(before: &Issuing) -> Result<Next, RotationError> {
    let (Some(kept), Some(other)) = (before.record.other.clone(), before.other.clone()) else {
        return Err(RotationError::Idle);
    };
    let record = Record {
        phase: Phase::Reissuing,
        current: kept,
        other: Some(before.record.current.clone()),
        generation: before.record.generation + 1,
        since_unix: unix_now(),
        ..before.record.clone()
    };
    Ok(Next { record, current: other, other: Some(before.current.clone()) })
}

/// The one before is believed no more, but for the last of its leaves that come back.
fn retire(before: &Issuing, leaf_ttl: std::time::Duration) -> Next {
    let mut record = Record { phase: Phase::Idle, other: None, ..before.record.clone() };
    let gone = before.other.as_ref().filter(|other| other.root_der() != before.current.root_der());
    record.retired.retain(|retired| retired.until_unix > unix_now());
    if let Some(gone) = gone.filter(|_| !record.compromised) {
        let until_unix = unix_now().saturating_add(leaf_ttl.as_secs().try_into().unwrap_or(i64::MAX));
        record.retired.insert(0, Retired { root: encode(gone.root_der()), until_unix });
        record.retired.truncate(MOST_RETIRED);
    }
    if record.compromised {
        record.retired.clear();
    }
    Next { record: settled(record), current: before.current.clone(), other: None }
}

/// Nothing of what was asked for this rotation holds any longer.
fn settled(record: Record) -> Record {
    Record { paused: false, force_after: None, compromised: false, since_unix: unix_now(), ..record }
}

fn unix_now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// What it shows.
pub(super) struct RotationMetrics {
    not_after: Gauge,
    phase: Gauge,
    missing: Gauge,
}

impl RotationMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let gauge = |name| metrics.gauge(name, &[]);
        Self {
            not_after: gauge("leno_root_not_after_seconds"),
            phase: gauge("leno_ca_rotation_phase"),
            missing: gauge("leno_ca_rotation_missing_sidecars"),
        }
    }

    pub(super) fn show(&self, state: &Issuing) {
        self.not_after.set(state.current.not_after().unix_timestamp() as f64);
        self.phase.set(f64::from(state.record.phase as u8));
        self.missing.set(0.0);
    }
}

#[cfg(test)]
mod tests;
