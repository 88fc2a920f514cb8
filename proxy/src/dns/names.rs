//! Which names are the mesh's. A name that might be one is looked up there first and goes to the original resolver when the
//! mesh does not have it, so that nothing that resolved before stops resolving. Only `*.mesh` is the mesh's alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::{Demand, Snapshot};
use crate::routing::parse_authority;

/// The zone that is the mesh's alone: no resolver of the Internet has it.
const ZONE: &str = "mesh";
/// Where the addresses of 240.240.0.0/16 have their names.
const REVERSE_V4: &str = "240.240.in-addr.arpa";
/// Where the addresses of fd6c:656e:6f00::/48 have theirs.
const REVERSE_V6: &str = "0.0.f.6.e.6.5.6.c.6.d.f.ip6.arpa";

/// What a name in a question means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Perhaps a service.
    Service {
        /// NAMESPACE/NAME.
        service: String,
        /// Whether nobody but the mesh may be asked.
        ours_alone: bool,
    },
    /// A name that only the mesh could have, and that it never has.
    Nothing {
        /// Labels of the zone that says so.
        zone_labels: usize,
    },
    /// The name of a virtual address.
    Virtual {
        /// The address, if it is a whole one.
        address: Option<IpAddr>,
        /// Labels of the zone that it is in.
        zone_labels: usize,
    },
    /// Not of the mesh.
    Elsewhere,
}

/// Reads a name, in lower case and without a final dot, that was asked for in `namespace`.
///
/// A name with a namespace in it is only taken for a service's when the mesh has that namespace: `example.com` is no concern
/// of the control plane's. What a search list makes of a name (`google.com.default.svc.cluster.local`) is no form of a service's name
/// and goes to the original resolver, which in a cluster is the one that knows, and elsewhere says quickly that there is none.
pub fn meaning(host: &str, namespace: &str, snapshot: &Snapshot) -> Meaning {
    if let Some(rest) = in_zone(host, REVERSE_V4) {
        return reverse(v4(rest), REVERSE_V4);
    }
    if let Some(rest) = in_zone(host, REVERSE_V6) {
        return reverse(v6(rest), REVERSE_V6);
    }
    let ours_alone = host.ends_with(".mesh");
    match parse_authority(host, namespace).map(|address| address.demand) {
        Some(Demand::Service(service)) if ours_alone || is_known(&service, namespace, snapshot) => {
            Meaning::Service { service, ours_alone }
        }
        _ if ours_alone => Meaning::Nothing { zone_labels: labels(ZONE) },
        _ => Meaning::Elsewhere,
    }
}

/// The name of a service that has a virtual address, as its PTR record says it.
pub fn name_of(address: IpAddr, snapshot: &Snapshot) -> Option<String> {
    let has = |destination: &&std::sync::Arc<crate::model::Destination>| destination.addresses.contains(&address);
    let destination = snapshot.services.values().flatten().find(has)?;
    let (namespace, name) = destination.name.split_once('/')?;
    Some(format!("{name}.{namespace}.{ZONE}"))
}

/// Whether the mesh has the namespace of a service: our own, one that the control plane named, or one of which a service is
/// held (a sidecar that was restarted while the control plane is down has only those).
fn is_known(service: &str, own: &str, snapshot: &Snapshot) -> bool {
    let namespace = service.split_once('/').map_or("", |(namespace, _)| namespace);
    namespace == own
        || snapshot.posture.namespaces.contains(namespace)
        || matches!(snapshot.services.get(service), Some(Some(_)))
}

fn reverse(address: Option<IpAddr>, zone: &str) -> Meaning {
    Meaning::Virtual { address, zone_labels: labels(zone) }
}

fn labels(zone: &str) -> usize {
    zone.split('.').count()
}

/// What stands before the zone; empty for the zone itself.
fn in_zone<'a>(host: &'a str, zone: &str) -> Option<&'a str> {
    let rest = host.strip_suffix(zone)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

