//! The contract between a module and the runtime: two C tables, and nothing else.
//!
//! A module exports one data symbol, [`DR_ENTRY_SYMBOL`], which is a [`DrModule`]. The runtime hands it a [`DrHost`] when it
//! creates an instance. Both begin with `magic, abi_major, abi_minor, size`; fields are only ever appended, and each side
//! reads no more than `min(size)` of the other's table. What is not in a table is found by name through `extension`.
//!
//! - **Handles are numbers.** An instance knows the runtime only by its ticket: a slot and a generation. A stale ticket is
//!   answered with [`DR_GONE`], whatever thread uses it and however late.
//! - **Nobody frees the other's memory.** Text and messages are borrowed for the call; answers are written into a
//!   [`DrSink`]; what has to live longer is a [`DrBuffer`] or a kept message, each with its own release.
//! - **One call at a time.** `create` to `destroy` of one instance never overlap and run on the instance's own thread.
//!   Every function of [`DrHost`] may be called on any thread. What is on which thread is said in brackets: `[worker]` is the
//!   instance's own thread, `[any thread]` any of the process, `[never blocks]` returns at once.
//! - **Nothing unwinds across.** Each side catches its own panics.
//!
//! The C header `include/dinrail_module.h` is generated from this file; a test keeps it fresh.

use std::ffi::c_void;

#[cfg(feature = "abi-proof")]
use abi_stable::StableAbi;

/// First eight bytes of both tables: `DINRAIL` and a one, read as a little-endian number.
pub const DR_MAGIC: u64 = 0x014C_4941_524E_4944;
/// Major version of this contract. A module of another major is refused.
pub const DR_ABI_MAJOR: u32 = 1;
/// Minor version of this contract: counts the fields appended so far.
pub const DR_ABI_MINOR: u32 = 0;
/// Name of the one symbol that a module exports; a [`DrModule`].
pub const DR_ENTRY_SYMBOL: &str = "DINRAIL_MODULE_V1";
/// Section of the library that holds the descriptor, a JSON object in UTF-8, readable without running code. Zero bytes after it
/// are padding.
pub const DR_DESCRIPTOR_SECTION: &str = ".dinrail";
/// Extension of a module's table: its [`DrLayoutProof`].
pub const DR_EXTENSION_LAYOUT: &str = "dinrail.layout-proof/1";
/// Extension of a module's table: its [`DrMemory`], where it counts.
pub const DR_EXTENSION_MEMORY: &str = "dinrail.memory/1";
/// Extension of the runtime's table: its [`DrThreads`].
pub const DR_EXTENSION_THREADS: &str = "dinrail.threads/1";
/// Extension of the runtime's table: its [`DrIdentity`].
pub const DR_EXTENSION_IDENTITY: &str = "dinrail.identity/1";
/// Extension of the runtime's table: its [`DrSends`].
pub const DR_EXTENSION_SENDS: &str = "dinrail.sends/1";
/// Extension of the runtime's table: its [`DrDevice`].
pub const DR_EXTENSION_DEVICE: &str = "dinrail.device/1";
/// Extension of a module's table: its [`DrDeviceHandler`].
pub const DR_EXTENSION_DEVICE_HANDLER: &str = "dinrail.device-handler/1";

