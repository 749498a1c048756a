//! What is known of one group in one window: a bounded summary that every reading is added to.

use dinrail_plugin::Quality;
use serde::{Deserialize, Serialize};

use crate::settings::Aggregate;
use crate::sketch::Sketch;

/// Up to so many values of a window are kept as they are and percentiles are exact; from then on they are in a [`Sketch`].
pub const EXACT: usize = 256;

/// Longest unit that is passed on, in bytes.
const MAX_UNIT: usize = 32;

/// Statistics of a group within a window. Mean and spread by Welford's method, which does not lose digits to a large offset.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cell {
    pub count: u64,
    min: f64,
    max: f64,
    mean: f64,
    /// Sum of the squared distances from the mean.
    m2: f64,
    sum: f64,
    /// Value and time of the oldest and of the newest reading.
    first: (f64, i64),
    last: (f64, i64),
    values: Values,
    pub unit: String,
    /// Readings of each quality, also of those that are not in the statistics.
    pub good: u64,
    pub uncertain: u64,
    pub bad: u64,
}

/// The values that percentiles are taken from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Values {
    /// Nobody asks.
    #[default]
    None,
    Exact(Vec<f64>),
    Sketch(Sketch),
}

impl Cell {
    /// Empty; with values for percentiles if somebody asks for such.
    pub fn new(has_percentiles: bool) -> Cell {
        let values = if has_percentiles { Values::Exact(Vec::new()) } else { Values::None };
        Cell { values, ..Cell::default() }
    }

    /// Counts a reading of this quality.
    pub fn note(&mut self, quality: Quality) {
        match quality {
            Quality::Good => self.good += 1,
            Quality::Uncertain => self.uncertain += 1,
            Quality::Bad => self.bad += 1,
        }
    }

    /// Takes a finite value in, true at `time`.
    pub fn add(&mut self, value: f64, time: i64, unit: &str) {
        if self.count == 0 {
            (self.min, self.max, self.first, self.last) = (value, value, (value, time), (value, time));
            unit.get(..unit.len().min(MAX_UNIT)).unwrap_or_default().clone_into(&mut self.unit);
        } else {
            (self.min, self.max) = (self.min.min(value), self.max.max(value));
            if time < self.first.1 {
                self.first = (value, time);
            }
            if time >= self.last.1 {
                self.last = (value, time);
            }
        }
        self.count += 1;
        self.sum += value;
        let from_mean = value - self.mean;
        self.mean += from_mean / self.count as f64;
        self.m2 += from_mean * (value - self.mean);
        self.values.add(value);
    }

    /// A statistic; `None` where there is no value, or only one and its spread is asked for.
    pub fn get(&self, what: Aggregate) -> Option<f64> {
        if what == Aggregate::Count {
            return Some(self.count as f64);
        }
        let value = match what {
            _ if self.count == 0 => return None,
            Aggregate::Count => self.count as f64,
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
            Aggregate::Mean => self.mean,
            Aggregate::Sum => self.sum,
            Aggregate::First => self.first.0,
            Aggregate::Last => self.last.0,
            Aggregate::StdDev if self.count < 2 => return None,
            Aggregate::StdDev => (self.m2 / (self.count - 1) as f64).max(0.0).sqrt(),
            Aggregate::Percentile(percent) => self.percentile(percent.0)?,
        };
        value.is_finite().then_some(value)
    }

