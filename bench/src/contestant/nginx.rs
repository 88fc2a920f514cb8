//! A pair of nginx processes at their best for this work: one process each, no log, connections kept on both sides, sessions of TLS
//! resumed. It speaks HTTP/1.1 to servers, and so between its ends.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{Contestant, Place, file, text};
use crate::certificates::SERVER_NAME;
use crate::process::{Running, free_port};

/// A pair of `binary`, called `name`.
pub fn nginx(place: &Place<'_>, binary: &Path, name: &'static str) -> Result<Contestant> {
    let dir = place.dir.display();
    let (mesh, target) = (free_port()?, free_port()?);
    let inbound = format!(
        "listen {mesh} ssl; ssl_certificate {dir}/b.crt; ssl_certificate_key {dir}/b.key; ssl_client_certificate {dir}/ca.crt; \
         ssl_verify_client on; ssl_protocols TLSv1.3; ssl_session_cache shared:s:1m; location / {{ proxy_pass http://next; }}"
    );
    let outbound = format!(
        "listen {target}; proxy_ssl_certificate {dir}/a.crt; proxy_ssl_certificate_key {dir}/a.key; \
         proxy_ssl_trusted_certificate {dir}/ca.crt; proxy_ssl_verify on; proxy_ssl_name {SERVER_NAME}; proxy_ssl_server_name on; \
         proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on; location / {{ proxy_pass https://next; }}"
    );
    let inbound = start(place, binary, &format!("{name}-in"), &inbound, place.backend, mesh)?;
    let outbound = start(place, binary, &format!("{name}-out"), &outbound, mesh, target)?;
    Ok(Contestant { name, target, pair: vec![outbound, inbound], _others: Vec::new() })
}

fn start(
    place: &Place<'_>,
    binary: &Path,
    process: &str,
    server: &str,
    next: SocketAddr,
    listen: SocketAddr,
) -> Result<Running> {
    let own = file(place, process);
    std::fs::create_dir(&own)?;
    let folder = own.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    // As one process, so that its time is that of the work alone.
    let config = format!(
        "daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log crit;\nevents {{ worker_connections 24000; }}\n\
         http {{\n{temporary}  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 75s;\n  proxy_http_version 1.1;\n  \
         proxy_set_header Connection \"\";\n  proxy_set_header Host $host;\n  \
         upstream next {{ server {next}; keepalive 2000; keepalive_requests 1000000000; }}\n  server {{ {server} }}\n}}\n"
    );
    let path = own.join("nginx.conf");
    std::fs::write(&path, config)?;
    let args = ["-p".to_owned(), text(&own), "-c".to_owned(), text(&path)];
    let mut running = Running::start(process, place.proxy_core, binary, &args, place.dir)?;
    running.listens(listen)?;
    Ok(running)
}
