//! The table that the runtime hands to modules. Each function finds the instance behind the ticket, checks what it was given,
//! and passes it on; none trusts a pointer's contents further than the contract goes, none unwinds, none waits for a module.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dinrail_plugin::abi::*;

use super::completions::Completion;
use super::delivery::NotStaged;
use super::given::Whose;
use super::link::{Control, Health, Link};
use super::ticket;
use crate::clock;
use crate::log::Level;
use crate::method::{Call, CallError, MethodAnswer};
use crate::name::Identity;
use crate::queue::kept::{Kept, Standing};
use crate::queue::lane;
use crate::queue::settling::Tries;
use crate::twin::TwinSnapshot;

/// Stands for a time beyond all that a clock can say.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

static MAX_LEVEL: AtomicU32 = AtomicU32::new(DR_INFO);

static HOST: DrHost = DrHost {
    magic: DR_MAGIC,
    abi_major: DR_ABI_MAJOR,
    abi_minor: DR_ABI_MINOR,
    size: size_of::<DrHost>() as u32,
    flags: 0,
    max_level: MAX_LEVEL.as_ptr().cast_const(),
    log,
    output,
    send: super::sending::send,
    patch_reported,
    get_twin,
    set_health,
    timer_start,
    timer_stop,
    post,
    message_keep,
    message_release,
    complete,
    invoke_method,
    fail,
    extension,
};

/// The runtime's table; valid until the process ends.
pub fn table() -> &'static DrHost {
    &HOST
}

/// Sets the most verbose level that modules format log lines for.
pub fn set_max_level(level: u32) {
    MAX_LEVEL.store(level, Ordering::Relaxed);
}

thread_local! {
    /// The ticket whose handlers this thread runs; 0 elsewhere.
    static OWN_TICKET: Cell<u64> = const { Cell::new(0) };
}

/// Binds the calling thread to an instance: it is the one that runs its handlers.
pub fn bind_thread(ticket: u64) {
    OWN_TICKET.with(|own| own.set(ticket));
}

/// Finds the link, runs `act` on it, and turns a panic of ours into a status.
#[inline]
pub(super) fn with_link(ticket: u64, act: impl FnOnce(&Arc<Link>) -> DrStatus) -> DrStatus {
    catch_unwind(AssertUnwindSafe(|| ticket::with(ticket, act).unwrap_or(DR_GONE))).unwrap_or(DR_FAILED)
}

/// Text of a module: UTF-8 or nothing.
///
/// # Safety
/// As [`DrText::bytes`]: what every function of the table demands of its arguments.
pub(super) unsafe fn read<'a>(text: DrText) -> Option<&'a str> {
    // SAFETY: the caller's promise.
    unsafe { text.text() }
}

unsafe extern "C" fn log(ticket: u64, level: DrLevel, target: DrText, text: DrText, file: DrText, line: u32) {
    with_link(ticket, |link| {
        if level > MAX_LEVEL.load(Ordering::Relaxed) {
            return DR_OK;
        }
        // SAFETY: borrowed for the call, by contract.
        let (target, text, file) = unsafe { (target.bytes(), text.bytes(), file.bytes()) };
        let logs = &link.services.logs;
        logs.module_says(link.speaker(), Level::of_number(level), target, &link.masked_bytes(text), (file, line));
        DR_OK
    });
}

unsafe extern "C" fn output(ticket: u64, name: DrText, id: *mut u32) -> DrStatus {
    with_link(ticket, |link| {
        // SAFETY: borrowed for the call, by contract.
        match unsafe { read(name) }.and_then(|name| link.output_id(name)) {
            Some(found) if !id.is_null() => {
                // SAFETY: not null, and the module's to write by contract.
                unsafe { id.write(found) };
                DR_OK
            }
            _ => DR_INVALID,
        }
    })
}

unsafe extern "C" fn patch_reported(
    ticket: u64,
    delivery: u64,
    patch: DrText,
    completion: *const DrCompletion,
) -> DrStatus {
    // SAFETY: what the module passed.
    with_link(ticket, |link| unsafe { report(link, &link.identity, delivery, patch, completion) })
}

