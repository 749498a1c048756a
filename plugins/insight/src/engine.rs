//! All queries of an instance, and the results that are on their way. Knows no runtime, no file and no clock.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::outcome::{Because, Outcome};
use crate::running::{Held, Running};
use crate::seen::Incoming;
use crate::settings::Settings;

/// Most results that wait for a receiver; then the oldest go, counted.
const MAX_WAITING: usize = 10_000;
/// Most windows that are shown.
const MAX_SHOWN: usize = 200;

/// The queries at work.
#[derive(Default)]
pub struct Engine {
    running: Vec<Running>,
    waiting: VecDeque<Outcome>,
    dropped: u64,
    is_changed: bool,
}

/// What a checkpoint holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Saved<Q = Held> {
    /// Written at the end of a run: nothing is missing.
    pub is_whole: bool,
    queries: Vec<Q>,
    waiting: VecDeque<Outcome>,
    dropped: u64,
}

impl Engine {
    /// Takes up what was saved. Queries that the settings do not have, or have otherwise, are left behind.
    pub fn resume(&mut self, saved: Saved, settings: &Settings, now: i64) {
        let because = if saved.is_whole { Because::Restarted } else { Because::Killed };
        self.running = saved.queries.into_iter().map(|held| Running::resume(held, now, because)).collect();
        self.waiting = saved.waiting;
        self.dropped = saved.dropped;
        self.configure(settings, now);
    }

    /// Takes settings over. A query that looks for the same as before goes on with its windows.
    pub fn configure(&mut self, settings: &Settings, now: i64) {
        let mut before = std::mem::take(&mut self.running);
        for query in settings.queries.iter() {
            let same = before.iter().position(|running| {
                let known = &running.held().query;
                known.name == query.name && known.has_same_windows(query)
            });
            self.running.push(match same.map(|at| before.swap_remove(at)) {
                Some(mut running) => {
                    running.reconfigure(query);
                    running
                }
                None => Running::begin(query, now),
            });
        }
        self.is_changed = true;
    }

    /// Takes a message in.
    pub fn observe(&mut self, message: &Incoming<'_>, now: i64) {
        let mut told = Vec::new();
        for running in &mut self.running {
            self.is_changed |= running.observe(message, now, &mut told);
        }
        self.queue(told);
    }

    /// Ends the windows whose time has come.
    pub fn tick(&mut self, now: i64) {
        let mut told = Vec::new();
        for running in &mut self.running {
            running.tell_due(now, &mut told);
        }
        self.queue(told);
    }

    fn queue(&mut self, told: Vec<Outcome>) {
        self.is_changed |= !told.is_empty();
        self.waiting.extend(told);
        while self.waiting.len() > MAX_WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
        }
    }

    /// The next result to be sent.
    pub fn next(&mut self) -> Option<Outcome> {
        let next = self.waiting.pop_front();
        self.is_changed |= next.is_some();
        next
    }

    /// Takes a result back that could not be sent.
    pub fn put_back(&mut self, outcome: Outcome) {
        self.waiting.push_front(outcome);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Results that were given up because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// True once something changed since the last [`Engine::save`].
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// What a checkpoint holds; `on_their_way` are results that were given to the runtime and may yet come back.
    pub fn save<'a>(&'a mut self, on_their_way: impl Iterator<Item = &'a Outcome>, is_whole: bool) -> Saved<&'a Held> {
        self.is_changed = false;
        Saved {
            is_whole,
            queries: self.running.iter().map(Running::held).collect(),
            waiting: on_their_way.chain(&self.waiting).cloned().collect(),
            dropped: self.dropped,
        }
    }

    /// The queries' part of the reported properties.
    pub fn reported(&self) -> Map<String, Value> {
        let of = |running: &Running| {
            let mut said = json!(running.held().counts);
            said["windows"] = running.open().into();
            said["groups"] = running.cells().into();
            (running.held().query.name.clone(), said)
        };
        self.running.iter().map(of).collect()
    }

    /// Queries, open windows, groups in them.
    pub fn size(&self) -> (usize, usize, usize) {
        let windows = self.running.iter().map(Running::open).sum();
        (self.running.len(), windows, self.running.iter().map(Running::cells).sum())
    }

    /// Readings that were left out, by reason: late, ahead, skipped, of too many groups.
    pub fn left_out(&self) -> [u64; 4] {
        self.running.iter().map(|running| running.held().counts).fold([0; 4], |sum, counts| {
            let more = [counts.late, counts.ahead, counts.skipped, counts.overflow];
            std::array::from_fn(|at| sum[at] + more[at])
        })
    }

    /// What the open windows hold so far.
    pub fn preview(&self) -> Vec<Value> {
        self.running.iter().flat_map(Running::preview).take(MAX_SHOWN).collect()
    }
}
