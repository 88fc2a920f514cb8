//! A ring of hashes (Karger 1997): each endpoint has points on it, and a key belongs to the first point after it. When an endpoint
//! comes or goes, only the keys move that it takes or had.

use super::of_table;
use crate::model::mix;

/// Points of one endpoint: its share is even to about 8 %.
const POINTS: usize = 160;
/// Most points of one ring, a mebibyte; with more endpoints each has fewer.
const MOST_POINTS: usize = 65_536;
/// Points that are looked at whose endpoints are out, before all endpoints are.
const STEPS: usize = 64;

/// The points, in their order.
#[derive(Debug)]
pub struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    /// A ring of endpoints by their identities.
    pub fn new(ids: &[u64]) -> Self {
        let each = (MOST_POINTS / ids.len().max(1)).clamp(1, POINTS);
        let points = ids.iter().take(MOST_POINTS).enumerate().flat_map(|(index, id)| {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            (0..each as u64).map(move |n| (mix(id ^ mix(n)), index))
        });
        let mut points: Vec<_> = points.collect();
        points.sort_unstable();
        Self { points }
    }

    /// The index of the endpoint that a key belongs to, of those that are eligible.
    pub fn pick(&self, key: u64, ids: &[u64], eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.points.len();
        let first = self.points.partition_point(|(point, _)| *point < key);
        let places = (0..n.min(STEPS)).map(|step| self.points[(first + step) % n].1 as usize);
        of_table(places, key, ids, eligible)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ids, never_one_that_is_out, owners};
    use super::*;

    fn ring(ids: &[u64]) -> impl Fn(u64, &dyn Fn(usize) -> bool) -> Option<usize> {
        let ring = Ring::new(ids);
        move |key, eligible| ring.pick(key, ids, eligible)
    }

    #[test]
    fn an_endpoint_that_goes_or_comes_moves_only_its_own_keys() {
        let ten = ids(10);
        let (before, after) = (owners(10_000, &ten, ring(&ten)), owners(10_000, &ten[..9], ring(&ten[..9])));
        let moved = before.iter().zip(&after).filter(|(b, a)| b != a).count();
        assert_eq!(moved, before.iter().filter(|owner| **owner == ten[9]).count());
        assert!((700..1300).contains(&moved), "{moved} of 10,000 keys moved");
    }

    #[test]
    fn the_keys_of_an_endpoint_that_is_out_go_elsewhere_and_no_other_moves() {
        never_one_that_is_out(ring);
    }

    #[test]
    fn a_ring_has_its_bound_however_many_endpoints_there_are() {
        for n in [1, 409, 410, 65_536, 70_000] {
            let ring = Ring::new(&(0..n).collect::<Vec<_>>());
            assert!(ring.points.len() <= MOST_POINTS, "{n}: {}", ring.points.len());
        }
        assert_eq!(Ring::new(&ids(3)).points.len(), 3 * POINTS);
    }
}
