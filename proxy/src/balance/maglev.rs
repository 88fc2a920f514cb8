//! Maglev's table (Eisenbud 2016): each endpoint has an equal part of a table of fixed size, and a key looks up one place. It is
//! more even than a ring and faster; when an endpoint comes or goes, a few other keys move, too.

use super::of_table;
use crate::model::mix;

/// Places of the table, a prime; 128 KiB.
const PLACES: usize = 65_537;
/// Most endpoints that have places.
const MOST_ENDPOINTS: usize = u16::MAX as usize;
/// Places that are looked at whose endpoints are out, before all endpoints are.
const STEPS: u64 = 16;

/// The table.
#[derive(Debug)]
pub struct Maglev {
    places: Vec<u16>,
}

impl Maglev {
    /// A table of endpoints by their identities; their order does not matter.
    pub fn new(ids: &[u64]) -> Self {
        let mut order: Vec<usize> = (0..ids.len().min(MOST_ENDPOINTS)).collect();
        order.sort_unstable_by_key(|index| ids[*index]);
        let step = |index: usize| (mix(ids[index] ^ 0x5ca1_ab1e) % (PLACES as u64 - 1)) as usize + 1;
        // Each endpoint takes the next free place of its own order of all places, in turns.
        let mut at: Vec<(usize, usize, usize)> =
            order.iter().map(|i| (*i, (mix(ids[*i]) % PLACES as u64) as usize, step(*i))).collect();
        let mut places: Vec<Option<u16>> = vec![None; PLACES];
        let mut free = if at.is_empty() { 0 } else { PLACES };
        while free > 0 {
            for (index, place, step) in at.iter_mut().take(free) {
                while places[*place].is_some() {
                    *place = (*place + *step) % PLACES;
                }
                places[*place] = u16::try_from(*index).ok();
                free -= 1;
            }
        }
        Self { places: places.into_iter().flatten().collect() }
    }

    /// The index of the endpoint that a key belongs to, of those that are eligible.
    pub fn pick(&self, key: u64, ids: &[u64], eligible: impl Fn(usize) -> bool) -> Option<usize> {
        let n = self.places.len() as u64;
        let place = |step: u64| if step == 0 { key } else { mix(key.wrapping_add(step)) } % n;
        let places = (0..STEPS.min(n)).map(|step| usize::from(self.places[place(step) as usize]));
        of_table(places, key, ids, eligible)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ids, never_one_that_is_out, owners};
    use super::*;

    fn table(ids: &[u64]) -> impl Fn(u64, &dyn Fn(usize) -> bool) -> Option<usize> {
        let table = Maglev::new(ids);
        move |key, eligible| table.pick(key, ids, eligible)
    }

    #[test]
    fn every_endpoint_has_an_equal_share_to_a_percent() {
        let ten = ids(10);
        let table = Maglev::new(&ten);
        assert_eq!(table.places.len(), PLACES);
        for index in 0..10_u16 {
            let share = table.places.iter().filter(|place| **place == index).count();
            assert!(share.abs_diff(PLACES / 10) <= 1, "{share}");
        }
    }

    #[test]
    fn an_endpoint_that_goes_moves_its_own_keys_and_few_others() {
        let ten = ids(10);
        let all = |ids: &[u64]| owners(100_000, ids, table(ids));
        let (before, after) = (all(&ten), all(&ten[..9]));
        let (mut own, mut others) = (0, 0);
        for (b, a) in before.iter().zip(&after) {
            match b {
                b if *b == ten[9] => own += 1,
                b if b != a => others += 1,
                _ => {}
            }
        }
        assert!((9_000..11_000).contains(&own), "{own}");
        assert!(others < 4_000, "{others} of 100,000 keys of other endpoints moved");
        // The order in which endpoints are told does not matter.
        let mut turned = ten.clone();
        turned.reverse();
        assert_eq!(before, all(&turned));
    }

    #[test]
    fn the_keys_of_an_endpoint_that_is_out_go_elsewhere_and_no_other_moves() {
        never_one_that_is_out(table);
    }

    #[test]
    fn the_table_has_its_bound_however_many_endpoints_there_are() {
        for n in [1, 65_535, 70_000] {
            assert_eq!(Maglev::new(&(0..n).collect::<Vec<_>>()).places.len(), PLACES);
        }
    }
}
