//! The identity on disk: `STATE_DIR/identity/identity.json`, 0600. Key, chain, roots and the rest are one file, because they
//! only make sense together and one file is replaced at once.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leno_certs::{FederatedRoots, Identity, Key, TrustBundle, Zeroizing};
use pem::Pem;
use serde::{Deserialize, Serialize};

use super::Current;
use crate::xds::{files, token};

/// Largest file that is read, in bytes; one of ours has about 4 KiB.
const MOST_BYTES: u64 = 1024 * 1024;
/// Form of the file. A later form reads this one.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    version: u32,
    /// PKCS#8, PEM.
    key: String,
    /// Leaf first, PEM.
    chain: String,
    trust_domain: String,
    /// PEM.
    roots: String,
    renew_generation: Option<u64>,
    /// SHA-256, hexadecimal.
    joined_root: String,
    /// PEM, by trust domain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    federated: BTreeMap<String, String>,
}

pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("identity").join("identity.json")
}

pub(super) fn write(path: &Path, current: &Current) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let certificates =
        |ders: &[Vec<u8>]| ders.iter().map(|der| pem::encode(&Pem::new("CERTIFICATE", der.as_slice()))).collect();
    let federated = current.bundle.federated.iter();
    let federated = federated.map(|domain| (domain.trust_domain.clone(), certificates(&domain.roots)));
    let file = File {
        version: VERSION,
        key: pem::encode(&Pem::new("PRIVATE KEY", current.identity.key.to_pkcs8().as_slice())),
        chain: certificates(&current.identity.chain),
        trust_domain: current.bundle.trust_domain.clone(),
        roots: certificates(&current.bundle.roots),
        renew_generation: current.renew_generation,
        joined_root: token::hex(&current.joined_root),
        federated: federated.collect(),
    };
    let text = Zeroizing::new(serde_json::to_vec_pretty(&file)?);
    files::replace(path, &text)
}

/// `None`: there is none. The text of an error never shows what is in the file.
pub(super) fn read(path: &Path) -> Result<Option<Current>, String> {
    let Some(text) = files::read(path, MOST_BYTES).map_err(|why| why.to_string())? else { return Ok(None) };
    let text = Zeroizing::new(text);
    let file: File = serde_json::from_slice(&text)
        .map_err(|why| format!("it is damaged (line {}, column {})", why.line(), why.column()))?;
    if file.version != VERSION {
        return Err(format!("it has form {}, this program reads {VERSION}", file.version));
    }
    let damaged = |what: &str| format!("it is damaged ({what})");
    let key = pem::parse(&file.key).map_err(|_| damaged("key"))?;
    let key = Key::from_pkcs8(&Zeroizing::new(key.into_contents())).map_err(|_| damaged("key"))?;
    let identity = Identity::new(certificates(&file.chain).ok_or_else(|| damaged("chain"))?, key)
        .map_err(|why| why.to_string())?;
    let roots = certificates(&file.roots).ok_or_else(|| damaged("roots"))?;
    let federated = file.federated.into_iter().map(|(trust_domain, roots)| {
        let roots = certificates(&roots).ok_or_else(|| damaged("federated"))?;
        Ok(FederatedRoots { trust_domain, roots })
    });
    let federated = federated.collect::<Result<_, String>>()?;
    let bundle = TrustBundle { trust_domain: file.trust_domain, roots, federated };
    // Fails when key and leaf do not belong together, or when no root is usable.
    leno_certs::tls::mesh_client(&identity, &bundle, &[]).map_err(|why| why.to_string())?;
    Ok(Some(Current {
        identity: Arc::new(identity),
        bundle: Arc::new(bundle),
        renew_generation: file.renew_generation,
        joined_root: token::hash(&file.joined_root).ok_or_else(|| damaged("joinedRoot"))?,
    }))
}

fn certificates(text: &str) -> Option<Vec<Vec<u8>>> {
    let blocks = pem::parse_many(text).ok()?;
    Some(blocks.into_iter().map(Pem::into_contents).collect())
}