/// Outcome of a call.
pub type DrStatus = u32;
/// Done.
pub const DR_OK: DrStatus = 0;
/// Begun; the completion that was passed will be called exactly once.
pub const DR_PENDING: DrStatus = 1;
/// The ticket, delivery or timer is no longer valid: its instance was stopped or replaced. Nothing was done.
pub const DR_GONE: DrStatus = 2;
/// An argument is malformed (null where it must not be, not UTF-8, not JSON, unknown output).
pub const DR_INVALID: DrStatus = 3;
/// Larger than the limit allows; nothing was done.
pub const DR_TOO_LARGE: DrStatus = 4;
/// A receiver's queue stayed full for the time that a sender may be held (50 ms), or the store's byte budget is spent,
/// or the delivery has staged 16 MiB. Receivers that had room did get the message.
pub const DR_FULL: DrStatus = 5;
/// Not within the time allowed.
pub const DR_TIMEOUT: DrStatus = 6;
/// No such thing: unknown target, method or name.
pub const DR_NOT_FOUND: DrStatus = 7;
/// Not allowed for this identity or in this state (a trial sends nothing).
pub const DR_DENIED: DrStatus = 8;
/// This side does not have the function asked for.
pub const DR_UNSUPPORTED: DrStatus = 9;
/// Failed; the text says why.
pub const DR_FAILED: DrStatus = 10;
/// The desired properties are not acceptable; the text says which and why. The instance goes on with the old ones.
pub const DR_REFUSED: DrStatus = 11;
/// The call panicked and was caught at the border; the instance's state is not trusted any more.
pub const DR_PANICKED: DrStatus = 12;

/// What becomes of a message after its handler: the `kind` of a [`DrVerdict`].
pub type DrVerdictKind = u32;
/// Handled: the message is removed, and what the handler staged is committed with it. What went along memory routes was not staged.
pub const DR_ACCEPT: DrVerdictKind = 0;
/// Not now: delivered again after `retry_after_ms`; what was staged is discarded. What went along memory routes stays sent.
pub const DR_RETRY: DrVerdictKind = 1;
/// Never again by itself: set aside as poisonous, counted, with the reason.
pub const DR_PARK: DrVerdictKind = 2;
/// Decided later, from any thread, through `complete`; the next message may come meanwhile.
pub const DR_DEFER: DrVerdictKind = 3;
/// The handler failed with the given reason: delivered again a few times, then parked.
pub const DR_FAULT: DrVerdictKind = 4;
/// The handler panicked and was caught: the instance is restarted, the message delivered again a few times, then parked.
pub const DR_PANIC: DrVerdictKind = 5;

/// Severity of a log line and of a health sentence.
pub type DrLevel = u32;
/// A person is needed, or data was lost.
pub const DR_ERROR: DrLevel = 1;
/// Something is wrong, nothing is lost.
pub const DR_WARN: DrLevel = 2;
/// Worth knowing in normal operation.
pub const DR_INFO: DrLevel = 3;
/// For the module's author.
pub const DR_DEBUG: DrLevel = 4;
/// Everything.
pub const DR_TRACE: DrLevel = 5;

/// `DrCreate.flags`: this instance is on trial: it must have no side effects, and sends and reports are refused.
pub const DR_CREATE_TRIAL: u32 = 1;
/// `DrDesired.flags`: `patch` is the whole section, not a change to what was delivered before.
pub const DR_DESIRED_WHOLE: u32 = 1;
/// `DrDevice.open`: the deployment lets the instance read the device's twin.
pub const DR_DEVICE_READ: u32 = 1;
/// `DrDevice.open`: the deployment lets the instance report into the device's twin.
pub const DR_DEVICE_REPORT: u32 = 2;
/// Output id of a message without an output: addressed to the hub.
pub const DR_NO_OUTPUT: u32 = 0;
/// Delivery of a send outside a handler.
pub const DR_NO_DELIVERY: u64 = 0;
/// `DrMessage.input_index` where the input is not one of the descriptor's.
pub const DR_NO_INDEX: u32 = u32::MAX;

/// `describe`: the JSON Schema of the desired properties.
pub const DR_DESCRIBE_SCHEMA: u32 = 1;
/// `describe`: the defaults of the desired properties, a JSON object.
pub const DR_DESCRIBE_DEFAULTS: u32 = 2;

/// Borrowed text: UTF-8, not terminated, valid for the call it is passed to. A null `ptr` with `len` 0 means "absent".
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrText {
    /// First byte; may be null when `len` is 0. Belongs to whoever passes the text; the other side copies what it keeps.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: usize,
}

