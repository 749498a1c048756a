//! Statistics over windows of time: count, mean, spread and percentiles of readings, one message per group and window.
//!
//! ```json
//! {"queries": {"load": {"where": [{"field": "name", "oneOf": ["cpu.usage", "memory.usage"]}],
//!                       "groupBy": ["name"], "window": {"size": "10s"}, "aggregates": ["mean", "p95"]}}}
//! ```
//! | file | holds |
//! |---|---|
//! | `settings` | the desired properties and what is wrong with them |
//! | `seen` | what a query sees of a message |
//! | `window` | which windows a moment belongs to |
//! | `watermark` | how far the readings' time has come |
//! | `cell`, `sketch` | the summary of a group in a window |
//! | `running`, `engine` | a query at work; all of them |
//! | `outcome` | what is told |
//! | `checkpoint`, `telling` | the windows on disk; results on their way out |
//!
//! **Promise**: a reading is accepted when it is in its windows. These are on disk at least every `checkpoint` seconds, whenever a window ends
//! and at stop: a restart loses nothing, a kill or a power cut at most what came since the last checkpoint, and the windows say
//! so (`because`). A result is told once, or again under the same message id after a kill.
//!
//! **Percentiles** are exact up to 256 values of a group in a window; beyond, they lie within 1/512 of the window's range (`max` less `min`)
//! of the exact one. p0 is `min` and p100 is `max`.

mod cell;
mod checkpoint;
mod engine;
mod outcome;
mod running;
mod seen;
mod settings;
mod sketch;
mod telling;
mod watermark;
mod window;

use std::time::{Duration, Instant};

use dinrail_plugin::prelude::*;
use serde_json::Map;

use checkpoint::{Checkpoint, Found};
use engine::{Engine, Saved};
use seen::Incoming;
use settings::Settings;
use telling::Telling;

/// Results are told in rounds no nearer to each other than this: a checkpoint goes before each.
const ROUND: Duration = Duration::from_millis(100);
/// The reported properties follow at this pace.
const REPORT: Duration = Duration::from_secs(10);

struct Insight {
    client: Client,
    settings: Settings,
    engine: Engine,
    telling: Telling,
    /// The zero of the engine's time.
    began: Instant,
    checkpoint: Option<Checkpoint>,
    /// Why the last checkpoint could not be written.
    trouble: Option<String>,
    saved: Instant,
    reported: (Instant, Value),
    unreadable: u64,
    timer: Option<Timer>,
}

impl Module for Insight {
    type Desired = Settings;
    const INPUTS: &'static [&'static str] = &["readings"];
    const OUTPUTS: &'static [&'static str] = &["results"];
    const METHODS: &'static [&'static str] = &["windows"];
    const TRIAL_SAFE: bool = true;

    fn create(client: Client, desired: Settings) -> Result<Insight, Error> {
        let (settings, now) = (checked(desired)?, Instant::now());
        Ok(Insight {
            telling: Telling::new(client.output("results")?),
            client,
            settings,
            engine: Engine::default(),
            began: now,
            checkpoint: None,
            trouble: None,
            saved: now,
            reported: (now, Value::Null),
            unreadable: 0,
            timer: None,
        })
    }

    /// Takes up the windows of the last run.
    fn start(&mut self) -> Result<(), Error> {
        let checkpoint = Checkpoint::new(self.client.data_folder()?);
        let now = self.now();
        match checkpoint.read::<Saved>()? {
            Found::Saved(saved) => self.engine.resume(saved, &self.settings, now),
            Found::Nothing => self.engine.configure(&self.settings, now),
            Found::Unreadable(why) => {
                warn!("windows begin anew, the checkpoint of the last run cannot be read: {why}");
                self.engine.configure(&self.settings, now);
            }
        }
        self.checkpoint = Some(checkpoint);
        self.begin_ticks()?;
        self.save(false);
        self.report();
        Ok(())
    }

    fn on_desired(&mut self, desired: Settings) -> Result<(), Error> {
        self.settings = checked(desired)?;
        let now = self.now();
        self.engine.configure(&self.settings, now);
        self.begin_ticks()?;
        self.save(false);
        self.report();
        Ok(())
    }

    fn on_message(&mut self, message: &Message<'_>, _: &Delivery<'_>) -> Result<(), Fault> {
        let now = self.now();
        match Incoming::read(message) {
            Some(incoming) => self.engine.observe(&incoming, now),
            None => self.unreadable += 1,
        }
        if self.engine.waiting() > 0 && self.saved.elapsed() >= ROUND {
            self.tell();
        }
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, _missed: u64) -> Result<(), Error> {
        let now = self.now();
        self.engine.tick(now);
        self.telling.take_back(&mut self.engine);
        if self.engine.waiting() > 0 {
            self.tell();
        } else if self.engine.is_changed() && self.saved.elapsed() >= self.settings.checkpoint.0 {
            self.save(false);
        }
        if self.reported.0.elapsed() >= REPORT {
            self.report();
        }
        self.tell_health();
        Ok(())
    }

    fn on_method(&mut self, call: &MethodCall<'_>) -> Result<MethodResponse, Error> {
        match call.name() {
            "windows" => MethodResponse::ok(self.engine.preview()),
            name => Err(Error::not_found(format!("no method '{name}'; there is: windows"))),
        }
    }

    fn stop(&mut self) -> Result<(), Error> {
        if self.checkpoint.is_some() {
            self.telling.take_back(&mut self.engine);
            self.save(true);
        }
        Ok(())
    }
}

