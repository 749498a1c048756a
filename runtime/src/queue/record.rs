//! A record: a message as it stands in a lane, flat, read in place.
//!
//! ```text
//! head | [row id, source] | [expiry] | [buffer] | properties, or where they are | body, up to 256 bytes
//! ```
//! What stands in brackets takes bytes only where there is something: a message of a memory route without a time to live has none
//! of it.

use std::mem::size_of;
use std::num::NonZeroI64;
use std::ptr;
use std::sync::Arc;

use dinrail_plugin::abi::DrBuffer;

/// Largest body, in bytes, that is copied into the lane; larger ones travel as buffers.
pub const INLINE_BODY: usize = 256;
/// Largest encoded properties, in bytes, that are copied into the lane; larger ones are boxed.
const INLINE_META: usize = 768;
/// What [`Record::expires_ms`] is for a message that does not expire.
pub const NEVER: u64 = u64::MAX;

/// [`RowOf`] as it stands in a record, which owns the reference to the source.
#[repr(C)]
#[derive(Clone, Copy)]
struct RowPart {
    id: i64,
    source: *const Source,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Head {
    /// Length of the whole record, a multiple of 8.
    len: u32,
    flags: u32,
    meta_len: u32,
    body_len: u32,
    sequence: u64,
    created_us: i64,
}

const HAS_BUFFER: u32 = 1;
const META_BOXED: u32 = 2;
/// Fills the rest of a ring; the next record starts at its beginning.
pub(super) const SKIP: u32 = 4;
const HAS_ROW: u32 = 8;
const HAS_EXPIRY: u32 = 16;

/// Whose messages these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Identity of the sender.
    pub identity: Arc<str>,
    /// Output of the sender; empty where it has none.
    pub output: Arc<str>,
    /// Epoch of the sequences.
    pub epoch: u64,
}

/// A body on its way into a lane.
pub enum Body<'a> {
    /// At most [`INLINE_BODY`] bytes, copied.
    Inline(&'a [u8]),
    /// A reference that the lane takes over; it releases it when the message is gone.
    Buffer(DrBuffer),
}

/// A row on disk, and whose message it holds: rows of all senders share a lane.
#[derive(Debug, Clone, Copy)]
pub struct RowOf<'a> {
    /// Its id.
    pub id: NonZeroI64,
    /// The sender.
    pub source: &'a Arc<Source>,
}

/// What is written into a lane besides the body.
pub struct Entry<'a> {
    /// Sequence of the message, unique per source and epoch.
    pub sequence: u64,
    /// When it was taken in, microseconds since 1970 UTC.
    pub created_us: i64,
    /// When it is not worth delivering any more, as [`crate::clock::coarse_monotonic_ms`] has it; or [`NEVER`].
    pub expires_ms: u64,
    /// The row behind it, where it is on disk too.
    pub row: Option<RowOf<'a>>,
    /// Length of the encoded properties.
    pub meta_len: usize,
    /// Writes them, exactly so many bytes.
    pub fill: &'a dyn Fn(&mut MetaWriter<'_>),
}

/// A message in its lane, read in place.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// Sequence of the message, unique per source and epoch.
    pub sequence: u64,
    /// When it was taken in, microseconds since 1970 UTC.
    pub created_us: i64,
    /// See [`Entry::expires_ms`].
    pub expires_ms: u64,
    /// Id of the row behind it, where it is on disk too.
    pub row: Option<NonZeroI64>,
    /// Who sent it.
    pub source: &'a Source,
    /// Encoded properties, see [`crate::message::Meta`].
    pub meta: &'a [u8],
    /// Body.
    pub body: &'a [u8],
    /// The buffer that holds the body, where it is not inline.
    pub buffer: Option<&'a DrBuffer>,
}

impl Record<'_> {
    /// True when it is not worth delivering any more. Looks at the clock only where there is a time to live.
    #[inline]
    pub fn has_expired(&self) -> bool {
        self.expires_ms != NEVER && crate::clock::coarse_monotonic_ms() >= self.expires_ms
    }
}

