//! The first contact: a CSR and a single-use token, a proof by a shared secret, or the token of a service account, against a certificate.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::{CertError, Key, SpiffeId, csr, tls};
use leno_proto::v1::identity_client::IdentityClient;
use leno_proto::v1::{JoinRequest, SecretProof};
use leno_runtime::backoff::Backoff;
use leno_runtime::failure::{Failure, exit};
use tokio::time::Instant;
use tonic::{Code, Response, Status};

use super::{Current, accept, joining, prove, saved};
use crate::settings::Settings;
use crate::xds::connect::{self, ALPN, ConnectError};
use crate::xds::repeats::Repeats;
use crate::xds::token::JoinToken;

/// How long the control plane may take to sign.
const RPC_TIMEOUT: Duration = Duration::from_secs(10);

/// Why one attempt failed.
pub(super) enum JoinError {
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
                "{untrusted} (the token was made by another control plane, --control-plane-ca is of another one, or somebody else answers there)"
            )),
        }
    }
}

/// Joins, trying again until `--join-timeout` while nobody answers. `why` says why there is a need to.
pub(super) async fn join(settings: &Settings, path: &Path, why: &str) -> Result<Current, Failure> {
    let mut token = token(settings, why)?;
    let denied = |reason: String| {
        Failure::new(
            exit::DENIED,
            format!("{} did not let this sidecar join: {reason}", settings.control_plane),
            advice(settings),
        )
    };
    // One key for all attempts: when an answer is lost, the next request is for the same key.
    let key = match &token {
        JoinToken::ServiceAccount(_) => joining::key(path, settings.leaf_key).map_err(|why| cannot_save(path, &why))?,
        _ => Key::generate_as(settings.leaf_key).map_err(|why| denied(why.to_string()))?,
    };
    let deadline = Instant::now() + settings.join_timeout;
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    let mut repeats = Repeats::default();
    loop {
        match tokio::time::timeout_at(deadline, attempt(settings, &token, &key)).await {
            Ok(Ok(current)) => {
                saved::write(path, &current).map_err(|why| cannot_save(path, &why))?;
                joining::done(path);
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
                if let JoinToken::ServiceAccount(_) = token {
                    // Kubelet renews the file.
                    token = self::token(settings, why)?;
                }
            }
            Err(_) => return Err(unreachable(settings, "no answer")),
        }
    }
}

/// Joins anew while the sidecar runs, once; none where what it was given is good for one join only.
pub(super) async fn again(settings: &Settings, path: &Path) -> Option<Result<Current, String>> {
    let token = match JoinToken::read(settings.token.as_ref()?) {
        Ok(JoinToken::Once(_)) => return None,
        Ok(token) => token,
        Err(why) => return Some(Err(why.to_string())),
    };
    let joined = async {
        let key = match &token {
            JoinToken::ServiceAccount(_) => joining::key(path, settings.leaf_key).map_err(|why| why.to_string())?,
            _ => Key::generate_as(settings.leaf_key).map_err(|why| why.to_string())?,
        };
        match tokio::time::timeout(RPC_TIMEOUT, attempt(settings, &token, &key)).await {
            Ok(Ok(current)) => Ok(current),
            Ok(Err(JoinError::Refused(why) | JoinError::Unreachable(why))) => Err(why),
            Err(_) => Err("no answer".to_owned()),
        }
    };
    let joined = joined.await;
    if joined.is_ok() {
        joining::done(path);
    }
    Some(joined)
}

fn token(settings: &Settings, why: &str) -> Result<JoinToken, Failure> {
    let Some(source) = &settings.token else {
        return Err(Failure::new(exit::DENIED, format!("{why}, and no join token was given"), advice(settings)));
    };
    JoinToken::read(source).map_err(|error| Failure::new(exit::DENIED, error.to_string(), advice(settings)))
}

fn advice(settings: &Settings) -> String {
    let given = settings.token.as_ref().and_then(|source| JoinToken::read(source).ok());
    if let Some(JoinToken::ServiceAccount(_)) = given {
        return format!(
            "the token has to be that of the service account {} in {}, and the control plane be started with --service-account-issuer",
            settings.service_account, settings.namespace
        );
    }
    if let Some(JoinToken::Shared(_)) = given {
        return format!(
            "give this sidecar and the control plane's --join-secrets the same file {}.{}, as `leno inject` makes it",
            settings.namespace, settings.service_account
        );
    }
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
        "give --state-dir a folder that this user may write, and a new token, since a token of `leno token create` is used up now",
    )
}

async fn attempt(settings: &Settings, token: &JoinToken, key: &Key) -> Result<Current, JoinError> {
    let roots = match token {
        JoinToken::Once(token) => vec![token.root_sha256],
        JoinToken::Shared(secret) => vec![prove::root(&settings.control_plane, secret).await?],
        JoinToken::ServiceAccount(_) => joining::roots(settings).map_err(JoinError::Refused)?,
    };
    let tls = match token {
        JoinToken::ServiceAccount(_) => {
            tls::rooted_client(&joining::root_certificates(settings).map_err(JoinError::Refused)?, ALPN)?
        }
        _ => tls::pinned_client(roots[0], ALPN)?,
    };
    let link = connect::connect(&settings.control_plane, tls).await?;
    let id =
        SpiffeId::new(&link.trust_domain, &settings.namespace, &settings.service_account).map_err(CertError::from)?;
    let csr = csr::create(key, &id)?;
    let request = match token {
        JoinToken::Once(token) => JoinRequest { token: token.text.clone(), csr, ..JoinRequest::default() },
        JoinToken::Shared(secret) => {
            let proof = SecretProof { secret_id: secret.id().to_owned(), mac: secret.prove_request(&csr) };
            JoinRequest { csr, secret: Some(proof), ..JoinRequest::default() }
        }
        JoinToken::ServiceAccount(token) => {
            JoinRequest { csr, service_account_token: token.to_string(), ..JoinRequest::default() }
        }
    };
    let signed = call(async move { IdentityClient::new(link.channel).join(request).await }).await?;
    let (identity, bundle) = accept(signed, Key::from_pkcs8(&key.to_pkcs8())?, &id)?;
    // A root that was retired meanwhile is not in the bundle: it vouched for the connection that this came by.
    let held = bundle.roots.iter().map(|held| super::sha256(held)).find(|held| roots.contains(held));
    let Some(root) = held.or(roots.first().copied()) else {
        return Err(JoinError::Refused("there was no root to join by".to_owned()));
    };
    Ok(Current { identity: Arc::new(identity), bundle: Arc::new(bundle), renew_generation: None, joined_root: root })
}

/// One call of the identity service, within a time.
pub(super) async fn call<T>(rpc: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, JoinError> {
    match tokio::time::timeout(RPC_TIMEOUT, rpc).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) if is_refusal(status.code()) => Err(JoinError::Refused(status.message().to_owned())),
        Ok(Err(status)) => Err(JoinError::Unreachable(format!("{}: {}", status.code(), status.message()))),
        Err(_) => Err(JoinError::Unreachable("it did not answer in time".to_owned())),
    }
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
