//! Whether what a sidecar says of itself has a meaning and is its own to say.

use std::fmt;
use std::net::IpAddr;

use leno_certs::{Lineage, SpiffeId};
use leno_proto::Registration;

use crate::model::{Name, Workload};
use crate::validate::is_dns_subdomain;

/// Most addresses of one workload beside the one that peers dial.
const MOST_ADDRESSES: usize = 16;

/// Why a registration was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It names another identity than the certificate proves.
    NotProven { said: String, proven: String },
    /// A field has no meaning.
    Invalid(String),
    /// Another identity holds the name on an open stream.
    Taken { name: Name, by: String },
    /// So many are alive already.
    Full(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProven { said, proven } => {
                write!(f, "the sidecar registers as {said}, but its certificate proves {proven}")
            }
            Self::Invalid(why) => write!(f, "the registration is not valid: {why}"),
            Self::Taken { name, by } => {
                write!(f, "the workload {name} is connected as {by}; give this one another name")
            }
            Self::Full(most) => write!(f, "{most} workloads are registered, more are not taken"),
        }
    }
}

impl std::error::Error for Refused {}

/// The workload of a registration, healthy until its state says otherwise.
pub(super) fn workload(said: &Registration, proven: &SpiffeId, lineage: Option<Lineage>) -> Result<Workload, Refused> {
    if said.namespace != proven.namespace() || said.service_account != proven.service_account() {
        return Err(Refused::NotProven {
            said: format!("namespace {:?}, service account {:?}", said.namespace, said.service_account),
            proven: proven.to_string(),
        });
    }
    if !is_dns_subdomain(&said.name) {
        let name = &said.name;
        return Err(Refused::Invalid(format!(
            "{name:?} is no name: lower case letters, digits, '-' and '.' (RFC 1123)"
        )));
    }
    if said.mesh_port == 0 {
        return Err(Refused::Invalid("the mesh port is 0".to_owned()));
    }
    for (name, port) in &said.ports {
        if !is_dns_subdomain(name) || *port == 0 {
            return Err(Refused::Invalid(format!("the port {name:?}={port} has no valid name or number")));
        }
    }
    for (key, value) in &said.labels {
        if !is_label_key(key) || !is_label_value(value) {
            return Err(Refused::Invalid(format!("{key:?}={value:?} is no valid label")));
        }
    }
    Ok(Workload {
        name: Name::new(&said.namespace, &said.name),
        labels: said.labels.clone(),
        address: address(&said.address)?,
        mesh_port: Some(said.mesh_port),
        identity: Some(proven.to_string()),
        ports: said.ports.clone(),
        healthy: true,
        more_addresses: more_addresses(said)?,
        any_port: said.any_port,
        lineage,
    })
}

/// The further addresses, without the one that peers dial.
fn more_addresses(said: &Registration) -> Result<Vec<IpAddr>, Refused> {
    if said.more_addresses.len() > MOST_ADDRESSES {
        let found = said.more_addresses.len();
        return Err(Refused::Invalid(format!("it has {found} further addresses, at most {MOST_ADDRESSES} are taken")));
    }
    let primary = address(&said.address)?;
    let mut more = Vec::new();
    for said in &said.more_addresses {
        let further = address(said)?;
        if further != primary && !more.contains(&further) {
            more.push(further);
        }
    }
    Ok(more)
}

fn address(said: &str) -> Result<IpAddr, Refused> {
    let address: IpAddr = said.parse().map_err(|_| Refused::Invalid(format!("{said:?} is no IP address")))?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(Refused::Invalid(format!("peers cannot reach the address {address}")));
    }
    Ok(address)
}

/// A label's key as Kubernetes has it: an optional DNS prefix, a slash, a name.
fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && !name.is_empty() && is_label_value(name),
        None => !key.is_empty() && is_label_value(key),
    }
}

fn is_label_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return true };
    let inner = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    bytes.len() <= 63 && bytes.iter().all(inner) && first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric()
}
