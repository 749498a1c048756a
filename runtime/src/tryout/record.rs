//! Takes notes: a line of JSON for each thing seen, in the file before anything else happens. `[any thread]`

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::event::Event;
use crate::clock;

/// Most bytes that are noted of what the module does of itself, such as logging: it may do so in a loop.
const MAX_CHATTER_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes of notes.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The recorder of this process, which tries one module.
static RECORDER: OnceLock<Recorder> = OnceLock::new();

pub(super) struct Recorder {
    state: Mutex<State>,
    changed: Condvar,
}

/// What was seen so far.
pub(super) struct State {
    file: File,
    room: Room,
    /// The call under way: what it is, and since when.
    pub call: Option<(String, Instant)>,
    /// Calls that have returned, by function.
    pub returned: BTreeMap<String, u64>,
    /// The messages, in the order of their first delivery.
    pub messages: Vec<Seen>,
    /// Deliveries under way: numbers of their messages.
    deliveries: BTreeMap<u64, usize>,
    /// Names of the outputs, by their ids.
    pub outputs: BTreeMap<u32, String>,
}

/// A message that was handed over.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    key: (u64, u64),
    /// Its input.
    pub input: String,
    /// Times that it was handed over.
    pub attempts: u32,
    /// The latest verdict; `None` while the handler has it.
    pub outcome: Option<String>,
}

impl Seen {
    /// True once nothing more is to come.
    pub fn is_ended(&self) -> bool {
        matches!(self.outcome.as_deref(), Some("accept" | "park" | "panic"))
    }
}

impl State {
    fn write(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        if self.room.takes(event, line.len()) {
            if matches!(event, Event::End { .. }) && self.room.left_out > 0 {
                let text = format!("it logs, sends or reports so much that {} notes are left out", self.room.left_out);
                self.write(&Event::Warning { text });
            }
            // One write, so that a crash leaves whole lines. Without the file there is nobody to tell.
            let _ = self.file.write_all(&line);
        } else if self.room.left_out == 1 {
            // It may never come to the end, where they are counted.
            let text = "it logs, sends or reports so much that from here on not all of it is noted".to_owned();
            self.write(&Event::Warning { text });
        }
    }
}

/// How much has been noted.
#[derive(Debug, Default)]
struct Room {
    chatter: usize,
    all: usize,
    /// Notes that were not taken.
    left_out: usize,
}

impl Room {
    /// True if there is room for an event of so many bytes. How it ends is always noted.
    fn takes(&mut self, event: &Event, bytes: usize) -> bool {
        let is_end =
            matches!(event, Event::End { .. } | Event::Problem { .. } | Event::Refused { .. } | Event::Warning { .. });
        let is_chatter = matches!(
            event,
            Event::Log { .. }
                | Event::Send { .. }
                | Event::Reports { .. }
                | Event::Health { .. }
                | Event::Invokes { .. }
                | Event::Complete { .. }
        );
        let has_room = self.all + bytes <= MAX_BYTES && (!is_chatter || self.chatter + bytes <= MAX_CHATTER_BYTES);
        if !has_room && !is_end {
            self.left_out += 1;
            return false;
        }
        self.all += bytes;
        self.chatter += if is_chatter { bytes } else { 0 };
        true
    }
}

/// Starts the notes of this process.
pub(super) fn start(file: &Path) -> std::io::Result<()> {
    let file = File::options().create(true).append(true).open(file)?;
    let state = State {
        file,
        room: Room::default(),
        call: None,
        returned: BTreeMap::new(),
        messages: Vec::new(),
        deliveries: BTreeMap::new(),
        outputs: BTreeMap::new(),
    };
    let _ = RECORDER.set(Recorder { state: Mutex::new(state), changed: Condvar::new() });
    Ok(())
}

/// Notes `event`, after `act` has seen and changed what is known.
pub(super) fn note_with(act: impl FnOnce(&mut State) -> Event) {
    let Some(recorder) = RECORDER.get() else { return };
    let mut state = recorder.state.lock();
    let event = act(&mut state);
    state.write(&event);
    recorder.changed.notify_all();
}

/// Notes `event`.
pub(super) fn note(event: Event) {
    note_with(|_| event);
}

