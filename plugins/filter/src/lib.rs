//! Raises an alarm when a reading goes over a threshold, and clears it when it has come well below again.
//!
//! ```text
//!              value > threshold
//!   cleared ───────────────────────► raised          one alarm per name of a reading
//!      ▲                                │
//!      └────────────────────────────────┘
//!        value < threshold − hysteresis,
//!        or its name is no longer looked at
//! ```
//! Each edge sends one message from the output `alarms`, an alarm with the property `state`, so that a route can ask
//! for `WHERE state = 'raised'`; `reported.alarms` holds the last alarm of each name. Both are staged with the reading that
//! caused them: along durable routes an alarm is neither lost nor doubled when the power goes.
//!
//! A change of the desired properties takes effect with the next reading, also for what is raised already.

mod seen;

use dinrail_plugin::prelude::*;

use seen::Seen;

/// Names that alarms are kept for: what `reported` has to hold. A name without an alarm takes no place.
const MAX_ALARMS: usize = 64;

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Desired {
    /// Name of the readings to look at; null: all.
    name: Option<String>,
    /// Where the number is in the body: names of members with dots between them.
    field: String,
    /// Above it, an alarm is raised.
    threshold: f64,
    /// How far below the threshold a value has to be to clear the alarm.
    #[schemars(range(min = 0.0))]
    hysteresis: f64,
}

impl Default for Desired {
    fn default() -> Desired {
        Desired { name: None, field: "value".into(), threshold: 80.0, hysteresis: 5.0 }
    }
}

impl Desired {
    /// Refuses what the type alone cannot.
    fn checked(self) -> Result<Desired, Error> {
        if self.hysteresis < 0.0 {
            return Err(Error::refused(format!("hysteresis: {} is negative; give 0 or more", self.hysteresis)));
        }
        if self.field.split('.').any(str::is_empty) {
            let text = format!("field: '{}' is not a path; give names with dots between them", self.field);
            return Err(Error::refused(text));
        }
        Ok(self)
    }

    /// The state of an alarm after a reading, where that is another one than before.
    fn edge(&self, is_raised: bool, name: &str, value: f64) -> Option<State> {
        let is_looked_at = self.name.as_deref().is_none_or(|wanted| wanted == name);
        match is_raised {
            false => (is_looked_at && value > self.threshold).then_some(State::Raised),
            true => (!is_looked_at || value < self.threshold - self.hysteresis).then_some(State::Cleared),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Raised,
    Cleared,
}

/// The body of an alarm message, and an entry of `reported.alarms`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Alarm {
    name: String,
    state: State,
    /// The value that made the edge.
    value: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    /// The threshold at that time.
    threshold: f64,
    /// Source time of the value.
    time: Value,
}

/// What this module reports. A list, since names of readings may have characters that keys of a twin may not.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Reported {
    alarms: Vec<Alarm>,
    /// Messages in which there was no number to look at.
    skipped: u64,
    /// Edges that were not told because [`MAX_ALARMS`] other alarms were raised.
    untold: u64,
}

impl Reported {
    /// Takes an alarm in, in the place of the one of its name or, where all are taken, of one that is cleared.
    fn put(&mut self, alarm: Alarm) -> bool {
        let same = self.alarms.iter().position(|known| known.name == alarm.name);
        let is_full = self.alarms.len() >= MAX_ALARMS;
        let place = same.or_else(|| self.alarms.iter().position(|known| is_full && known.state == State::Cleared));
        match place {
            Some(at) => self.alarms[at] = alarm,
            None if is_full => return false,
            None => self.alarms.push(alarm),
        }
        true
    }

    fn is_raised(&self, name: &str) -> bool {
        self.alarms.iter().any(|alarm| alarm.name == name && alarm.state == State::Raised)
    }
}

struct Filter {
    client: Client,
    output: Output,
    desired: Desired,
    reported: Reported,
}

impl Module for Filter {
    type Desired = Desired;
    const INPUTS: &'static [&'static str] = &["readings"];
    const OUTPUTS: &'static [&'static str] = &["alarms"];
    const TRIAL_SAFE: bool = true;

    fn create(client: Client, desired: Desired) -> Result<Filter, Error> {
        let output = client.output("alarms")?;
        Ok(Filter { client, output, desired: desired.checked()?, reported: Reported::default() })
    }

    /// Takes up where the last run ended: what was raised then is not told again.
    fn start(&mut self) -> Result<(), Error> {
        let reported = self.client.get_twin()?.reported_as();
        self.reported = reported.unwrap_or_else(|unreadable| {
            warn!("starting without the alarms of the last run: {unreadable}");
            Reported::default()
        });
        self.tell_health();
        Ok(())
    }

    fn on_desired(&mut self, desired: Desired) -> Result<(), Error> {
        self.desired = desired.checked()?;
        Ok(())
    }

    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        let Some(seen) = Seen::read(message, &self.desired.field) else {
            // Nothing to be repaired by another try, so it is accepted and counted; told rarer the more there are.
            self.reported.skipped += 1;
            if self.reported.skipped.is_power_of_two() {
                delivery.patch_reported(json!({"skipped": self.reported.skipped}))?;
                self.tell_health();
            }
            return Ok(());
        };
        match self.desired.edge(self.reported.is_raised(seen.name()), seen.name(), seen.value()) {
            Some(state) => self.tell(seen.alarm(state, self.desired.threshold), delivery),
            None => Ok(()),
        }
    }
}

impl Filter {
    /// Sends and reports an edge. Takes it over only then: if something fails, the message comes again and so does the edge.
    fn tell(&mut self, alarm: Alarm, delivery: &Delivery<'_>) -> Result<(), Fault> {
        let mut reported = self.reported.clone();
        if reported.put(alarm.clone()) {
            let state = if alarm.state == State::Raised { "raised" } else { "cleared" };
            delivery.send(self.output, Outgoing::json(&alarm)?.property("state", state))?;
        } else {
            reported.untold += 1;
        }
        if reported.untold == self.reported.untold || reported.untold.is_power_of_two() {
            delivery.patch_reported(&reported)?;
        }
        self.reported = reported;
        self.tell_health();
        Ok(())
    }

    fn tell_health(&self) {
        let Reported { alarms, skipped, untold } = &self.reported;
        let raised = alarms.iter().filter(|alarm| alarm.state == State::Raised).count();
        let mut sentence = format!("{raised} raised of {} alarms", alarms.len());
        if *skipped > 0 {
            sentence += &format!(", {skipped} messages without a number at '{}'", self.desired.field);
        }
        if *untold > 0 {
            sentence += &format!(", {untold} edges not told: narrow 'name' or raise 'threshold'");
        }
        self.client.health(if *untold > 0 { Level::Warn } else { Level::Info }, &sentence);
    }
}

export_module!(Filter);

#[cfg(test)]
mod tests;
