//! Medians, spreads and ratios.

/// Median and range of one figure over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// The middle value, or the mean of the two middle ones.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// Summarises `values`; nothing for none.
pub fn summarise(values: impl IntoIterator<Item = f64>) -> Option<Summary> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    Some(Summary { median: (low + high) / 2.0, min, max })
}

/// Where the median of what the values were drawn from is in 95 of 100 cases, whatever its distribution: between two of the sorted values,
/// below and above which it would lie by the toss of a coin each. Nothing for fewer than six, which say nothing that sure.
pub fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let outside = (0..values.len() / 2).take_while(|n| at_most(*n as u32, values.len() as u32) <= 0.025).count();
    let first = outside.checked_sub(1)?;
    Some((values[first], values[values.len() - 1 - first]))
}

/// How probable it is that of so many coins so many or fewer show heads.
pub fn at_most(heads: u32, coins: u32) -> f64 {
    let (mut one, mut sum) = (0.5_f64.powi(coins as i32), 0.0);
    for n in 0..=heads.min(coins) {
        sum += one;
        one *= f64::from(coins - n) / f64::from(n + 1);
    }
    sum
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
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert_eq!(summarise([3.0, 1.0, 2.0]), Some(Summary { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(summarise([4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(summarise([]), None);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u32> = (0..=100).collect();
        assert_eq!([0.0, 50.0, 99.0, 99.9, 100.0].map(|p| percentile(&values, p)), [0, 50, 99, 100, 100].map(Some));
        assert_eq!(percentile::<u32>(&[], 50.0), None);
        assert_eq!(percentile(&[7], 99.0), Some(7));
    }

    #[test]
    fn coins_show_heads_as_often_as_the_binomial_distribution_says() {
        assert_eq!([0, 1, 2, 11].map(|heads| (at_most(heads, 11) * 2_048.0).round()), [1.0, 12.0, 67.0, 2_048.0]);
        assert!((at_most(500, 1_000) - 0.5126).abs() < 1e-4);
    }

    #[test]
    fn the_interval_of_the_median_leaves_out_what_coins_would() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        // Of twenty coins five or fewer show heads in 2.07 of 100 cases, six or fewer in 5.77.
        assert_eq!(interval(&values), Some((6.0, 15.0)));
        assert_eq!(interval(&values[..6]), Some((1.0, 6.0)));
        assert_eq!(interval(&values[..5]), None);
    }
}
