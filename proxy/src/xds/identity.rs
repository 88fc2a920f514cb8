//! Who this sidecar is, and how it stays so: joined by a token or a secret, renewed by its certificate, kept in the state folder.

mod join;
mod joining;
mod prove;
mod renew;
mod revoked;
mod saved;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leno_certs::{CertError, Identity, SpiffeId, TrustBundle, verify};
use leno_proto::v1::SignedIdentity;
use leno_runtime::failure::{Failure, exit};
use tokio::sync::watch;

use super::Clock;
use super::metrics::XdsMetrics;
use crate::settings::Settings;
use crate::tls::MeshTls;
use crate::xds::token::JoinToken;

pub(super) use join::{is_refusal, unreachable};
pub use renew::{RenewRpc, Renewal, keep_fresh};

/// An identity that can be shown, and the roots by which those of others are verified. Swapped as one.
#[derive(Debug, Clone)]
pub struct Current {
    /// Certificate chain and key.
    pub identity: Arc<Identity>,
    /// The roots.
    pub bundle: Arc<TrustBundle>,
    /// `SidecarConfig.renew_generation` as of this leaf; `None` until the control plane has said one.
    pub renew_generation: Option<u64>,
    /// The root that the join token pinned, or that was proven by the join secret: by it a restart with the same, used-up token is known to be harmless.
    joined_root: [u8; 32],
}

#[cfg(test)]
impl Current {
    /// An identity that came by other means than a token.
    pub(super) fn fresh(identity: Identity, bundle: TrustBundle) -> Self {
        let joined_root = bundle.root_hash();
        Self { identity: Arc::new(identity), bundle: Arc::new(bundle), renew_generation: None, joined_root }
    }
}

/// The identity in force. Cheap to clone; every change goes to the mesh's TLS first, then to disk, then to who watches.
#[derive(Clone)]
pub struct Credentials {
    current: watch::Sender<Current>,
    /// The greatest generation that the control plane asked for.
    wanted_generation: watch::Sender<Option<u64>>,
    tls: MeshTls,
    path: Arc<PathBuf>,
    revocations: Arc<revoked::File>,
    metrics: XdsMetrics,
}

impl Credentials {
    /// Puts an identity in force that [`obtain`] brought.
    pub fn new(current: Current, tls: MeshTls, state_dir: &Path, metrics: XdsMetrics) -> Self {
        let revocations = revoked::File::open(state_dir, &tls);
        let this = Self {
            wanted_generation: watch::Sender::new(current.renew_generation),
            current: watch::Sender::new(current),
            tls,
            path: Arc::new(saved::path(state_dir)),
            revocations: Arc::new(revocations),
            metrics,
        };
        this.show_expiry();
        this
    }

    /// Puts the list of those who were revoked in force, and then on disk: it is acknowledged only when a restart would not forget it.
    pub(super) fn revoke(&self, list: &[u8]) -> Result<(), String> {
        self.revocations.replace(list, &self.tls)
    }

    /// Whether what an earlier life was told of revocations is known. Otherwise nothing of that life may be used.
    pub(super) fn knows_revocations(&self) -> bool {
        self.revocations.is_whole()
    }

    /// What is in force now.
    pub fn current(&self) -> Current {
        self.current.borrow().clone()
    }

    /// Tells about changes.
    pub fn watch(&self) -> watch::Receiver<Current> {
        self.current.subscribe()
    }

    /// Who this sidecar is.
    pub fn id(&self) -> SpiffeId {
        self.current.borrow().identity.id.clone()
    }

    /// The control plane's word on when to renew. The first one ever seen is only noted: the leaf is as fresh as can be.
    /// One that is smaller than before comes from a control plane that lost its state; counting starts over with it.
    pub(super) fn want_generation(&self, generation: u64) {
        let seen = self.current.borrow().renew_generation;
        if seen.is_none_or(|seen| generation < seen) {
            let current = Current { renew_generation: Some(generation), ..self.current() };
            self.save(&current);
            self.current.send_replace(current);
        }
        self.wanted_generation.send_if_modified(|wanted| {
            let changed = *wanted != Some(generation);
            *wanted = Some(generation);
            changed
        });
    }

    /// Puts the roots that came over the stream in force.
    pub(super) fn replace_bundle(&self, bundle: TrustBundle) -> Result<(), CertError> {
        let before = self.current();
        if bundle.trust_domain != before.bundle.trust_domain {
            let ours = before.bundle.trust_domain.clone();
            return Err(CertError::WrongTrustDomain { theirs: bundle.trust_domain, ours });
        }
        if bundle == *before.bundle {
            return Ok(());
        }
        self.put(Current { bundle: Arc::new(bundle), ..before })
    }

