//! The lens before a module: a table whose functions note what is called, call the module's own, and note what came of it.
//!
//! There is one module in the process, so its table is a static.

use std::ffi::c_void;
use std::sync::OnceLock;

use dinrail_plugin::abi::*;
use parking_lot::Mutex;

use super::{host_lens, record};

static MODULE: OnceLock<&'static DrModule> = OnceLock::new();

/// The table to be used instead of the module's own: every function that it has, and no other.
pub(super) fn observe(table: &'static DrModule) -> DrModule {
    let module = *MODULE.get_or_init(|| table);
    DrModule {
        create,
        destroy,
        start: module.start.map(|_| start as _),
        on_message: module.on_message.map(|_| on_message as _),
        on_desired: module.on_desired.map(|_| on_desired as _),
        on_method: module.on_method.map(|_| on_method as _),
        on_timer: module.on_timer.map(|_| on_timer as _),
        on_event: module.on_event.map(|_| on_event as _),
        stop: module.stop.map(|_| stop as _),
        ..*module
    }
}

/// The module's own table.
pub(super) fn module() -> Option<&'static DrModule> {
    MODULE.get().copied()
}

/// Word for a status.
pub(super) fn status_text(status: DrStatus) -> String {
    let word = match status {
        DR_OK => "done",
        DR_PENDING => "pending",
        DR_GONE => "gone",
        DR_INVALID => "invalid",
        DR_TOO_LARGE => "too large",
        DR_FULL => "full",
        DR_TIMEOUT => "timeout",
        DR_NOT_FOUND => "not found",
        DR_DENIED => "denied",
        DR_UNSUPPORTED => "unsupported",
        DR_FAILED => "failed",
        DR_REFUSED => "refused",
        DR_PANICKED => "panicked",
        other => return format!("status {other}, which is none"),
    };
    word.to_owned()
}

/// Word for a verdict.
pub(super) fn verdict_text(verdict: DrVerdict) -> String {
    match verdict.kind {
        DR_ACCEPT => "accept".to_owned(),
        DR_RETRY if verdict.retry_after_ms > 0 => format!("retry after {} ms", verdict.retry_after_ms),
        DR_RETRY => "retry".to_owned(),
        DR_PARK => "park".to_owned(),
        DR_DEFER => "defer".to_owned(),
        DR_FAULT => "fault".to_owned(),
        DR_PANIC => "panic".to_owned(),
        other => format!("verdict {other}, which is none"),
    }
}

/// Text of the other side, for a person.
///
/// # Safety
/// As [`DrText::bytes`].
pub(super) unsafe fn shown(text: DrText) -> String {
    // SAFETY: the caller's promise.
    String::from_utf8_lossy(unsafe { text.bytes() }).into_owned()
}

/// Stands before the runtime's sink: hears what the module says and passes it on.
struct Ear {
    heard: Mutex<Vec<u8>>,
    sink: *const DrSink,
}

/// Most bytes that are noted of one answer.
const MAX_HEARD: usize = 4096;

impl Ear {
    fn new(sink: *const DrSink) -> Ear {
        Ear { heard: Mutex::new(Vec::new()), sink }
    }

    /// A sink for one call, during which this ear stays where it is.
    fn sink(&self) -> DrSink {
        unsafe extern "C" fn write(ctx: *mut c_void, text: DrText) {
            // SAFETY: `ctx` is the ear, which outlives the call that it is passed to; `text` is borrowed by contract.
            let (ear, bytes) = unsafe { (&*ctx.cast::<Ear>(), text.bytes()) };
            let mut heard = ear.heard.lock();
            let room = MAX_HEARD.saturating_sub(heard.len());
            heard.extend_from_slice(&bytes[..bytes.len().min(room)]);
            // SAFETY: the runtime's sink, null or alive for the call.
            if let Some(sink) = unsafe { ear.sink.as_ref() } {
                // SAFETY: as its contract says.
                unsafe { (sink.write)(sink.ctx, text) };
            }
        }
        DrSink { ctx: std::ptr::from_ref(self).cast_mut().cast(), write }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock()).into_owned()
    }
}

/// A call that answers with a status and says why.
fn status_call(
    callback: &str,
    about: String,
    error: *const DrSink,
    make: impl FnOnce(*const DrSink) -> DrStatus,
) -> DrStatus {
    let ear = Ear::new(error);
    let sink = ear.sink();
    record::call(callback, about, None, || make(&raw const sink), |status| (status_text(*status), ear.heard()))
}