/// How a message will stand in its ring.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    /// Bytes of the whole record, a multiple of 8.
    pub len: usize,
    /// Bytes of body and properties: what counts for the limits of a lane.
    pub weight: u64,
    flags: u32,
    body_len: usize,
}

impl Plan {
    #[inline(always)]
    pub fn of(entry: &Entry<'_>, body: &Body<'_>) -> Plan {
        let (body_len, tail_bytes, mut flags) = match body {
            Body::Inline(bytes) => (bytes.len(), bytes.len(), 0),
            Body::Buffer(buffer) => (buffer.len, size_of::<DrBuffer>(), HAS_BUFFER),
        };
        let mut extra = 0;
        if entry.row.is_some() {
            flags |= HAS_ROW;
            extra += size_of::<RowPart>();
        }
        if entry.expires_ms != NEVER {
            flags |= HAS_EXPIRY;
            extra += size_of::<u64>();
        }
        let meta_bytes = if entry.meta_len > INLINE_META {
            flags |= META_BOXED;
            size_of::<*mut u8>()
        } else {
            entry.meta_len
        };
        let len = (size_of::<Head>() + extra + meta_bytes + tail_bytes + 7) & !7;
        Plan { len, weight: body_len as u64 + entry.meta_len as u64, flags, body_len }
    }
}

/// Writes a record; what `entry` and `body` own is the record's from then on.
///
/// # Safety
/// `at` is 8-aligned and has `plan.len` bytes that nobody reads; `plan` is of this entry and body.
#[inline(always)]
pub(super) unsafe fn write(at: *mut u8, plan: &Plan, entry: &Entry<'_>, body: &Body<'_>) {
    let head = Head {
        len: plan.len as u32,
        flags: plan.flags,
        meta_len: entry.meta_len as u32,
        body_len: plan.body_len as u32,
        sequence: entry.sequence,
        created_us: entry.created_us,
    };
    // SAFETY: the caller's promise; every part has a size that is a multiple of 8 but for the last two, which are bytes.
    unsafe {
        at.cast::<Head>().write(head);
        let mut next = at.add(size_of::<Head>());
        if let Some(row) = &entry.row {
            let source = Arc::into_raw(row.source.clone());
            next.cast::<RowPart>().write(RowPart { id: row.id.get(), source });
            next = next.add(size_of::<RowPart>());
        }
        if entry.expires_ms != NEVER {
            next.cast::<u64>().write(entry.expires_ms);
            next = next.add(size_of::<u64>());
        }
        if let Body::Buffer(buffer) = body {
            next.cast::<DrBuffer>().write(*buffer);
            next = next.add(size_of::<DrBuffer>());
        }
        if plan.flags & META_BOXED != 0 {
            let mut outside = vec![0u8; entry.meta_len].into_boxed_slice();
            (entry.fill)(&mut MetaWriter::new(&mut outside));
            next.cast::<*mut u8>().write(Box::into_raw(outside).cast());
            next = next.add(size_of::<*mut u8>());
        } else if entry.meta_len > 0 {
            ptr::write_bytes(next, 0, entry.meta_len);
            (entry.fill)(&mut MetaWriter::new(std::slice::from_raw_parts_mut(next, entry.meta_len)));
            next = next.add(entry.meta_len);
        }
        if let Body::Inline(bytes) = body {
            ptr::copy_nonoverlapping(bytes.as_ptr(), next, bytes.len());
        }
    }
}