/// Takes text that the callee produces, during the call only. The receiver copies what it wants to keep.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrSink {
    /// Passed back to `write`. Belongs to whoever made the sink, until the call that it was passed to returns.
    pub ctx: *mut c_void,
    /// Appends `text`; may be called several times, `[on the thread of that call]`. `text` stays its caller's.
    pub write: unsafe extern "C" fn(ctx: *mut c_void, text: DrText),
}

/// Refcounted immutable bytes. Whoever holds one calls `release(owner)` once per `retain` and once for what it was given.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrBuffer {
    /// First byte. Belongs to `owner`: readable, and unchanged, as long as whoever reads holds a reference.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: usize,
    /// Passed back to `retain` and `release`. Belongs to the side that made the buffer; the other one never looks into it.
    pub owner: *mut c_void,
    /// Adds one reference. `[any thread]`
    pub retain: unsafe extern "C" fn(owner: *mut c_void),
    /// Drops one reference; the last one frees the bytes on the side that made them. `[any thread]`
    pub release: unsafe extern "C" fn(owner: *mut c_void),
}

/// Called exactly once when something that was begun has ended.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrCompletion {
    /// Passed back to `done`. Belongs to the module, which keeps it alive until `done` is called; the struct itself is copied
    /// and may go when the call that it was passed to returns.
    pub ctx: *mut c_void,
    /// `[any thread]`, must not block. `detail` is the reason of a failure, or the answer; borrowed for this call.
    pub done: unsafe extern "C" fn(ctx: *mut c_void, status: DrStatus, detail: DrText),
}

/// An application property of a message.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrProperty {
    /// Name.
    pub key: DrText,
    /// Value.
    pub value: DrText,
}

/// A message as a handler sees it. Everything is borrowed for the call; `message_keep` gives it a longer life.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrMessage {
    /// Size of this struct as its maker knows it.
    pub size: u32,
    /// 1 at the first delivery, counted up by redeliveries.
    pub attempt: u32,
    /// Name of the input it arrives at.
    pub input: DrText,
    /// Position of `input` in the descriptor's inputs, or [`DR_NO_INDEX`].
    pub input_index: u32,
    /// Length of `properties`.
    pub property_count: u32,
    /// Application properties: an array; null where there are none. The runtime's, as long as the message.
    pub properties: *const DrProperty,
    /// Body; may be null when it is empty. The runtime's, as long as the message.
    pub body: *const u8,
    /// Length of the body in bytes.
    pub body_len: usize,
    /// The buffer that holds the body, to be retained instead of copied; null where the body lives inline. The struct is the
    /// runtime's, as long as the message; what was retained lives until it is released, `[any thread]`.
    pub buffer: *const DrBuffer,
    /// Identity of the sender, stamped by the runtime.
    pub sender: DrText,
    /// Output of the sender; empty where it had none.
    pub output: DrText,
    /// With `sequence`: unique and increasing per sender and output, for dropping repeats and proving completeness.
    pub epoch: u64,
    /// See `epoch`.
    pub sequence: u64,
    /// When the runtime took the message in: microseconds since 1970-01-01 UTC, as far as the device's clock is right.
    pub created_us: i64,
    /// Message id; absent unless the sender gave one.
    pub message_id: DrText,
    /// Correlation id.
    pub correlation_id: DrText,
    /// Content type, such as `application/json`.
    pub content_type: DrText,
    /// Content encoding, such as `utf-8`.
    pub content_encoding: DrText,
}

/// A message as a sender gives it. Everything is borrowed for the call, except `buffer`, which the runtime retains.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrOutgoing {
    /// Size of this struct as its maker knows it.
    pub size: u32,
    /// Length of `properties`.
    pub property_count: u32,
    /// Application properties: an array of the sender's, which may go when `send` returns; null where there are none.
    pub properties: *const DrProperty,
    /// Body; the sender's, which may go when `send` returns; copied. Ignored where `buffer` is given.
    pub body: *const u8,
    /// Length of the body in bytes.
    pub body_len: usize,
    /// Body that is not copied: worth it above 256 bytes. May be null. The runtime retains it; the sender releases its own
    /// reference as ever, and the struct may go when `send` returns.
    pub buffer: *const DrBuffer,
    /// Message id; may be absent.
    pub message_id: DrText,
    /// Correlation id; may be absent.
    pub correlation_id: DrText,
    /// Content type; may be absent.
    pub content_type: DrText,
    /// Content encoding; may be absent.
    pub content_encoding: DrText,
}

