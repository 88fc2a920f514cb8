//! A pair of HAProxy processes at their best for this work: one thread, no log, connections kept and shared between clients.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{Contestant, Place, file, text};
use crate::certificates::SERVER_NAME;
use crate::process::{Running, free_port};

/// What both ends have in common. Where it may not have files for so many connections it takes what it may have.
const COMMON: &str = "\
global
  nbthread 1
  maxconn 24000
  no strict-limits
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  no log
  option http-keep-alive
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
";

/// A pair of `binary`, called `name`, that speaks `protocol` (`h2` or `http/1.1`) between its ends.
pub fn haproxy(place: &Place<'_>, binary: &Path, name: &'static str, protocol: &str) -> Result<Contestant> {
    let dir = place.dir.display();
    let (mesh, target) = (free_port()?, free_port()?);
    let inbound = format!(
        "{COMMON}frontend mesh\n  bind {mesh} ssl crt {dir}/b.pem ca-file {dir}/ca.crt verify required alpn {protocol}\n  \
         default_backend app\nbackend app\n  server app {} pool-max-conn -1\n",
        place.backend
    );
    let outbound = format!(
        "{COMMON}frontend app\n  bind {target}\n  default_backend mesh\nbackend mesh\n  server b {mesh} ssl \
         crt {dir}/a.pem ca-file {dir}/ca.crt verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME}) \
         alpn {protocol} pool-max-conn -1\n"
    );
    let inbound = start(place, binary, &format!("{name}-in"), &inbound, mesh)?;
    let outbound = start(place, binary, &format!("{name}-out"), &outbound, target)?;
    Ok(Contestant { name, target, pair: vec![outbound, inbound], _others: Vec::new() })
}

/// A pair that speaks HTTP/2 at every place: with the client, between its ends, and with the server.
pub fn haproxy_http2(place: &Place<'_>, binary: &Path, name: &'static str) -> Result<Contestant> {
    let dir = place.dir.display();
    let (mesh, target) = (free_port()?, free_port()?);
    let inbound = format!(
        "{COMMON}frontend mesh\n  bind {mesh} ssl crt {dir}/b.pem ca-file {dir}/ca.crt verify required alpn h2\n  \
         default_backend app\nbackend app\n  server app {} proto h2 pool-max-conn -1\n",
        place.backend
    );
    let outbound = format!(
        "{COMMON}frontend app\n  bind {target} proto h2\n  default_backend mesh\nbackend mesh\n  server b {mesh} ssl \
         crt {dir}/a.pem ca-file {dir}/ca.crt verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME}) \
         alpn h2 pool-max-conn -1\n"
    );
    let inbound = start(place, binary, &format!("{name}-in"), &inbound, mesh)?;
    let outbound = start(place, binary, &format!("{name}-out"), &outbound, target)?;
    Ok(Contestant { name, target, pair: vec![outbound, inbound], _others: Vec::new() })
}

/// A pair that carries connections as bytes, each in one of its own; sessions of TLS are resumed, as is its default.
pub fn haproxy_tcp(place: &Place<'_>, binary: &Path, name: &'static str) -> Result<Contestant> {
    let dir = place.dir.display();
    let (mesh, target) = (free_port()?, free_port()?);
    let common = COMMON.replace("mode http", "mode tcp").replace("  option http-keep-alive\n  http-reuse always\n", "");
    let inbound = format!(
        "{common}frontend mesh\n  bind {mesh} ssl crt {dir}/b.pem ca-file {dir}/ca.crt verify required\n  \
         default_backend app\nbackend app\n  server app {}\n",
        place.backend
    );
    let outbound = format!(
        "{common}frontend app\n  bind {target}\n  default_backend mesh\nbackend mesh\n  server b {mesh} ssl crt {dir}/a.pem \
         ca-file {dir}/ca.crt verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME})\n"
    );
    let inbound = start(place, binary, &format!("{name}-in"), &inbound, mesh)?;
    let outbound = start(place, binary, &format!("{name}-out"), &outbound, target)?;
    Ok(Contestant { name, target, pair: vec![outbound, inbound], _others: Vec::new() })
}

fn start(place: &Place<'_>, binary: &Path, process: &str, config: &str, listen: SocketAddr) -> Result<Running> {
    let path = file(place, &format!("{process}.cfg"));
    std::fs::write(&path, config)?;
    let args = ["-db".to_owned(), "-f".to_owned(), text(&path)];
    let mut running = Running::start(process, place.proxy_core, binary, &args, place.dir)?;
    running.listens(listen)?;
    Ok(running)
}
