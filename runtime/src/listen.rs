//! Binding listeners with errors that say which flag is meant.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::{Failure, exit};

/// How many connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// Bytes of datagrams that the kernel holds until they are read; it may grant less.
const DATAGRAMS: usize = 1024 * 1024;

/// Binds `addr`, `IP:PORT` or `:PORT` (every address, IPv4 and IPv6). The socket is non-blocking. With `reuse_port` several
/// workers may bind the same address, and the kernel spreads connections over them.
///
/// # Errors
/// The address cannot be read or taken; the failure names `flag`.
pub fn tcp(addr: &str, flag: &str, reuse_port: bool) -> Result<TcpListener, Failure> {
    let addresses = resolve(addr, flag)?;
    let mut last = None;
    for address in addresses {
        match bind(address, reuse_port) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable));
    Err(refused(addr, flag, &error))
}

/// Binds `addr`, `IP:PORT` or `:PORT`, for datagrams. The socket is non-blocking.
///
/// # Errors
/// As [`tcp`].
pub fn udp(addr: &str, flag: &str) -> Result<UdpSocket, Failure> {
    let mut last = None;
    for address in resolve(addr, flag)? {
        match bind_udp(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable));
    Err(refused(addr, flag, &error))
}

fn resolve(addr: &str, flag: &str) -> Result<Vec<SocketAddr>, Failure> {
    let bad = || {
        Failure::new(
            exit::USAGE,
            format!("{flag} {addr:?} is no address"),
            "write IP:PORT, for example 127.0.0.1:15000",
        )
    };
    if let Some(port) = addr.strip_prefix(':') {
        let port = port.parse().map_err(|_| bad())?;
        // Dual stack first; a machine without IPv6 falls back.
        return Ok(vec![
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        ]);
    }
    if let Some(port) = addr.strip_prefix("localhost:") {
        return Ok(vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().map_err(|_| bad())?)]);
    }
    addr.parse().map(|a| vec![a]).map_err(|_| bad())
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    // A burst of queries shall not be lost. What the kernel does not grant is lost as it would be elsewhere.
    let _ = socket.set_recv_buffer_size(DATAGRAMS);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn refused(addr: &str, flag: &str, error: &io::Error) -> Failure {
    let what = format!("cannot listen on {addr} ({flag}): {error}");
    let port = addr.rsplit(':').next().unwrap_or(addr);
    let todo = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "stop the program that has it (`ss -lntup 'sport = :{port}'` names it) or give {flag} another port, 0 for any"
            )
        }
        io::ErrorKind::PermissionDenied => format!("ports below 1024 need a privilege; give {flag} a higher port"),
        io::ErrorKind::AddrNotAvailable => format!("give {flag} an address of this machine"),
        _ => format!("give {flag} another address"),
    };
    Failure::new(exit::UNAVAILABLE, what, todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_flag_and_a_mend() {
        let taken = tcp("127.0.0.1:0", "--admin-addr", false).unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let failure = tcp(&address, "--admin-addr", false).unwrap_err();
        assert_eq!(failure.code(), exit::UNAVAILABLE);
        let line = failure.to_string();
        assert!(line.contains("--admin-addr") && line.contains(&address) && line.contains("ss -lntup"), "{line}");
    }

    #[test]
    fn a_port_in_use_for_datagrams_is_named_likewise() {
        let taken = udp("127.0.0.1:0", "--dns-addr").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let failure = udp(&address, "--dns-addr").unwrap_err();
        assert_eq!(failure.code(), exit::UNAVAILABLE);
        assert!(failure.to_string().contains("--dns-addr"), "{failure}");
        assert_eq!(udp("nowhere", "--dns-addr").unwrap_err().code(), exit::USAGE);
    }

    #[test]
    fn workers_can_share_a_port() {
        let first = tcp("127.0.0.1:0", "--mesh-addr", true).unwrap();
        tcp(&first.local_addr().unwrap().to_string(), "--mesh-addr", true).unwrap();
    }

    #[test]
    fn an_unreadable_address_is_a_usage_failure() {
        for bad in ["", "15000", "nowhere", ":x", "1.2.3.4:99999"] {
            assert_eq!(tcp(bad, "--mesh-addr", false).unwrap_err().code(), exit::USAGE, "{bad}");
        }
    }
}
