//! The first contact: a CSR and a single-use token against a certificate.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::{CertError, Key, SpiffeId, csr, tls};
use leno_proto::v1::JoinRequest;
use leno_proto::v1::identity_client::IdentityClient;
use leno_runtime::backoff::Backoff;
use leno_runtime::failure::{Failure, exit};
use tokio::time::Instant;
use tonic::Code;

use super::{Current, accept, saved};
use crate::settings::Settings;
use crate::xds::connect::{self, ALPN, ConnectError};
use crate::xds::repeats::Repeats;
use crate::xds::token::JoinToken;

/// How long the control plane may take to sign.
const RPC_TIMEOUT: Duration = Duration::from_secs(10);

/// Why one attempt failed.
enum JoinError {
    /// Later may be better.
    Unreachable(String),
    /// It will not get better by itself.
    Refused(String),
}

impl From<CertError> for JoinError {
    fn from(why: CertError) -> Self {
        Self::Refused(why.to_string())
    }
}

impl From<ConnectError> for JoinError {
    fn from(why: ConnectError) -> Self {
        match why {
            ConnectError::Unreachable(why) => Self::Unreachable(why),
            untrusted @ ConnectError::Untrusted(_) => Self::Refused(format!(
                "{untrusted} (the token was made by another control plane, or somebody else answers at that address)"
            )),
        }
    }
}

/// Joins, trying again until `--join-timeout` while nobody answers. `why` says why there is a need to.
pub(super) async fn join(settings: &Settings, path: &Path, why: &str) -> Result<Current, Failure> {
    let token = token(settings, why)?;
    let denied = |reason: String| {
        Failure::new(
            exit::DENIED,
            format!("{} did not let this sidecar join: {reason}", settings.control_plane),
            advice(settings),
        )
    };
    // One key for all attempts: when an answer is lost, the next request is for the same key.
    let key = Key::generate().map_err(|why| denied(why.to_string()))?;
    let deadline = Instant::now() + settings.join_timeout;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let mut repeats = Repeats::default();
    loop {
        match tokio::time::timeout_at(deadline, attempt(settings, &token, &key)).await {
            Ok(Ok(current)) => {
                saved::write(path, &current).map_err(|why| cannot_save(path, &why))?;
                tracing::info!(identity = %current.identity.id, expires = %current.identity.not_after, "joined the mesh");
                return Ok(current);
            }
            Ok(Err(JoinError::Refused(reason))) => return Err(denied(reason)),
            Ok(Err(JoinError::Unreachable(reason))) => {
                let wait = backoff.next_delay();
                if Instant::now() + wait >= deadline {
                    return Err(unreachable(settings, &reason));
                }
                repeats.warn(&reason, &settings.control_plane);
                tokio::time::sleep(wait).await;
            }
            Err(_) => return Err(unreachable(settings, "no answer")),
        }
    }
}

fn token(settings: &Settings, why: &str) -> Result<JoinToken, Failure> {
    let Some(source) = &settings.token else {
        return Err(Failure::new(exit::DENIED, format!("{why}, and no join token was given"), advice(settings)));
    };
    JoinToken::read(source).map_err(|error| Failure::new(exit::DENIED, error.to_string(), advice(settings)))
}

fn advice(settings: &Settings) -> String {
    format!(
        "make a new token with `leno token create --service-account {} --namespace {}` and start again with --token-file",
        settings.service_account, settings.namespace
    )
}

/// Nobody answered in time. Also used for the stream of a first start.
pub(in crate::xds) fn unreachable(settings: &Settings, reason: &str) -> Failure {
    Failure::new(
        exit::UNAVAILABLE,
        format!(
            "the control plane at {} could not be reached within {} s: {reason}",
            settings.control_plane,
            settings.join_timeout.as_secs_f32()
        ),
        "start leno-control-plane, or give --control-plane the address of its --xds-addr",
    )
}

fn cannot_save(path: &Path, why: &std::io::Error) -> Failure {
    Failure::new(
        exit::CANNOT_CREATE,
        format!("the identity cannot be saved in {}: {why}", path.display()),
        "give --state-dir a folder that this user may write, and a new token, since this one is used up",
    )
}

async fn attempt(settings: &Settings, token: &JoinToken, key: &Key) -> Result<Current, JoinError> {
    let link = connect::connect(&settings.control_plane, tls::pinned_client(token.root_sha256, ALPN)?).await?;
    let id =
        SpiffeId::new(&link.trust_domain, &settings.namespace, &settings.service_account).map_err(CertError::from)?;
    let request = JoinRequest { token: token.text.clone(), csr: csr::create(key, &id)? };
    let call = async move { IdentityClient::new(link.channel).join(request).await };
    let signed = match tokio::time::timeout(RPC_TIMEOUT, call).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) if is_refusal(status.code()) => return Err(JoinError::Refused(status.message().to_owned())),
        Ok(Err(status)) => return Err(JoinError::Unreachable(format!("{}: {}", status.code(), status.message()))),
        Err(_) => return Err(JoinError::Unreachable("it did not sign in time".to_owned())),
    };
    let (identity, bundle) = accept(signed, Key::from_pkcs8(&key.to_pkcs8())?, &id)?;
    if !bundle.roots.iter().any(|root| super::sha256(root) == token.root_sha256) {
        return Err(JoinError::Refused("the trust bundle does not hold the root that the token names".to_owned()));
    }
    Ok(Current {
        identity: Arc::new(identity),
        bundle: Arc::new(bundle),
        renew_generation: None,
        joined_root: token.root_sha256,
    })
}

/// Codes by which a server says no, as opposed to not now.
pub(in crate::xds) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::NotFound
            | Code::AlreadyExists
    )
}
