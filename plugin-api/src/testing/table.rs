//! The bench as a [`DrHost`]: the border between the module's calls and its bed.

use std::ffi::c_void;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::bed::{Bed, Stored};
use super::seen::{LogLine, Sent, read_verdict};
use super::signing;
use crate::abi::{
    DR_ABI_MAJOR, DR_ABI_MINOR, DR_DENIED, DR_DEVICE_READ, DR_DEVICE_REPORT, DR_EXTENSION_DEVICE,
    DR_EXTENSION_IDENTITY, DR_INVALID, DR_MAGIC, DR_NO_INDEX, DR_OK, DR_PENDING, DR_TRACE, DrBuffer, DrCompletion,
    DrDevice, DrHost, DrIdentity, DrLevel, DrMessage, DrOutgoing, DrProperty, DrSink, DrStatus, DrText, DrTwin,
    DrVerdict,
};
use crate::body::Body;
use crate::client::Level;
use crate::host::lent;

static MAX_LEVEL: AtomicU32 = AtomicU32::new(DR_TRACE);

pub(crate) static HOST: DrHost = DrHost {
    magic: DR_MAGIC,
    abi_major: DR_ABI_MAJOR,
    abi_minor: DR_ABI_MINOR,
    size: size_of::<DrHost>() as u32,
    flags: 0,
    max_level: (&raw const MAX_LEVEL).cast(),
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

/// A stored message in the words of the ABI. The head comes first, so that its address is that of the whole.
#[repr(C)]
pub(super) struct Lent {
    head: DrMessage,
    buffer: DrBuffer,
    properties: Vec<DrProperty>,
    stored: Stored,
}

impl Lent {
    pub fn new(stored: Stored) -> Box<Lent> {
        let text = |text: &Option<String>| text.as_deref().map_or(DrText::ABSENT, DrText::new);
        let property =
            |(key, value): &(String, String)| DrProperty { key: DrText::new(key), value: DrText::new(value) };
        let properties: Vec<DrProperty> = stored.properties.iter().map(property).collect();
        let head = DrMessage {
            size: size_of::<DrMessage>() as u32,
            attempt: stored.attempt,
            input: DrText::new(&stored.input),
            input_index: stored.input_index.map_or(DR_NO_INDEX, |index| index as u32),
            property_count: properties.len() as u32,
            properties: properties.as_ptr(),
            body: stored.body.as_ptr(),
            body_len: stored.body.len(),
            buffer: std::ptr::null(),
            sender: DrText::new(&stored.sender),
            output: DrText::new("output"),
            epoch: stored.epoch,
            sequence: stored.sequence,
            created_us: stored.created_us,
            message_id: DrText::ABSENT,
            correlation_id: DrText::ABSENT,
            content_type: text(&stored.content_type),
            content_encoding: DrText::ABSENT,
        };
        let mut lent = Box::new(Lent { head, buffer: *stored.body.raw(), properties, stored });
        // As in the runtime: short bodies lie inline, longer ones in a buffer that can be retained.
        if lent.stored.body.len() > 256 {
            lent.head.buffer = &raw const lent.buffer;
        }
        debug_assert_eq!(lent.head.property_count as usize, lent.properties.len());
        lent
    }

    pub fn message(&self) -> *const DrMessage {
        (&raw const *self).cast()
    }
}

/// Runs a call on the bed of `ticket`.
fn on_bed(ticket: u64, work: impl FnOnce(&Bed) -> DrStatus) -> DrStatus {
    match Bed::find(ticket) {
        Ok(bed) => work(&bed),
        Err(gone) => gone,
    }
}

/// Delivers the end of something outside of a handler the way a slow disk would: through the completion.
///
/// # Safety
/// `completion` is null or valid.
unsafe fn end(completion: *const DrCompletion, status: DrStatus, detail: &str) -> DrStatus {
    // SAFETY: the caller's promise.
    match unsafe { completion.as_ref() } {
        // SAFETY: called once; `DR_PENDING` says so.
        Some(completion) => unsafe {
            (completion.done)(completion.ctx, status, DrText::new(detail));
            DR_PENDING
        },
        None => status,
    }
}

fn staged_under(delivery: u64) -> Option<u64> {
    (delivery != crate::abi::DR_NO_DELIVERY).then_some(delivery)
}

fn level(level: DrLevel) -> Level {
    [Level::Error, Level::Warn, Level::Info, Level::Debug]
        .into_iter()
        .find(|l| *l as u32 == level)
        .unwrap_or(Level::Trace)
}

unsafe extern "C" fn log(ticket: u64, severity: DrLevel, target: DrText, text: DrText, file: DrText, line: u32) {
    // SAFETY: text is lent for the call.
    let (target, text, file) = unsafe { (lent(target).to_owned(), lent(text).to_owned(), lent(file)) };
    let place = (!file.is_empty()).then(|| format!("{file}:{line}"));
    on_bed(ticket, |bed| {
        bed.log(LogLine { level: level(severity), target, text, place });
        DR_OK
    });
}

unsafe extern "C" fn output(ticket: u64, name: DrText, id: *mut u32) -> DrStatus {
    // SAFETY: text is lent for the call, and `id` is the caller's.
    let (name, id) = unsafe { (lent(name), &mut *id) };
    on_bed(ticket, |bed| {
        if name.is_empty() {
            return DR_INVALID;
        }
        *id = bed.output(name);
        DR_OK
    })
}

unsafe extern "C" fn send(
    ticket: u64,
    delivery: u64,
    output: u32,
    message: *const DrOutgoing,
    completion: *const DrCompletion,
) -> DrStatus {
    // SAFETY: the message and all that it points to are lent for the call.
    let sent = unsafe {
        let raw = &*message;
        let present = |text: DrText| (!text.ptr.is_null()).then(|| lent(text).to_owned());
        let pair = |property: &DrProperty| (lent(property.key).to_owned(), lent(property.value).to_owned());
        Sent {
            output: String::new(),
            body: raw.body_bytes().unwrap_or_default().to_vec(),
            properties: raw.property_list(usize::MAX).unwrap_or_default().iter().map(pair).collect(),
            message_id: present(raw.message_id),
            correlation_id: present(raw.correlation_id),
            content_type: present(raw.content_type),
            content_encoding: present(raw.content_encoding),
        }
    };
    let delivery = staged_under(delivery);
    match on_bed(ticket, |bed| bed.send(delivery, output, sent)) {
        // SAFETY: null or valid by the contract of `send`.
        DR_OK if delivery.is_none() => unsafe { end(completion, DR_OK, "") },
        status => status,
    }
}

unsafe extern "C" fn patch_reported(
    ticket: u64,
    delivery: u64,
    patch: DrText,
    completion: *const DrCompletion,
) -> DrStatus {
    // SAFETY: text is lent for the call.
    let patch = unsafe { lent(patch) };
    let delivery = staged_under(delivery);
    match on_bed(ticket, |bed| bed.patch_reported(delivery, patch)) {
        // SAFETY: null or valid by the contract of `patch_reported`.
        DR_OK if delivery.is_none() => unsafe { end(completion, DR_OK, "") },
        status => status,
    }
}

unsafe extern "C" fn get_twin(ticket: u64, twin: *mut DrTwin) -> DrStatus {
    on_bed(ticket, |bed| {
        let (doc, desired_revision, reported_revision) = bed.twin();
        // SAFETY: the caller's, of at least our size since both are of this crate; the buffer's reference goes to it.
        unsafe {
            (*twin).json = Body::from(doc).into_raw();
            (*twin).desired_revision = desired_revision;
            (*twin).reported_revision = reported_revision;
        }
        DR_OK
    })
}

unsafe extern "C" fn set_health(ticket: u64, severity: DrLevel, sentence: DrText) -> DrStatus {
    // SAFETY: text is lent for the call.
    let sentence = unsafe { lent(sentence) };
    on_bed(ticket, |bed| {
        bed.set_health(level(severity), sentence);
        DR_OK
    })
}

unsafe extern "C" fn timer_start(ticket: u64, first_ms: u64, period_ms: u64, timer: *mut u64) -> DrStatus {
    on_bed(ticket, |bed| {
        let started = bed.start_timer(Duration::from_millis(first_ms), Duration::from_millis(period_ms));
        // SAFETY: `timer` is the caller's.
        unsafe { *timer = started };
        DR_OK
    })
}

unsafe extern "C" fn timer_stop(ticket: u64, timer: u64) -> DrStatus {
    on_bed(ticket, |bed| bed.stop_timer(timer))
}

unsafe extern "C" fn post(ticket: u64, value: u64) -> DrStatus {
    on_bed(ticket, |bed| {
        bed.post(value);
        DR_OK
    })
}

unsafe extern "C" fn message_keep(ticket: u64, delivery: u64, message: *mut *const DrMessage) -> DrStatus {
    on_bed(ticket, |bed| match bed.kept(delivery) {
        Ok(stored) => {
            // SAFETY: `message` is the caller's; the box is freed by `message_release`.
            unsafe { *message = Box::into_raw(Lent::new(stored)).cast() };
            DR_OK
        }
        Err(status) => status,
    })
}

unsafe extern "C" fn message_release(message: *const DrMessage) {
    // SAFETY: made by `message_keep`, released once.
    drop(unsafe { Box::from_raw(message.cast_mut().cast::<Lent>()) });
}

unsafe extern "C" fn complete(ticket: u64, delivery: u64, verdict: DrVerdict, reason: DrText) -> DrStatus {
    // SAFETY: text is lent for the call.
    let reason = unsafe { lent(reason) }.to_owned();
    on_bed(ticket, |bed| bed.complete(delivery, read_verdict(verdict, reason)))
}

unsafe extern "C" fn invoke_method(
    ticket: u64,
    target: DrText,
    name: DrText,
    _payload: DrText,
    _timeout_ms: u64,
    completion: *const DrCompletion,
) -> DrStatus {
    let bed = match Bed::find(ticket) {
        Ok(bed) => bed,
        Err(gone) => return gone,
    };
    // SAFETY: text is lent for the call; the completion is valid by the contract of `invoke_method`.
    unsafe {
        match bed.invoke(lent(target), lent(name)) {
            Ok(response) => {
                let answer = serde_json::json!({ "status": response.status, "payload": response.payload });
                end(completion, DR_OK, &answer.to_string())
            }
            Err(status) => end(completion, status, ""),
        }
    }
}

unsafe extern "C" fn fail(ticket: u64, reason: DrText) -> DrStatus {
    // SAFETY: text is lent for the call.
    let reason = unsafe { lent(reason) };
    on_bed(ticket, |bed| {
        bed.fail(reason);
        DR_OK
    })
}

unsafe extern "C" fn extension(name: DrText) -> *const c_void {
    // SAFETY: the name is lent for the call.
    match unsafe { lent(name) } {
        DR_EXTENSION_DEVICE => (&raw const DEVICE).cast(),
        DR_EXTENSION_IDENTITY => (&raw const IDENTITY).cast(),
        _ => std::ptr::null(),
    }
}

static IDENTITY: DrIdentity = DrIdentity { size: size_of::<DrIdentity>() as u32, flags: 0, sign, token };

unsafe extern "C" fn sign(ticket: u64, bytes: *const u8, length: usize, signature: *mut u8) -> DrStatus {
    if signature.is_null() || (bytes.is_null() && length > 0) {
        return DR_INVALID;
    }
    // SAFETY: so many bytes are lent for the call, and 32 are there for the signature, by contract.
    let (bytes, to) = unsafe { (DrText { ptr: bytes, len: length }.bytes(), signature.cast::<[u8; 32]>()) };
    on_bed(ticket, |_| {
        // SAFETY: as above.
        unsafe { to.write_unaligned(signing::sign(bytes)) };
        DR_OK
    })
}

unsafe extern "C" fn token(ticket: u64, host: DrText, ttl_secs: u64, token: *const DrSink) -> DrStatus {
    // SAFETY: the text and the sink are lent for the call.
    let (host, token) = unsafe { (if host.ptr.is_null() { "localhost" } else { lent(host) }, token.as_ref()) };
    let Some(token) = token.filter(|_| (1..=signing::MAX_TTL_SECS).contains(&ttl_secs) && !host.is_empty()) else {
        return DR_INVALID;
    };
    on_bed(ticket, |bed| {
        let text = signing::token(host, &bed.identity, ttl_secs);
        // SAFETY: the sink is lent for the call.
        unsafe { (token.write)(token.ctx, DrText::new(&text)) };
        DR_OK
    })
}

static DEVICE: DrDevice = DrDevice {
    size: size_of::<DrDevice>() as u32,
    flags: 0,
    open: open_device,
    get_twin: get_device_twin,
    patch_reported: patch_device,
};

unsafe extern "C" fn open_device(ticket: u64, rights: *mut u32) -> DrStatus {
    on_bed(ticket, |bed| {
        let Some(may_report) = bed.device_rights() else { return DR_DENIED };
        let granted = if may_report { DR_DEVICE_READ | DR_DEVICE_REPORT } else { DR_DEVICE_READ };
        // SAFETY: `rights` is the caller's.
        unsafe { *rights = granted };
        DR_OK
    })
}

unsafe extern "C" fn get_device_twin(ticket: u64, twin: *mut DrTwin) -> DrStatus {
    on_bed(ticket, |bed| {
        let Some((doc, desired_revision, reported_revision)) = bed.device_twin() else { return DR_DENIED };
        // SAFETY: as in `get_twin`.
        unsafe {
            (*twin).json = Body::from(doc).into_raw();
            (*twin).desired_revision = desired_revision;
            (*twin).reported_revision = reported_revision;
        }
        DR_OK
    })
}

unsafe extern "C" fn patch_device(
    ticket: u64,
    delivery: u64,
    patch: DrText,
    completion: *const DrCompletion,
) -> DrStatus {
    // SAFETY: text is lent for the call.
    let patch = unsafe { lent(patch) };
    let delivery = staged_under(delivery);
    match on_bed(ticket, |bed| bed.patch_device(delivery, patch)) {
        // SAFETY: null or valid by the contract of `patch_reported`.
        DR_OK if delivery.is_none() => unsafe { end(completion, DR_OK, "") },
        status => status,
    }
}