/// Refuses settings with everything that is wrong with them.
fn checked(settings: Settings) -> Result<Settings, Error> {
    match settings.problems() {
        problems if problems.is_empty() => Ok(settings),
        problems => Err(Error::refused(problems.join("; "))),
    }
}

impl Insight {
    /// The engine's time: microseconds, never going back.
    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    /// Looks often enough for the shortest window.
    fn begin_ticks(&mut self) -> Result<(), Error> {
        if let Some(timer) = self.timer.take() {
            self.client.cancel(timer);
        }
        let hops = self.settings.queries.iter().map(|query| query.window.hop().0 / 10);
        let period = hops.min().unwrap_or(Duration::MAX).clamp(ROUND, Duration::from_secs(1));
        self.timer = Some(self.client.every(period)?);
        Ok(())
    }

    /// Tells what waits. It is on disk before: after a kill the same windows are told, not others of their name.
    fn tell(&mut self) {
        self.save(false);
        self.telling.tell(&self.client, &mut self.engine);
    }

    fn save(&mut self, is_whole: bool) {
        let Some(checkpoint) = &self.checkpoint else { return };
        let written = checkpoint.write(&self.engine.save(self.telling.on_their_way(), is_whole));
        self.saved = Instant::now();
        let trouble = written.err().map(|error| error.to_string());
        if let Some(trouble) = trouble.as_ref().filter(|_| self.trouble.is_none()) {
            warn!("windows are kept in memory only: {trouble}");
        }
        self.trouble = trouble;
    }

    /// Reports what has changed, and forgets queries that are no more.
    fn report(&mut self) {
        let mut queries = self.engine.reported();
        let now = json!({"queries": queries, "dropped": self.engine.dropped(), "unreadable": self.unreadable});
        self.reported.0 = Instant::now();
        if now == self.reported.1 {
            return;
        }
        let known = match &self.reported.1 {
            // The first report of a run: what an earlier one reported is in the twin.
            Value::Null => self.client.get_twin().map(|twin| twin.reported.clone()).unwrap_or_default(),
            known => known.clone(),
        };
        let none = Map::new();
        for name in known["queries"].as_object().unwrap_or(&none).keys() {
            queries.entry(name.clone()).or_insert(Value::Null);
        }
        let mut patch = now.clone();
        patch["queries"] = queries.into();
        let then = |end: Result<(), Error>| {
            if let Err(error) = end {
                warn!("not reported: {error}");
            }
        };
        match self.client.begin_patch_reported(patch, then) {
            Ok(()) => self.reported.1 = now,
            Err(error) => warn!("not reported: {error}"),
        }
    }

    fn tell_health(&self) {
        let (queries, windows, groups) = self.engine.size();
        let query = if queries == 1 { "query" } else { "queries" };
        let mut sentence = format!("{queries} {query}, {groups} groups in {windows} open windows");
        let [late, ahead, skipped, overflow] = self.engine.left_out();
        let told = [
            (late, "late"),
            (ahead, "from the future"),
            (skipped, "without a number"),
            (self.unreadable, "that are no JSON"),
            (overflow, "of more groups than maxGroups"),
        ];
        let told: Vec<String> =
            told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        if !told.is_empty() {
            sentence += &format!("; left out: {}", told.join(", "));
        }
        let dropped = self.engine.dropped();
        if dropped > 0 {
            sentence += &format!("; {dropped} results given up, their receivers have no room");
        }
        if let Some(trouble) = &self.trouble {
            sentence += &format!("; windows are in memory only: {trouble}");
        }
        let is_bad = dropped > 0 || overflow > 0 || self.trouble.is_some();
        self.client.health(if is_bad { Level::Warn } else { Level::Info }, &sentence);
    }
}

export_module!(Insight);

#[cfg(test)]
mod tests;
