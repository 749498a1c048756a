//! Sends: a message of a module on its way in, and how its sender hears that it is on disk.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use dinrail_plugin::abi::*;

use super::completions::Completion;
use super::delivery::NotStaged;
use super::host::{read, refused_stage, with_link};
use super::link::Link;
use crate::message::{META_FORMAT, MetaKind, meta_head, meta_len};
use crate::queue::disk::Disk;
use crate::queue::ingest::{DiskMessage, InLine, Outgoing, OutgoingBody, SendError};
use crate::queue::lane::MetaWriter;
use crate::queue::losses::{FULL, NOT_STORED};

/// Largest message that can be carried at all; routes allow far less.
const MAX_BYTES: usize = 1 << 31;
/// Most application properties of a message.
pub(crate) const MAX_PROPERTIES: usize = 1024;
/// Stack that a thread has left where it makes a commit itself, in bytes: several times what it takes.
const STACK_OF_COMMIT: usize = 64 * 1024;

/// What modules find as `dinrail.sends/1`.
pub static TABLE: DrSends = DrSends { size: size_of::<DrSends>() as u32, flags: 0, send_and_wait };

/// The parts of an outgoing message, checked.
struct Parts<'a> {
    properties: &'a [DrProperty],
    system: [(MetaKind, &'a [u8]); 4],
    body: OutgoingBody<'a>,
    meta_len: usize,
}

impl<'a> Parts<'a> {
    /// In line with its caller: a whole one handed on through memory costs as much as all that is in here.
    ///
    /// # Safety
    /// `message` is as the contract says: readable, with everything that it points to, for `'a`.
    #[inline(always)]
    unsafe fn read(message: *const DrOutgoing) -> Option<Parts<'a>> {
        // SAFETY: the caller's promise; `size` comes first and says how much is there.
        unsafe {
            let message = message.as_ref()?;
            if (message.size as usize) < size_of::<DrOutgoing>() {
                return None;
            }
            let properties = message.property_list(MAX_PROPERTIES)?;
            let bytes = message.body_bytes()?;
            let body = match message.buffer.as_ref() {
                Some(buffer) => OutgoingBody::Buffer(buffer, bytes),
                None => OutgoingBody::Bytes(bytes),
            };
            let system = [
                (MetaKind::MessageId, message.message_id),
                (MetaKind::CorrelationId, message.correlation_id),
                (MetaKind::ContentType, message.content_type),
                (MetaKind::ContentEncoding, message.content_encoding),
            ];
            if system.iter().any(|(_, text)| text.len > 0 && read(*text).is_none()) {
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
            out.put(&meta_head(kind, key, value));
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

/// Who hears that a message is on disk.
enum Hearer {
    /// The module's completion, if it gave one.
    Module(Option<Completion>),
    /// A thread that waits.
    Thread(Waker),
}

impl Hearer {
    fn hear(self, status: DrStatus, reason: &str) {
        match self {
            Hearer::Module(Some(completion)) => completion.done(status, reason),
            Hearer::Module(None) => {}
            Hearer::Thread(waker) => waker.wake(status, reason),
        }
    }
}

/// A thread that waits in [`send_and_wait`].
struct Waiting {
    thread: Thread,
    end: OnceLock<(DrStatus, String)>,
    /// It makes the commit itself where nobody else writes.
    attends: bool,
}

impl Waiting {
    /// Of this thread.
    fn new() -> Arc<Waiting> {
        // It is the module's thread, and the module said how large its stack is.
        let attends = stacker::remaining_stack().is_some_and(|bytes| bytes >= STACK_OF_COMMIT);
        Arc::new(Waiting { thread: std::thread::current(), end: OnceLock::new(), attends })
    }

    fn wait(&self) -> &(DrStatus, String) {
        loop {
            if let Some(end) = self.end.get() {
                return end;
            }
            std::thread::park();
        }
    }
}

/// Wakes it once; a thread is never left waiting.
struct Waker(Arc<Waiting>);

impl Waker {
    fn wake(&self, status: DrStatus, reason: &str) {
        let is_set = self.0.end.set((status, reason.to_owned())).is_ok();
        // It may have made the commit itself.
        if is_set && self.0.thread.id() != std::thread::current().id() {
            self.0.thread.unpark();
        }
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.wake(DR_FAILED, "its end was lost by a defect of the runtime");
    }
}

/// What a thread owes that has something in line and is about to wait for it: to write it itself where nobody else does.
struct Attendance<'a> {
    disk: &'a Disk,
    waiting: &'a RefCell<Option<Arc<Waiting>>>,
}

impl Drop for Attendance<'_> {
    fn drop(&mut self) {
        if self.waiting.borrow().as_ref().is_some_and(|waiting| waiting.attends) {
            self.disk.attend();
        }
    }
}

pub(super) unsafe extern "C" fn send(
    ticket: u64,
    delivery: u64,
    output: u32,
    message: *const DrOutgoing,
    completion: *const DrCompletion,
) -> DrStatus {
    with_link(ticket, |link| {
        // SAFETY: null or a completion, by contract.
        let hearer = || Hearer::Module(unsafe { Completion::copy(completion, link) });
        // SAFETY: what the module passed.
        unsafe { carry(link, delivery, output, message, hearer) }
    })
}

unsafe extern "C" fn send_and_wait(
    ticket: u64,
    output: u32,
    message: *const DrOutgoing,
    reason: *const DrSink,
) -> DrStatus {
    with_link(ticket, |link| {
        // Made only where something goes to the disk.
        let waiting = RefCell::new(None);
        let hearer = || {
            let waits = Waiting::new();
            *waiting.borrow_mut() = Some(waits.clone());
            Hearer::Thread(Waker(waits))
        };
        let attendance = Attendance { disk: &link.services.disk, waiting: &waiting };
        // SAFETY: what the module passed.
        let status = unsafe { carry(link, DR_NO_DELIVERY, output, message, hearer) };
        drop(attendance);
        if status != DR_PENDING {
            return status;
        }
        let Some(waiting) = waiting.take() else { return status };
        let (status, why) = waiting.wait();
        // SAFETY: null or a sink, lent for the call by contract.
        if let Some(reason) = unsafe { reason.as_ref() }.filter(|_| !why.is_empty()) {
            // SAFETY: as above; the text is borrowed for the call.
            unsafe { (reason.write)(reason.ctx, DrText::new(why)) };
        }
        *status
    })
}

/// Brings a message in; `hearer` makes who hears the end, where something of it goes to the disk.
///
/// # Safety
/// `message` is as the contract of `send` says.
#[inline]
unsafe fn carry(
    link: &Arc<Link>,
    delivery: u64,
    output: u32,
    message: *const DrOutgoing,
    hearer: impl Fn() -> Hearer,
) -> DrStatus {
    // SAFETY: the caller's promise.
    let Some(parts) = (unsafe { Parts::read(message) }) else { return DR_INVALID };
    let Some(output) = link.output(output) else { return DR_INVALID };
    if delivery != DR_NO_DELIVERY && !link.deliveries.is_open(delivery) {
        return DR_GONE;
    }
    let (mut status, mut not_staged) = (DR_OK, None);
    let mut disk = |rows: Vec<DiskMessage>, line: InLine, short: Option<&SendError>| -> Result<(), SendError> {
        if delivery != DR_NO_DELIVERY {
            link.services.disk.check(&rows)?;
            let bytes = rows.iter().map(|row| row.meta.len() + row.body.len()).sum();
            let mut rows = Some(rows);
            let staged = link.deliveries.stage(delivery, bytes, |stage| {
                stage.messages.extend(rows.take().into_iter().flatten());
                stage.line.join(line);
            });
            return staged.map_err(|why| {
                // Their numbers are given out: nobody shall wait for them.
                let (losses, rows) = (link.services.ingest.losses(), rows.unwrap_or_default());
                match why {
                    NotStaged::Ended => losses.withdrawn(&rows),
                    NotStaged::Full => rows.iter().for_each(|row| {
                        losses.count(output.source(), &row.endpoint, FULL, row.sequence);
                    }),
                }
                not_staged = Some(why);
                SendError::Refused("not staged".to_owned())
            });
        }
        let (ingest, source, hearer) = (link.services.ingest.clone(), output.source().clone(), hearer());
        // Where another receiver does not have it, the end is that of the whole.
        let short = short.map(|error| (status_of(error).unwrap_or(DR_FULL), error.to_string()));
        let lost: Vec<_> = rows.iter().map(|row| (row.endpoint.clone(), row.sequence)).collect();
        let attends = matches!(&hearer, Hearer::Thread(Waker(waiting)) if waiting.attends);
        link.services.disk.enqueue_from(rows, attends, move |outcome| {
            match outcome {
                Ok(_) => match short {
                    None => hearer.hear(DR_OK, ""),
                    Some((status, why)) => hearer.hear(status, &why),
                },
                Err(error) => {
                    for (endpoint, sequence) in &lost {
                        ingest.losses().count(&source, endpoint, NOT_STORED, *sequence);
                    }
                    hearer.hear(DR_FAILED, &error.to_string());
                }
            }
            drop(line);
        })?;
        status = DR_PENDING;
        Ok(())
    };
    let fill = |out: &mut MetaWriter<'_>| parts.write(out);
    let outgoing = Outgoing { meta_len: parts.meta_len, fill: &fill, body: parts.body };
    match link.services.ingest.send(output, &outgoing, &mut disk) {
        Ok(()) => status,
        // Whoever waits for a completion is called by it, and hears there of every receiver.
        Err(_) if status == DR_PENDING => DR_PENDING,
        Err(error) => status_of(&error).unwrap_or_else(|| not_staged.map_or(DR_DENIED, refused_stage)),
    }
}

/// What a module hears of messages that not every receiver has; `None` where it may not send.
fn status_of(error: &SendError) -> Option<DrStatus> {
    match error {
        SendError::TooLarge { .. } => Some(DR_TOO_LARGE),
        SendError::Full { .. } | SendError::StoreFull { .. } | SendError::NotStored { .. } => Some(DR_FULL),
        SendError::Refused(_) => None,
    }
}