/// Calls a function that is in the table, since the lens has one in its place only then.
macro_rules! of_module {
    ($name:ident) => {
        match MODULE.get().and_then(|module| module.$name) {
            Some(function) => function,
            None => return DR_UNSUPPORTED,
        }
    };
}

unsafe extern "C" fn create(args: *const DrCreate, instance: *mut *mut c_void, error: *const DrSink) -> DrStatus {
    let Some(module) = MODULE.get() else { return DR_UNSUPPORTED };
    // SAFETY: the runtime's own struct, whole and alive for the call.
    let args = DrCreate { host: host_lens::table(), ..unsafe { *args } };
    // SAFETY: as above.
    let about = unsafe { shown(args.desired) };
    // SAFETY: what the runtime passed, but for the table of the lens, which is one.
    status_call("create", about, error, |sink| unsafe { (module.create)(&raw const args, instance, sink) })
}

unsafe extern "C" fn destroy(instance: *mut c_void) {
    let Some(module) = MODULE.get() else { return };
    // SAFETY: what the runtime passed.
    let make = || unsafe { (module.destroy)(instance) };
    record::call("destroy", String::new(), None, make, |()| ("done".to_owned(), String::new()));
}

unsafe extern "C" fn start(instance: *mut c_void, error: *const DrSink) -> DrStatus {
    let start = of_module!(start);
    // SAFETY: what the runtime passed.
    status_call("start", String::new(), error, |sink| unsafe { start(instance, sink) })
}

unsafe extern "C" fn stop(instance: *mut c_void, error: *const DrSink) -> DrStatus {
    let stop = of_module!(stop);
    // SAFETY: what the runtime passed.
    status_call("stop", String::new(), error, |sink| unsafe { stop(instance, sink) })
}

unsafe extern "C" fn on_desired(instance: *mut c_void, change: *const DrDesired, error: *const DrSink) -> DrStatus {
    let on_desired = of_module!(on_desired);
    // SAFETY: the runtime's own struct, alive for the call.
    let about = unsafe { format!("version {}: {}", (*change).version, shown((*change).patch)) };
    // SAFETY: what the runtime passed.
    status_call("on_desired", about, error, |sink| unsafe { on_desired(instance, change, sink) })
}

unsafe extern "C" fn on_timer(instance: *mut c_void, timer: u64, missed: u64, error: *const DrSink) -> DrStatus {
    let on_timer = of_module!(on_timer);
    let about = if missed == 0 { String::new() } else { format!("{missed} missed") };
    // SAFETY: what the runtime passed.
    status_call("on_timer", about, error, |sink| unsafe { on_timer(instance, timer, missed, sink) })
}

unsafe extern "C" fn on_event(instance: *mut c_void, value: u64, error: *const DrSink) -> DrStatus {
    let on_event = of_module!(on_event);
    // SAFETY: what the runtime passed.
    status_call("on_event", String::new(), error, |sink| unsafe { on_event(instance, value, sink) })
}

unsafe extern "C" fn on_method(
    instance: *mut c_void,
    call: *const DrMethodCall,
    status: *mut i32,
    payload: *const DrSink,
) -> DrStatus {
    let on_method = of_module!(on_method);
    // SAFETY: the runtime's own struct, alive for the call.
    let about = unsafe { format!("{} {}", shown((*call).name), shown((*call).payload)) };
    // SAFETY: what the runtime passed.
    let make = |sink| unsafe { on_method(instance, call, status, sink) };
    status_call("on_method", about.trim_end().to_owned(), payload, make)
}

unsafe extern "C" fn on_message(
    instance: *mut c_void,
    delivery: u64,
    message: *const DrMessage,
    reason: *const DrSink,
) -> DrVerdict {
    let Some(on_message) = MODULE.get().and_then(|module| module.on_message) else {
        return DrVerdict { kind: DR_RETRY, reserved: 0, retry_after_ms: 1000 };
    };
    // SAFETY: the runtime's own struct, alive for the call.
    let (input, body, key, attempt) = unsafe {
        let message = &*message;
        let body = DrText { ptr: message.body, len: message.body_len.min(MAX_HEARD) };
        (shown(message.input), shown(body), (message.epoch, message.sequence), message.attempt)
    };
    let number = record::delivered(delivery, key, &input, attempt);
    let ear = Ear::new(reason);
    let sink = ear.sink();
    let about = format!("{input}: {body}");
    // SAFETY: what the runtime passed.
    let make = || unsafe { on_message(instance, delivery, message, &raw const sink) };
    record::call("on_message", about, Some((number, attempt)), make, |verdict| (verdict_text(*verdict), ear.heard()))
}
