//! Percentiles in bounded memory: a histogram of equal bins over the range of the values, whatever their offset.
//!
//! **Error**: what it answers lies within 1/512 of the values' range (greatest less smallest) of the value of that rank, and never
//! outside the range; the first and the last rank are exact, and so are all where the range is only some steps of floating point wide.
//!
//! A bin is a power of two wide and begins at a multiple of its width, so no digit is lost in finding it. When a value falls
//! outside, neighbours are merged in pairs until all fit again. At most [`BINS`] counts are kept: 8 KB, and at worst as much in reserve.

use serde::{Deserialize, Serialize};

/// The error is at most this part of the range.
#[cfg(test)]
pub const ERROR: f64 = 1.0 / 512.0;

/// A range of 1,024 widths touches one more bin than that. Widths double, so a range always covers more than 512 of them.
const BINS: i64 = 1025;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    min: f64,
    max: f64,
    /// A bin is 2 to this power wide.
    exponent: i32,
    /// The multiple of the width at which the first bin begins.
    first: i64,
    counts: Vec<u64>,
}

impl Sketch {
    /// Begins with finite values; `None` without any.
    pub fn of(values: &[f64]) -> Option<Sketch> {
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        // Finer than the values are from each other.
        let exponent = step(min.abs().max(max.abs())) - 2;
        let mut sketch = Sketch { min, max, exponent, first: bin(min, exponent), counts: Vec::new() };
        values.iter().for_each(|value| sketch.add(*value));
        Some(sketch)
    }

    /// Takes a finite value in.
    pub fn add(&mut self, value: f64) {
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        let mut at = bin(value, self.exponent);
        while at.max(self.end() - 1).saturating_sub(at.min(self.first)) >= BINS {
            self.widen();
            at = bin(value, self.exponent);
        }
        if at < self.first {
            let missing = (self.first - at) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = at;
        } else if at >= self.end() {
            self.counts.resize((at - self.first) as usize + 1, 0);
        }
        if let Some(count) = self.counts.get_mut((at - self.first) as usize) {
            *count += 1;
        }
    }

    /// The multiple of the width at which the last bin ends.
    fn end(&self) -> i64 {
        self.first + self.counts.len() as i64
    }

    /// Doubles the width.
    fn widen(&mut self) {
        let first = self.first.div_euclid(2);
        let mut counts = vec![0; self.counts.len() / 2 + 1];
        for (at, count) in (self.first..).zip(&self.counts) {
            if let Some(merged) = counts.get_mut((at.div_euclid(2) - first) as usize) {
                *merged += count;
            }
        }
        while counts.last() == Some(&0) {
            counts.pop();
        }
        (self.first, self.counts, self.exponent) = (first, counts, self.exponent + 1);
    }

    /// A value near the one of this rank, counted from 0 at the smallest.
    pub fn of_rank(&self, rank: u64) -> f64 {
        if rank == 0 {
            return self.min;
        }
        let mut left = rank;
        for (at, count) in (self.first..).zip(&self.counts) {
            if left < *count {
                // The last of all is the greatest.
                let is_last = at + 1 == self.end() && left + 1 == *count;
                let within = (left as f64 + 0.5) / *count as f64;
                return if is_last { self.max } else { self.value(at, within).clamp(self.min, self.max) };
            }
            left -= count;
        }
        self.max
    }

    /// The value that lies so far within a bin.
    fn value(&self, bin: i64, within: f64) -> f64 {
        let begin = scaled(bin as f64, self.exponent);
        // A bin finer than the values are from each other holds one only, its begin.
        if self.exponent < step(begin) { begin } else { scaled(bin as f64 + within, self.exponent) }
    }
}

/// The bin of a value where they are 2 to this power wide.
fn bin(value: f64, exponent: i32) -> i64 {
    let bin = scaled(value, -exponent).floor() as i64;
    // Something tiny below zero may be zero by now.
    if value < 0.0 { bin.min(-1) } else { bin }
}

/// `value` times 2 to this power; in two steps, as the power itself may be beyond what a float holds.
fn scaled(value: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    value * power(half) * power(exponent - half)
}

