//! The whole control plane: [`build`] binds and opens everything, [`Bound::run`] serves until it is told to stop. The only
//! file that knows every module.

mod alarms;
mod failure;
mod keys;
pub mod names;
mod observe;
mod record;
mod rotation;

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leno_certs::{SpiffeId, Zeroizing};
use leno_runtime::admin::Admin;
use leno_runtime::drain::{self, DrainWatch};
use leno_runtime::failure::{Failure, exit};
use leno_runtime::metrics::Registry as Metrics;
use leno_runtime::ready::{Readiness, ReadyToken};
use leno_runtime::{admin, listen};
use time::OffsetDateTime;
use tokio::sync::watch;

use self::names::METRICS;
use crate::api;
use crate::ca::{self, AdminToken, CertificateAuthority, Context, JoinSecrets, Passphrase, Refusals, ServerIdentity};
use crate::discovery::{self, Globals};
use crate::federation::Federation;
use crate::jwks::Keyring;
use crate::observed::Observed;
use crate::questions::Questions;
use crate::registry::Registry;
use crate::settings::Settings;
use crate::store::{Follower, Store, Trail, Trailer};
use crate::xds::{self, Sessions};

/// How long requests and streams may take to end after the signal to stop.
const DRAIN_IN: Duration = Duration::from_secs(10);
/// Where the passphrase of the CA key may come from; a command line would show it to everyone on the machine.
const PASSPHRASE_ENV: &str = "LENO_CA_PASSPHRASE";

/// Where a control plane listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub xds: SocketAddr,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    /// Where other meshes learn our roots, if they do.
    pub federation: Option<SocketAddr>,
}

struct Listeners {
    xds: TcpListener,
    api: TcpListener,
    admin: TcpListener,
    federation: Option<TcpListener>,
}

/// A control plane that holds its ports and its state, and does not serve yet.
pub struct Bound {
    addresses: Addresses,
    listeners: Listeners,
    parts: xds::Parts,
    store: Store,
    /// The revision that the store had when it was opened.
    opened_at: u64,
    token: Arc<AdminToken>,
    context: ContextFile,
    trail: (Trail, Trailer),
    follower: Option<Follower>,
    globals: watch::Sender<Globals>,
    keyring: Keyring,
    federation: Federation,
    /// How often other meshes are asked to look at our roots.
    refresh_hint: Duration,
    readiness: Readiness,
    starting: ReadyToken,
    drain: drain::Drain,
    watch: DrainWatch,
}

/// Opens the state and binds the ports. When this returns, the configuration of the folder is in force.
///
/// # Errors
/// One line that says what is wrong and what to do, with the exit code.
pub async fn build(settings: &Settings) -> Result<Bound, Failure> {
    SpiffeId::new(&settings.trust_domain, "a", "a")
        .map_err(|why| Failure::new(exit::USAGE, format!("--trust-domain: {why}"), "give the mesh another name"))?;
    loopback(&settings.admin_addr)?;
    let passphrase = passphrase(settings)?;
    let secrets = join_secrets(settings)?;
    let metrics = Metrics::of(METRICS);
    let (keyring, accounts) = keys::of(settings, &metrics)?;
    let store = Store::open(&settings.state_dir).map_err(|why| failure::of_store(&why))?;
    let opened_at = store.committed().revision;
    let (listeners, addresses) = bind(settings)?;

    let now = OffsetDateTime::now_utc();
    let authority = ca::open(&store, &settings.state_dir, &settings.trust_domain, &passphrase, now)
        .map_err(|why| failure::of_ca(&why))?;
    drop(passphrase);
    let authority = CertificateAuthority::new(store.clone(), authority, settings.leaf_ttl, &metrics);
    let advertised = settings.advertise_api_addr.as_ref();
    let names = advertised.map(|address| address.host.as_str());
    let tls = ServerIdentity::new(authority.clone(), &[addresses.xds, addresses.api], names)
        .map_err(|why| failure::of_ca(&ca::OpenError::Certificate(why)))?;
    let token = AdminToken::open(&store).map_err(|why| failure::of_store(&why))?;
    let token = Arc::new(token);
    let context = ContextFile {
        addresses,
        advertised: advertised.map(ToString::to_string),
        state_dir: settings.state_dir.clone(),
        token: token.clone(),
    };
    context.write(&authority).map_err(|why| failure::of_context(&settings.state_dir, &why))?;

    let (drain, watch) = drain::channel();
    let follower = follow(settings, &store).await?;
    let registry = Registry::restore(store.clone(), settings.registration_grace);
    let bundle = authority.trust_bundle();
    keyring.restore(&store.downgrade());
    let federation = keys::federation(settings, &metrics)?;
    federation.restore(&store.downgrade(), &store.committed());
    let globals = Globals {
        trust_domain: bundle.trust_domain,
        roots: bundle.roots,
        federated: keys::roots_of(&federation.known()),
        jwks: keyring.subscribe().borrow().clone(),
        renew_generation: 0,
    };
    let globals = watch::Sender::new(globals);
    let told = globals.clone();
    authority.tell(move |roots, generation| {
        told.send_modify(|globals| (globals.roots, globals.renew_generation) = (roots.clone(), generation));
    });
    let worlds = discovery::spawn(
        record::VirtualAddresses(store.downgrade()),
        store.subscribe(),
        registry.subscribe(),
        globals.subscribe(),
        store.revocations(),
        watch.clone(),
    );
    let sessions = Sessions::new(registry.clone());
    let (trail, trailer) = Trail::new();
    let refusals = Refusals::new(&metrics).noting(trail.clone());
    let readiness = Readiness::new();
    let starting = readiness.token("serving");
    Ok(Bound {
        addresses,
        listeners,
        parts: xds::Parts {
            revocations: store.revocations(),
            authority,
            secrets,
            accounts,
            tls,
            registry,
            worlds,
            sessions,
            refusals,
            observed: Observed::default(),
            questions: Questions::default(),
            metrics,
        },
        store,
        opened_at,
        token,
        context,
        trail: (trail, trailer),
        follower,
        globals,
        keyring,
        federation,
        refresh_hint: settings.federation_refresh_hint,
        readiness,
        starting,
        drain,
        watch,
    })
}

