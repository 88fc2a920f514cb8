//! The sidecars that serve a Gateway, taken together.

use std::net::IpAddr;

use crate::model::BoundPorts;

/// Most addresses of a Gateway's status, as specified.
const MOST_ADDRESSES: usize = 16;

/// The sidecars that have a Gateway in force as it is now; there is at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serving {
    addresses: Vec<IpAddr>,
    ports: Vec<Option<BoundPorts>>,
}

/// What became of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port<'a> {
    Open,
    /// No sidecar has said yet.
    Pending,
    /// No sidecar could bind it.
    Failed(&'a str),
}

impl Serving {
    /// Adds a sidecar: the addresses of its workload, and what it says of the Gateway's ports.
    pub fn add(&mut self, of_workload: &[IpAddr], ports: Option<BoundPorts>) {
        let bound: Vec<IpAddr> = match &ports {
            None => of_workload.to_vec(),
            Some(ports) => ports
                .values()
                .filter_map(|became| became.as_ref().ok())
                .flat_map(|ip| if ip.is_unspecified() { of_workload } else { std::slice::from_ref(ip) })
                .copied()
                .collect(),
        };
        for address in bound {
            if self.addresses.len() < MOST_ADDRESSES && !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        self.ports.push(ports);
    }

    /// Where clients reach it.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// One sidecar that has it open is enough; one that does not speak of ports has all of them.
    pub(super) fn port(&self, port: u16) -> Port<'_> {
        let mut failed = None;
        let mut waits = false;
        for sidecar in &self.ports {
            match sidecar.as_ref().map(|ports| ports.get(&port)) {
                None | Some(Some(Ok(_))) => return Port::Open,
                Some(None) => waits = true,
                Some(Some(Err(why))) => failed = Some(why.as_str()),
            }
        }
        failed.filter(|_| !waits).map_or(Port::Pending, Port::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn ports(all: &[(u16, Result<&str, &str>)]) -> Option<BoundPorts> {
        Some(all.iter().map(|(port, became)| (*port, became.map(ip).map_err(str::to_owned))).collect())
    }

    #[test]
    fn a_port_is_open_when_one_sidecar_has_it_and_fails_when_all_say_so() {
        let mut serving = Serving::default();
        serving.add(&[ip("10.0.0.1")], ports(&[(80, Ok("::")), (443, Err("in use"))]));
        assert_eq!((serving.port(80), serving.port(443)), (Port::Open, Port::Failed("in use")));
        assert_eq!(serving.port(8080), Port::Pending);
        serving.add(&[ip("10.0.0.2")], ports(&[(80, Err("in use"))]));
        assert_eq!((serving.port(80), serving.port(443)), (Port::Open, Port::Pending), "the second has not said yet");
        serving.add(&[ip("10.0.0.3")], None);
        assert_eq!(serving.port(443), Port::Open);
    }

    #[test]
    fn addresses_are_those_that_ports_are_bound_at() {
        let mut serving = Serving::default();
        serving.add(&[ip("10.0.0.1")], ports(&[(80, Ok("127.0.0.1")), (81, Ok("127.0.0.1")), (82, Err("no"))]));
        assert_eq!(serving.addresses(), [ip("127.0.0.1")]);
        serving.add(&[ip("10.0.0.1"), ip("10.0.0.9")], ports(&[(80, Ok("0.0.0.0"))]));
        serving.add(&[ip("10.0.0.2")], None);
        assert_eq!(serving.addresses(), ["127.0.0.1", "10.0.0.1", "10.0.0.9", "10.0.0.2"].map(ip));
        for n in 0..99 {
            serving.add(&[IpAddr::from([10, 1, 0, n])], None);
        }
        assert_eq!(serving.addresses().len(), MOST_ADDRESSES);
    }
}
