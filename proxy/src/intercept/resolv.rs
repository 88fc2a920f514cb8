//! The nameservers that programs of this namespace ask: those of `/etc/resolv.conf` (resolv.conf(5)).

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};

/// Most nameservers that are looked at. The C library takes three; others take more.
const MOST: usize = 8;
/// More than this of the file is not read.
const MOST_BYTES: u64 = 64 * 1024;

/// The nameservers at this moment.
pub fn nameservers() -> Vec<IpAddr> {
    let mut text = Vec::new();
    // What cannot be read counts as empty, as for the C library.
    let _ = File::open("/etc/resolv.conf").and_then(|file| file.take(MOST_BYTES).read_to_end(&mut text));
    parse(&String::from_utf8_lossy(&text))
}

fn parse(text: &str) -> Vec<IpAddr> {
    let mut servers: Vec<IpAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("nameserver"), Some(address)) = (words.next(), words.next()) else { continue };
        // A link-local address has its interface behind it, which the redirection does not need.
        let address = address.split('%').next().unwrap_or_default().parse();
        if let Ok(server) = address
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into()); // As the C library does.
    }
    servers.truncate(MOST);
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_the_c_library_reads_them() {
        let text = "# nameserver 9.9.9.9\nsearch example.com\nnameserver 127.0.0.11\n nameserver\t::1 # x\n\
                    nameserver fe80::1%eth0\nnameserver 127.0.0.11\nnameserver\nnameserver nonsense\noptions ndots:5\n";
        let servers: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.11", "::1", "fe80::1"]);
        assert_eq!(parse(""), [IpAddr::from([127, 0, 0, 1])]);
        let many: String = (0..100).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
        assert_eq!(parse(&many).len(), MOST);
    }
}
