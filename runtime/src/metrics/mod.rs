//! Metrics: the table of everything that `/metrics` tells, and what was measured at one moment.
//!
//! Names begin with `dinrail_` and end with their unit; counters end with `_total` and begin with the runtime, unless they say
//! otherwise. Labels are few and bounded: modules, endpoints, outputs, routes of the API, fixed words. Nothing is measured for a
//! scrape that is not counted anyway: a scrape reads.

mod table;
mod traffic;

use std::collections::BTreeMap;

pub use table::METRICS;
pub use traffic::{Refused, Traffic};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the runtime ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How observations are spread.
    Histogram,
    /// Words about the runtime; the value is 1.
    Info,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name, without prefix, unit and `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// `seconds` or `bytes`; empty where things are counted.
    pub unit: &'static str,
    /// Labels.
    pub labels: &'static [&'static str],
    /// Meaning.
    pub help: &'static str,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// A measure.
    Measure(f64),
    /// Observations: sum, number, and the upper end of each bucket with how many are in it alone.
    Spread(f64, u64, Vec<(f64, u64)>),
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        Value::Count(count)
    }
}

impl From<f64> for Value {
    fn from(measure: f64) -> Value {
        Value::Measure(measure)
    }
}

/// A value with the values of its labels, in the order of [`Metric::labels`].
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Values of the labels.
    pub labels: Vec<String>,
    /// Value.
    pub value: Value,
}

/// Everything that was measured at one moment.
#[derive(Debug, Default)]
pub struct Scrape(BTreeMap<&'static str, Vec<Sample>>);

impl Scrape {
    /// Adds a value. What has as many labels as the metric is kept.
    pub fn add<const N: usize>(&mut self, metric: &'static str, labels: [&str; N], value: impl Into<Value>) {
        let known = METRICS.iter().find(|known| known.name == metric);
        debug_assert!(known.is_some_and(|known| known.labels.len() == N), "{metric} is not in the table so");
        if known.is_some_and(|known| known.labels.len() == N) {
            let labels = labels.map(str::to_owned).to_vec();
            self.0.entry(metric).or_default().push(Sample { labels, value: value.into() });
        }
    }

    /// The values of a metric.
    pub fn of(&self, metric: &str) -> &[Sample] {
        self.0.get(metric).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_own_and_says_what_it_is() {
        for (at, metric) in METRICS.iter().enumerate() {
            let name = metric.name;
            assert!(METRICS[..at].iter().all(|other| other.name != name), "{name} is there twice");
            assert!(name.bytes().all(|c| c.is_ascii_lowercase() || c == b'_'), "{name}");
            assert!(["", "seconds", "bytes"].contains(&metric.unit), "{name}: {}", metric.unit);
            assert!(!["total", "info", "seconds", "bytes"].iter().any(|end| name.ends_with(end)), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\', '|']), "{name}: {}", metric.help);
            assert!(metric.labels.len() <= 4, "{name}");
        }
    }
}
