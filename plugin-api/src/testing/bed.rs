//! What the bench knows of one instance: the part of the runtime that a unit test needs, in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::seen::{LogLine, Sent, Verdict};
use crate::abi::{DR_DENIED, DR_FULL, DR_GONE, DR_INVALID, DR_NOT_FOUND, DR_OK, DrStatus};
use crate::body::Body;
use crate::client::Level;
use crate::module::{MethodResponse, Timer};

/// A message with a life of its own.
#[derive(Clone)]
pub(super) struct Stored {
    pub input: String,
    pub input_index: Option<usize>,
    pub body: Body,
    pub properties: Vec<(String, String)>,
    pub sender: String,
    pub content_type: Option<String>,
    pub attempt: u32,
    pub epoch: u64,
    pub sequence: u64,
    pub created_us: i64,
}

impl Default for Stored {
    fn default() -> Stored {
        Stored {
            input: String::new(),
            input_index: None,
            body: Body::from(Vec::new()),
            properties: Vec::new(),
            sender: String::new(),
            content_type: None,
            attempt: 1,
            epoch: 1,
            sequence: 0,
            created_us: 0,
        }
    }
}

/// What becomes of what was staged under a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StagedEnd {
    Commit,
    Discard,
    Keep,
}

struct Delivery {
    message: Stored,
    sent: Vec<Sent>,
    patches: Vec<Value>,
    device_patches: Vec<Value>,
}

struct TimerState {
    due: Duration,
    period: Duration,
}

#[derive(Default)]
struct State {
    is_full: bool,
    outputs: Vec<String>,
    sent: Vec<Sent>,
    deliveries: HashMap<u64, Delivery>,
    decided: Vec<Verdict>,
    desired: Value,
    desired_version: u64,
    reported: Value,
    reported_version: u64,
    health: Option<(Level, String)>,
    logs: Vec<LogLine>,
    now: Duration,
    last_timer: u64,
    timers: BTreeMap<u64, TimerState>,
    posts: VecDeque<u64>,
    failed: Option<String>,
    methods: HashMap<(String, String), MethodResponse>,
    device: Option<Device>,
}

/// The device's own twin, where the instance is permitted it.
struct Device {
    may_report: bool,
    desired: Value,
    desired_version: u64,
    reported: Value,
    reported_version: u64,
}

pub(super) struct Bed {
    pub ticket: u64,
    pub identity: String,
    is_trial: bool,
    state: Mutex<State>,
    posted: Condvar,
}