/// The end of a delivery.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrVerdict {
    /// [`DR_ACCEPT`], [`DR_RETRY`], [`DR_PARK`], [`DR_DEFER`], [`DR_FAULT`] or [`DR_PANIC`].
    pub kind: DrVerdictKind,
    /// Zero.
    pub reserved: u32,
    /// For [`DR_RETRY`]: milliseconds until the next delivery, an hour at most; 0 lets the runtime choose.
    pub retry_after_ms: u64,
}

/// What an instance is made from. Borrowed for the call of `create`; `host` and `ticket` stay valid.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrCreate {
    /// Size of this struct as its maker knows it.
    pub size: u32,
    /// [`DR_CREATE_TRIAL`].
    pub flags: u32,
    /// The instance's handle in every call of `host`.
    pub ticket: u64,
    /// The runtime's table; its own, valid and unchanged until the process ends, on any thread.
    pub host: *const DrHost,
    /// `/devices/{device}/modules/{module}`.
    pub identity: DrText,
    /// Device id.
    pub device: DrText,
    /// Name of the instance.
    pub module: DrText,
    /// Changes when the identity is deleted and made again.
    pub generation_id: DrText,
    /// The instance's own folder, which exists; absent on trial.
    pub data_folder: DrText,
    /// Folder of the image's own files, read-only.
    pub image_folder: DrText,
    /// The deployment's `env`: a JSON object of strings.
    pub env: DrText,
    /// Desired properties, a JSON object without `$metadata` and `$version`.
    pub desired: DrText,
    /// `$version` of `desired`.
    pub desired_version: u64,
    /// Revision of `desired`: local and gapless.
    pub desired_revision: u64,
}

/// A change of the desired properties.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrDesired {
    /// Size of this struct as its maker knows it.
    pub size: u32,
    /// [`DR_DESIRED_WHOLE`].
    pub flags: u32,
    /// The change as a JSON merge patch: null removes.
    pub patch: DrText,
    /// The whole section after the change.
    pub whole: DrText,
    /// `$version` after the change.
    pub version: u64,
    /// Revision after the change: exactly one more than the one delivered before, unless `DR_DESIRED_WHOLE` is set.
    pub revision: u64,
}

/// A direct method call.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrMethodCall {
    /// Size of this struct as its maker knows it.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Name of the method.
    pub name: DrText,
    /// Payload: JSON, or empty.
    pub payload: DrText,
    /// Who calls, as the runtime knows it: an identity (`/devices/D/modules/M`), or the name of a person.
    pub caller: DrText,
    /// Milliseconds after which nobody waits for the answer.
    pub timeout_ms: u64,
}

/// A twin as committed: a refcounted snapshot. The receiver releases `json` once.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrTwin {
    /// Size of this struct as its maker knows it; set by the caller before the call.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// `{"desired": {…, "$version": n}, "reported": {…, "$version": n}}`. The receiver holds one reference and releases it once,
    /// `[any thread]`.
    pub json: DrBuffer,
    /// Revision of the desired section.
    pub desired_revision: u64,
    /// Revision of the reported section.
    pub reported_revision: u64,
}

/// Proof by layout: what a Rust module knows of these types, for a runtime of the same ABI minor.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DrLayoutProof {
    /// Version of abi_stable that made `module` and `host`; another version's layouts are not comparable.
    pub abi_stable: DrText,
    /// `&'static abi_stable::type_layout::TypeLayout` of [`DrModule`], from the function in it.
    pub module: *const c_void,
    /// The same of [`DrHost`].
    pub host: *const c_void,
}