    /// Puts a renewed leaf in force. `generation` is what the control plane wanted when it was asked for.
    fn replace_leaf(&self, identity: Identity, generation: Option<u64>) -> Result<(), CertError> {
        let before = self.current();
        self.put(Current { identity: Arc::new(identity), renew_generation: generation, ..before })
    }

    fn put(&self, current: Current) -> Result<(), CertError> {
        self.tls.publish(&current.identity, &current.bundle)?;
        self.save(&current);
        self.current.send_replace(current);
        self.show_expiry();
        Ok(())
    }

    /// A full disk is no reason to stop a rotation: what is in force is in force, and a restart joins or renews again.
    fn save(&self, current: &Current) {
        if let Err(error) = saved::write(&self.path, current) {
            tracing::error!(%error, path = %self.path.display(), "the identity could not be saved; a restart may need a new token");
        }
    }

    fn show_expiry(&self) {
        let current = self.current.borrow();
        self.metrics.leaf_expiry.set(current.identity.not_after.unix_timestamp() as f64);
        if let Some(expiry) = root_expiry(&current.bundle) {
            self.metrics.root_expiry.set(expiry as f64);
        }
    }
}

fn root_expiry(bundle: &TrustBundle) -> Option<i64> {
    bundle.roots.iter().filter_map(|root| verify::not_after(root).ok()).map(|at| at.unix_timestamp()).min()
}

/// Reads what the control plane signed, and checks that it is what was asked for: our key, our name, our trust domain.
fn accept(signed: SignedIdentity, key: leno_certs::Key, id: &SpiffeId) -> Result<(Identity, TrustBundle), CertError> {
    let bundle = TrustBundle::new(signed.trust_domain, signed.roots);
    if bundle.trust_domain != id.trust_domain() {
        return Err(CertError::WrongTrustDomain { theirs: bundle.trust_domain, ours: id.trust_domain().to_owned() });
    }
    let identity = Identity::new(signed.chain, key)?;
    if identity.id != *id {
        return Err(CertError::WrongIdentity { asked: id.to_string(), proven: identity.id.to_string() });
    }
    // Fails when the leaf is for another key, or when no root is usable.
    leno_certs::tls::mesh_client(&identity, &bundle, super::connect::ALPN)?;
    Ok((identity, bundle))
}

/// The identity to start with: the saved one, or a new one by the join token.
///
/// A token beside a valid saved identity is not looked at, since it is used up after the first start and stays on the
/// command line.
///
/// # Errors
/// No way to an identity; the failure says which way was tried and what to do.
pub async fn obtain(settings: &Settings, state_dir: &Path, clock: &Clock) -> Result<Current, Failure> {
    let path = saved::path(state_dir);
    match saved::read(&path) {
        Ok(Some(saved)) => {
            fits(settings, &saved, &path)?;
            if saved.identity.not_after > clock() {
                tracing::info!(identity = %saved.identity.id, expires = %saved.identity.not_after, "identity read from the state folder");
                return Ok(saved);
            }
            tracing::warn!(expired = %saved.identity.not_after, "the saved identity has expired");
            let why = format!("the identity in {} expired at {}", path.display(), saved.identity.not_after);
            join::join(settings, &path, &why).await
        }
        Ok(None) => join::join(settings, &path, &format!("there is no identity in {} yet", path.display())).await,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the saved identity cannot be read");
            join::join(settings, &path, &format!("the identity in {} cannot be read: {error}", path.display())).await
        }
    }
}

/// A state folder that belongs to another workload or another mesh is a mistake that must not be papered over.
fn fits(settings: &Settings, saved: &Current, path: &Path) -> Result<(), Failure> {
    let id = &saved.identity.id;
    let other = |what: String| {
        Err(Failure::new(
            exit::CONFIG,
            format!("the identity in {} {what}", path.display()),
            "give this sidecar a --state-dir of its own, or delete that file to join anew with a token",
        ))
    };
    if (id.namespace(), id.service_account()) != (settings.namespace.as_str(), settings.service_account.as_str()) {
        return other(format!(
            "is {id}, but namespace {} and service account {} were asked for",
            settings.namespace, settings.service_account
        ));
    }
    let token = settings.token.as_ref().and_then(|source| JoinToken::read(source).ok());
    let named = match token {
        Some(JoinToken::ServiceAccount(_)) => joining::roots(settings).ok(),
        Some(token) => token.root_sha256().map(|root| vec![root]),
        None => None,
    };
    if let Some(named) = named {
        let mut known = saved.bundle.roots.iter().map(|root| sha256(root)).chain([saved.joined_root]);
        if !known.any(|root| named.contains(&root)) {
            return other(format!(
                "belongs to another mesh ({id}) than the join token or --control-plane-ca: their root certificates differ"
            ));
        }
    }
    Ok(())
}

fn sha256(der: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(der).into()
}

#[cfg(test)]
mod tests;
