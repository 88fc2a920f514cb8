//! Renewal: at half of the leaf's life, with jitter, and at once when the control plane wants it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::{CertError, Key, TrustBundle, csr, tls};
use leno_proto::v1::identity_client::IdentityClient;
use leno_proto::v1::{RenewRequest, SignedIdentity};
use leno_runtime::backoff::Backoff;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Credentials, Current, accept, join};
use crate::settings::Settings;
use crate::xds::Clock;
use crate::xds::connect::{self, ALPN};

/// Longest sleep before the clock is looked at again: a machine that was suspended, or whose clock was set, is late by no
/// more than this. Tests go through years.
pub(super) const LOOK: Duration = Duration::from_secs(if cfg!(test) { 300 } else { 5 });
/// A clock that is behind what has passed by more than this was set back.
const SET_BACK: time::Duration = time::Duration::seconds(30);
/// Shortest time between two renewals that nobody ordered: a control plane whose clock is far behind, and whose leaves are
/// half over when they come, is not asked without pause.
const LEAST: Duration = Duration::from_secs(1);
/// How long the control plane may take to sign.
const RPC_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for a new leaf; a seam, so that the schedule can be tested without a network.
pub trait Renewal {
    /// Sends the request (PKCS#10, DER). The error is for the log.
    fn renew(&self, csr: Vec<u8>) -> impl Future<Output = Result<SignedIdentity, String>>;

    /// A new key for the next leaf.
    ///
    /// # Errors
    /// The system has no randomness.
    fn key(&self) -> Result<Key, CertError> {
        Key::generate()
    }

    /// Joins anew, where there is something to join by more than once.
    fn join_again(&self) -> impl Future<Output = Option<Result<Current, String>>>;
}

/// Renews over a connection of its own, which shows the certificate in force.
#[derive(Clone)]
pub struct RenewRpc {
    /// Where the control plane is, and what to join by.
    pub settings: Arc<Settings>,
    /// What is shown.
    pub credentials: Credentials,
}

impl Renewal for RenewRpc {
    async fn renew(&self, csr: Vec<u8>) -> Result<SignedIdentity, String> {
        let Current { identity, bundle, .. } = self.credentials.current();
        let tls = tls::control_plane_client(&identity, &bundle, ALPN).map_err(|why| why.to_string())?;
        let link = connect::connect(&self.settings.control_plane, tls).await.map_err(|why| why.to_string())?;
        let call = async move { IdentityClient::new(link.channel).renew(RenewRequest { csr }).await };
        match tokio::time::timeout(RPC_TIMEOUT, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(format!("{}: {}", status.code(), status.message())),
            Err(_) => Err("it did not sign in time".to_owned()),
        }
    }

    fn key(&self) -> Result<Key, CertError> {
        Key::generate_as(self.settings.leaf_key)
    }

    async fn join_again(&self) -> Option<Result<Current, String>> {
        join::again(&self.settings, &self.credentials.path).await
    }
}

/// Keeps the leaf fresh for as long as it is polled. `jitter` gives a number between 0 and 1.
pub async fn keep_fresh(
    credentials: Credentials,
    clock: Clock,
    renewal: impl Renewal,
    mut jitter: impl FnMut() -> f64,
) {
    let mut earliest = OffsetDateTime::UNIX_EPOCH;
    loop {
        let due = due(&credentials.current(), jitter()).max(earliest);
        until(&credentials, &clock, due).await;
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        while let Err(error) = once(&credentials, &clock, &renewal).await {
            credentials.metrics.not_renewed.inc();
            if again(&credentials, &clock, &renewal, &error).await {
                break;
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
        credentials.metrics.renewed.inc();
        earliest = clock() + LEAST;
        let current = credentials.current();
        tracing::info!(expires = %current.identity.not_after, generation = current.renew_generation, "the leaf certificate is renewed");
    }
}

/// Joins anew when the leaf is of no use any more, since the control plane renews by a valid one only. Whether that was done.
async fn again(credentials: &Credentials, clock: &Clock, renewal: &impl Renewal, error: &str) -> bool {
    let identity = credentials.current().identity;
    let (now, begins, expires) = (clock(), identity.not_before, identity.not_after);
    if (begins..expires).contains(&now) {
        tracing::warn!(%error, %expires, "the leaf certificate could not be renewed, trying again");
        return false;
    }
    let what = if now < begins { "is not valid yet: the clock was set back" } else { "has expired" };
    let joined = match renewal.join_again().await {
        None => {
            tracing::error!(%error, %begins, %expires, "the leaf certificate {what}; restart with a token of `leno token create`");
            return false;
        }
        Some(Ok(current)) => {
            let generation = *credentials.wanted_generation.borrow();
            // Whom our domain is federated with is said on the stream alone, and not again for this.
            let federated = credentials.current().bundle.federated.clone();
            let bundle = Arc::new(TrustBundle { federated, ..TrustBundle::clone(&current.bundle) });
            let current = Current { renew_generation: generation, bundle, ..current };
            credentials.put(current).map_err(|why| why.to_string())
        }
        Some(Err(why)) => Err(why),
    };
    match &joined {
        Ok(()) => tracing::warn!("the leaf certificate {what}; this sidecar has joined anew"),
        Err(why) => {
            tracing::error!(%error, %begins, %expires, joining = why, "the leaf certificate {what}, trying again")
        }
    }
    joined.is_ok()
}

/// Half of the leaf's life, up to 10 % of that earlier or later, so that workloads that started together do not renew
/// together for ever.
pub(super) fn due(current: &Current, jitter: f64) -> OffsetDateTime {
    let half = (current.identity.not_after - current.identity.not_before) / 2;
    current.identity.not_before + half * (0.9 + 0.2 * jitter)
}

/// Waits until the time has come or the control plane wants a renewal.
async fn until(credentials: &Credentials, clock: &Clock, due: OffsetDateTime) {
    let mut wanted = credentials.wanted_generation.subscribe();
    let begun = (clock(), Instant::now());
    loop {
        if *wanted.borrow_and_update() > credentials.current().renew_generation {
            return;
        }
        let now = clock();
        // By a clock that was only ever behind, a new leaf is of no more use than the one that is there.
        if now < begun.0 + begun.1.elapsed() - SET_BACK && now < credentials.current().identity.not_before {
            return;
        }
        let Ok(left) = Duration::try_from(due - now) else { return };
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(LOOK)) => {}
            // The sender lives in `credentials`, so this is a change and never an end.
            _ = wanted.changed() => {}
        }
    }
}

async fn once(credentials: &Credentials, clock: &Clock, renewal: &impl Renewal) -> Result<(), String> {
    let text = |why: CertError| why.to_string();
    // Taken before the request: if the control plane wants another one meanwhile, the next round sees it.
    let generation = *credentials.wanted_generation.borrow();
    // A fresh key each time: a key that leaked is of use for one leaf's life at most.
    let key = renewal.key().map_err(text)?;
    let id = credentials.id();
    let signed = renewal.renew(csr::create(&key, &id).map_err(text)?).await?;
    let (identity, _) = accept(signed, key, &id).map_err(text)?;
    if identity.not_after <= clock() {
        return Err(format!(
            "the new certificate has expired already, at {}: are the clocks right?",
            identity.not_after
        ));
    }
    // The roots are not taken from here: they come over the stream, and two ways would race.
    credentials.replace_leaf(identity, generation).map_err(text)
}
