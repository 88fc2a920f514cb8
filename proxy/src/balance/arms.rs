//! Which arm of a weighted split a key belongs to (weighted rendezvous hashing). Each arm has a score for the key that grows with
//! its weight, and the best one wins: an arm that gets more weight only takes keys, and one that gets less only gives some away.

use crate::model::mix;

/// The index of the arm, of `(identity, weight)`; none when all weights are zero. The order of the arms does not matter.
pub fn arm(key: u64, arms: impl Iterator<Item = (u64, u32)>) -> Option<usize> {
    let mut best: Option<(f64, usize)> = None;
    for (index, (identity, weight)) in arms.enumerate() {
        if weight == 0 {
            continue;
        }
        // A number from (0, 1]: 53 bits are what a double holds.
        let drawn = ((mix(key ^ mix(identity)) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        // An exponential variable of rate `weight`: the smallest of several is arm i's with probability weight / sum.
        let score = -drawn.ln() / f64::from(weight);
        if best.is_none_or(|(least, _)| score < least) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash;

    const V1: u64 = 11;
    const V2: u64 = 22;
    const V3: u64 = 33;

    fn arms(weights: &[(u64, u32)]) -> Vec<u64> {
        let of = |n: u32| weights[arm(hash(format!("user-{n}").as_bytes()), weights.iter().copied()).unwrap()].0;
        (0..10_000).map(of).collect()
    }

    #[test]
    fn more_weight_moves_users_to_it_and_nobody_back() {
        let mut before = arms(&[(V1, 100), (V2, 0)]);
        for percent in [1, 5, 10, 20, 50, 99, 100] {
            let after = arms(&[(V1, 100 - percent), (V2, percent)]);
            let back = before.iter().zip(&after).filter(|(b, a)| **b == V2 && **a != V2).count();
            assert_eq!(back, 0, "{back} users moved back at {percent} %");
            let on = after.iter().filter(|a| **a == V2).count() as f64;
            let (mean, p) = (f64::from(percent) * 100.0, f64::from(percent) / 100.0);
            // Binomial: five standard deviations.
            assert!((on - mean).abs() <= 5.0 * (mean * (1.0 - p)).sqrt(), "{on} of 10,000 at {percent} %");
            before = after;
        }
    }

    #[test]
    fn the_order_of_the_arms_does_not_matter_and_a_third_one_moves_only_who_goes_to_it() {
        assert_eq!(arms(&[(V1, 90), (V2, 10)]), arms(&[(V2, 10), (V1, 90)]));
        let (before, after) = (arms(&[(V1, 50), (V2, 50)]), arms(&[(V3, 10), (V1, 50), (V2, 50)]));
        assert!(before.iter().zip(&after).all(|(b, a)| b == a || *a == V3));
        assert_eq!(arm(1, [(V1, 0)].into_iter()), None);
    }
}
