//! The record of the authority in the store: who signs, who comes next or came before, and how far a rotation has come. One record, so that
//! every step of a rotation is whole on the disk or has not begun.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::seal::Sealed;

const VERSION: u8 = 2;

/// How far a rotation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// None is under way.
    Idle,
    /// The next root is being made known; nothing is signed under it yet.
    Distributing,
    /// The new authority signs, and every sidecar is asked to renew its leaf; the old root is still believed.
    Reissuing,
}

impl Phase {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Distributing => "distributing",
            Self::Reissuing => "reissuing",
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Record {
    pub version: u8,
    pub phase: Phase,
    /// Who signs.
    pub current: Kept,
    /// While distributing: who signs next. While reissuing: who signed before.
    pub other: Option<Kept>,
    /// Authorities that signed before, and whose last leaves may still come back to renew.
    pub retired: Vec<Retired>,
    /// How often every sidecar was asked to renew its leaf.
    pub generation: u64,
    /// Since when the phase is what it is, seconds since 1970.
    pub since_unix: i64,
    /// An operator holds it.
    pub paused: bool,
    /// Seconds after which a step no longer waits for who is missing; none: it waits for ever.
    pub force_after: Option<u64>,
    /// The old key is in wrong hands: nothing that it vouches for is believed once the new one signs.
    pub compromised: bool,
}

/// An authority.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Kept {
    /// The certificate whose key signs first, the root last; base64.
    pub chain: Vec<String>,
    pub key: KeptKey,
    /// Who vouches for it, the newest first.
    pub vouched: Vec<Vouched>,
    pub origin: Origin,
}

/// Where an authority comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The control plane has made it.
    Generated,
    /// The operator has brought it.
    Imported,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeptKey {
    Sealed(Sealed),
    /// The socket of who holds the key.
    Signer(PathBuf),
}

/// An earlier root, the certificate by which its authority vouches for the one behind, and what is between the two; base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vouched {
    pub root: String,
    pub certificates: Vec<String>,
}

/// A root by which the control plane still believes leaves, so that who was away can renew; base64.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Retired {
    pub root: String,
    pub until_unix: i64,
}

impl Record {
    /// That of an authority that was just made.
    pub(super) fn begin(current: Kept, now: i64) -> Self {
        Self {
            version: VERSION,
            phase: Phase::Idle,
            current,
            other: None,
            retired: Vec::new(),
            generation: 0,
            since_unix: now,
            paused: false,
            force_after: None,
            compromised: false,
        }
    }

    /// Reads a record; one of the first version is but a root and its key.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if let Ok(sealed) = serde_json::from_slice::<Sealed>(bytes) {
            let chain = vec![sealed.root().to_owned()];
            let (key, vouched) = (KeptKey::Sealed(sealed), Vec::new());
            return Ok(Self::begin(Kept { chain, key, vouched, origin: Origin::Generated }, 0));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(|why| why.to_string())?;
        match record.version {
            VERSION => Ok(record),
            other => Err(format!("it has version {other}, this program reads {VERSION}")),
        }
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|why| why.to_string())
    }
}

pub(super) fn encode(der: &[u8]) -> String {
    STANDARD.encode(der)
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| "a certificate in it is no base64".to_owned())
}