static BEDS: Mutex<BTreeMap<u64, Arc<Bed>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bed {
    pub fn make(identity: &str, desired: &Value, is_trial: bool) -> Arc<Bed> {
        static LAST: Mutex<u64> = Mutex::new(0);
        let ticket = {
            let mut last = lock(&LAST);
            *last += 1;
            *last
        };
        let empty = || Value::Object(Map::new());
        let desired = if desired.is_null() { empty() } else { desired.clone() };
        let state = State { desired, desired_version: 1, reported: empty(), reported_version: 1, ..State::default() };
        let bed = Arc::new(Bed {
            ticket,
            identity: identity.to_owned(),
            is_trial,
            state: Mutex::new(state),
            posted: Condvar::new(),
        });
        lock(&BEDS).insert(ticket, bed.clone());
        bed
    }

    /// The bed behind a ticket, until it is closed.
    pub fn find(ticket: u64) -> Result<Arc<Bed>, DrStatus> {
        lock(&BEDS).get(&ticket).cloned().ok_or(DR_GONE)
    }

    pub fn close(&self) {
        lock(&BEDS).remove(&self.ticket);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    // What the module calls.

    pub fn output(&self, name: &str) -> u32 {
        let outputs = &mut self.state().outputs;
        let at = outputs.iter().position(|known| known == name).unwrap_or_else(|| {
            outputs.push(name.to_owned());
            outputs.len() - 1
        });
        at as u32 + 1
    }

    pub fn send(&self, delivery: Option<u64>, output: u32, mut sent: Sent) -> DrStatus {
        let mut state = self.state();
        if self.is_trial {
            return DR_DENIED;
        }
        if state.is_full {
            return DR_FULL;
        }
        if output > 0 {
            let Some(name) = state.outputs.get(output as usize - 1) else { return DR_INVALID };
            sent.output = name.clone();
        }
        match delivery {
            None => state.sent.push(sent),
            Some(delivery) => match state.deliveries.get_mut(&delivery) {
                Some(staged) => staged.sent.push(sent),
                None => return DR_GONE,
            },
        }
        DR_OK
    }

    pub fn patch_reported(&self, delivery: Option<u64>, patch: &str) -> DrStatus {
        let Ok(patch @ Value::Object(_)) = serde_json::from_str(patch) else { return DR_INVALID };
        if self.is_trial {
            return DR_DENIED;
        }
        let mut state = self.state();
        match delivery {
            None => state.report(&patch),
            Some(delivery) => match state.deliveries.get_mut(&delivery) {
                Some(staged) => staged.patches.push(patch),
                None => return DR_GONE,
            },
        }
        DR_OK
    }

    /// The twin's document, and the revisions of its sections.
    pub fn twin(&self) -> (String, u64, u64) {
        let state = self.state();
        let doc = twin_text((&state.desired, state.desired_version), (&state.reported, state.reported_version));
        (doc, state.desired_version, state.reported_version)
    }

    /// Whether the device's twin may be reported into; `None`: it is not even to be read.
    pub fn device_rights(&self) -> Option<bool> {
        self.state().device.as_ref().map(|device| device.may_report)
    }

    /// As [`Bed::twin`], of the device.
    pub fn device_twin(&self) -> Option<(String, u64, u64)> {
        let state = self.state();
        let device = state.device.as_ref()?;
        let doc = twin_text((&device.desired, device.desired_version), (&device.reported, device.reported_version));
        Some((doc, device.desired_version, device.reported_version))
    }

    pub fn patch_device(&self, delivery: Option<u64>, patch: &str) -> DrStatus {
        let Ok(patch @ Value::Object(_)) = serde_json::from_str(patch) else { return DR_INVALID };
        if self.is_trial || self.device_rights() != Some(true) {
            return DR_DENIED;
        }
        let mut state = self.state();
        match delivery {
            None => state.report_of_device(&patch),
            Some(delivery) => match state.deliveries.get_mut(&delivery) {
                Some(staged) => staged.device_patches.push(patch),
                None => return DR_GONE,
            },
        }
        DR_OK
    }

    pub fn set_health(&self, level: Level, sentence: &str) {
        self.state().health = (!sentence.is_empty()).then(|| (level, sentence.to_owned()));
    }

    pub fn log(&self, line: LogLine) {
        self.state().logs.push(line);
    }

    pub fn start_timer(&self, first: Duration, period: Duration) -> u64 {
        let mut state = self.state();
        state.last_timer += 1;
        let (timer, due) = (state.last_timer, state.now + first);
        state.timers.insert(timer, TimerState { due, period });
        timer
    }

    pub fn stop_timer(&self, timer: u64) -> DrStatus {
        if self.state().timers.remove(&timer).is_some() { DR_OK } else { DR_GONE }
    }

    pub fn post(&self, value: u64) {
        self.state().posts.push_back(value);
        self.posted.notify_all();
    }

    pub fn kept(&self, delivery: u64) -> Result<Stored, DrStatus> {
        self.state().deliveries.get(&delivery).map(|delivery| delivery.message.clone()).ok_or(DR_GONE)
    }

    pub fn complete(&self, delivery: u64, verdict: Verdict) -> DrStatus {
        let end = if verdict == Verdict::Accepted { StagedEnd::Commit } else { StagedEnd::Discard };
        if !self.state().deliveries.contains_key(&delivery) {
            return DR_GONE;
        }
        self.end(delivery, end);
        self.state().decided.push(verdict);
        DR_OK
    }

    pub fn invoke(&self, target: &str, name: &str) -> Result<MethodResponse, DrStatus> {
        self.state().methods.get(&(target.to_owned(), name.to_owned())).cloned().ok_or(DR_NOT_FOUND)
    }

    pub fn fail(&self, reason: &str) {
        self.state().failed.get_or_insert_with(|| reason.to_owned());
    }

    // What the test calls.

    pub fn begin(&self, delivery: u64, message: Stored) {
        let staged = Delivery { message, sent: Vec::new(), patches: Vec::new(), device_patches: Vec::new() };
        self.state().deliveries.insert(delivery, staged);
    }

    pub fn end(&self, delivery: u64, end: StagedEnd) {
        let mut state = self.state();
        if end == StagedEnd::Keep {
            return;
        }
        let staged = state.deliveries.remove(&delivery);
        if let (StagedEnd::Commit, Some(staged)) = (end, staged) {
            state.sent.extend(staged.sent);
            staged.patches.iter().for_each(|patch| state.report(patch));
            staged.device_patches.iter().for_each(|patch| state.report_of_device(patch));
        }
    }

    pub fn patch_desired(&self, patch: &Value) -> (Value, u64) {
        let mut state = self.state();
        merge(&mut state.desired, patch);
        state.desired_version += 1;
        (state.desired.clone(), state.desired_version)
    }

    pub fn permit_device(&self, desired: &Value, may_report: bool) {
        let (desired, reported) = (desired.clone(), Value::Object(Map::new()));
        self.state().device = Some(Device { may_report, desired, desired_version: 1, reported, reported_version: 1 });
    }

    /// Merges into the device's desired properties; the whole of them, and their version.
    pub fn patch_device_desired(&self, patch: &Value) -> Option<(Value, u64)> {
        let mut state = self.state();
        let device = state.device.as_mut()?;
        merge(&mut device.desired, patch);
        device.desired_version += 1;
        Some((device.desired.clone(), device.desired_version))
    }

    pub fn device_desired(&self) -> Option<(Value, u64)> {
        self.state().device.as_ref().map(|device| (device.desired.clone(), device.desired_version))
    }

    pub fn device_reported(&self) -> Value {
        self.state().device.as_ref().map(|device| device.reported.clone()).unwrap_or_default()
    }

    pub fn timers(&self) -> Vec<Timer> {
        self.state().timers.keys().map(|timer| Timer(*timer)).collect()
    }

    pub fn now(&self) -> Duration {
        self.state().now
    }

    /// The next timer that falls due, with the clock set to it; else sets the clock to `until`.
    pub fn next_due(&self, until: Duration) -> Option<Timer> {
        let mut state = self.state();
        let next =
            state.timers.iter().min_by_key(|(_, timer)| timer.due).map(|(id, timer)| (*id, timer.due, timer.period));
        let Some((id, due, period)) = next.filter(|(_, due, _)| *due <= until) else {
            state.now = until;
            return None;
        };
        state.now = due;
        match state.timers.get_mut(&id) {
            Some(timer) if !period.is_zero() => timer.due = due + period,
            _ => drop(state.timers.remove(&id)),
        }
        Some(Timer(id))
    }

    pub fn next_post(&self) -> Option<u64> {
        self.state().posts.pop_front()
    }

    pub fn wait_for_post(&self, patience: Duration) -> bool {
        let waited = self.posted.wait_timeout_while(self.state(), patience, |state| state.posts.is_empty());
        !waited.unwrap_or_else(PoisonError::into_inner).0.posts.is_empty()
    }

    pub fn answer_method(&self, target: &str, name: &str, response: MethodResponse) {
        self.state().methods.insert((target.to_owned(), name.to_owned()), response);
    }

    pub fn set_full(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    pub fn sent(&self, output: &str) -> Vec<Sent> {
        self.state().sent.iter().filter(|sent| sent.output == output).cloned().collect()
    }

    pub fn clear_sent(&self) {
        self.state().sent.clear();
    }

    pub fn reported(&self) -> Value {
        self.state().reported.clone()
    }

    pub fn health(&self) -> Option<(Level, String)> {
        self.state().health.clone()
    }

    pub fn logs(&self) -> Vec<LogLine> {
        self.state().logs.clone()
    }

    pub fn failed(&self) -> Option<String> {
        self.state().failed.clone()
    }

    pub fn decided(&self) -> Vec<Verdict> {
        self.state().decided.clone()
    }
}

impl State {
    fn report(&mut self, patch: &Value) {
        merge(&mut self.reported, patch);
        self.reported_version += 1;
    }

    fn report_of_device(&mut self, patch: &Value) {
        if let Some(device) = &mut self.device {
            merge(&mut device.reported, patch);
            device.reported_version += 1;
        }
    }
}

/// A twin as a module reads it.
fn twin_text(desired: (&Value, u64), reported: (&Value, u64)) -> String {
    let versioned = |(section, version): (&Value, u64)| {
        let mut section = section.clone();
        section["$version"] = version.into();
        section
    };
    serde_json::json!({"desired": versioned(desired), "reported": versioned(reported)}).to_string()
}

/// JSON merge patch. Source: RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}
