//! What a fair coin may do.

use std::ops::RangeInclusive;

/// The two-sided 99.9 % point of the normal distribution.
const Z_999: f64 = 3.290_527;

/// How often an event of probability `p` happens in `n` trials, in 999 of 1000 experiments: the binomial's interval by its
/// normal approximation with continuity correction, good to a count or two from n·p·(1−p) ≈ 100 on.
pub fn binomial_999(n: usize, p: f64) -> RangeInclusive<usize> {
    let n = n as f64;
    let half = Z_999 * (n * p * (1.0 - p)).sqrt() + 0.5;
    let (low, high) = ((n * p - half).max(0.0), (n * p + half).min(n));
    low.ceil() as usize..=high.floor() as usize
}

/// The value below which `percent` of the sorted `values` lie.
pub fn percentile<T: Copy>(values: &[T], percent: f64) -> Option<T> {
    let last = values.len().checked_sub(1)?;
    values.get((last as f64 * percent / 100.0).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_textbooks() {
        // n = 20,000, p = 0.1: mean 2000, standard deviation 42.43.
        assert_eq!(binomial_999(20_000, 0.1), 1860..=2140);
        assert_eq!(binomial_999(1000, 0.0), 0..=0);
        assert_eq!(binomial_999(1000, 1.0), 1000..=1000);
    }

    #[test]
    fn a_percentile_of_nothing_is_nothing() {
        assert_eq!(percentile::<u32>(&[], 50.0), None);
        assert_eq!(percentile(&[1, 2, 3, 4, 5], 50.0), Some(3));
    }
}
