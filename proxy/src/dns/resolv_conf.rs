//! `/etc/resolv.conf`: which resolvers the namespace has. Only the standard library is used here, for the fuzz target.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// Resolvers that are asked at most, as the C library does.
const MOST_SERVERS: usize = 3;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// In the order in which they are asked.
    pub servers: Vec<SocketAddr>,
    /// How long a client waits for one try.
    pub timeout: Duration,
}

impl ResolvConf {
    /// Reads the file as the C library does: what it does not know it skips, and of several values the last one counts. Without
    /// a server the one on this machine is meant (resolv.conf(5)). `port` is the resolvers' (the file has no way to say
    /// it), and `interface` gives the number of an interface by its name.
    pub fn parse(text: &str, port: u16, interface: impl Fn(&str) -> Option<u32>) -> Self {
        let mut conf = Self { servers: Vec::new(), timeout: Duration::from_secs(5) };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(|text| server(text, port, &interface))),
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf.servers.truncate(MOST_SERVERS);
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        }
        conf
    }

    fn option(&mut self, word: &str) {
        if let Some(seconds) = word.strip_prefix("timeout:").and_then(|n| n.parse().ok()) {
            // The C library's own bounds.
            self.timeout = Duration::from_secs(u64::clamp(seconds, 1, 30));
        }
    }
}

/// An address, which for a link-local one has its interface, by number or name, behind a `%`.
fn server(text: &str, port: u16, interface: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Some((ip, zone)) = text.split_once('%') {
        let scope = zone.parse().ok().or_else(|| interface(zone))?;
        return Some(SocketAddrV6::new(ip.parse().ok()?, port, 0, scope).into());
    }
    Some(SocketAddr::new(text.parse().ok()?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_the_c_library_reads_it() {
        let text = "# a comment\n; another\nsearch example.com\nnameserver 127.0.0.11\nnameserver ::1 # first\n\
                    nameserver nonsense\nnameserver fe80::1%nowhere\nnameserver fe80::1%eth0\nnameserver 1.1.1.1\noptions ndots:0 timeout:2\noptions timeout:x\n";
        let conf = ResolvConf::parse(text, 53, |name| (name == "eth0").then_some(2));
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.11:53", "[::1]:53", "[fe80::1%2]:53"]);
        assert_eq!(conf.timeout, Duration::from_secs(2));
    }

    #[test]
    fn an_empty_one_means_this_machine_and_the_usual_time() {
        let conf = ResolvConf::parse("", 53, |_| None);
        assert_eq!(conf.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(conf.timeout, Duration::from_secs(5));
        assert_eq!(ResolvConf::parse("options timeout:0", 53, |_| None).timeout, Duration::from_secs(1));
        assert_eq!(ResolvConf::parse("options timeout:9999", 53, |_| None).timeout, Duration::from_secs(30));
    }
}