/// What a library has allocated and not freed: the sum of all its counters, in bytes, wrapping. The runtime reads them without
/// calling the library; they live as long as the process. Asked for once, when the library is loaded.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DrMemory {
    /// Size of this struct.
    pub size: u32,
    /// How many counters there are.
    pub counters: u32,
    /// Bytes from one counter to the next; a multiple of 8.
    pub stride: u32,
    /// Zero.
    pub reserved: u32,
    /// The first one, aligned to 8 bytes; each is written atomically.
    pub first: *const i64,
}

/// What the runtime knows of the threads of an instance, beside its own: their names, and the processor time that they use.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DrThreads {
    /// Size of this struct.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Called on a thread when it begins: it belongs to the instance from now on, and the system shows it as
    /// `instance/name`, shortened. [`DR_GONE`] for a stale ticket.
    pub enter: unsafe extern "C" fn(ticket: u64, name: DrText) -> DrStatus,
    /// Called on a thread that has entered, as its last word; also with a stale ticket.
    pub leave: unsafe extern "C" fn(ticket: u64),
}

/// How an instance proves to others who it is. Its key stays with the runtime, which signs for it. `[any thread, never blocks]`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DrIdentity {
    /// Size of this struct.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// HMAC-SHA256 of `length` bytes at `bytes` with the primary key of the instance's identity: 32 bytes to `signature`.
    /// [`DR_GONE`], [`DR_INVALID`] for a null pointer, [`DR_DENIED`] where the identity is disabled.
    pub sign: unsafe extern "C" fn(ticket: u64, bytes: *const u8, length: usize, signature: *mut u8) -> DrStatus,
    /// Writes a SAS token of the instance's identity into `token`: for `host` (absent: `localhost`, by which modules reach their
    /// own device), valid for `ttl_secs` from now on. [`DR_GONE`], [`DR_INVALID`] for a host with a character that no host has
    /// or a time of zero or more than 365 days, [`DR_DENIED`] where the identity is disabled.
    pub token: unsafe extern "C" fn(ticket: u64, host: DrText, ttl_secs: u64, token: *const DrSink) -> DrStatus,
}

/// Sends that are waited for by the runtime itself, on the caller's thread: nothing of the module's runs between the disk and the
/// caller, which makes this the quickest way to know that a message is safe. `[any thread]`
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DrSends {
    /// Size of this struct.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// As `send` of the runtime's table outside of a handler, but waits for the end where one of the routes is durable: [`DR_OK`]
    /// then means committed and synced to disk, and it never answers [`DR_PENDING`]. `message` is borrowed for the call, and so is
    /// `reason`, which may be null: on [`DR_FAILED`] it is written why. Inside a handler use `send` with its delivery: that is
    /// staged, and returns at once.
    pub send_and_wait:
        unsafe extern "C" fn(ticket: u64, output: u32, message: *const DrOutgoing, reason: *const DrSink) -> DrStatus,
}

/// The device's own twin, for instances that the deployment permits it (`deviceTwin` of `settings.createOptions`); others get
/// [`DR_DENIED`]. Every function may be called on any thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DrDevice {
    /// Size of this struct.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Says what is permitted: sets `*rights`, which is the caller's, to [`DR_DEVICE_READ`], with [`DR_DEVICE_REPORT`] or without.
    /// `[never blocks]`
    pub open: unsafe extern "C" fn(ticket: u64, rights: *mut u32) -> DrStatus,
    /// As `get_twin` of the runtime's table.
    pub get_twin: unsafe extern "C" fn(ticket: u64, twin: *mut DrTwin) -> DrStatus,
    /// As `patch_reported` of the runtime's table. Needs [`DR_DEVICE_REPORT`].
    pub patch_reported:
        unsafe extern "C" fn(ticket: u64, delivery: u64, patch: DrText, completion: *const DrCompletion) -> DrStatus,
}