/// The last two bytes, in reverse.
fn v4(rest: &str) -> Option<IpAddr> {
    let (last, third) = rest.split_once('.')?;
    let byte = |text: &str| text.parse::<u8>().ok().filter(|byte| byte.to_string() == text);
    Some(Ipv4Addr::new(240, 240, byte(third)?, byte(last)?).into())
}

/// The last twenty half bytes, in reverse.
fn v6(rest: &str) -> Option<IpAddr> {
    let nibbles: Vec<&str> = rest.split('.').collect();
    if nibbles.len() != 20 || nibbles.iter().any(|nibble| nibble.len() != 1) {
        return None;
    }
    let mut bits = 0xfd6c_656e_6f00_u128 << 80;
    for (at, nibble) in nibbles.iter().enumerate() {
        bits |= u128::from(u8::from_str_radix(nibble, 16).ok()?) << (4 * at);
    }
    Some(Ipv6Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Posture;

    fn snapshot() -> Snapshot {
        let posture = Posture { namespaces: ["shop".to_owned()].into(), ..Posture::default() };
        let mut snapshot = Snapshot { posture: posture.into(), ..Snapshot::default() };
        snapshot.services.insert("held/gone".into(), None);
        snapshot
    }

    fn read(host: &str) -> Meaning {
        meaning(host, "default", &snapshot())
    }

    #[test]
    fn every_form_of_a_services_name_is_looked_up_in_the_mesh() {
        for (host, service, ours_alone) in [
            ("web", "default/web", false),
            ("web.default", "default/web", false),
            ("web.shop", "shop/web", false),
            ("web.shop.svc", "shop/web", false),
            ("web.shop.svc.cluster.local", "shop/web", false),
            ("web.mesh", "default/web", true),
            ("web.shop.mesh", "shop/web", true),
            ("web.unheard-of.mesh", "unheard-of/web", true),
        ] {
            assert_eq!(read(host), Meaning::Service { service: service.into(), ours_alone }, "{host}");
        }
    }

    #[test]
    fn what_is_no_name_of_the_mesh_goes_elsewhere() {
        for host in [
            "",
            "example.com",
            "web.held",
            "www.example.com",
            "google.com.default.svc.cluster.local",
            "web.mesh.default.svc.cluster.local",
            "web.kube-system.svc.cluster.local",
            "_http._tcp.web.default.svc.cluster.local",
            "4.3.2.1.in-addr.arpa",
            "9240.240.in-addr.arpa",
            "127.0.0.1",
        ] {
            assert_eq!(read(host), Meaning::Elsewhere, "{host}");
        }
    }

    #[test]
    fn the_zone_mesh_is_never_asked_for_elsewhere() {
        for host in ["a.b.c.mesh", "_http._tcp.web.mesh", "a_b.mesh"] {
            assert_eq!(read(host), Meaning::Nothing { zone_labels: 1 }, "{host}");
        }
        // A service may be called so.
        assert_eq!(read("mesh"), Meaning::Service { service: "default/mesh".into(), ours_alone: false });
    }

    #[test]
    fn the_name_of_a_virtual_address_is_read_from_behind() {
        let address = |host: &str| match read(host) {
            Meaning::Virtual { address, .. } => address.map(|address| address.to_string()),
            other => panic!("{host}: {other:?}"),
        };
        assert_eq!(address("7.2.240.240.in-addr.arpa").as_deref(), Some("240.240.2.7"));
        let v6 = "f.e.d.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.f.6.e.6.5.6.c.6.d.f.ip6.arpa";
        assert_eq!(address(v6).as_deref(), Some("fd6c:656e:6f00:1000::cdef"));
        for partial in [
            "240.240.in-addr.arpa",
            "7.240.240.in-addr.arpa",
            "1.2.3.240.240.in-addr.arpa",
            "07.2.240.240.in-addr.arpa",
        ] {
            assert_eq!(address(partial), None, "{partial}");
        }
        assert_eq!(address(&v6[2..]), None);
        assert_eq!(
            read("7.2.240.240.in-addr.arpa"),
            Meaning::Virtual { address: "240.240.2.7".parse().ok(), zone_labels: 4 }
        );
    }
}
