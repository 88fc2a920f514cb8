//! `STATE_DIR/admin.yaml`: what a person needs to talk to this control plane.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aes_gcm::aead::OsRng;
use aes_gcm::aead::rand_core::RngCore;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leno_certs::{TrustBundle, Zeroizing};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::store::{Store, StoreError};

pub(super) const FILE: &str = "admin.yaml";
/// Name of the blob in the store.
const BLOB: &str = "admin-token";

/// The bearer token of the REST API. The same in every life of the control plane, so that contexts stay good.
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    /// Takes up the token of the store, or makes one at the first start.
    ///
    /// # Errors
    /// The store cannot read or write.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        if let Some(token) = store.blob(BLOB)?.and_then(|bytes| String::from_utf8(bytes).ok()) {
            return Ok(Self(Zeroizing::new(token)));
        }
        let mut secret = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(&mut *secret);
        let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(*secret));
        store.set_blob(BLOB, token.as_bytes())?;
        Ok(Self(token))
    }

    /// Whether someone showed this token. Compares hashes, so the time it takes says nothing about the token.
    pub fn matches(&self, shown: &str) -> bool {
        let (ours, shown) = (Sha256::digest(self.0.as_bytes()), Sha256::digest(shown.as_bytes()));
        ours.iter().zip(shown).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// What is written to the file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    api_version: &'static str,
    kind: &'static str,
    server: String,
    xds_address: String,
    trust_domain: String,
    certificate_authority: String,
    token: Zeroized,
}

/// Serializes a secret without another copy of it in our hands.
struct Zeroized(Zeroizing<String>);

impl Serialize for Zeroized {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Context {
    /// The context of a control plane that listens on these addresses.
    pub fn new(api: SocketAddr, xds: SocketAddr, bundle: &TrustBundle, token: &AdminToken) -> Self {
        Self {
            api_version: "leno.dev/v1alpha1",
            kind: "Context",
            server: format!("https://{}", reachable(api)),
            xds_address: reachable(xds).to_string(),
            trust_domain: bundle.trust_domain.clone(),
            // Line ends as YAML has them, so that the file stays readable.
            certificate_authority: bundle.to_pem().replace('\r', ""),
            token: Zeroized(token.0.clone()),
        }
    }

    /// People reach the API at `HOST:PORT` instead.
    pub fn served_at(mut self, host_port: &str) -> Self {
        self.server = format!("https://{host_port}");
        self
    }

    /// Writes the file for its owner alone; a reader sees the old one or the new one, never a part.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, state_dir: &Path) -> io::Result<PathBuf> {
        let text = Zeroizing::new(serde_yaml_ng::to_string(self).map_err(io::Error::other)?);
        let (path, partial) = (state_dir.join(FILE), state_dir.join(format!(".{FILE}.new")));
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, &path)?;
        Ok(path)
    }
}

/// A port that is bound to every address is reached over loopback from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