/// What a module has for changes of the device's own twin.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DrDeviceHandler {
    /// Size of this struct.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Called after `start` with the device's desired properties as they are ([`DR_DESIRED_WHOLE`]), and then for each change, in
    /// the order of revisions. Only for an instance that the deployment permits it. `change` is borrowed for the call. Anything
    /// but [`DR_OK`] is logged; the next change then comes whole. `[worker]`
    pub on_desired:
        unsafe extern "C" fn(instance: *mut c_void, change: *const DrDesired, error: *const DrSink) -> DrStatus,
}

/// A module's table. Every function is called on the instance's own thread, one at a time; `describe` and `extension` need no
/// instance and may be called on any thread. Functions marked *may be null* are left out by a module that has no use for them.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrModule {
    /// [`DR_MAGIC`].
    pub magic: u64,
    /// [`DR_ABI_MAJOR`] that the module was built for.
    pub abi_major: u32,
    /// [`DR_ABI_MINOR`] that the module was built for.
    pub abi_minor: u32,
    /// Size of this table as the module knows it.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// The descriptor: the same bytes as the section [`DR_DESCRIPTOR_SECTION`]. The library's, as long as the process.
    pub descriptor: DrText,
    /// Makes an instance from its identity and desired properties. No side effects: no ports, files or threads, since it also
    /// runs in trials. [`DR_REFUSED`] means that the desired properties are at fault. `[worker]`
    ///
    /// `args` and what it points to are borrowed for the call, but for `host`. `*instance` is the module's, set on [`DR_OK`] only:
    /// the runtime hands it back in every call, never looks into it, and gives it up with `destroy`. `error` is for this call.
    pub create:
        unsafe extern "C" fn(args: *const DrCreate, instance: *mut *mut c_void, error: *const DrSink) -> DrStatus,
    /// Frees the instance; the last call that it sees. Follows every successful `create`. `[worker]`
    pub destroy: unsafe extern "C" fn(instance: *mut c_void),
    /// Opens ports, sockets and threads. May be null. `[worker]`
    pub start: Option<unsafe extern "C" fn(instance: *mut c_void, error: *const DrSink) -> DrStatus>,
    /// Handles a message. `delivery` goes into what the handler sends and reports so that what is sent along durable routes or
    /// reported is committed with the verdict. What is sent along memory routes stays sent, and is sent again by the next try.
    /// `message`, with all that it points to, is borrowed for the call; `message_keep` gives it a longer life. May be null:
    /// messages then wait. `[worker]`
    pub on_message: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            delivery: u64,
            message: *const DrMessage,
            reason: *const DrSink,
        ) -> DrVerdict,
    >,
    /// Takes a change of the desired properties, or answers [`DR_REFUSED`]. The runtime reports the acknowledgement
    /// `{version, ok, error}`. `change` is borrowed for the call. May be null: every change is then accepted. `[worker]`
    pub on_desired:
        Option<unsafe extern "C" fn(instance: *mut c_void, change: *const DrDesired, error: *const DrSink) -> DrStatus>,
    /// Answers a direct method: sets `status` and writes the JSON payload. [`DR_NOT_FOUND`] for an unknown name. All pointers are
    /// for this call. May be null. `[worker]`
    pub on_method: Option<
        unsafe extern "C" fn(
            instance: *mut c_void,
            call: *const DrMethodCall,
            status: *mut i32,
            payload: *const DrSink,
        ) -> DrStatus,
    >,
    /// A timer fired; `missed` ticks were left out since its last call. May be null. `[worker]`
    pub on_timer:
        Option<unsafe extern "C" fn(instance: *mut c_void, timer: u64, missed: u64, error: *const DrSink) -> DrStatus>,
    /// A value posted with `post` arrived. May be null. `[worker]`
    pub on_event: Option<unsafe extern "C" fn(instance: *mut c_void, value: u64, error: *const DrSink) -> DrStatus>,
    /// Closes what `start` opened and joins the instance's threads. Follows every `start`, also one that failed. May be null.
    /// `[worker]`
    pub stop: Option<unsafe extern "C" fn(instance: *mut c_void, error: *const DrSink) -> DrStatus>,
    /// Writes the schema or the defaults of the desired properties ([`DR_DESCRIBE_SCHEMA`], [`DR_DESCRIBE_DEFAULTS`]). Asked
    /// once per image. May be null. `[any thread]`
    pub describe: Option<unsafe extern "C" fn(what: u32, out: *const DrSink) -> DrStatus>,
    /// Finds what this table does not have, by name; null where unknown. May be null. `[any thread]`
    pub extension: Option<unsafe extern "C" fn(name: DrText) -> *const c_void>,
}