/// 2 to a power that a normal float holds.
fn power(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent.clamp(-1022, 1023)) as u64) << 52)
}

/// The power of two by which a float of this magnitude differs from the next one.
fn step(value: f64) -> i32 {
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32;
    exponent.max(1) - 1075
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(values: &[f64]) -> Result<(), TestCaseError> {
        let (begin, rest) = values.split_at(values.len().min(20));
        let mut sketch = Sketch::of(begin).unwrap();
        rest.iter().for_each(|value| sketch.add(*value));
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (sorted[0], sorted[sorted.len() - 1]);
        prop_assert_eq!((sketch.of_rank(0), sketch.of_rank(sorted.len() as u64 - 1)), (min, max));
        prop_assert!(sketch.counts.len() as i64 <= BINS && sketch.counts.iter().sum::<u64>() == values.len() as u64);
        let mut before = min;
        for (rank, value) in sorted.iter().enumerate() {
            let near = sketch.of_rank(rank as u64);
            // Halved, as the range may be beyond what a float holds.
            let off = (near / 2.0 - value / 2.0).abs();
            let room = (max / 2.0 - min / 2.0) * ERROR;
            prop_assert!(off <= room, "{near} for {value} of {min}..={max}: {off} > {room}");
            prop_assert!(before <= near && near <= max, "{before} {near} {max}");
            before = near;
        }
        Ok(())
    }

    /// Much like normal, around zero.
    fn noise(n: usize) -> impl Iterator<Item = f64> {
        let mut state = 7_u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        (0..n).map(move |_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
    }

    #[test]
    fn every_rank_is_within_the_error_whatever_the_offset() {
        for (offset, spread) in [
            (0.0, 1.0),
            (50.0, 0.02),
            (293.0, 0.5),
            (-293.0, 0.5),
            (1e9, 1.0),
            (1e9, 1e-5),
            (1.0, 1e-16),
            (-1.0, 1e-16),
            (1e300, 1e290),
            (0.0, 1e307),
            (0.0, 1e-310),
            (50.0, 0.0),
            (0.0, 0.0),
        ] {
            let values: Vec<f64> = noise(3000).map(|value| offset + spread * value).collect();
            check(&values).unwrap_or_else(|error| panic!("{offset} ± {spread}: {error}"));
            let mut sorted = values;
            sorted.sort_by(f64::total_cmp);
            check(&sorted).unwrap_or_else(|error| panic!("{offset} ± {spread}, rising: {error}"));
            sorted.reverse();
            check(&sorted).unwrap_or_else(|error| panic!("{offset} ± {spread}, falling: {error}"));
        }
        let lognormal: Vec<f64> = noise(3000).map(f64::exp).collect();
        check(&lognormal).unwrap();
    }

    #[test]
    fn a_range_as_wide_as_floats_are_does_not_overflow() {
        check(&[1e-300, 1e300, -1e-300, 0.0, -0.0, 5e-324, -5e-324, 1.0]).unwrap();
        check(&[f64::MAX, f64::MIN, f64::MIN_POSITIVE, 1.0, f64::MAX, f64::MIN]).unwrap();
        let mut late = vec![1e-300; 30];
        late.extend([f64::MAX, 1e300, f64::MIN, -1e-300]);
        check(&late).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_rank_of_anything_is_within_the_error(
            values in prop::collection::vec(
                prop_oneof![-1e6..1e6, -1e-3..1e-3, 49.9..50.1, Just(0.0), Just(-1e12), prop::num::f64::NORMAL, prop::num::f64::SUBNORMAL],
                1..300
            ),
        ) {
            check(&values)?;
        }

        #[test]
        fn every_rank_of_neighbouring_floats_is_exact(base in prop::num::f64::NORMAL, steps in prop::collection::vec(0..400_u64, 1..300)) {
            let base = if base.abs() > 1e307 { base / 2.0 } else { base };
            check(&steps.iter().map(|step| f64::from_bits(base.to_bits() + step)).collect::<Vec<_>>())?;
        }
    }
}
