//! The floor: the least a pair can cost on hyper. Any program that takes `in|out LISTEN UPSTREAM h2 CERT_DIR` will do.

use std::path::Path;

use anyhow::Result;

use super::{Contestant, Place, text};
use crate::process::{Running, free_port};

/// A pair of `binary`, HTTP/2 multiplexed between them.
pub fn floor(place: &Place<'_>, binary: &Path) -> Result<Contestant> {
    let start = |role: &str, upstream: String| {
        let listen = free_port()?;
        let args = [role.to_owned(), listen.to_string(), upstream, "h2".to_owned(), text(place.dir)];
        let mut running = Running::start(&format!("floor-{role}"), place.proxy_core, binary, &args, place.dir)?;
        running.listens(listen)?;
        anyhow::Ok((running, listen))
    };
    let (inbound, mesh) = start("in", place.backend.to_string())?;
    let (outbound, target) = start("out", mesh.to_string())?;
    Ok(Contestant { name: "floor", target, pair: vec![outbound, inbound], _others: Vec::new() })
}