/// The runtime's table. Every function may be called on any thread, also after the instance has stopped: a stale ticket gets
/// [`DR_GONE`]. None is null.
///
/// All text and structs that a module passes are borrowed for the call: copied where they are kept. All that a module is to have
/// is written through the pointers that it passes, which are its own.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "abi-proof", derive(StableAbi))]
pub struct DrHost {
    /// [`DR_MAGIC`].
    pub magic: u64,
    /// [`DR_ABI_MAJOR`] of the runtime.
    pub abi_major: u32,
    /// [`DR_ABI_MINOR`] of the runtime.
    pub abi_minor: u32,
    /// Size of this table as the runtime knows it.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// The most verbose level that anybody listens to; may change at any time, read it before formatting. Never null; the
    /// runtime's until the process ends.
    pub max_level: *const u32,
    /// Writes a log line of the instance. `file` may be absent. `[never blocks]`
    pub log: unsafe extern "C" fn(ticket: u64, level: DrLevel, target: DrText, text: DrText, file: DrText, line: u32),
    /// Gives the id of an output, the same for the same name as long as the instance lives. [`DR_INVALID`] for a bad name.
    pub output: unsafe extern "C" fn(ticket: u64, name: DrText, id: *mut u32) -> DrStatus,
    /// Sends a message from `output` ([`DR_NO_OUTPUT`]: to the hub) along the routes.
    ///
    /// Memory routes: done on return, whatever the verdict; may hold the caller for up to 50 ms while a receiver's queue is full, then
    /// [`DR_FULL`]. Durable routes: with a `delivery`, staged until its verdict, done on return; without, [`DR_PENDING`] until
    /// the message is committed and synced to disk, then `completion` (which may be null).
    pub send: unsafe extern "C" fn(
        ticket: u64,
        delivery: u64,
        output: u32,
        message: *const DrOutgoing,
        completion: *const DrCompletion,
    ) -> DrStatus,
    /// Merges a JSON merge patch into the reported properties. With a `delivery`: staged until its verdict. Without:
    /// [`DR_PENDING`] until committed, then `completion` (which may be null). Limits and types are checked on return.
    pub patch_reported:
        unsafe extern "C" fn(ticket: u64, delivery: u64, patch: DrText, completion: *const DrCompletion) -> DrStatus,
    /// Gives the twin as committed. `*twin` is the caller's, with its `size` set; see [`DrTwin`] for the reference in it.
    pub get_twin: unsafe extern "C" fn(ticket: u64, twin: *mut DrTwin) -> DrStatus,
    /// Sets the sentence that `list` shows, such as "2 of 3 PLCs connected"; empty text clears it. `[never blocks]`
    pub set_health: unsafe extern "C" fn(ticket: u64, level: DrLevel, sentence: DrText) -> DrStatus,
    /// Starts a timer that calls `on_timer`: first after `first_ms`, then every `period_ms` (0: once).
    pub timer_start: unsafe extern "C" fn(ticket: u64, first_ms: u64, period_ms: u64, timer: *mut u64) -> DrStatus,
    /// Ends a timer; it does not fire after this returned on the instance's own thread.
    pub timer_stop: unsafe extern "C" fn(ticket: u64, timer: u64) -> DrStatus,
    /// Brings `value` to the instance's own thread, as `on_event`. Values that still wait at stop are dropped: what they stand for
    /// is the module's to free.
    /// [`DR_FULL`] when too many wait.
    pub post: unsafe extern "C" fn(ticket: u64, value: u64) -> DrStatus,
    /// Gives a message under delivery a life of its own (perhaps by a copy), until `message_release`. `*message` is then the
    /// module's to read on any thread.
    pub message_keep: unsafe extern "C" fn(ticket: u64, delivery: u64, message: *mut *const DrMessage) -> DrStatus,
    /// Ends the life of a kept message, once. Any ticket state.
    pub message_release: unsafe extern "C" fn(message: *const DrMessage),
    /// Ends a deferred delivery. May come before the handler has returned [`DR_DEFER`]. [`DR_GONE`] where it has ended already.
    pub complete: unsafe extern "C" fn(ticket: u64, delivery: u64, verdict: DrVerdict, reason: DrText) -> DrStatus,
    /// Calls a direct method of `target`, an identity. Always ends through `completion`, whose detail on [`DR_OK`] is
    /// `{"status": n, "payload": …}`.
    pub invoke_method: unsafe extern "C" fn(
        ticket: u64,
        target: DrText,
        name: DrText,
        payload: DrText,
        timeout_ms: u64,
        completion: *const DrCompletion,
    ) -> DrStatus,
    /// Says that the instance cannot go on: it is stopped and its restart policy decides. `[never blocks]`
    pub fail: unsafe extern "C" fn(ticket: u64, reason: DrText) -> DrStatus,
    /// Finds what this table does not have, by name; null where unknown. What it gives is the runtime's until the process ends.
    pub extension: unsafe extern "C" fn(name: DrText) -> *const c_void,
}

