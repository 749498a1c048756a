//! The lens before the runtime's table: notes what a module asks of the runtime, and passes it on. `[any thread]`

use std::ffi::c_void;
use std::sync::OnceLock;

use dinrail_plugin::abi::*;
use serde_json::{Map, Value};

use super::event::Event;
use super::lens::{shown, status_text, verdict_text};
use super::record;
use crate::instance::{MAX_PROPERTIES, host};

/// Everything but `trace` is noted.
static MAX_LEVEL: u32 = DR_DEBUG;
/// Most bytes that are noted of one body.
const MAX_BODY: usize = 4096;

/// The table that the module is given.
pub(super) fn table() -> &'static DrHost {
    static TABLE: OnceLock<DrHost> = OnceLock::new();
    TABLE.get_or_init(|| DrHost {
        max_level: &raw const MAX_LEVEL,
        log,
        output,
        send,
        patch_reported,
        set_health,
        complete,
        invoke_method,
        fail,
        extension,
        ..*host::table()
    })
}

fn level_text(level: DrLevel) -> String {
    ["error", "warn", "info", "debug"].get(level as usize - usize::from(level > 0)).unwrap_or(&"trace").to_string()
}

unsafe extern "C" fn log(ticket: u64, level: DrLevel, target: DrText, text: DrText, file: DrText, line: u32) {
    // SAFETY: borrowed for the call, by contract.
    let (of, said, place) = unsafe { (shown(target), shown(text), shown(file)) };
    let place = (!place.is_empty()).then(|| format!("{place}:{line}"));
    record::note(Event::Log { level: level_text(level), target: of, text: said, place });
    // SAFETY: what the module passed.
    unsafe { (host::table().log)(ticket, level, target, text, file, line) }
}

unsafe extern "C" fn output(ticket: u64, name: DrText, id: *mut u32) -> DrStatus {
    // SAFETY: what the module passed.
    let status = unsafe { (host::table().output)(ticket, name, id) };
    // SAFETY: borrowed for the call, by contract.
    let name = unsafe { shown(name) };
    if status == DR_OK {
        // SAFETY: the runtime has just written it.
        record::output(unsafe { *id }, name);
    } else {
        record::note(Event::Warning { text: format!("output '{name}': {}", status_text(status)) });
    }
    status
}

/// Text where it is text, else digits; and which of both.
fn body_text(bytes: &[u8]) -> (String, bool) {
    let bytes = &bytes[..bytes.len().min(MAX_BODY)];
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), false),
        // A long text may have been cut through a character.
        Err(error) if bytes.len() == MAX_BODY && error.valid_up_to() + 4 > MAX_BODY => {
            (String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned(), false)
        }
        Err(_) => (bytes.iter().map(|byte| format!("{byte:02x}")).collect(), true),
    }
}

unsafe extern "C" fn send(
    ticket: u64,
    delivery: u64,
    output: u32,
    message: *const DrOutgoing,
    completion: *const DrCompletion,
) -> DrStatus {
    // SAFETY: readable with everything that it points to for the call, by contract; what is no message is left to the runtime.
    let (body, properties) = unsafe {
        match message.as_ref() {
            Some(message) if message.size as usize >= size_of::<DrOutgoing>() => {
                let list = message.property_list(MAX_PROPERTIES).unwrap_or_default();
                let pair = |property: &DrProperty| (shown(property.key), Value::String(shown(property.value)));
                (body_text(message.body_bytes().unwrap_or_default()), list.iter().map(pair).collect())
            }
            _ => ((String::new(), false), Map::new()),
        }
    };
    // SAFETY: what the module passed.
    let status = unsafe { (host::table().send)(ticket, delivery, output, message, completion) };
    record::note_with(|state| {
        let output = state.outputs.get(&output).cloned().unwrap_or_default();
        let (body, is_hex) = body;
        Event::Send { output, body, is_hex, properties, outcome: status_text(status) }
    });
    status
}

unsafe extern "C" fn patch_reported(
    ticket: u64,
    delivery: u64,
    patch: DrText,
    completion: *const DrCompletion,
) -> DrStatus {
    // SAFETY: borrowed for the call, by contract.
    let said = unsafe { shown(patch) };
    // SAFETY: what the module passed.
    let status = unsafe { (host::table().patch_reported)(ticket, delivery, patch, completion) };
    let patch = serde_json::from_str(&said).unwrap_or(Value::String(said));
    record::note(Event::Reports { patch, outcome: status_text(status) });
    status
}

unsafe extern "C" fn set_health(ticket: u64, level: DrLevel, sentence: DrText) -> DrStatus {
    // SAFETY: borrowed for the call, by contract.
    let said = unsafe { shown(sentence) };
    record::note(Event::Health { level: level_text(level), sentence: said });
    // SAFETY: what the module passed.
    unsafe { (host::table().set_health)(ticket, level, sentence) }
}

unsafe extern "C" fn complete(ticket: u64, delivery: u64, verdict: DrVerdict, reason: DrText) -> DrStatus {
    // SAFETY: what the module passed; the reason is borrowed for the call.
    let (status, said) = unsafe { ((host::table().complete)(ticket, delivery, verdict, reason), shown(reason)) };
    if status == DR_OK {
        record::completed(delivery, verdict_text(verdict), said);
    } else {
        let text = format!("complete({delivery}, {}) answers {}", verdict_text(verdict), status_text(status));
        record::note(Event::Warning { text });
    }
    status
}

unsafe extern "C" fn invoke_method(
    ticket: u64,
    target: DrText,
    name: DrText,
    payload: DrText,
    timeout_ms: u64,
    completion: *const DrCompletion,
) -> DrStatus {
    // SAFETY: borrowed for the call, by contract.
    let (of, method, with) = unsafe { (shown(target), shown(name), shown(payload)) };
    record::note(Event::Invokes { target: of, name: method, payload: with });
    // SAFETY: what the module passed.
    unsafe { (host::table().invoke_method)(ticket, target, name, payload, timeout_ms, completion) }
}

unsafe extern "C" fn fail(ticket: u64, reason: DrText) -> DrStatus {
    // SAFETY: borrowed for the call, by contract.
    record::note(Event::Fails { reason: unsafe { shown(reason) } });
    // SAFETY: what the module passed.
    unsafe { (host::table().fail)(ticket, reason) }
}

unsafe extern "C" fn extension(name: DrText) -> *const c_void {
    // SAFETY: borrowed for the call, by contract.
    if unsafe { name.text() } == Some(DR_EXTENSION_SENDS) {
        // What is sent that way would not be seen; a module that does not find it sends through the table.
        return std::ptr::null();
    }
    // SAFETY: what the module passed.
    unsafe { (host::table().extension)(name) }
}