/// Merges what the instance reports into the twin of `identity`: its own, or the device's.
///
/// # Safety
/// `patch` is borrowed for the call, and `completion` is null or one of the instance.
pub(super) unsafe fn report(
    link: &Arc<Link>,
    identity: &Identity,
    delivery: u64,
    patch: DrText,
    completion: *const DrCompletion,
) -> DrStatus {
    let bytes = patch.len;
    // SAFETY: the caller's promise.
    let mut patch = match crate::twin::read_document(unsafe { patch.bytes() }) {
        Ok(patch) => patch,
        Err(why) => {
            tracing::warn!(module = &*link.name, "a report that cannot be read: {why}");
            return DR_INVALID;
        }
    };
    link.mask_report(&mut patch);
    if delivery != DR_NO_DELIVERY && !link.deliveries.is_open(delivery) {
        return DR_GONE;
    }
    if delivery != DR_NO_DELIVERY {
        if let Err(error) = link.services.twins.check_report(identity, &patch) {
            return refused_report(link, &error);
        }
        let is_own = *identity == link.identity;
        let staged = link.deliveries.stage(delivery, bytes, |stage| {
            if is_own { stage.reported.push(patch) } else { stage.device_reported.push(patch) }
        });
        return staged.map_or_else(refused_stage, |()| DR_OK);
    }
    // SAFETY: the caller's promise.
    let completion = unsafe { Completion::copy(completion, link) };
    let outcome = link.services.twins.patch_reported(identity, &patch, move |outcome| {
        if let Some(completion) = completion {
            match outcome {
                Ok(_) => completion.done(DR_OK, ""),
                Err(error) => completion.done(DR_FAILED, &error.to_string()),
            }
        }
    });
    match outcome {
        Ok(()) => DR_PENDING,
        Err(error) => refused_report(link, &error),
    }
}

pub(super) fn refused_stage(why: NotStaged) -> DrStatus {
    match why {
        NotStaged::Ended => DR_GONE,
        NotStaged::Full => DR_FULL,
    }
}

/// Logs why a report is refused, which the status alone cannot say.
fn refused_report(link: &Link, error: &crate::twin::TwinError) -> DrStatus {
    tracing::warn!(module = &*link.name, "{error}");
    DR_INVALID
}

unsafe extern "C" fn get_twin(ticket: u64, twin: *mut DrTwin) -> DrStatus {
    // SAFETY: what the module passed.
    with_link(ticket, |link| unsafe { give_twin(link, link.services.twins.get(&link.identity), Whose::Own, twin) })
}

/// Fills in a twin.
///
/// # Safety
/// `twin` is null, or the module's by contract, with its size set.
pub(super) unsafe fn give_twin(
    link: &Link,
    snapshot: Option<Arc<TwinSnapshot>>,
    whose: Whose,
    twin: *mut DrTwin,
) -> DrStatus {
    let Some(snapshot) = snapshot else { return DR_NOT_FOUND };
    // SAFETY: the caller's promise. Nothing else in it need be a value yet, so there is no reference to the whole.
    if twin.is_null() || (unsafe { (&raw const (*twin).size).read() } as usize) < size_of::<DrTwin>() {
        return DR_INVALID;
    }
    let filled = DrTwin {
        size: size_of::<DrTwin>() as u32,
        flags: 0,
        json: lane::host_buffer(link.twin_text(&snapshot, whose)),
        desired_revision: snapshot.desired.revision,
        reported_revision: snapshot.reported.revision,
    };
    // SAFETY: as large as this by the check above, and the module's to write by contract.
    unsafe { twin.write(filled) };
    DR_OK
}

unsafe extern "C" fn set_health(ticket: u64, level: DrLevel, sentence: DrText) -> DrStatus {
    with_link(ticket, |link| {
        // SAFETY: borrowed for the call, by contract.
        let Some(sentence) = (unsafe { read(sentence) }) else { return DR_INVALID };
        let sentence = link.masked(sentence).chars().filter(|c| !c.is_control()).take(300).collect();
        link.set_health(Health { level, sentence });
        DR_OK
    })
}

unsafe extern "C" fn timer_start(ticket: u64, first_ms: u64, period_ms: u64, timer: *mut u64) -> DrStatus {
    with_link(ticket, |link| {
        if timer.is_null() {
            return DR_INVALID;
        }
        let Some(id) = link.add_timer() else { return DR_FULL };
        // SAFETY: not null, and the module's to write by contract.
        unsafe { timer.write(id) };
        let (first, period) = (Duration::from_millis(first_ms), Duration::from_millis(period_ms));
        let now = clock::now();
        let first = now.checked_add(first).unwrap_or(now + FAR);
        if link.tell(Control::TimerStart { id, first, period }) {
            return DR_OK;
        }
        link.remove_timer(id);
        DR_FULL
    })
}

unsafe extern "C" fn timer_stop(ticket: u64, timer: u64) -> DrStatus {
    with_link(ticket, |link| {
        if !link.remove_timer(timer) {
            return DR_GONE;
        }
        link.tell(Control::TimerStop(timer));
        DR_OK
    })
}

