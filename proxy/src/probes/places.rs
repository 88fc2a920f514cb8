//! Who may hold connections to the health port, and how many.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that are served at once.
pub(super) const MOST_CONNECTIONS: usize = 128;
/// Of those, the most from one address (IPv6: from one /64), so that one stranger cannot take kubelet's place.
pub(super) const MOST_FROM_ONE: usize = 16;

/// The connections that are open, by where they come from.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    all: usize,
    from: HashMap<IpAddr, usize>,
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    from: IpAddr,
}

impl Places {
    /// A place for a connection from `ip`; None when it has to go.
    pub(super) fn take(&self, ip: IpAddr) -> Option<Place> {
        let from = group(ip);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.from.get(&from).copied().unwrap_or_default();
        if open.all >= MOST_CONNECTIONS || held >= MOST_FROM_ONE {
            return None;
        }
        open.all += 1;
        open.from.insert(from, held + 1);
        drop(open);
        Some(Place { places: self.clone(), from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        match open.from.get_mut(&self.from) {
            Some(held) if *held > 1 => *held -= 1,
            _ => drop(open.from.remove(&self.from)),
        }
    }
}

fn group(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place_and_a_place_comes_back() {
        let places = Places::default();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let mut held: Vec<Place> = (0..MOST_FROM_ONE).map(|_| places.take(one).unwrap()).collect();
        assert!(places.take(one).is_none() && places.take(neighbour).is_none());
        assert!(places.take("10.0.0.1".parse().unwrap()).is_some());
        held.pop();
        assert!(places.take(neighbour).is_some());
        held.clear();
        assert!(places.0.lock().unwrap().from.is_empty());
    }

    #[test]
    fn there_is_a_bound_over_all_addresses() {
        let places = Places::default();
        let ip = |n: usize| IpAddr::from([10, 0, 0, u8::try_from(n / MOST_FROM_ONE).unwrap()]);
        let held: Vec<Place> = (0..MOST_CONNECTIONS).map(|n| places.take(ip(n)).unwrap()).collect();
        assert!(places.take("10.1.0.1".parse().unwrap()).is_none());
        drop(held);
        assert!(places.take("10.1.0.1".parse().unwrap()).is_some());
    }
}
