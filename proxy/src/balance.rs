//! Which endpoint gets a request: power of two choices by least requests in flight (Mitzenmacher 2001). Two are drawn at
//! random and the less busy one is taken, which is nearly as even as asking all of them and costs the same for any number.
//! Beside it the other policies, one file each where it is more than a few lines. None knows of sockets.

pub mod arms;
pub mod ewma;
pub mod maglev;
pub mod nearness;
pub mod ring;

use std::cell::Cell;

use crate::model::mix;

/// What the balancer needs to know of an endpoint.
pub trait Candidate {
    /// Whether it may get a request now.
    fn is_eligible(&self) -> bool;
    /// Requests that it has in flight from here.
    fn load(&self) -> u32;
}

/// Picks the index of an endpoint, or none if none is eligible. `random(n)` draws from `0..n`.
pub fn pick<C: Candidate>(candidates: &[C], random: impl FnMut(usize) -> usize) -> Option<usize> {
    pick_by(candidates, random, C::load)
}

/// As [`pick`], with another measure of how busy an endpoint is.
pub fn pick_by<C: Candidate, K: Ord>(
    candidates: &[C],
    mut random: impl FnMut(usize) -> usize,
    cost: impl Fn(&C) -> K,
) -> Option<usize> {
    match candidates.len() {
        0 => None,
        1 => candidates[0].is_eligible().then_some(0),
        n => {
            let first = random(n);
            // From the others, so that the two are never the same one.
            let second = (first + 1 + random(n - 1)) % n;
            match (candidates[first].is_eligible(), candidates[second].is_eligible()) {
                (true, true) if cost(&candidates[second]) < cost(&candidates[first]) => Some(second),
                (true, _) => Some(first),
                (false, true) => Some(second),
                (false, false) => least(candidates, first, cost),
            }
        }
    }
}

/// Both were out: look at all of them, from a random one on.
fn least<C: Candidate, K: Ord>(candidates: &[C], start: usize, cost: impl Fn(&C) -> K) -> Option<usize> {
    let n = candidates.len();
    (0..n).map(|i| (start + i) % n).filter(|i| candidates[*i].is_eligible()).min_by_key(|i| cost(&candidates[*i]))
}

/// The next eligible one after the last.
pub fn next<C: Candidate>(candidates: &[C], last: &Cell<usize>) -> Option<usize> {
    let n = candidates.len();
    let found = (1..=n).map(|i| (last.get().wrapping_add(i)) % n).find(|i| candidates[*i].is_eligible())?;
    last.set(found);
    Some(found)
}

/// Any eligible one, each as likely.
pub fn any<C: Candidate>(candidates: &[C], mut random: impl FnMut(usize) -> usize) -> Option<usize> {
    /// With half of them out, one of a thousand looks at all.
    const TRIES: usize = 10;
    let n = candidates.len();
    if n == 0 {
        return None;
    }
    if let Some(found) = (0..TRIES).map(|_| random(n)).find(|i| candidates[*i].is_eligible()) {
        return Some(found);
    }
    let eligible: Vec<usize> = (0..n).filter(|i| candidates[*i].is_eligible()).collect();
    (!eligible.is_empty()).then(|| eligible[random(eligible.len())])
}

/// The eligible one that a key prefers, without a table (rendezvous hashing): where the tables' own one is out. It looks at all.
pub fn preferred(key: u64, ids: &[u64], eligible: impl Fn(usize) -> bool) -> Option<usize> {
    (0..ids.len()).filter(|i| eligible(*i)).max_by_key(|i| mix(key ^ ids[*i]))
}

/// The first eligible one of those that a table has for a key, in their order; the one that it prefers where they are all out.
fn of_table(
    mut places: impl Iterator<Item = usize>,
    key: u64,
    ids: &[u64],
    eligible: impl Fn(usize) -> bool,
) -> Option<usize> {
    places.find(|index| eligible(*index)).or_else(|| preferred(key, ids, eligible))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(bool, u32);

    impl Candidate for Fake {
        fn is_eligible(&self) -> bool {
            self.0
        }

        fn load(&self) -> u32 {
            self.1
        }
    }

    #[test]
    fn the_less_busy_of_two_gets_the_request() {
        let two = [Fake(true, 5), Fake(true, 1)];
        assert!((0..50).all(|_| pick(&two, |n| fastrand::usize(..n)) == Some(1)));
    }

    #[test]
    fn an_ineligible_endpoint_gets_nothing_and_a_lone_eligible_one_everything() {
        let many: Vec<_> = (0..20).map(|n| Fake(n == 13, 100)).collect();
        assert!((0..50).all(|_| pick(&many, |n| fastrand::usize(..n)) == Some(13)));
        assert_eq!(pick(&[Fake(false, 0), Fake(false, 0)], |n| fastrand::usize(..n)), None);
        assert_eq!(pick::<Fake>(&[], |_| 0), None);
    }

    #[test]
    fn the_next_one_is_taken_in_turn_and_any_one_evenly_and_never_one_that_is_out() {
        let five: Vec<_> = (0..5).map(|n| Fake(n != 2, 0)).collect();
        let last = Cell::new(usize::MAX);
        let turns: Vec<_> = (0..8).map(|_| next(&five, &last).unwrap()).collect();
        assert_eq!(turns, [0, 1, 3, 4, 0, 1, 3, 4]);
        let mut hits = [0_u32; 5];
        (0..40_000).for_each(|_| hits[any(&five, |n| fastrand::usize(..n)).unwrap()] += 1);
        assert_eq!(hits[2], 0);
        assert!([0, 1, 3, 4].iter().all(|i: &usize| hits[*i].abs_diff(10_000) < 433), "{hits:?}");
        let none = [Fake(false, 0)];
        assert_eq!((next(&none, &last), any(&none, |_| 0), next::<Fake>(&[], &last)), (None, None, None));
    }

    #[test]
    fn equally_busy_endpoints_share_evenly() {
        let four: Vec<_> = (0..4).map(|_| Fake(true, 0)).collect();
        let mut hits = [0_u32; 4];
        for _ in 0..40_000 {
            hits[pick(&four, |n| fastrand::usize(..n)).unwrap()] += 1;
        }
        // Binomial(40,000, 1/4): five standard deviations are 433.
        assert!(hits.iter().all(|h| h.abs_diff(10_000) < 433), "{hits:?}");
    }
}
