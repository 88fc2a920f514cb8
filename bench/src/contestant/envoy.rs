//! A pair of Envoy processes at their best for this work: one worker, no access log, HTTP/2 between the ends for requests, sessions of
//! TLS resumed where connections are carried as bytes (both are its defaults for TLS 1.3).

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{Contestant, Place, file, text};
use crate::certificates::SERVER_NAME;
use crate::process::{Running, free_port};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// What a pair carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Requests, multiplexed between the ends.
    Http,
    /// Requests over HTTP/2 from the client to the server.
    Http2,
    /// Connections, each in one of its own.
    Tcp,
}

/// A pair of `binary`, called `name`.
pub fn envoy(place: &Place<'_>, binary: &Path, name: &'static str, carries: Carries) -> Result<Contestant> {
    let (mesh, target) = (free_port()?, free_port()?);
    let dir = place.dir.display();
    let tls = |kind: &str, own: &str, more: &str| {
        format!(
            "transport_socket: {{name: tls, typed_config: {{\"@type\": {TYPES}.transport_sockets.tls.v3.{kind}, {more}, \
             common_tls_context: {{alpn_protocols: [{}], tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}, \
             tls_certificates: [{{certificate_chain: {{filename: {dir}/{own}.crt}}, private_key: {{filename: {dir}/{own}.key}}}}], \
             validation_context: {{trusted_ca: {{filename: {dir}/ca.crt}}}}}}}}}}",
            if carries == Carries::Tcp { "" } else { "h2" }
        )
    };
    let to_mesh = tls("UpstreamTlsContext", "a", &format!("sni: {SERVER_NAME}"));
    let from_mesh = tls("DownstreamTlsContext", "b", "require_client_certificate: true");
    let start = |end: &str, listen: SocketAddr, tls_in: &str, to: SocketAddr, tls_out: &str| {
        let process = format!("{name}-{end}");
        let path = file(place, &format!("{process}.yaml"));
        std::fs::write(&path, config(carries, listen, tls_in, to, tls_out))?;
        let args = ["-c".to_owned(), text(&path), "--concurrency".to_owned(), "1".to_owned()];
        let quiet = ["--disable-hot-restart".to_owned(), "--log-level".to_owned(), "warn".to_owned()];
        let args: Vec<String> = args.into_iter().chain(quiet).collect();
        let mut running = Running::start(&process, place.proxy_core, binary, &args, place.dir)?;
        running.listens(listen)?;
        anyhow::Ok(running)
    };
    let inbound = start("in", mesh, &from_mesh, place.backend, "")?;
    let outbound = start("out", target, "", mesh, &to_mesh)?;
    Ok(Contestant { name, target, pair: vec![outbound, inbound], _others: Vec::new() })
}

fn config(carries: Carries, listen: SocketAddr, tls_in: &str, to: SocketAddr, tls_out: &str) -> String {
    let filter = match carries {
        Carries::Tcp => format!(
            "{{name: tcp, typed_config: {{\"@type\": {TYPES}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: a, cluster: to}}}}"
        ),
        Carries::Http | Carries::Http2 => format!(
            "{{name: http, typed_config: {{\"@type\": {TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager, \
             stat_prefix: a, generate_request_id: false, http_filters: [{{name: router, typed_config: \
             {{\"@type\": {TYPES}.filters.http.router.v3.Router}}}}], route_config: {{virtual_hosts: [{{name: all, domains: [\"*\"], \
             routes: [{{match: {{prefix: /}}, route: {{cluster: to}}}}]}}]}}}}}}"
        ),
    };
    // To the other end, and to a server that speaks it.
    let protocol = match carries == Carries::Http2 || carries == Carries::Http && !tls_out.is_empty() {
        true => format!(
            "\n    typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
             {{\"@type\": {TYPES}.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}"
        ),
        false => String::new(),
    };
    let socket = |at: SocketAddr| format!("{{socket_address: {{address: {}, port_value: {}}}}}", at.ip(), at.port());
    let tls = |text: &str| if text.is_empty() { String::new() } else { format!("\n    {text}") };
    let tls_in = if tls_in.is_empty() { String::new() } else { format!("\n      {tls_in}") };
    format!(
        "static_resources:\n  listeners:\n  - address: {}\n    filter_chains:\n    - filters: [{filter}]{tls_in}\n  clusters:\n  \
         - name: to\n    type: STATIC\n    connect_timeout: 5s\n    load_assignment: {{cluster_name: to, endpoints: \
         [{{lb_endpoints: [{{endpoint: {{address: {}}}}}]}}]}}{protocol}{}\n",
        socket(listen),
        socket(to),
        tls(tls_out)
    )
}
