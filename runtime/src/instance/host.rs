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
use crate::message::{META_FORMAT, MetaKind, meta_len};
use crate::method::{Call, CallError, MethodAnswer};
use crate::name::Identity;
use crate::queue::ingest::{DiskMessage, InLine, Outgoing, OutgoingBody, SendError};
use crate::queue::kept::Kept;
use crate::queue::lane::{self, MetaWriter};
use crate::queue::losses::NOT_STORED;
use crate::twin::TwinSnapshot;

/// Largest message that can be carried at all; routes allow far less.
const MAX_BYTES: usize = 1 << 31;
/// Most application properties of a message.
const MAX_PROPERTIES: usize = 1024;

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
    send,
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
pub(super) fn with_link(ticket: u64, act: impl FnOnce(&Arc<Link>) -> DrStatus) -> DrStatus {
    catch_unwind(AssertUnwindSafe(|| match ticket::find(ticket).as_deref() {
        Some(Some(link)) => act(link),
        _ => DR_GONE,
    }))
    .unwrap_or(DR_FAILED)
}

/// Text of a module: UTF-8 or nothing.
///
/// # Safety
/// As [`DrText::bytes`]: what every function of the table demands of its arguments.
unsafe fn read<'a>(text: DrText) -> Option<&'a str> {
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

/// The parts of an outgoing message, checked.
struct Parts<'a> {
    properties: &'a [DrProperty],
    system: [(MetaKind, &'a [u8]); 4],
    body: OutgoingBody<'a>,
    meta_len: usize,
}

impl<'a> Parts<'a> {
    /// # Safety
    /// `message` is as the contract says: readable, with everything that it points to, for `'a`.
    unsafe fn read(message: *const DrOutgoing) -> Option<Parts<'a>> {
        // SAFETY: the caller's promise; `size` comes first and says how much is there.
        unsafe {
            let message = message.as_ref()?;
            if (message.size as usize) < size_of::<DrOutgoing>() || message.property_count as usize > MAX_PROPERTIES {
                return None;
            }
            let properties = match message.property_count as usize {
                0 => &[][..],
                _ if message.properties.is_null() => return None,
                count => std::slice::from_raw_parts(message.properties, count),
            };
            let body = match message.buffer.as_ref() {
                Some(buffer) => OutgoingBody::Buffer(buffer, DrText { ptr: buffer.ptr, len: buffer.len }.bytes()),
                None if message.body.is_null() && message.body_len > 0 => return None,
                None => OutgoingBody::Bytes(DrText { ptr: message.body, len: message.body_len }.bytes()),
            };
            let system = [
                (MetaKind::MessageId, message.message_id),
                (MetaKind::CorrelationId, message.correlation_id),
                (MetaKind::ContentType, message.content_type),
                (MetaKind::ContentEncoding, message.content_encoding),
            ];
            if system.iter().any(|(_, text)| read(*text).is_none()) {
                return None;
            }
            let system = system.map(|(kind, text)| (kind, text.bytes()));
            let mut len = 0;
            for property in properties {
                let key = read(property.key)?;
                len += meta_len(key.as_bytes(), read(property.value)?.as_bytes());
                if key.len() > usize::from(u16::MAX) {
                    return None;
                }
            }
            len += system.iter().filter(|(_, v)| !v.is_empty()).map(|(_, v)| meta_len(b"", v)).sum::<usize>();
            let meta_len = if len == 0 { 0 } else { len + 1 };
            if body.bytes().len().saturating_add(meta_len) > MAX_BYTES {
                return None;
            }
            Some(Parts { properties, system, body, meta_len })
        }
    }

    fn write(&self, out: &mut MetaWriter<'_>) {
        out.put(&[META_FORMAT]);
        let mut put = |kind: MetaKind, key: &[u8], value: &[u8]| {
            out.put(&[kind as u8]);
            out.put(&(key.len() as u16).to_le_bytes());
            out.put(&(value.len() as u32).to_le_bytes());
            out.put(key);
            out.put(value);
        };
        for (kind, value) in self.system.iter().filter(|(_, value)| !value.is_empty()) {
            put(*kind, b"", value);
        }
        for property in self.properties {
            // SAFETY: checked by `read`, and borrowed for the call.
            let (key, value) = unsafe { (property.key.bytes(), property.value.bytes()) };
            put(MetaKind::Property, key, value);
        }
    }
}

unsafe extern "C" fn send(
    ticket: u64,
    delivery: u64,
    output: u32,
    message: *const DrOutgoing,
    completion: *const DrCompletion,
) -> DrStatus {
    with_link(ticket, |link| {
        // SAFETY: borrowed for the call, by contract.
        let Some(parts) = (unsafe { Parts::read(message) }) else { return DR_INVALID };
        let Some(output) = link.output(output) else { return DR_INVALID };
        if delivery != DR_NO_DELIVERY && !link.deliveries.is_open(delivery) {
            return DR_GONE;
        }
        let (mut status, mut not_staged) = (DR_OK, None);
        let mut disk = |rows: Vec<DiskMessage>, line: InLine| -> Result<(), SendError> {
            if delivery != DR_NO_DELIVERY {
                link.services.disk.check(&rows)?;
                let bytes = rows.iter().map(|row| row.meta.len() + row.body.len()).sum();
                let staged = link.deliveries.stage(delivery, bytes, |stage| stage.messages.extend(rows));
                return staged.map_err(|why| {
                    not_staged = Some(why);
                    SendError::Refused("not staged".to_owned())
                });
            }
            // SAFETY: null or a completion, by contract.
            let completion = unsafe { Completion::copy(completion, link) };
            let (ingest, source) = (link.services.ingest.clone(), output.source().clone());
            let lost: Vec<_> = rows.iter().map(|row| (row.endpoint.clone(), row.sequence)).collect();
            link.services.disk.enqueue(rows, move |outcome| {
                for (endpoint, sequence) in lost.iter().filter(|_| outcome.is_err()) {
                    ingest.losses().count(&source, endpoint, NOT_STORED, *sequence);
                }
                match (completion, outcome) {
                    (Some(completion), Ok(_)) => completion.done(DR_OK, ""),
                    (Some(completion), Err(error)) => completion.done(DR_FAILED, &error.to_string()),
                    (None, _) => drop(line),
                }
            })?;
            status = DR_PENDING;
            Ok(())
        };
        let fill = |out: &mut MetaWriter<'_>| parts.write(out);
        let outgoing = Outgoing { meta_len: parts.meta_len, fill: &fill, body: parts.body };
        match link.services.ingest.send(output, &outgoing, &mut disk) {
            Ok(()) => status,
            // Whoever waits for a completion is called by it; the status of the memory targets is told to nobody else.
            Err(_) if status == DR_PENDING => DR_PENDING,
            Err(SendError::TooLarge { .. }) => DR_TOO_LARGE,
            Err(SendError::Full { .. } | SendError::StoreFull { .. } | SendError::NotStored { .. }) => DR_FULL,
            Err(SendError::Refused(_)) => not_staged.map_or(DR_DENIED, refused_stage),
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

fn refused_stage(why: NotStaged) -> DrStatus {
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
            // SAFETY: on the worker's own thread the handler is under way, so its message is still there.
            Some(current) => Some(unsafe { Kept::copy(&*current, 0, None) }.into_shared()),
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
        _ => std::ptr::null(),
    }
}
