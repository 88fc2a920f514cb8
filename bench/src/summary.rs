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
}
