//! Quantiles of a histogram's growth, as Prometheus' `histogram_quantile` gives them: a graph and this page agree.

use std::collections::BTreeMap;

/// How many samples were at most as large as each bound, over all series of a family.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram(BTreeMap<Bound, f64>);

/// An upper bound; infinite ones come last.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Histogram {
    /// One more series' bucket.
    pub(super) fn add(&mut self, bound: &str, count: f64) {
        let bound = if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() };
        if let Some(bound) = bound {
            *self.0.entry(Bound(bound)).or_default() += count;
        }
    }

    /// What has come since it was `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let grown = |(bound, count): (&Bound, &f64)| {
            (*bound, (count - before.0.get(bound).copied().unwrap_or_default()).max(0.0))
        };
        Self(self.0.iter().map(grown).collect())
    }

    /// The value below which this share of the samples is, if there are any.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let total =
            self.0.last_key_value().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = share * total;
        let (mut low, mut below) = (0.0, 0.0);
        for (Bound(bound), count) in &self.0 {
            if *count >= rank && *count > below {
                // Of the last bucket nothing is known but where it begins.
                let part = if bound.is_finite() {
                    (bound - low) * (rank - below) / (count - below)
                } else {
                    0.0
                };
                return Some(low + part);
            }
            if bound.is_finite() {
                low = *bound;
            }
            below = *count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(buckets: &[(&str, f64)]) -> Histogram {
        let mut histogram = Histogram::default();
        buckets.iter().for_each(|(bound, count)| histogram.add(bound, *count));
        histogram
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let some = histogram(&[("+Inf", 100.0), ("0.1", 50.0), ("1", 90.0), ("10", 99.0)]);
        for (share, expected) in
            [(0.5, 0.1), (0.25, 0.05), (0.7, 0.55), (0.99, 10.0), (0.999, 10.0)]
        {
            let found = some.quantile(share).unwrap();
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        }
        assert_eq!(histogram(&[("1", 0.0), ("+Inf", 0.0)]).quantile(0.5), None);
        assert_eq!(Histogram::default().quantile(0.5), None);
        // Empty buckets below are passed over.
        let high = histogram(&[("1", 0.0), ("2", 10.0), ("+Inf", 10.0)]);
        assert_eq!(high.quantile(0.5), Some(1.5));
    }

    #[test]
    fn only_what_has_come_since_counts() {
        let before = histogram(&[("1", 90.0), ("2", 90.0), ("+Inf", 90.0)]);
        let mut after = histogram(&[("1", 90.0), ("2", 100.0), ("+Inf", 100.0)]);
        assert_eq!(after.since(&before).quantile(0.5), Some(1.5));
        after.add("1", 5.0);
        assert_eq!(after.since(&after.clone()).quantile(0.5), None);
    }
}