/// Looks at what is known.
pub(super) fn look<T>(at: impl FnOnce(&State) -> T) -> Option<T> {
    RECORDER.get().map(|recorder| at(&recorder.state.lock()))
}

/// Waits until something is noted, at most `limit`.
pub(super) fn await_note(limit: Duration) {
    if let Some(recorder) = RECORDER.get() {
        let mut state = recorder.state.lock();
        recorder.changed.wait_for(&mut state, limit);
    }
}

/// Notes that a call into the module begins, then makes it, then notes its outcome.
pub(super) fn call<R>(
    callback: &str,
    about: String,
    message: Option<(usize, u32)>,
    make: impl FnOnce() -> R,
    outcome: impl FnOnce(&R) -> (String, String),
) -> R {
    note_with(|state| {
        let of = message.map(|(n, _)| format!(" of message {n}")).unwrap_or_default();
        state.call = Some((format!("{callback}{of}"), clock::now()));
        let (number, attempt) = (message.map(|(n, _)| n), message.map(|(_, attempt)| attempt));
        Event::Call { callback: callback.to_owned(), about, message: number, attempt }
    });
    let result = make();
    let (outcome, text) = outcome(&result);
    note_with(|state| {
        state.call = None;
        *state.returned.entry(callback.to_owned()).or_default() += 1;
        if let Some(seen) = message.and_then(|(n, _)| state.messages.get_mut(n - 1)) {
            // A deferred one may have been completed before its handler returned.
            if outcome != "defer" || seen.outcome.is_none() {
                seen.outcome = Some(outcome.clone());
            }
        }
        Event::Return { callback: callback.to_owned(), outcome, text, message: message.map(|(n, _)| n) }
    });
    result
}

/// Number of the message that is handed over as `delivery`.
pub(super) fn delivered(delivery: u64, key: (u64, u64), input: &str, attempt: u32) -> usize {
    let number = RECORDER.get().map(|recorder| {
        let mut state = recorder.state.lock();
        let at = state.messages.iter().position(|seen| seen.key == key).unwrap_or_else(|| {
            state.messages.push(Seen { key, input: input.to_owned(), attempts: 0, outcome: None });
            state.messages.len() - 1
        });
        state.messages[at].attempts = attempt;
        state.messages[at].outcome = None;
        state.deliveries.insert(delivery, at + 1);
        at + 1
    });
    number.unwrap_or(1)
}

/// Notes that a deferred delivery ends.
pub(super) fn completed(delivery: u64, outcome: String, text: String) {
    note_with(|state| {
        let message = state.deliveries.get(&delivery).copied();
        if let Some(seen) = message.and_then(|n| state.messages.get_mut(n - 1)) {
            seen.outcome = Some(outcome.clone());
        }
        Event::Complete { message, outcome, text }
    });
}

/// Remembers the name of an output.
pub(super) fn output(id: u32, name: String) {
    if let Some(recorder) = RECORDER.get() {
        recorder.state.lock().outputs.insert(id, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_that_logs_without_end_fills_its_own_room_only() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let log = Event::Log { level: "info".into(), target: String::new(), text: "x".repeat(64 * 1024), place: None };
        let mut state = State {
            file: file.reopen().unwrap(),
            room: Room::default(),
            call: None,
            returned: BTreeMap::new(),
            messages: Vec::new(),
            deliveries: BTreeMap::new(),
            outputs: BTreeMap::new(),
        };
        for _ in 0..1000 {
            state.write(&log);
        }
        state.write(&Event::Loading);
        state.write(&Event::End { reported: serde_json::Value::Null });
        let mut noted = String::new();
        std::io::Read::read_to_string(&mut file, &mut noted).unwrap();
        assert!(noted.len() < MAX_CHATTER_BYTES + 1024, "{}", noted.len());
        let last: Vec<&str> = noted.lines().rev().take(4).collect();
        let left = 1000 - noted.lines().filter(|line| line.contains("\"log\"")).count();
        assert!(last[0].contains("\"end\"") && last[2].contains("\"loading\""), "{last:?}");
        assert!(
            last[1].contains(&format!("{left} notes are left out")) && last[3].contains("from here on"),
            "{last:?}"
        );
    }
}
