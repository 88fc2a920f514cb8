//! The table as `nft list table inet leno` shows it.

use std::fmt;
use std::net::IpAddr;

use super::rules::{Base, Chain, Hook, Match, Rule, TABLE, Table, Transport, Verdict};

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (n, chain) in self.chains.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(base) = self.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Output => "output",
        };
        write!(f, "type {} hook {hook} priority {}; policy accept;", self.kind, self.priority)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.matches {
            write!(f, "{one} ")?;
        }
        match &self.verdict {
            Verdict::Return => f.write_str("return"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
            Verdict::Redirect(port) => write!(f, "redirect to :{port}"),
            Verdict::Reset => f.write_str("reject with tcp reset"),
            Verdict::Drop => f.write_str("drop"),
        }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "meta skuid {user}"),
            Self::Leaves(interface) => write!(f, "oifname \"{interface}\""),
            Self::Comes(interface) => write!(f, "iifname \"{interface}\""),
            Self::NotLocal => f.write_str("fib daddr type != local"),
            Self::To(cidr) => match (cidr.address, cidr.prefix) {
                (IpAddr::V4(_), 0) => f.write_str("meta nfproto ipv4"),
                (IpAddr::V6(_), 0) => f.write_str("meta nfproto ipv6"),
                (IpAddr::V4(ip), 32) => write!(f, "ip daddr {ip}"),
                (IpAddr::V4(ip), prefix) => write!(f, "ip daddr {ip}/{prefix}"),
                (IpAddr::V6(ip), 128) => write!(f, "ip6 daddr {ip}"),
                (IpAddr::V6(ip), prefix) => write!(f, "ip6 daddr {ip}/{prefix}"),
            },
            Self::Is(transport) => write!(f, "meta l4proto {transport}"),
            Self::Port(transport, ports) if ports.first == ports.last => write!(f, "{transport} dport {}", ports.first),
            Self::Port(transport, ports) => write!(f, "{transport} dport {}-{}", ports.first, ports.last),
            Self::Begun => f.write_str("tcp flags ack"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}
