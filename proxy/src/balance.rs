//! Which endpoint gets a request: power of two choices by least requests in flight (Mitzenmacher 2001). Two are drawn at
//! random and the less busy one is taken, which is nearly as even as asking all of them and costs the same for any number.

/// What the balancer needs to know of an endpoint.
pub trait Candidate {
    /// Whether it may get a request now.
    fn is_eligible(&self) -> bool;
    /// Requests that it has in flight from here.
    fn load(&self) -> u32;
}

/// Picks the index of an endpoint, or none if none is eligible. `random(n)` draws from `0..n`.
pub fn pick<C: Candidate>(candidates: &[C], mut random: impl FnMut(usize) -> usize) -> Option<usize> {
    match candidates.len() {
        0 => None,
        1 => candidates[0].is_eligible().then_some(0),
        n => {
            let first = random(n);
            // From the others, so that the two are never the same one.
            let second = (first + 1 + random(n - 1)) % n;
            match (candidates[first].is_eligible(), candidates[second].is_eligible()) {
                (true, true) if candidates[second].load() < candidates[first].load() => Some(second),
                (true, _) => Some(first),
                (false, true) => Some(second),
                (false, false) => least_loaded(candidates, first),
            }
        }
    }
}

/// Both were out: look at all of them, from a random one on.
fn least_loaded<C: Candidate>(candidates: &[C], start: usize) -> Option<usize> {
    let n = candidates.len();
    (0..n).map(|i| (start + i) % n).filter(|i| candidates[*i].is_eligible()).min_by_key(|i| candidates[*i].load())
}

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