unsafe extern "C" fn post(ticket: u64, value: u64) -> DrStatus {
    with_link(ticket, |link| if link.tell(Control::Event(value)) { DR_OK } else { DR_FULL })
}

unsafe extern "C" fn message_keep(ticket: u64, delivery: u64, message: *mut *const DrMessage) -> DrStatus {
    with_link(ticket, |link| {
        if message.is_null() {
            return DR_INVALID;
        }
        let is_own_thread = OWN_TICKET.with(Cell::get) == ticket;
        let current = is_own_thread.then(|| link.deliveries.current_message(delivery)).flatten();
        let kept = match current {
            Some(current) => {
                // SAFETY: on the worker's own thread the handler is under way, so its message is still there.
                Some(unsafe { Kept::copy(&*current, Tries::default(), None, Standing::NONE) }.into_shared())
            }
            None => link.deliveries.keep_deferred(delivery),
        };
        let Some(kept) = kept else { return DR_GONE };
        // SAFETY: not null, and the module's to write by contract.
        unsafe { message.write(kept) };
        DR_OK
    })
}

unsafe extern "C" fn message_release(message: *const DrMessage) {
    if !message.is_null() {
        // SAFETY: a kept message that the module gives back once, by contract.
        drop(unsafe { Kept::from_shared(message) });
    }
}

unsafe extern "C" fn complete(ticket: u64, delivery: u64, verdict: DrVerdict, reason: DrText) -> DrStatus {
    with_link(ticket, |link| {
        if verdict.kind == DR_DEFER || verdict.kind > DR_PANIC {
            return DR_INVALID;
        }
        if !link.deliveries.begin_end(delivery) {
            return DR_GONE;
        }
        // SAFETY: borrowed for the call, by contract.
        let reason = link.masked(unsafe { read(reason) }.unwrap_or_default()).into_owned();
        if link.tell(Control::Complete { delivery, verdict, reason }) { DR_OK } else { DR_GONE }
    })
}

unsafe extern "C" fn invoke_method(
    ticket: u64,
    target: DrText,
    name: DrText,
    payload: DrText,
    timeout_ms: u64,
    completion: *const DrCompletion,
) -> DrStatus {
    with_link(ticket, |link| {
        // SAFETY: borrowed for the call, by contract; the completion is null or one.
        let (target, name, payload, completion) =
            unsafe { (read(target), read(name), read(payload), Completion::copy(completion, link)) };
        let (Some(target), Some(name), Some(payload), Some(completion)) = (target, name, payload, completion) else {
            return DR_INVALID;
        };
        let hear = Box::new(move |end: Result<MethodAnswer, CallError>| match end {
            Ok(answer) => {
                let payload = if answer.payload.is_empty() { "null" } else { &answer.payload };
                completion.done(DR_OK, &format!("{{\"status\":{},\"payload\":{payload}}}", answer.status));
            }
            Err(error) => completion.done(error.status(), &error.to_string()),
        });
        let call = Call {
            caller: link.identity.to_string(),
            target: target.to_owned(),
            name: name.to_owned(),
            payload: payload.to_owned(),
            timeout: Duration::from_millis(timeout_ms),
        };
        if let Some(request) = link.services.calls.begin(call, hear) {
            // Whatever becomes of the request, its completion is called: even a defect of ours must not say otherwise.
            let _ = catch_unwind(AssertUnwindSafe(|| (link.services.call_method)(target, request)));
        }
        DR_PENDING
    })
}

unsafe extern "C" fn fail(ticket: u64, reason: DrText) -> DrStatus {
    with_link(ticket, |link| {
        // SAFETY: borrowed for the call, by contract.
        let reason = String::from_utf8_lossy(unsafe { reason.bytes() });
        link.tell(Control::Fail(link.masked(&reason).into_owned()));
        DR_OK
    })
}

unsafe extern "C" fn extension(name: DrText) -> *const c_void {
    // SAFETY: borrowed for the call, by contract.
    match unsafe { read(name) } {
        Some(DR_EXTENSION_DEVICE) => (&raw const super::device::TABLE).cast(),
        Some(DR_EXTENSION_THREADS) => (&raw const super::threads::TABLE).cast(),
        Some(DR_EXTENSION_IDENTITY) => (&raw const super::signing::TABLE).cast(),
        Some(DR_EXTENSION_SENDS) => (&raw const super::sending::TABLE).cast(),
        _ => std::ptr::null(),
    }
}