/// # Safety
/// `at` is a complete record that stays unchanged for `'a`. `source` is that of the lane.
#[inline]
pub(super) unsafe fn read<'a>(at: *mut u8, source: &'a Source) -> Record<'a> {
    // SAFETY: written by `write` in this very order.
    unsafe {
        let head = &*at.cast::<Head>();
        let mut next = at.add(size_of::<Head>());
        let (mut row, mut source, mut expires_ms) = (None, source, NEVER);
        if head.flags & (HAS_ROW | HAS_EXPIRY) != 0 {
            if head.flags & HAS_ROW != 0 {
                let part = &*next.cast::<RowPart>();
                (row, source) = (NonZeroI64::new(part.id), &*part.source);
                next = next.add(size_of::<RowPart>());
            }
            if head.flags & HAS_EXPIRY != 0 {
                expires_ms = next.cast::<u64>().read();
                next = next.add(size_of::<u64>());
            }
        }
        let mut buffer = None;
        if head.flags & HAS_BUFFER != 0 {
            buffer = Some(&*next.cast::<DrBuffer>());
            next = next.add(size_of::<DrBuffer>());
        }
        let meta_len = head.meta_len as usize;
        let meta: *const u8 = if head.flags & META_BOXED != 0 {
            let outside = next.cast::<*mut u8>().read();
            next = next.add(size_of::<*mut u8>());
            outside
        } else {
            let inline = next;
            next = next.add(meta_len);
            inline
        };
        let body = match buffer {
            Some(buffer) if buffer.len > 0 => std::slice::from_raw_parts(buffer.ptr, buffer.len),
            Some(_) => &[],
            None => std::slice::from_raw_parts(next, head.body_len as usize),
        };
        let meta = std::slice::from_raw_parts(meta, meta_len);
        let (sequence, created_us) = (head.sequence, head.created_us);
        Record { sequence, created_us, expires_ms, row, source, meta, body, buffer }
    }
}

/// Bytes of a record.
///
/// # Safety
/// As [`read`].
#[inline]
pub(super) unsafe fn len(at: *const u8) -> u64 {
    // SAFETY: written by `write`.
    u64::from(unsafe { (*at.cast::<Head>()).len })
}

/// Releases what a record owns; gives its length and its weight.
///
/// # Safety
/// As [`read`], and the record is not read again.
#[inline]
pub(super) unsafe fn release(at: *mut u8) -> (u64, u64) {
    // SAFETY: the record owns its buffer reference, its boxed properties and its source, and ends here.
    unsafe {
        let head = *at.cast::<Head>();
        if head.flags & (HAS_ROW | META_BOXED | HAS_BUFFER) != 0 {
            release_parts(at, &head);
        }
        (u64::from(head.len), u64::from(head.body_len) + u64::from(head.meta_len))
    }
}

/// # Safety
/// As [`release`].
unsafe fn release_parts(at: *mut u8, head: &Head) {
    // SAFETY: written by `write` in this very order.
    unsafe {
        let mut next = at.add(size_of::<Head>());
        if head.flags & HAS_ROW != 0 {
            drop(Arc::from_raw(next.cast::<RowPart>().read().source));
            next = next.add(size_of::<RowPart>());
        }
        if head.flags & HAS_EXPIRY != 0 {
            next = next.add(size_of::<u64>());
        }
        if head.flags & HAS_BUFFER != 0 {
            let buffer = next.cast::<DrBuffer>().read();
            (buffer.release)(buffer.owner);
            next = next.add(size_of::<DrBuffer>());
        }
        if head.flags & META_BOXED != 0 {
            let outside = next.cast::<*mut u8>().read();
            drop(Box::from_raw(ptr::slice_from_raw_parts_mut(outside, head.meta_len as usize)));
        }
    }
}

/// Takes the encoded properties of a message, in order.
pub struct MetaWriter<'a> {
    at: &'a mut [u8],
}

impl<'a> MetaWriter<'a> {
    /// Writes into `at`.
    pub fn new(at: &'a mut [u8]) -> MetaWriter<'a> {
        MetaWriter { at }
    }

    /// Appends bytes; what does not fit into the announced length is left out.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        let n = bytes.len().min(self.at.len());
        let (now, later) = std::mem::take(&mut self.at).split_at_mut(n);
        now.copy_from_slice(&bytes[..n]);
        self.at = later;
    }
}