impl Bound {
    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The sessions, for whoever drives a control plane in process.
    pub fn sessions(&self) -> Sessions {
        self.parts.sessions.clone()
    }

    /// Serves until `shutdown` comes, then lets requests and streams end.
    ///
    /// # Errors
    /// The xDS port cannot be served.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Failure> {
        let Self {
            listeners,
            parts,
            store,
            opened_at,
            token,
            context,
            trail: (trail, trailer),
            follower,
            globals,
            keyring,
            federation,
            refresh_hint,
            readiness,
            starting,
            drain,
            watch,
            ..
        } = self;
        let problems = follower.as_ref().map(Follower::problems);
        tokio::spawn(observe::run(
            parts.metrics.clone(),
            store.subscribe(),
            opened_at,
            problems.clone(),
            watch.clone(),
        ));
        if let Some(follower) = follower {
            tokio::spawn(follower.run(watch.clone()));
        }
        tokio::spawn(parts.registry.clone().run(watch.clone()));
        tokio::spawn(parts.tls.clone().run(watch.clone()));
        let changed = move |authority: &CertificateAuthority| {
            if let Err(error) = context.write(authority) {
                tracing::error!(%error, "admin.yaml cannot be written; its certificate authority is that of before");
            }
        };
        let rotation = rotation::Parts {
            authority: parts.authority.clone(),
            sessions: parts.sessions.clone(),
            neighbours: listeners.federation.as_ref().map_or(Duration::ZERO, |_| 2 * refresh_hint),
        };
        let watched =
            alarms::Parts { authority: parts.authority.clone(), store: store.clone(), federation: federation.clone() };
        tokio::spawn(alarms::run(watched, parts.metrics.clone(), watch.clone()));
        tokio::spawn(rotation::run(rotation, changed, watch.clone()));
        tokio::spawn(keys::publish(keyring.clone(), federation.clone(), globals.clone(), watch.clone()));
        tokio::spawn(keyring.run(store.downgrade(), store.subscribe(), watch.clone()));
        tokio::spawn(federation.clone().run(store.downgrade(), store.subscribe(), watch.clone()));
        let admin = Admin { readiness, metrics: parts.metrics.clone(), config_dump: observe::config_dump(&parts) };
        tokio::spawn(admin::serve(listeners.admin, admin, watch.clone()));
        tokio::spawn(trailer.run(store.clone(), watch.clone()));
        let api = api::Parts {
            store,
            authority: parts.authority.clone(),
            tls: parts.tls.clone(),
            registry: parts.registry.clone(),
            sessions: parts.sessions.clone(),
            token,
            observed: parts.observed.clone(),
            questions: parts.questions.clone(),
            trail,
            problems,
            federation,
            refresh_hint,
        };
        if let Some(listener) = listeners.federation {
            tokio::spawn(api::serve_bundle(listener, api.clone(), watch.clone()));
        }
        tokio::spawn(api::serve(listeners.api, api, watch.clone()));
        let xds = tokio::spawn(xds::serve(listeners.xds, parts, watch.clone()));
        starting.done();
        shutdown.await;

