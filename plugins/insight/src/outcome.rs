//! What is told of a group and a window: a message that is a reading too, so that a filter or a recorder takes it as it is.
//!
//! ```json
//! {"name": "load:cpu.usage", "value": 12.5, "unit": "%", "quality": "good", "sourceTime": "2026-11-21T14:05:10.000000Z",
//!  "query": "load", "group": {"name": "cpu.usage"},
//!  "windowStart": "2026-11-21T14:05:00.000000Z", "windowEnd": "2026-11-21T14:05:10.000000Z",
//!  "count": 10, "mean": 12.5, "p95": 31.0, "qualities": {"good": 10, "uncertain": 0, "bad": 0},
//!  "incomplete": false, "because": []}
//! ```
//! `value` is the first aggregate, `sourceTime` the end of the window, `quality` is `uncertain` where the window is incomplete and
//! `bad` where it is empty.

use dinrail_plugin::reading::format_time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cell::Cell;
use crate::settings::{Aggregate, Query};

/// What makes a group: the texts of `groupBy`, in its order.
pub type Group = Vec<Option<String>>;

/// Why a window does not hold everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Because {
    /// The query began within it.
    Started,
    /// The instance was restarted within it.
    Restarted,
    /// The runtime was killed within it: what came since the last checkpoint is missing.
    Killed,
    /// The time of the readings jumped.
    TimeJumped,
    /// There were more groups than `maxGroups`; this one is whole, others are missing.
    TooManyGroups,
}

/// A window of a query, as far as all its groups share it.
pub struct Framed<'a> {
    pub query: &'a Query,
    pub start: i64,
    pub end: i64,
    pub because: &'a [Because],
}

/// A result as it is sent, and as it waits in a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The same each time that this window is told: what drops repeats.
    pub id: String,
    pub query: String,
    pub name: String,
    pub body: String,
}

impl Framed<'_> {
    /// The result of a group.
    pub fn outcome(&self, group: &Group, cell: &Cell) -> Outcome {
        let labels: Vec<&str> = group.iter().map(|key| key.as_deref().unwrap_or("")).collect();
        let query = &self.query.name;
        let name = if labels.is_empty() { query.clone() } else { format!("{query}:{}", labels.join(",")) };
        let body = self.body(&name, group, cell).to_string();
        Outcome { id: format!("{query}-{}-{:016x}", self.start, hash(&labels)), query: query.clone(), name, body }
    }

    /// The result's JSON.
    pub fn body(&self, name: &str, group: &Group, cell: &Cell) -> Value {
        let (start, end) = (format_time(self.start), format_time(self.end));
        let value = self.query.aggregates.first().map_or(Value::Null, |first| number(*first, cell));
        let quality = match () {
            () if cell.count == 0 => "bad",
            () if !self.because.is_empty() => "uncertain",
            () => "good",
        };
        let labels = self.query.group_by.iter().cloned();
        let groups: Map<String, Value> = labels.zip(group.iter().map(|key| json!(key))).collect();
        let mut body = Map::new();
        let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
        put("name", name.into());
        put("value", value);
        if !cell.unit.is_empty() {
            put("unit", cell.unit.as_str().into());
        }
        put("quality", quality.into());
        put("sourceTime", end.as_str().into());
        put("query", self.query.name.as_str().into());
        put("group", groups.into());
        put("windowStart", start.into());
        put("windowEnd", end.into());
        put("count", cell.count.into());
        for aggregate in self.query.aggregates.iter().filter(|aggregate| **aggregate != Aggregate::Count) {
            put(&aggregate.to_string(), number(*aggregate, cell));
        }
        put("qualities", json!({"good": cell.good, "uncertain": cell.uncertain, "bad": cell.bad}));
        put("incomplete", (!self.because.is_empty()).into());
        put("because", json!(self.because));
        body.into()
    }
}

/// A statistic: what was read, as it was read; what was summed up, without the digits that a sum of floating point numbers makes up.
fn number(what: Aggregate, cell: &Cell) -> Value {
    let Some(value) = cell.get(what) else { return Value::Null };
    let rounded = || format!("{value:.12e}").parse().unwrap_or(value);
    let told: f64 = match what {
        Aggregate::Sum | Aggregate::StdDev => rounded(),
        // Not rounded out of what it is the mean of.
        Aggregate::Mean => match (cell.get(Aggregate::Min), cell.get(Aggregate::Max)) {
            (Some(min), Some(max)) => rounded().max(min).min(max),
            _ => rounded(),
        },
        Aggregate::Count | Aggregate::Min | Aggregate::Max | Aggregate::First | Aggregate::Last => value,
        // A value of the window, or near one by less than any fixed number of digits could promise.
        Aggregate::Percentile(_) => value,
    };
    told.into()
}

/// FNV-1a, over the texts with their ends.
fn hash(labels: &[&str]) -> u64 {
    let bytes = labels.iter().flat_map(|label| label.bytes().chain([0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Percent;

    #[test]
    fn what_was_read_is_told_as_it_was_read() {
        let mut cell = Cell::new(true);
        for time in 0..300 {
            cell.add(1_000_000_000.000_123_4, time, "");
        }
        let p50 = Aggregate::Percentile(Percent(50.0));
        for what in [Aggregate::First, Aggregate::Last, Aggregate::Min, Aggregate::Max, Aggregate::Mean, p50] {
            assert_eq!(number(what, &cell), json!(1_000_000_000.000_123_4), "{what}");
        }
        let mut sum = Cell::new(false);
        for value in [0.1, 0.2] {
            sum.add(value, 0, "");
        }
        assert_eq!((number(Aggregate::Sum, &sum), number(Aggregate::Mean, &sum)), (json!(0.3), json!(0.15)));
    }
}