// SAFETY: the tables hold numbers, functions and pointers to data that lives and stays unchanged (but for the atomic behind
// `max_level`) as long as the process; their makers promise it.
unsafe impl Sync for DrModule {}
// SAFETY: as above.
unsafe impl Sync for DrHost {}
// SAFETY: as above.
unsafe impl Send for DrHost {}

impl DrText {
    /// Text that is not there.
    pub const ABSENT: DrText = DrText { ptr: std::ptr::null(), len: 0 };

    /// Borrows `text`; the caller keeps it alive for the call.
    pub const fn new(text: &str) -> DrText {
        DrText { ptr: text.as_ptr(), len: text.len() }
    }

    /// The bytes behind it.
    ///
    /// # Safety
    /// `ptr` points to `len` readable bytes that stay unchanged for `'a`, or `len` is 0.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.ptr.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }

    /// The text behind it, or `None` where it is not UTF-8.
    ///
    /// # Safety
    /// As [`DrText::bytes`].
    pub unsafe fn text<'a>(self) -> Option<&'a str> {
        // SAFETY: the caller's promise.
        std::str::from_utf8(unsafe { self.bytes() }).ok()
    }
}

impl DrOutgoing {
    /// The body, wherever it is; `None` where a length is given without a place.
    ///
    /// # Safety
    /// All that it points to is readable and unchanged for `'a`.
    #[inline]
    pub unsafe fn body_bytes<'a>(&self) -> Option<&'a [u8]> {
        // SAFETY: the caller's promise.
        unsafe {
            match self.buffer.as_ref() {
                Some(buffer) => Some(DrText { ptr: buffer.ptr, len: buffer.len }.bytes()),
                None if self.body.is_null() && self.body_len > 0 => None,
                None => Some(DrText { ptr: self.body, len: self.body_len }.bytes()),
            }
        }
    }

    /// The application properties; `None` where there are more than `most`, or a number is given without a place.
    ///
    /// # Safety
    /// As [`DrOutgoing::body_bytes`].
    #[inline]
    pub unsafe fn property_list<'a>(&self, most: usize) -> Option<&'a [DrProperty]> {
        match self.property_count as usize {
            0 => Some(&[]),
            count if count > most || self.properties.is_null() => None,
            // SAFETY: the caller's promise.
            count => Some(unsafe { std::slice::from_raw_parts(self.properties, count) }),
        }
    }
}
