//! Which of a workload's addresses is dialled. Containers have one in each of their networks, and those cannot reach each other.

use std::net::IpAddr;

use leno_proto::v1;

/// A network that this machine is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The machine's own address in it.
    pub address: IpAddr,
    /// Bits that all addresses of the network share.
    pub prefix: u8,
}

impl Network {
    fn contains(&self, other: IpAddr) -> bool {
        fn shared(differ: u128, bits: u32, prefix: u8) -> bool {
            prefix == 0 || differ.checked_shr(bits - u32::from(prefix)).unwrap_or(0) == 0
        }
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) if self.prefix <= 32 => {
                shared(u128::from(own.to_bits() ^ other.to_bits()), 32, self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) if self.prefix <= 128 => {
                shared(own.to_bits() ^ other.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }
}

/// Puts the address in place that is in one of these networks: the first one if it is, else the first other one that is. When
/// none is, there is a router in between, and the first one stays.
pub(super) fn choose(endpoint: &mut v1::Endpoint, networks: &[Network]) {
    let near = |text: &String| text.parse().is_ok_and(|ip| networks.iter().any(|network| network.contains(ip)));
    if endpoint.more_addresses.is_empty() || near(&endpoint.address) {
        return;
    }
    if let Some(nearer) = endpoint.more_addresses.iter().find(|address| near(address)) {
        endpoint.address = nearer.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(networks: &[(&str, u8)], address: &str, more: &[&str]) -> String {
        let networks: Vec<Network> =
            networks.iter().map(|(ip, prefix)| Network { address: ip.parse().unwrap(), prefix: *prefix }).collect();
        let mut endpoint = v1::Endpoint {
            address: address.into(),
            more_addresses: more.iter().map(|a| (*a).to_owned()).collect(),
            ..Default::default()
        };
        choose(&mut endpoint, &networks);
        endpoint.address
    }

    #[test]
    fn the_address_of_a_shared_network_is_dialled() {
        let networks = [("172.18.0.2", 16), ("172.19.0.2", 16), ("fd00:1::2", 64)];
        assert_eq!(chosen(&networks, "172.18.0.9", &["172.19.0.9"]), "172.18.0.9");
        assert_eq!(chosen(&networks, "172.20.0.9", &["172.21.0.9", "172.19.0.9"]), "172.19.0.9");
        assert_eq!(chosen(&networks, "172.20.0.9", &["fd00:1::9"]), "fd00:1::9");
        assert_eq!(chosen(&networks, "172.20.0.9", &["172.21.0.9"]), "172.20.0.9", "a router is in between");
        assert_eq!(chosen(&networks, "junk", &["junk"]), "junk");
        assert_eq!(chosen(&[("0.0.0.0", 0)], "10.0.0.1", &["10.0.0.2"]), "10.0.0.1");
        assert_eq!(chosen(&[("10.0.0.1", 32)], "10.0.0.2", &["10.0.0.1"]), "10.0.0.1");
    }
}