    /// By nearest rank: the smallest value that at least so many percent of the values do not exceed.
    fn percentile(&self, percent: f64) -> Option<f64> {
        let rank = ((percent / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count) - 1;
        match &self.values {
            Values::None => None,
            Values::Exact(values) => {
                let mut values = values.clone();
                let (_, value, _) = values.select_nth_unstable_by(rank as usize, f64::total_cmp);
                Some(*value)
            }
            Values::Sketch(sketch) => Some(sketch.of_rank(rank)),
        }
    }
}

impl Values {
    fn add(&mut self, value: f64) {
        match self {
            Values::None => {}
            Values::Exact(values) if values.len() < EXACT => values.push(value),
            Values::Exact(values) => {
                values.push(value);
                if let Some(sketch) = Sketch::of(values) {
                    *self = Values::Sketch(sketch);
                }
            }
            Values::Sketch(sketch) => sketch.add(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Percent;
    use crate::sketch::ERROR;
    use proptest::prelude::*;

    fn cell(values: &[f64]) -> Cell {
        let mut cell = Cell::new(true);
        for (at, value) in values.iter().enumerate() {
            cell.add(*value, at as i64, "%");
        }
        cell
    }

    fn percentile(percent: f64) -> Aggregate {
        Aggregate::Percentile(Percent(percent))
    }

    #[test]
    fn statistics_of_a_few_values_are_exact() {
        let cell = cell(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        for (what, expected) in [
            (Aggregate::Count, 8.0),
            (Aggregate::Min, 2.0),
            (Aggregate::Max, 9.0),
            (Aggregate::Mean, 5.0),
            (Aggregate::Sum, 40.0),
            (Aggregate::First, 2.0),
            (Aggregate::Last, 9.0),
            (Aggregate::StdDev, (32.0_f64 / 7.0).sqrt()),
            (percentile(50.0), 4.0),
            (percentile(51.0), 5.0),
            (percentile(87.5), 7.0),
            (percentile(99.0), 9.0),
            (percentile(0.0), 2.0),
            (percentile(100.0), 9.0),
        ] {
            assert!((cell.get(what).unwrap() - expected).abs() < 1e-12, "{what:?}: {:?}", cell.get(what));
        }
    }

    #[test]
    fn nothing_is_said_of_what_is_not_there() {
        let none = Cell::new(true);
        assert_eq!(
            (none.get(Aggregate::Count), none.get(Aggregate::Mean), none.get(percentile(50.0))),
            (Some(0.0), None, None)
        );
        let one = cell(&[3.0]);
        assert_eq!((one.get(Aggregate::StdDev), one.get(percentile(50.0))), (None, Some(3.0)));
    }

    #[test]
    fn first_and_last_go_by_source_time() {
        let mut cell = Cell::new(false);
        for (value, time) in [(1.0, 50), (2.0, 10), (3.0, 90), (4.0, 60)] {
            cell.add(value, time, "");
        }
        assert_eq!((cell.get(Aggregate::First), cell.get(Aggregate::Last)), (Some(2.0), Some(3.0)));
    }

    #[test]
    fn a_large_offset_costs_no_digits_of_the_spread() {
        let offset = 1e9;
        let spread = cell(&[offset + 4.0, offset + 7.0, offset + 13.0, offset + 16.0]).get(Aggregate::StdDev).unwrap();
        assert!((spread - 30.0_f64.sqrt()).abs() < 1e-6, "{spread}");
    }

    #[test]
    fn percentiles_of_many_values_near_each_other_tell_them_apart() {
        let values: Vec<f64> = (0..600).map(|n| 49.94 + 0.12 * f64::from(n * 7 % 600) / 599.0).collect();
        let cell = cell(&values);
        for (percent, expected) in [(1.0, 49.9412), (50.0, 50.0), (99.0, 50.0588)] {
            let got = cell.get(percentile(percent)).unwrap();
            assert!((got - expected).abs() < 0.12 * ERROR + 0.12 / 599.0, "p{percent}: {got}");
        }
        assert_eq!(cell.get(percentile(0.0)), cell.get(Aggregate::Min));
        assert_eq!(cell.get(percentile(100.0)), cell.get(Aggregate::Max));
    }

    proptest! {
        #[test]
        fn statistics_agree_with_a_naive_model(mut values in prop::collection::vec(-1e6..1e6_f64, 1..600)) {
            let cell = cell(&values);
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let close = |got: Option<f64>, expected: f64, error: f64| {
                got.is_some_and(|got| (got - expected).abs() <= error * expected.abs() + 1e-6)
            };
            prop_assert!(close(cell.get(Aggregate::Mean), mean, 1e-9));
            if values.len() > 1 {
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
                prop_assert!(close(cell.get(Aggregate::StdDev), variance.sqrt(), 1e-9));
            }
            values.sort_by(f64::total_cmp);
            let range = values[values.len() - 1] - values[0];
            let error = if values.len() <= EXACT { 0.0 } else { ERROR * range };
            for percent in [0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
                let rank = ((percent / 100.0 * n).ceil() as usize).clamp(1, values.len()) - 1;
                let off = (cell.get(percentile(percent)).unwrap() - values[rank]).abs();
                prop_assert!(off <= error, "p{percent}: {off}");
            }
            prop_assert_eq!(cell.get(percentile(0.0)), cell.get(Aggregate::Min));
            prop_assert_eq!(cell.get(percentile(100.0)), cell.get(Aggregate::Max));
            prop_assert_eq!(cell.get(Aggregate::Min), values.first().copied());
            prop_assert_eq!(cell.get(Aggregate::Max), values.last().copied());
        }

        #[test]
        fn a_cell_survives_being_written(values in prop::collection::vec(-1e6..1e6_f64, 0..300)) {
            let cell = cell(&values);
            let back: Cell = serde_json::from_str(&serde_json::to_string(&cell).unwrap()).unwrap();
            prop_assert_eq!(back.count, cell.count);
            for what in [Aggregate::Mean, Aggregate::StdDev, percentile(90.0)] {
                let (was, is) = (cell.get(what).unwrap_or(0.0), back.get(what).unwrap_or(0.0));
                prop_assert!((was - is).abs() <= 1e-9 * was.abs() + 1e-9);
            }
        }
    }
}
