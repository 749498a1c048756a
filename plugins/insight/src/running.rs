//! A query at work: its open windows, and what has become of the readings that did not get into one.
//!
//! ```text
//!          closed (told)        │        open
//! ──────[════════)[════════)────┼───[════════)[════════)─────►  time of the readings
//!                           watermark
//! ```
//! A window is told once, when the watermark has passed its end; a reading for a window that was told is late, and counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cell::Cell;
use crate::outcome::{Because, Framed, Group, Outcome};
use crate::seen::{Incoming, Looks, Sample};
use crate::settings::Query;
use crate::watermark::{Judged, Watermark};
use crate::window::Shape;

/// Empty windows that are told in a row after a pause; those before them are left out.
const MAX_EMPTY: i64 = 100;

/// A query with its windows.
pub struct Running {
    looks: Looks,
    held: Held,
}

/// What a checkpoint holds of a query.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    pub query: Query,
    mark: Watermark,
    /// Windows up to here have been told.
    told_until: i64,
    windows: Vec<Open>,
    /// Groups that are told of when they are silent.
    known: BTreeSet<Group>,
    /// It was at work before this process.
    #[serde(default)]
    is_resumed: bool,
    pub counts: Counts,
}

/// An open window.
#[derive(Serialize, Deserialize)]
struct Open {
    start: i64,
    because: Vec<Because>,
    #[serde(with = "pairs")]
    groups: BTreeMap<Group, Cell>,
}

/// What was counted since the query began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Results that were told.
    pub results: u64,
    /// Readings of which a window had been told already.
    pub late: u64,
    /// Readings too far in the future to be believed.
    pub ahead: u64,
    /// Messages that the query asks for and that hold no number, or no time, to look at.
    pub skipped: u64,
    /// Readings of more groups than `maxGroups`.
    pub overflow: u64,
}

impl Running {
    /// A query that begins.
    pub fn begin(query: &Query, now: i64) -> Running {
        let held = Held {
            query: query.clone(),
            mark: Watermark::new(now),
            told_until: i64::MIN,
            windows: Vec::new(),
            known: BTreeSet::new(),
            is_resumed: false,
            counts: Counts::default(),
        };
        Running { looks: Looks::of(query), held }
    }

    /// A query that an earlier process began.
    pub fn resume(mut held: Held, now: i64, because: Because) -> Running {
        held.mark = held.mark.resumed(now);
        held.is_resumed = true;
        for window in &mut held.windows {
            window.note(because);
        }
        Running { looks: Looks::of(&held.query), held }
    }

    /// Goes on under settings that have the same windows.
    pub fn reconfigure(&mut self, query: &Query) {
        self.looks = Looks::of(query);
        self.held.query = query.clone();
        if !query.emit_empty {
            self.held.known.clear();
        }
    }

    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Groups in open windows, each counted as often as there are windows.
    pub fn cells(&self) -> usize {
        self.held.windows.iter().map(|window| window.groups.len()).sum()
    }

    pub fn open(&self) -> usize {
        self.held.windows.len()
    }

    /// Takes a message in, if the query asks for it. Says whether anything changed.
    pub fn observe(&mut self, message: &Incoming<'_>, now: i64, told: &mut Vec<Outcome>) -> bool {
        if !self.looks.wants(message) {
            return false;
        }
        match self.looks.sample(message) {
            Some(sample) => self.take(&sample, now, told),
            None => self.held.counts.skipped += 1,
        }
        true
    }

    fn take(&mut self, sample: &Sample, now: i64, told: &mut Vec<Outcome>) {
        self.tell_due(now, told);
        let shape = self.shape();
        match self.held.mark.judge(sample.time, now, shape.size_us.saturating_add(self.lateness())) {
            Judged::Ahead => return self.held.counts.ahead += 1,
            Judged::Behind => return self.held.counts.late += 1,
            Judged::Jumped => {
                for mut window in std::mem::take(&mut self.held.windows) {
                    window.note(Because::TimeJumped);
                    self.tell(&window, told);
                }
                self.held.told_until = i64::MIN;
            }
            Judged::InTime => {}
        }
        let (mut is_late, mut has_room) = (false, true);
        for start in shape.starts(sample.time) {
            if shape.end(start) <= self.held.told_until {
                is_late = true;
            } else {
                has_room &= self.put(start, sample);
            }
        }
        self.held.counts.late += u64::from(is_late);
        self.held.counts.overflow += u64::from(!has_room);
        self.tell_due(now, told);
    }

