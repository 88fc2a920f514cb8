//! Taking every port before anything else happens: a port in use is found before the join token is used up.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use leno_runtime::failure::{Failure, exit};
use leno_runtime::listen;

use super::gateway;
use crate::dns;
use crate::settings::{Settings, UpstreamSpec};

/// One address, bound once for each worker.
#[derive(Debug)]
pub struct Shared {
    /// Where it is bound.
    pub addr: SocketAddr,
    /// One for each worker, in their order.
    pub sockets: Vec<TcpListener>,
}

/// Every listener of the sidecar.
#[derive(Debug)]
pub struct Listeners {
    /// For other sidecars.
    pub mesh: Shared,
    /// For the app's HTTP, and for what it connects to when that is redirected.
    pub http_proxy: Shared,
    /// For redirected traffic.
    pub capture: Option<Capture>,
    /// For the app, one for each `--upstream`.
    pub upstreams: Vec<(UpstreamSpec, Shared)>,
    /// For clients of the Gateway, by its port.
    pub gateway: Vec<(u16, Shared)>,
    /// On the control thread.
    pub admin: TcpListener,
    /// For kubelet, on the control thread; only when there are checks to answer.
    pub health: Option<TcpListener>,
}

/// What is bound only when traffic is redirected.
#[derive(Debug)]
pub struct Capture {
    /// What the app connects to by IPv6: that is redirected to the other loopback address. None: there is no IPv6.
    pub outbound_v6: Option<Shared>,
    /// What others connect to.
    pub inbound: Shared,
    /// What the app asks of DNS, unless that is left alone. On the control thread.
    pub dns: Option<dns::Bound>,
}

impl Capture {
    fn bind(settings: &Settings, http_proxy: &Shared) -> Result<Self, Failure> {
        let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), http_proxy.addr.port());
        // A machine without IPv6 has no ::1, and nothing to redirect there.
        let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let outbound_v6 = match http_proxy.addr.is_ipv4() && has_v6 {
            true => Some(shared(&v6.to_string(), "--http-proxy-addr", settings.workers)?),
            false => None,
        };
        let with_dns = settings.interception.as_ref().is_some_and(|i| i.redirection.dns_port.is_some());
        Ok(Self {
            outbound_v6,
            inbound: shared(&settings.inbound_addr, "--inbound-addr", settings.workers)?,
            dns: if with_dns { Some(dns::bind(&settings.dns_addr)?) } else { None },
        })
    }
}

impl Listeners {
    /// Binds everything that the settings name.
    ///
    /// # Errors
    /// The first address that cannot be taken, with its flag.
    pub fn bind(settings: &Settings) -> Result<Self, Failure> {
        let n = settings.workers;
        let http_proxy = shared(&settings.http_proxy_addr, "--http-proxy-addr", n)?;
        let capture = match &settings.interception {
            Some(_) => Some(Capture::bind(settings, &http_proxy)?),
            None => None,
        };
        let upstream = |spec: &UpstreamSpec| Ok((spec.clone(), shared(&spec.listen, "--upstream", n)?));
        Ok(Self {
            mesh: shared(&settings.mesh_addr, "--mesh-addr", n)?,
            http_proxy,
            capture,
            upstreams: settings.upstreams.iter().map(upstream).collect::<Result<_, _>>()?,
            gateway: match &settings.gateway {
                Some(gateway) => gateway::bind(gateway, n)?,
                None => Vec::new(),
            },
            admin: listen::tcp(&settings.admin_addr, "--admin-addr", false)?,
            health: health(settings)?,
        })
    }
}

fn health(settings: &Settings) -> Result<Option<TcpListener>, Failure> {
    settings.probes.as_ref().map(|_| listen::tcp(&settings.health_addr, "--health-addr", false)).transpose()
}

/// With several workers each has a socket of its own on the same port (`SO_REUSEPORT`).
pub(super) fn shared(addr: &str, flag: &str, workers: usize) -> Result<Shared, Failure> {
    if workers == 1 {
        let socket = listen::tcp(addr, flag, false)?;
        return Ok(Shared { addr: local(&socket, addr, flag)?, sockets: vec![socket] });
    }
    // A shared port would also be shared with another process of this user, unnoticed. So it is taken alone first; the
    // moment in which it is free again is accepted.
    let alone = listen::tcp(addr, flag, false)?;
    let real = local(&alone, addr, flag)?;
    drop(alone);
    let socket = |_| listen::tcp(&real.to_string(), flag, true);
    Ok(Shared { addr: real, sockets: (0..workers).map(socket).collect::<Result<_, _>>()? })
}

fn local(socket: &TcpListener, addr: &str, flag: &str) -> Result<SocketAddr, Failure> {
    socket.local_addr().map_err(|why| {
        Failure::new(exit::UNAVAILABLE, format!("{flag} {addr}: {why}"), format!("give {flag} another address"))
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::settings::Args;

    fn settings(workers: &str, mesh: &str) -> Settings {
        let args = [
            "leno-proxy",
            "--control-plane",
            "127.0.0.1:1",
            "--service",
            "web",
            "--state-dir",
            "s",
            "--mesh-addr",
            mesh,
            "--http-proxy-addr",
            "127.0.0.1:0",
            "--admin-addr",
            "127.0.0.1:0",
            "--upstream",
            "store:6379=127.0.0.1:0",
            "--workers",
            workers,
        ];
        Settings::try_from(Args::try_parse_from(args).unwrap()).unwrap()
    }

    #[test]
    fn port_zero_works_everywhere_and_every_worker_has_a_socket() {
        for (workers, n) in [("1", 1), ("3", 3)] {
            let bound = Listeners::bind(&settings(workers, "127.0.0.1:0")).unwrap();
            for shared in [&bound.mesh, &bound.http_proxy, &bound.upstreams[0].1] {
                assert_ne!(shared.addr.port(), 0);
                assert_eq!(shared.sockets.len(), n);
                assert!(shared.sockets.iter().all(|socket| socket.local_addr().unwrap() == shared.addr));
            }
        }
    }

    #[test]
    fn a_port_in_use_is_refused_with_any_number_of_workers() {
        let held = Listeners::bind(&settings("2", "127.0.0.1:0")).unwrap();
        let taken = held.mesh.addr.to_string();
        for workers in ["1", "2"] {
            let failure = Listeners::bind(&settings(workers, &taken)).unwrap_err();
            assert_eq!(failure.code(), exit::UNAVAILABLE);
            assert!(failure.to_string().contains("--mesh-addr"));
        }
    }
}
