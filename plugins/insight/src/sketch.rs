//! Percentiles in bounded memory: a histogram whose buckets grow by a fixed factor.
//!
//! **Error**: what it answers is within 1 % of a value of that rank, for values whose magnitude lies within 1e-12..=1e12; smaller ones
//! count as zero, larger ones as 1e12. A bucket takes about 16 bytes of memory and there are at most 2,764 for each sign, of which a signal that
//! stays within a factor of ten of itself fills 115. Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable
//! quantile sketch with relative-error guarantees" (2019).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Relative error.
pub const ERROR: f64 = 0.01;

const GAMMA: f64 = (1.0 + ERROR) / (1.0 - ERROR);
const SMALLEST: f64 = 1e-12;
const LARGEST: f64 = 1e12;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sketch {
    /// Values by the logarithm of their magnitude, those below zero apart.
    negative: BTreeMap<i32, u64>,
    zero: u64,
    positive: BTreeMap<i32, u64>,
}

impl Sketch {
    /// Takes a finite value in.
    pub fn add(&mut self, value: f64) {
        let magnitude = value.abs();
        let count = match value {
            _ if magnitude < SMALLEST => &mut self.zero,
            value if value < 0.0 => self.negative.entry(bucket(magnitude)).or_default(),
            _ => self.positive.entry(bucket(magnitude)).or_default(),
        };
        *count += 1;
    }

    /// A value near the one of this rank, counted from 0 at the smallest.
    pub fn of_rank(&self, rank: u64) -> f64 {
        let mut left = rank;
        let negative = self.negative.iter().rev().map(|(bucket, count)| (-middle(*bucket), *count));
        let positive = self.positive.iter().map(|(bucket, count)| (middle(*bucket), *count));
        let mut last = 0.0;
        for (value, count) in negative.chain([(0.0, self.zero)]).chain(positive) {
            if count > 0 {
                last = value;
            }
            if left < count {
                return value;
            }
            left -= count;
        }
        last
    }
}

/// The bucket whose values lie in `(GAMMA^(i-1), GAMMA^i]`.
fn bucket(magnitude: f64) -> i32 {
    (magnitude.min(LARGEST).ln() / GAMMA.ln()).ceil() as i32
}

/// The value that is no further than the error from both ends of its bucket.
fn middle(bucket: i32) -> f64 {
    2.0 * GAMMA.powi(bucket) / (GAMMA + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &mut [f64]) -> Result<(), TestCaseError> {
        let mut sketch = Sketch::default();
        for value in values.iter() {
            sketch.add(*value);
        }
        values.sort_by(f64::total_cmp);
        for (rank, value) in values.iter().enumerate() {
            let near = sketch.of_rank(rank as u64);
            prop_assert!((near - value).abs() <= ERROR * value.abs() * 1.000_001 + SMALLEST, "{near} for {value}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn every_rank_is_within_the_error(
            mut values in prop::collection::vec(
                prop_oneof![-1e6..1e6, -1e-3..1e-3, Just(0.0), Just(-1e12), Just(1e12), Just(1e-12)], 1..300
            ),
        ) {
            check(&mut values)?;
        }
    }

    #[test]
    fn memory_is_bounded_by_the_range_not_by_the_number_of_values() {
        let mut sketch = Sketch::default();
        for n in 0..100_000 {
            sketch.add(100.0 + f64::from(n) / 112.0);
        }
        assert!(sketch.positive.len() <= 116, "{}", sketch.positive.len());
        for extreme in [f64::MAX, f64::MIN, f64::MIN_POSITIVE] {
            sketch.add(extreme);
        }
        assert!((sketch.of_rank(0) + 1e12).abs() <= 1e10 && (sketch.of_rank(100_002) - 1e12).abs() <= 1e10);
    }
}
