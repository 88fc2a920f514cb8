//! The virtual addresses of services: what their names resolve to inside an intercepted namespace. Nothing listens there; a
//! sidecar captures the connection and reads from the address which service is meant.
//!
//! An address follows from the service's name, so it stays the same over restarts, and in every control plane that may follow
//! this one. Two names that would get the same one are told apart by the order in which they came; that is written down.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::model::Name;

/// 240.240.0.0/16, of a block that is reserved and routed nowhere (RFC 1112, 4).
const V4: [u8; 2] = [240, 240];
/// fd6c:656e:6f00::/48, unique local addresses (RFC 4193).
const V6: [u16; 3] = [0xfd6c, 0x656e, 0x6f00];
/// Addresses that there are: without the first and the last of the IPv4 block.
const SLOTS: u16 = u16::MAX - 1;
/// Services that are written down because another one has their place. More only come of as many services as there are
/// addresses; then the oldest names are forgotten, and may get another address when they come back.
const MOST_DISPLACED: usize = 8192;

/// Who has which address.
#[derive(Debug, Default)]
pub(super) struct VirtualAddresses {
    by_slot: HashMap<u16, Name>,
    by_service: HashMap<Name, u16>,
    /// Services that do not have the place that their name says, by their name's text.
    displaced: BTreeMap<String, u16>,
    /// Places in `displaced` are kept for who is written there.
    reserved: HashMap<u16, String>,
    unsaved: bool,
}

impl VirtualAddresses {
    /// With what an earlier life wrote down. What cannot be read is left out: those services may get other addresses.
    pub(super) fn restore(record: Option<&[u8]>) -> Self {
        let displaced: BTreeMap<String, u16> =
            record.and_then(|record| serde_json::from_slice(record).ok()).unwrap_or_default();
        let reserved = displaced.iter().map(|(name, slot)| (*slot, name.clone())).collect();
        Self { displaced, reserved, ..Self::default() }
    }

    /// What is to be written down, if that changed since the last call.
    pub(super) fn take_unsaved(&mut self) -> Option<Vec<u8>> {
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        serde_json::to_vec(&self.displaced).ok()
    }

    /// The addresses of a service that has some.
    pub(super) fn of(&self, service: &Name) -> Vec<IpAddr> {
        self.by_service.get(service).map(|slot| addresses(*slot).to_vec()).unwrap_or_default()
    }

    /// Gives a service its addresses. Without any left it gets none, and is reached by its other names only.
    pub(super) fn add(&mut self, service: &Name) {
        if self.by_service.contains_key(service) {
            return;
        }
        let text = service.to_string();
        let first = slot_of(&text);
        let free = |slot: u16| {
            !self.by_slot.contains_key(&slot) && self.reserved.get(&slot).is_none_or(|holder| *holder == text)
        };
        let own = self.displaced.get(&text).copied().filter(|slot| !self.by_slot.contains_key(slot));
        let probed = || (first..=SLOTS).chain(1..first).find(|slot| free(*slot));
        let Some(slot) = own.or_else(probed) else {
            tracing::error!(%service, "no virtual address is left; the service has none");
            return;
        };
        if slot != first && self.displaced.get(&text) != Some(&slot) {
            self.displace(text, slot);
        }
        self.by_slot.insert(slot, service.clone());
        self.by_service.insert(service.clone(), slot);
    }

    fn displace(&mut self, text: String, slot: u16) {
        if self.displaced.len() >= MOST_DISPLACED
            && let Some((_, slot)) = self.displaced.pop_first()
        {
            self.reserved.remove(&slot);
        }
        self.reserved.insert(slot, text.clone());
        self.displaced.insert(text, slot);
        self.unsaved = true;
    }

    /// A service is gone. Its place stays free for whoever has that name.
    pub(super) fn remove(&mut self, service: &Name) {
        if let Some(slot) = self.by_service.remove(service) {
            self.by_slot.remove(&slot);
        }
    }
}

/// From 1 to [`SLOTS`].
fn slot_of(text: &str) -> u16 {
    let digest = Sha256::digest(text.as_bytes());
    let number = u64::from_be_bytes(digest[..8].try_into().unwrap_or_default());
    // Below 2^16, so it fits.
    (number % u64::from(SLOTS)) as u16 + 1
}

fn addresses(slot: u16) -> [IpAddr; 2] {
    let [high, low] = slot.to_be_bytes();
    let v4 = Ipv4Addr::new(V4[0], V4[1], high, low);
    let v6 = Ipv6Addr::new(V6[0], V6[1], V6[2], 0, 0, 0, 0, slot);
    [v4.into(), v6.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Name {
        Name::new("default", format!("service-{n}"))
    }

    /// Two services whose names lead to one place.
    fn colliding() -> (Name, Name) {
        let mut seen: HashMap<u16, usize> = HashMap::new();
        (0..).find_map(|n| seen.insert(slot_of(&name(n).to_string()), n).map(|other| (name(other), name(n)))).unwrap()
    }

    #[test]
    fn an_address_follows_from_the_name_and_lies_in_its_block() {
        let mut one = VirtualAddresses::default();
        let mut other = VirtualAddresses::default();
        for n in 0..100 {
            one.add(&name(n));
            other.add(&name(99 - n));
        }
        for n in 0..100 {
            let of = one.of(&name(n));
            assert_eq!(of, other.of(&name(n)), "the order does not matter without a collision");
            assert!(of[0].to_string().starts_with("240.240."), "{of:?}");
            assert!(of[1].to_string().starts_with("fd6c:656e:6f00::"), "{of:?}");
        }
    }

    #[test]
    fn two_names_of_one_place_keep_their_addresses_over_a_restart_in_another_order() {
        let (a, b) = colliding();
        let mut before = VirtualAddresses::default();
        before.add(&a);
        before.add(&b);
        assert_ne!(before.of(&a), before.of(&b));
        let record = before.take_unsaved().unwrap();
        assert!(before.take_unsaved().is_none());
        let mut after = VirtualAddresses::restore(Some(&record));
        after.add(&b);
        after.add(&a);
        assert_eq!((after.of(&a), after.of(&b)), (before.of(&a), before.of(&b)));
        assert!(VirtualAddresses::restore(Some(b"junk")).displaced.is_empty());
    }

    #[test]
    fn when_no_address_is_left_a_service_has_none_and_one_that_goes_makes_room() {
        let mut all = VirtualAddresses::default();
        (0..usize::from(SLOTS)).for_each(|n| all.add(&name(n)));
        assert_eq!(all.by_slot.len(), usize::from(SLOTS));
        assert!(all.displaced.len() <= MOST_DISPLACED);
        let late = Name::new("default", "late");
        all.add(&late);
        assert!(all.of(&late).is_empty());
        // The place of one that was never displaced is nobody's.
        let leaves = (0..).map(name).find(|n| !all.displaced.contains_key(&n.to_string())).unwrap();
        all.remove(&leaves);
        all.add(&late);
        assert!(!all.of(&late).is_empty());
    }
}