    /// Puts a sample into a window; says whether there was room for its group.
    fn put(&mut self, start: i64, sample: &Sample) -> bool {
        let max_groups = self.held.query.max_groups as usize;
        let has_percentiles = self.held.query.has_percentiles();
        let is_silent_told = self.held.query.emit_empty;
        let least = self.held.query.quality;
        let known = self.held.known.len();
        let window = self.window(start);
        let has_room = window.groups.len() < max_groups || window.groups.contains_key(&sample.group);
        if !has_room {
            window.note(Because::TooManyGroups);
            return false;
        }
        let cell = window.groups.entry(sample.group.clone()).or_insert_with(|| Cell::new(has_percentiles));
        cell.note(sample.quality);
        // Good comes first in the order of the qualities.
        if let Some(value) = sample.value.filter(|_| sample.quality as u8 <= least as u8) {
            cell.add(value, sample.time, &sample.unit);
        }
        if is_silent_told && known < max_groups && !self.held.known.contains(&sample.group) {
            self.held.known.insert(sample.group.clone());
        }
        true
    }

    fn window(&mut self, start: i64) -> &mut Open {
        let at = match self.held.windows.binary_search_by_key(&start, |window| window.start) {
            Ok(at) => at,
            Err(at) => {
                let window = Open { start, because: self.because(start), groups: BTreeMap::new() };
                self.held.windows.insert(at, window);
                at
            }
        };
        &mut self.held.windows[at]
    }

    /// Why a window that starts so is incomplete from its beginning.
    fn because(&self, start: i64) -> Vec<Because> {
        let is_cut = self.held.mark.began().is_some_and(|began| start < began);
        let because = if self.held.is_resumed { Because::Restarted } else { Because::Started };
        if is_cut { vec![because] } else { Vec::new() }
    }

    /// Tells the windows that have ended.
    pub fn tell_due(&mut self, now: i64, told: &mut Vec<Outcome>) {
        let Some(mark) = self.held.mark.get(now, self.lateness()) else { return };
        let shape = self.shape();
        if !self.held.known.is_empty() && self.held.told_until > i64::MIN {
            // The windows between that nobody has put anything into, as far as it is worth telling.
            let next = shape.first(self.held.told_until);
            let last = shape.first(mark) - shape.hop_us;
            let from = next.max(last.saturating_sub((MAX_EMPTY - 1) * shape.hop_us));
            let began = self.held.mark.began().filter(|_| !self.held.is_resumed).unwrap_or(i64::MIN);
            let starts = std::iter::successors(Some(from), |start| Some(start + shape.hop_us));
            for start in starts.take_while(|start| *start <= last).filter(|start| *start >= began) {
                self.window(start);
            }
        }
        let due = self.held.windows.partition_point(|window| shape.end(window.start) <= mark);
        let windows: Vec<Open> = self.held.windows.drain(..due).collect();
        for window in &windows {
            self.tell(window, told);
        }
        self.held.told_until = self.held.told_until.max(mark);
    }

    fn tell(&mut self, window: &Open, told: &mut Vec<Outcome>) {
        let framed = self.frame(window);
        let before = told.len();
        told.extend(window.groups.iter().map(|(group, cell)| framed.outcome(group, cell)));
        let silent = self.held.known.iter().filter(|group| !window.groups.contains_key(*group));
        told.extend(silent.map(|group| framed.outcome(group, &Cell::new(false))));
        self.held.counts.results += (told.len() - before) as u64;
    }

    fn frame<'a>(&'a self, window: &'a Open) -> Framed<'a> {
        let end = self.shape().end(window.start);
        Framed { query: &self.held.query, start: window.start, end, because: &window.because }
    }

    /// What the open windows hold so far, as results would.
    pub fn preview(&self) -> impl Iterator<Item = Value> {
        self.held.windows.iter().flat_map(|window| {
            let framed = self.frame(window);
            window.groups.iter().map(move |(group, cell)| {
                let name = framed.outcome(group, cell).name;
                framed.body(&name, group, cell)
            })
        })
    }

    fn shape(&self) -> Shape {
        let window = &self.held.query.window;
        Shape { size_us: window.size.as_us(), hop_us: window.hop().as_us() }
    }

    fn lateness(&self) -> i64 {
        self.held.query.lateness.as_us()
    }
}

impl Open {
    fn note(&mut self, because: Because) {
        if !self.because.contains(&because) {
            self.because.push(because);
        }
    }
}

/// A map whose keys are no text, as a list of pairs.
mod pairs {
    use super::{BTreeMap, Cell, Deserialize, Group};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(groups: &BTreeMap<Group, Cell>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(groups)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Group, Cell>, D::Error> {
        Ok(Vec::<(Group, Cell)>::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
#[path = "running_tests.rs"]
mod tests;