        tracing::info!("draining");
        drop(watch);
        if !drain.drain(DRAIN_IN).await {
            tracing::warn!("some requests did not end in time");
        }
        drop(globals);
        match tokio::time::timeout(Duration::from_secs(1), xds).await {
            Ok(Ok(Err(why))) => {
                Err(Failure::new(exit::UNAVAILABLE, format!("the xDS port failed: {why}"), "start it again"))
            }
            _ => Ok(()),
        }
    }
}

/// What a person needs to talk to this control plane, with the roots as they are.
struct ContextFile {
    addresses: Addresses,
    advertised: Option<String>,
    state_dir: PathBuf,
    token: Arc<AdminToken>,
}

impl ContextFile {
    fn write(&self, authority: &CertificateAuthority) -> std::io::Result<PathBuf> {
        let context = Context::new(self.addresses.api, self.addresses.xds, &authority.trust_bundle(), &self.token);
        let context = match &self.advertised {
            Some(address) => context.served_at(address),
            None => context,
        };
        context.write(&self.state_dir)
    }
}

/// The admin port asks nobody who he is.
fn loopback(admin_addr: &str) -> Result<(), Failure> {
    let everybody = match admin_addr.parse::<SocketAddr>() {
        Ok(address) => !address.ip().is_loopback(),
        Err(_) => admin_addr.starts_with(':'),
    };
    if everybody {
        let what =
            format!("--admin-addr {admin_addr} is open to other machines, and nobody has to prove who he is there");
        return Err(Failure::new(exit::USAGE, what, "use 127.0.0.1 or [::1]"));
    }
    Ok(())
}

fn bind(settings: &Settings) -> Result<(Listeners, Addresses), Failure> {
    let bind = |addr: &str, flag: &str| {
        let listener = listen::tcp(addr, flag, false)?;
        let address = listener.local_addr().map_err(|why| {
            Failure::new(exit::UNAVAILABLE, format!("{flag} {addr}: {why}"), "give it another address")
        })?;
        Ok::<_, Failure>((listener, address))
    };
    let (xds, xds_at) = bind(&settings.xds_addr, "--xds-addr")?;
    let (api, api_at) = bind(&settings.api_addr, "--api-addr")?;
    let (admin, admin_at) = bind(&settings.admin_addr, "--admin-addr")?;
    let federation = settings.federation_addr.as_deref().map(|addr| bind(addr, "--federation-addr")).transpose()?;
    let (federation, federation_at) = federation.unzip();
    let at = Addresses { xds: xds_at, api: api_at, admin: admin_at, federation: federation_at };
    Ok((Listeners { xds, api, admin, federation }, at))
}

fn join_secrets(settings: &Settings) -> Result<Option<Arc<JoinSecrets>>, Failure> {
    let Some(dir) = &settings.join_secrets else { return Ok(None) };
    match JoinSecrets::open(dir, &settings.trust_domain) {
        Ok(secrets) => Ok(Some(Arc::new(secrets))),
        Err(why) => Err(Failure::new(
            exit::CONFIG,
            format!("--join-secrets {}: {why}", dir.display()),
            "give the folder that `leno inject` put the secrets into, readable for this user",
        )),
    }
}

async fn follow(settings: &Settings, store: &Store) -> Result<Option<Follower>, Failure> {
    let Some(dir) = &settings.config_dir else { return Ok(None) };
    let mut follower = Follower::new(store.clone(), dir);
    follower.sync().await.map_err(|why| failure::of_store(&why))?;
    Ok(Some(follower))
}

/// From the file, else from the environment. One newline at the end of a file is no part of it.
fn passphrase(settings: &Settings) -> Result<Passphrase, Failure> {
    let text = match &settings.ca_passphrase_file {
        Some(path) => std::fs::read_to_string(path).map(Zeroizing::new).map_err(|why| {
            let what = format!("cannot read --ca-passphrase-file {}: {why}", path.display());
            Failure::new(exit::CONFIG, what, "give the file that holds the passphrase, readable for this user")
        })?,
        None => match std::env::var(PASSPHRASE_ENV) {
            Ok(text) => Zeroizing::new(text),
            Err(_) => return Ok(None),
        },
    };
    let text = Zeroizing::new(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned());
    if text.is_empty() {
        return Err(Failure::new(exit::CONFIG, "the CA passphrase is empty", "give one of at least a few words"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests;
