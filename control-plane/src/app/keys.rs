//! Which issuers' keys are fetched, and whose service accounts may join, as the command line says it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leno_runtime::drain::DrainWatch;
use leno_runtime::failure::{Failure, exit};
use leno_runtime::metrics::Registry as Metrics;
use tokio::sync::watch;

use crate::ca::{KeySource, ServiceAccounts};
use crate::discovery::Globals;
use crate::federation::{Federation, Published};
use crate::fetch::Trust;
use crate::jwks::Keyring;
use crate::model::HttpsUrl;
use crate::settings::Settings;

/// The keyring, and the service accounts if any may join.
pub(super) fn of(settings: &Settings, metrics: &Metrics) -> Result<(Keyring, Option<Arc<ServiceAccounts>>), Failure> {
    let roots = settings.jwks_ca.as_deref().map(roots).transpose()?.unwrap_or_default();
    let source = settings.service_account_jwks.as_deref().map(source).transpose()?;
    let url = source.as_ref().and_then(Source::url);
    let bearer = settings.service_account_jwks_token_file.clone();
    let bearer = match (url, bearer) {
        (Some(url), Some(file)) => Some((url.clone(), file)),
        (None, Some(_)) => {
            let what = "--service-account-jwks-token-file is for a URL, and --service-account-jwks is a file";
            return Err(Failure::new(exit::USAGE, what, "leave it out"));
        }
        (_, None) => None,
    };
    let keyring = Keyring::new(Trust { roots: Arc::new(roots), bearer }, url.cloned(), metrics);
    let (Some(issuer), Some(source)) = (&settings.service_account_issuer, source) else { return Ok((keyring, None)) };
    let audience = &settings.service_account_audience;
    if issuer.is_empty() || audience.is_empty() {
        let what = "--service-account-issuer and --service-account-audience cannot be empty";
        return Err(Failure::new(exit::USAGE, what, "write what stands in the cluster's tokens"));
    }
    let keys = match source {
        Source::Url(url) => KeySource::Url(keyring.clone(), url),
        Source::File(file) => KeySource::File(file),
    };
    let accounts = ServiceAccounts::new(issuer.clone(), audience.clone(), settings.trust_domain.clone(), keys);
    Ok((keyring, Some(Arc::new(accounts))))
}

enum Source {
    Url(HttpsUrl),
    File(PathBuf),
}

impl Source {
    fn url(&self) -> Option<&HttpsUrl> {
        match self {
            Self::Url(url) => Some(url),
            Self::File(_) => None,
        }
    }
}

/// What has a scheme is a URL. A file need not be there yet, since it may be mounted later; that is said at each join.
fn source(text: &str) -> Result<Source, Failure> {
    if !text.contains("://") {
        return Ok(Source::File(PathBuf::from(text)));
    }
    HttpsUrl::parse(text).map(Source::Url).map_err(|why| {
        let what = format!("--service-account-jwks {text} {why}");
        Failure::new(exit::USAGE, what, "write a file, or a URL as https://kubernetes.default.svc/openid/v1/jwks")
    })
}

fn roots(path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let failed = |why: String| {
        let what = format!("--jwks-ca {}: {why}", path.display());
        Failure::new(exit::CONFIG, what, "give a file of PEM certificates that this user can read")
    };
    let text = fs::read(path).map_err(|why| failed(why.to_string()))?;
    let blocks = pem::parse_many(text).map_err(|why| failed(why.to_string()))?;
    let found: Vec<Vec<u8>> =
        blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents).collect();
    if found.is_empty() { Err(failed("it holds no certificate".to_owned())) } else { Ok(found) }
}

/// The meshes that ours is federated with; what certificates of the Web are verified by is the same for all that is fetched.
pub(super) fn federation(settings: &Settings, metrics: &Metrics) -> Result<Federation, Failure> {
    let roots = settings.jwks_ca.as_deref().map(roots).transpose()?.unwrap_or_default();
    let trust = Trust { roots: Arc::new(roots), bearer: None };
    Ok(Federation::new(&settings.trust_domain, trust, metrics.clone()))
}

/// What sidecars are told of it.
pub(super) fn roots_of(federation: &Published) -> BTreeMap<String, Arc<[Vec<u8>]>> {
    federation.iter().map(|(name, domain)| (name.clone(), domain.roots.clone())).collect()
}

/// Hands what is fetched to discovery.
pub(super) async fn publish(
    keyring: Keyring,
    federation: Federation,
    globals: watch::Sender<Globals>,
    drain: DrainWatch,
) {
    let (mut keys, mut domains) = (keyring.subscribe(), federation.subscribe());
    loop {
        let jwks = keys.borrow_and_update().clone();
        let federated = roots_of(&domains.borrow_and_update());
        globals.send_if_modified(|globals| {
            let changed = globals.jwks != jwks || globals.federated != federated;
            (globals.jwks, globals.federated) = (jwks, federated);
            changed
        });
        tokio::select! {
            changed = keys.changed() => if changed.is_err() { return },
            changed = domains.changed() => if changed.is_err() { return },
            () = drain.signaled() => return,
        }
    }
}
