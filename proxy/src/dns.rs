//! DNS inside an intercepted namespace. What apps ask their resolver comes here: names of the mesh's services are answered with
//! the services' virtual addresses, everything else is passed to the resolvers of `/etc/resolv.conf` and back, unharmed.
//!
//! ```text
//! udp, tcp     queries come in
//! message      the question is read
//! names        may the name be a service's?
//! lookup       what the mesh says of it, asking the control plane when it has to
//! forward      the original resolvers
//! ```
//!
//! It runs on the control thread: look-ups are rare beside requests, and none waits for a worker.

mod forward;
mod interfaces;
mod lookup;
mod message;
mod metrics;
mod names;
mod resolv_conf;
mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use leno_runtime::drain::DrainWatch;
use leno_runtime::failure::{Failure, exit};
use leno_runtime::listen;
use leno_runtime::metrics::Registry;
use tokio::sync::Semaphore;

use self::forward::Forwarder;
use self::lookup::{Lookup, Outcome};
use self::message::{Answer, Query, rcode};
use self::metrics::Metrics;
use crate::state::Reader;
use crate::state::demand::Demands;

const FLAG: &str = "--dns-addr";
/// Where the C library has its resolvers from.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The resolvers' port.
const PORT: u16 = 53;
/// Queries over UDP that wait at once for the control plane or an original resolver. Each has a socket; further ones are
/// answered SERVFAIL. Names that are known need none of this.
const MOST_IN_FLIGHT: usize = 1024;
/// Connections at once. A buffer of one can grow to 64 KiB in each direction.
const MOST_CONNECTIONS: usize = 128;
/// Ports that are tried when any is wanted, until one is free for UDP and TCP.
const TRIES: usize = 20;

/// The listeners, UDP and TCP on the same addresses.
#[derive(Debug)]
pub struct Bound {
    /// The address that was asked for.
    pub addr: SocketAddr,
    sockets: Vec<(UdpSocket, TcpListener)>,
}

/// What the server needs of the rest of the sidecar.
pub struct Parts {
    /// The namespace of a bare name.
    pub namespace: String,
    /// Where snapshots come from.
    pub reader: Reader,
    /// Where services are asked for.
    pub demands: Demands,
    /// Where everything is counted.
    pub registry: Registry,
}

/// Takes the address, `IP:PORT`, for UDP and TCP. With 127.0.0.1 the same port of `::1` is taken, too, where there is IPv6: an
/// intercepted query comes to the loopback address of its own family.
///
/// # Errors
/// The address cannot be read or taken.
pub fn bind(addr: &str) -> Result<Bound, Failure> {
    let mut bound = listen_on(addr)?;
    let ipv6 = || interfaces::has_ipv6_loopback(&interfaces::read());
    if bound.addr.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) && ipv6() {
        let twin = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), bound.addr.port());
        bound.sockets.extend(listen_on(&twin.to_string())?.sockets);
    }
    Ok(bound)
}

fn listen_on(addr: &str) -> Result<Bound, Failure> {
    let any_port = addr.ends_with(":0");
    let mut tries = 0;
    loop {
        let tcp = listen::tcp(addr, FLAG, false)?;
        let taken = tcp.local_addr().map_err(|why| {
            Failure::new(exit::UNAVAILABLE, format!("{FLAG} {addr}: {why}"), format!("give {FLAG} another address"))
        })?;
        match listen::udp(&taken.to_string(), FLAG) {
            Ok(udp) => return Ok(Bound { addr: taken, sockets: vec![(udp, tcp)] }),
            Err(_) if any_port && tries < TRIES => tries += 1,
            Err(failure) => return Err(failure),
        }
    }
}

/// Answers queries until told to stop, which should be the last thing: what still drains may look up names.
pub async fn serve(bound: Bound, parts: Parts, stop: DrainWatch) {
    serve_with(bound, parts, RESOLV_CONF.into(), PORT, stop).await;
}

/// [`serve`] with other resolvers.
async fn serve_with(bound: Bound, parts: Parts, resolv_conf: PathBuf, port: u16, stop: DrainWatch) {
    let own = bound.sockets.iter().filter_map(|(udp, _)| udp.local_addr().ok()).collect();
    let server = Arc::new(Server {
        lookup: Lookup::new(parts.namespace, parts.reader, parts.demands),
        forwarder: Forwarder::new(resolv_conf, port, own),
        metrics: Metrics::new(&parts.registry),
        in_flight: Arc::new(Semaphore::new(MOST_IN_FLIGHT)),
        connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for (udp, tcp) in bound.sockets {
        match (tokio::net::UdpSocket::from_std(udp), tokio::net::TcpListener::from_std(tcp)) {
            (Ok(udp), Ok(tcp)) => {
                tasks.spawn(udp::serve(udp, server.clone()));
                tasks.spawn(tcp::serve(tcp, server.clone()));
            }
            (Err(error), _) | (_, Err(error)) => tracing::error!(%error, "DNS cannot be served"),
        }
    }
    stop.signaled().await;
}

/// What all listeners share.
struct Server {
    lookup: Lookup,
    forwarder: Forwarder,
    metrics: Metrics,
    in_flight: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Asks the control plane where that is needed; what comes back is an answer or [`Outcome::Forward`].
    async fn settle(&self, query: &Query<'_>, outcome: Outcome) -> Outcome {
        let Outcome::Ask { service, ours_alone } = outcome else { return outcome };
        let outcome = self.lookup.ask(&service, ours_alone, query.rtype).await;
        if let Outcome::Answer(answer) = &outcome {
            self.count(answer);
        }
        outcome
    }

    fn count(&self, answer: &Answer) {
        match answer.rcode {
            rcode::NO_ERROR => self.metrics.mesh.inc(),
            rcode::NO_SUCH_NAME => self.metrics.no_such_name.inc(),
            _ => self.metrics.not_known.inc(),
        }
    }

    /// Says once what is wrong with the rules, and counts the rest.
    fn looped(&self) {
        if self.metrics.looped.get() == 0 {
            tracing::error!(
                "a DNS query of this sidecar came back to it: the interception rules do not exclude its user; \
                 run it with the user id that `leno-proxy intercept` was given"
            );
        }
        self.metrics.looped.inc();
    }
}

#[cfg(test)]
mod tests;
