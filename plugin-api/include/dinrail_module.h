/*
 * The contract between a module and the runtime: two C tables, and nothing else.
 *
 * A module exports one data symbol, `DR_ENTRY_SYMBOL`, which is a `DrModule`. The runtime hands it a `DrHost` when it
 * creates an instance. Both begin with `magic, abi_major, abi_minor, size`; fields are only ever appended, and each side
 * reads no more than `min(size)` of the other's table. What is not in a table is found by name through `extension`.
 *
 * - **Handles are numbers.** An instance knows the runtime only by its ticket: a slot and a generation. A stale ticket is
 *   answered with `DR_GONE`, whatever thread uses it and however late.
 * - **Nobody frees the other's memory.** Text and messages are borrowed for the call; answers are written into a
 *   `DrSink`; what has to live longer is a `DrBuffer` or a kept message, each with its own release.
 * - **One call at a time.** `create` to `destroy` of one instance never overlap and run on the instance's own thread.
 *   Every function of `DrHost` may be called on any thread. What is on which thread is said in brackets: `[worker]` is the
 *   instance's own thread, `[any thread]` any of the process, `[never blocks]` returns at once.
 * - **Nothing unwinds across.** Each side catches its own panics.
 *
 * The C header `include/dinrail_module.h` is generated from this file; a test keeps it fresh.
 *
 * Generated from src/abi.rs: do not edit.
 */

#ifndef DINRAIL_MODULE_H
#define DINRAIL_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define DR_ENTRY_SYMBOL "DINRAIL_MODULE_V1"
#define DR_DESCRIPTOR_SECTION ".dinrail"
#define DR_EXTENSION_LAYOUT "dinrail.layout-proof/1"
#define DR_EXTENSION_MEMORY "dinrail.memory/1"
#define DR_EXTENSION_THREADS "dinrail.threads/1"
#define DR_EXTENSION_IDENTITY "dinrail.identity/1"
#define DR_EXTENSION_SENDS "dinrail.sends/1"
#define DR_EXTENSION_DEVICE "dinrail.device/1"
#define DR_EXTENSION_DEVICE_HANDLER "dinrail.device-handler/1"


// First eight bytes of both tables: `DINRAIL` and a one, read as a little-endian number.
#define DR_MAGIC 93530237170501956

// Major version of this contract. A module of another major is refused.
#define DR_ABI_MAJOR 1

// Minor version of this contract: counts the fields appended so far.
#define DR_ABI_MINOR 0

// `DrCreate.flags`: this instance is on trial: it must have no side effects, and sends and reports are refused.
#define DR_CREATE_TRIAL 1

// `DrDesired.flags`: `patch` is the whole section, not a change to what was delivered before.
#define DR_DESIRED_WHOLE 1

// `DrDevice.open`: the deployment lets the instance read the device's twin.
#define DR_DEVICE_READ 1

// `DrDevice.open`: the deployment lets the instance report into the device's twin.
#define DR_DEVICE_REPORT 2

// Output id of a message without an output: addressed to the hub.
#define DR_NO_OUTPUT 0

// Delivery of a send outside a handler.
#define DR_NO_DELIVERY 0

// `DrMessage.input_index` where the input is not one of the descriptor's.
#define DR_NO_INDEX UINT32_MAX

// `describe`: the JSON Schema of the desired properties.
#define DR_DESCRIBE_SCHEMA 1

// `describe`: the defaults of the desired properties, a JSON object.
#define DR_DESCRIBE_DEFAULTS 2

// Outcome of a call.
typedef uint32_t DrStatus;

// What becomes of a message after its handler: the `kind` of a `DrVerdict`.
typedef uint32_t DrVerdictKind;

// Severity of a log line and of a health sentence.
typedef uint32_t DrLevel;

// Borrowed text: UTF-8, not terminated, valid for the call it is passed to. A null `ptr` with `len` 0 means "absent".
typedef struct DrText {
  // First byte; may be null when `len` is 0. Belongs to whoever passes the text; the other side copies what it keeps.
  const uint8_t *ptr;
  // Length in bytes.
  size_t len;
} DrText;

// An application property of a message.
typedef struct DrProperty {
  // Name.
  struct DrText key;
  // Value.
  struct DrText value;
} DrProperty;

// Refcounted immutable bytes. Whoever holds one calls `release(owner)` once per `retain` and once for what it was given.
typedef struct DrBuffer {
  // First byte. Belongs to `owner`: readable, and unchanged, as long as whoever reads holds a reference.
  const uint8_t *ptr;
  // Length in bytes.
  size_t len;
  // Passed back to `retain` and `release`. Belongs to the side that made the buffer; the other one never looks into it.
  void *owner;
  // Adds one reference. `[any thread]`
  void (*retain)(void *owner);
  // Drops one reference; the last one frees the bytes on the side that made them. `[any thread]`
  void (*release)(void *owner);
} DrBuffer;

// A message as a sender gives it. Everything is borrowed for the call, except `buffer`, which the runtime retains.
typedef struct DrOutgoing {
  // Size of this struct as its maker knows it.
  uint32_t size;
  // Length of `properties`.
  uint32_t property_count;
  // Application properties: an array of the sender's, which may go when `send` returns; null where there are none.
  const struct DrProperty *properties;
  // Body; the sender's, which may go when `send` returns; copied. Ignored where `buffer` is given.
  const uint8_t *body;
  // Length of the body in bytes.
  size_t body_len;
  // Body that is not copied: worth it above 256 bytes. May be null. The runtime retains it; the sender releases its own
  // reference as ever, and the struct may go when `send` returns.
  const struct DrBuffer *buffer;
  // Message id; may be absent.
  struct DrText message_id;
  // Correlation id; may be absent.
  struct DrText correlation_id;
  // Content type; may be absent.
  struct DrText content_type;
  // Content encoding; may be absent.
  struct DrText content_encoding;
} DrOutgoing;

// Called exactly once when something that was begun has ended.
typedef struct DrCompletion {
  // Passed back to `done`. Belongs to the module, which keeps it alive until `done` is called; the struct itself is copied
  // and may go when the call that it was passed to returns.
  void *ctx;
  // `[any thread]`, must not block. `detail` is the reason of a failure, or the answer; borrowed for this call.
  void (*done)(void *ctx, DrStatus status, struct DrText detail);
} DrCompletion;

// A twin as committed: a refcounted snapshot. The receiver releases `json` once.
typedef struct DrTwin {
  // Size of this struct as its maker knows it; set by the caller before the call.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // `{"desired": {…, "$version": n}, "reported": {…, "$version": n}}`. The receiver holds one reference and releases it once,
  // `[any thread]`.
  struct DrBuffer json;
  // Revision of the desired section.
  uint64_t desired_revision;
  // Revision of the reported section.
  uint64_t reported_revision;
} DrTwin;

// A message as a handler sees it. Everything is borrowed for the call; `message_keep` gives it a longer life.
typedef struct DrMessage {
  // Size of this struct as its maker knows it.
  uint32_t size;
  // 1 at the first delivery, counted up by redeliveries.
  uint32_t attempt;
  // Name of the input it arrives at.
  struct DrText input;
  // Position of `input` in the descriptor's inputs, or `DR_NO_INDEX`.
  uint32_t input_index;
  // Length of `properties`.
  uint32_t property_count;
  // Application properties: an array; null where there are none. The runtime's, as long as the message.
  const struct DrProperty *properties;
  // Body; may be null when it is empty. The runtime's, as long as the message.
  const uint8_t *body;
  // Length of the body in bytes.
  size_t body_len;
  // The buffer that holds the body, to be retained instead of copied; null where the body lives inline. The struct is the
  // runtime's, as long as the message; what was retained lives until it is released, `[any thread]`.
  const struct DrBuffer *buffer;
  // Identity of the sender, stamped by the runtime.
  struct DrText sender;
  // Output of the sender; empty where it had none.
  struct DrText output;
  // With `sequence`: unique and increasing per sender and output, for dropping repeats and proving completeness.
  uint64_t epoch;
  // See `epoch`.
  uint64_t sequence;
  // When the runtime took the message in: microseconds since 1970-01-01 UTC, as far as the device's clock is right.
  int64_t created_us;
  // Message id; absent unless the sender gave one.
  struct DrText message_id;
  // Correlation id.
  struct DrText correlation_id;
  // Content type, such as `application/json`.
  struct DrText content_type;
  // Content encoding, such as `utf-8`.
  struct DrText content_encoding;
} DrMessage;

// The end of a delivery.
typedef struct DrVerdict {
  // `DR_ACCEPT`, `DR_RETRY`, `DR_PARK`, `DR_DEFER`, `DR_FAULT` or `DR_PANIC`.
  DrVerdictKind kind;
  // Zero.
  uint32_t reserved;
  // For `DR_RETRY`: milliseconds until the next delivery, an hour at most; 0 lets the runtime choose.
  uint64_t retry_after_ms;
} DrVerdict;

// The runtime's table. Every function may be called on any thread, also after the instance has stopped: a stale ticket gets
// `DR_GONE`. None is null.
//
// All text and structs that a module passes are borrowed for the call: copied where they are kept. All that a module is to have
// is written through the pointers that it passes, which are its own.
typedef struct DrHost {
  // `DR_MAGIC`.
  uint64_t magic;
  // `DR_ABI_MAJOR` of the runtime.
  uint32_t abi_major;
  // `DR_ABI_MINOR` of the runtime.
  uint32_t abi_minor;
  // Size of this table as the runtime knows it.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // The most verbose level that anybody listens to; may change at any time, read it before formatting. Never null; the
  // runtime's until the process ends.
  const uint32_t *max_level;
  // Writes a log line of the instance. `file` may be absent. `[never blocks]`
  void (*log)(uint64_t ticket, DrLevel level, struct DrText target, struct DrText text, struct DrText file, uint32_t line);
  // Gives the id of an output, the same for the same name as long as the instance lives. `DR_INVALID` for a bad name.
  DrStatus (*output)(uint64_t ticket, struct DrText name, uint32_t *id);
  // Sends a message from `output` (`DR_NO_OUTPUT`: to the hub) along the routes.
  //
  // Memory routes: done on return, whatever the verdict; may hold the caller for up to 50 ms while a receiver's queue is full, then
  // `DR_FULL`. Durable routes: with a `delivery`, staged until its verdict, done on return; without, `DR_PENDING` until
  // the message is committed and synced to disk, then `completion` (which may be null).
  DrStatus (*send)(uint64_t ticket,
                   uint64_t delivery,
                   uint32_t output,
                   const struct DrOutgoing *message,
                   const struct DrCompletion *completion);
  // Merges a JSON merge patch into the reported properties. With a `delivery`: staged until its verdict. Without:
  // `DR_PENDING` until committed, then `completion` (which may be null). Limits and types are checked on return.
  DrStatus (*patch_reported)(uint64_t ticket, uint64_t delivery, struct DrText patch, const struct DrCompletion *completion);
  // Gives the twin as committed. `*twin` is the caller's, with its `size` set; see `DrTwin` for the reference in it.
  DrStatus (*get_twin)(uint64_t ticket, struct DrTwin *twin);
  // Sets the sentence that `list` shows, such as "2 of 3 PLCs connected"; empty text clears it. `[never blocks]`
  DrStatus (*set_health)(uint64_t ticket, DrLevel level, struct DrText sentence);
  // Starts a timer that calls `on_timer`: first after `first_ms`, then every `period_ms` (0: once).
  DrStatus (*timer_start)(uint64_t ticket, uint64_t first_ms, uint64_t period_ms, uint64_t *timer);
  // Ends a timer; it does not fire after this returned on the instance's own thread.
  DrStatus (*timer_stop)(uint64_t ticket, uint64_t timer);
  // Brings `value` to the instance's own thread, as `on_event`. Values that still wait at stop are dropped: what they stand for
  // is the module's to free.
  // `DR_FULL` when too many wait.
  DrStatus (*post)(uint64_t ticket, uint64_t value);
  // Gives a message under delivery a life of its own (perhaps by a copy), until `message_release`. `*message` is then the
  // module's to read on any thread.
  DrStatus (*message_keep)(uint64_t ticket, uint64_t delivery, const struct DrMessage **message);
  // Ends the life of a kept message, once. Any ticket state.
  void (*message_release)(const struct DrMessage *message);
  // Ends a deferred delivery. May come before the handler has returned `DR_DEFER`. `DR_GONE` where it has ended already.
  DrStatus (*complete)(uint64_t ticket, uint64_t delivery, struct DrVerdict verdict, struct DrText reason);
  // Calls a direct method of `target`, an identity. Always ends through `completion`, whose detail on `DR_OK` is
  // `{"status": n, "payload": …}`.
  DrStatus (*invoke_method)(uint64_t ticket,
                            struct DrText target,
                            struct DrText name,
                            struct DrText payload,
                            uint64_t timeout_ms,
                            const struct DrCompletion *completion);
  // Says that the instance cannot go on: it is stopped and its restart policy decides. `[never blocks]`
  DrStatus (*fail)(uint64_t ticket, struct DrText reason);
  // Finds what this table does not have, by name; null where unknown. What it gives is the runtime's until the process ends.
  const void *(*extension)(struct DrText name);
} DrHost;

// What an instance is made from. Borrowed for the call of `create`; `host` and `ticket` stay valid.
typedef struct DrCreate {
  // Size of this struct as its maker knows it.
  uint32_t size;
  // `DR_CREATE_TRIAL`.
  uint32_t flags;
  // The instance's handle in every call of `host`.
  uint64_t ticket;
  // The runtime's table; its own, valid and unchanged until the process ends, on any thread.
  const struct DrHost *host;
  // `/devices/{device}/modules/{module}`.
  struct DrText identity;
  // Device id.
  struct DrText device;
  // Name of the instance.
  struct DrText module;
  // Changes when the identity is deleted and made again.
  struct DrText generation_id;
  // The instance's own folder, which exists; absent on trial.
  struct DrText data_folder;
  // Folder of the image's own files, read-only.
  struct DrText image_folder;
  // The deployment's `env`: a JSON object of strings.
  struct DrText env;
  // Desired properties, a JSON object without `$metadata` and `$version`.
  struct DrText desired;
  // `$version` of `desired`.
  uint64_t desired_version;
  // Revision of `desired`: local and gapless.
  uint64_t desired_revision;
} DrCreate;

// Takes text that the callee produces, during the call only. The receiver copies what it wants to keep.
typedef struct DrSink {
  // Passed back to `write`. Belongs to whoever made the sink, until the call that it was passed to returns.
  void *ctx;
  // Appends `text`; may be called several times, `[on the thread of that call]`. `text` stays its caller's.
  void (*write)(void *ctx, struct DrText text);
} DrSink;

// A change of the desired properties.
typedef struct DrDesired {
  // Size of this struct as its maker knows it.
  uint32_t size;
  // `DR_DESIRED_WHOLE`.
  uint32_t flags;
  // The change as a JSON merge patch: null removes.
  struct DrText patch;
  // The whole section after the change.
  struct DrText whole;
  // `$version` after the change.
  uint64_t version;
  // Revision after the change: exactly one more than the one delivered before, unless `DR_DESIRED_WHOLE` is set.
  uint64_t revision;
} DrDesired;

// A direct method call.
typedef struct DrMethodCall {
  // Size of this struct as its maker knows it.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // Name of the method.
  struct DrText name;
  // Payload: JSON, or empty.
  struct DrText payload;
  // Who calls, as the runtime knows it: an identity (`/devices/D/modules/M`), or the name of a person.
  struct DrText caller;
  // Milliseconds after which nobody waits for the answer.
  uint64_t timeout_ms;
} DrMethodCall;

// A module's table. Every function is called on the instance's own thread, one at a time; `describe` and `extension` need no
// instance and may be called on any thread. Functions marked *may be null* are left out by a module that has no use for them.
typedef struct DrModule {
  // `DR_MAGIC`.
  uint64_t magic;
  // `DR_ABI_MAJOR` that the module was built for.
  uint32_t abi_major;
  // `DR_ABI_MINOR` that the module was built for.
  uint32_t abi_minor;
  // Size of this table as the module knows it.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // The descriptor: the same bytes as the section `DR_DESCRIPTOR_SECTION`. The library's, as long as the process.
  struct DrText descriptor;
  // Makes an instance from its identity and desired properties. No side effects: no ports, files or threads, since it also
  // runs in trials. `DR_REFUSED` means that the desired properties are at fault. `[worker]`
  //
  // `args` and what it points to are borrowed for the call, but for `host`. `*instance` is the module's, set on `DR_OK` only:
  // the runtime hands it back in every call, never looks into it, and gives it up with `destroy`. `error` is for this call.
  DrStatus (*create)(const struct DrCreate *args, void **instance, const struct DrSink *error);
  // Frees the instance; the last call that it sees. Follows every successful `create`. `[worker]`
  void (*destroy)(void *instance);
  // Opens ports, sockets and threads. May be null. `[worker]`
  DrStatus (*start)(void *instance, const struct DrSink *error);
  // Handles a message. `delivery` goes into what the handler sends and reports so that what is sent along durable routes or
  // reported is committed with the verdict. What is sent along memory routes stays sent, and is sent again by the next try.
  // `message`, with all that it points to, is borrowed for the call; `message_keep` gives it a longer life. May be null:
  // messages then wait. `[worker]`
  struct DrVerdict (*on_message)(void *instance, uint64_t delivery, const struct DrMessage *message, const struct DrSink *reason);
  // Takes a change of the desired properties, or answers `DR_REFUSED`. The runtime reports the acknowledgement
  // `{version, ok, error}`. `change` is borrowed for the call. May be null: every change is then accepted. `[worker]`
  DrStatus (*on_desired)(void *instance, const struct DrDesired *change, const struct DrSink *error);
  // Answers a direct method: sets `status` and writes the JSON payload. `DR_NOT_FOUND` for an unknown name. All pointers are
  // for this call. May be null. `[worker]`
  DrStatus (*on_method)(void *instance, const struct DrMethodCall *call, int32_t *status, const struct DrSink *payload);
  // A timer fired; `missed` ticks were left out since its last call. May be null. `[worker]`
  DrStatus (*on_timer)(void *instance, uint64_t timer, uint64_t missed, const struct DrSink *error);
  // A value posted with `post` arrived. May be null. `[worker]`
  DrStatus (*on_event)(void *instance, uint64_t value, const struct DrSink *error);
  // Closes what `start` opened and joins the instance's threads. Follows every `start`, also one that failed. May be null.
  // `[worker]`
  DrStatus (*stop)(void *instance, const struct DrSink *error);
  // Writes the schema or the defaults of the desired properties (`DR_DESCRIBE_SCHEMA`, `DR_DESCRIBE_DEFAULTS`). Asked
  // once per image. May be null. `[any thread]`
  DrStatus (*describe)(uint32_t what, const struct DrSink *out);
  // Finds what this table does not have, by name; null where unknown. May be null. `[any thread]`
  const void *(*extension)(struct DrText name);
} DrModule;

// Proof by layout: what a Rust module knows of these types, for a runtime of the same ABI minor.
typedef struct DrLayoutProof {
  // Version of abi_stable that made `module` and `host`; another version's layouts are not comparable.
  struct DrText abi_stable;
  // `&'static abi_stable::type_layout::TypeLayout` of `DrModule`, from the function in it.
  const void *module;
  // The same of `DrHost`.
  const void *host;
} DrLayoutProof;

// What a library has allocated and not freed: the sum of all its counters, in bytes, wrapping. The runtime reads them without
// calling the library; they live as long as the process. Asked for once, when the library is loaded.
typedef struct DrMemory {
  // Size of this struct.
  uint32_t size;
  // How many counters there are.
  uint32_t counters;
  // Bytes from one counter to the next; a multiple of 8.
  uint32_t stride;
  // Zero.
  uint32_t reserved;
  // The first one, aligned to 8 bytes; each is written atomically.
  const int64_t *first;
} DrMemory;

// What the runtime knows of the threads of an instance, beside its own: their names, and the processor time that they use.
typedef struct DrThreads {
  // Size of this struct.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // Called on a thread when it begins: it belongs to the instance from now on, and the system shows it as
  // `instance/name`, shortened. `DR_GONE` for a stale ticket.
  DrStatus (*enter)(uint64_t ticket, struct DrText name);
  // Called on a thread that has entered, as its last word; also with a stale ticket.
  void (*leave)(uint64_t ticket);
} DrThreads;

// How an instance proves to others who it is. Its key stays with the runtime, which signs for it. `[any thread, never blocks]`
typedef struct DrIdentity {
  // Size of this struct.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // HMAC-SHA256 of `length` bytes at `bytes` with the primary key of the instance's identity: 32 bytes to `signature`.
  // `DR_GONE`, `DR_INVALID` for a null pointer, `DR_DENIED` where the identity is disabled.
  DrStatus (*sign)(uint64_t ticket, const uint8_t *bytes, size_t length, uint8_t *signature);
  // Writes a SAS token of the instance's identity into `token`: for `host` (absent: `localhost`, by which modules reach their
  // own device), valid for `ttl_secs` from now on. `DR_GONE`, `DR_INVALID` for a host with a character that no host has
  // or a time of zero or more than 365 days, `DR_DENIED` where the identity is disabled.
  DrStatus (*token)(uint64_t ticket, struct DrText host, uint64_t ttl_secs, const struct DrSink *token);
} DrIdentity;

// Sends that are waited for by the runtime itself, on the caller's thread: nothing of the module's runs between the disk and the
// caller, which makes this the quickest way to know that a message is safe. `[any thread]`
typedef struct DrSends {
  // Size of this struct.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // As `send` of the runtime's table outside of a handler, but waits for the end where one of the routes is durable: `DR_OK`
  // then means committed and synced to disk, and it never answers `DR_PENDING`. `message` is borrowed for the call, and so is
  // `reason`, which may be null: on `DR_FAILED` it is written why. Inside a handler use `send` with its delivery: that is
  // staged, and returns at once.
  DrStatus (*send_and_wait)(uint64_t ticket, uint32_t output, const struct DrOutgoing *message, const struct DrSink *reason);
} DrSends;

// The device's own twin, for instances that the deployment permits it (`deviceTwin` of `settings.createOptions`); others get
// `DR_DENIED`. Every function may be called on any thread.
typedef struct DrDevice {
  // Size of this struct.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // Says what is permitted: sets `*rights`, which is the caller's, to `DR_DEVICE_READ`, with `DR_DEVICE_REPORT` or without.
  // `[never blocks]`
  DrStatus (*open)(uint64_t ticket, uint32_t *rights);
  // As `get_twin` of the runtime's table.
  DrStatus (*get_twin)(uint64_t ticket, struct DrTwin *twin);
  // As `patch_reported` of the runtime's table. Needs `DR_DEVICE_REPORT`.
  DrStatus (*patch_reported)(uint64_t ticket, uint64_t delivery, struct DrText patch, const struct DrCompletion *completion);
} DrDevice;

// What a module has for changes of the device's own twin.
typedef struct DrDeviceHandler {
  // Size of this struct.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // Called after `start` with the device's desired properties as they are (`DR_DESIRED_WHOLE`), and then for each change, in
  // the order of revisions. Only for an instance that the deployment permits it. `change` is borrowed for the call. Anything
  // but `DR_OK` is logged; the next change then comes whole. `[worker]`
  DrStatus (*on_desired)(void *instance, const struct DrDesired *change, const struct DrSink *error);
} DrDeviceHandler;

// Done.
#define DR_OK 0

// Begun; the completion that was passed will be called exactly once.
#define DR_PENDING 1

// The ticket, delivery or timer is no longer valid: its instance was stopped or replaced. Nothing was done.
#define DR_GONE 2

// An argument is malformed (null where it must not be, not UTF-8, not JSON, unknown output).
#define DR_INVALID 3

// Larger than the limit allows; nothing was done.
#define DR_TOO_LARGE 4

// A receiver's queue stayed full for the time that a sender may be held (50 ms), or the store's byte budget is spent,
// or the delivery has staged 16 MiB. Receivers that had room did get the message.
#define DR_FULL 5

// Not within the time allowed.
#define DR_TIMEOUT 6

// No such thing: unknown target, method or name.
#define DR_NOT_FOUND 7

// Not allowed for this identity or in this state (a trial sends nothing).
#define DR_DENIED 8

// This side does not have the function asked for.
#define DR_UNSUPPORTED 9

// Failed; the text says why.
#define DR_FAILED 10

// The desired properties are not acceptable; the text says which and why. The instance goes on with the old ones.
#define DR_REFUSED 11

// The call panicked and was caught at the border; the instance's state is not trusted any more.
#define DR_PANICKED 12

// Handled: the message is removed, and what the handler staged is committed with it. What went along memory routes was not staged.
#define DR_ACCEPT 0

// Not now: delivered again after `retry_after_ms`; what was staged is discarded. What went along memory routes stays sent.
#define DR_RETRY 1

// Never again by itself: set aside as poisonous, counted, with the reason.
#define DR_PARK 2

// Decided later, from any thread, through `complete`; the next message may come meanwhile.
#define DR_DEFER 3

// The handler failed with the given reason: delivered again a few times, then parked.
#define DR_FAULT 4

// The handler panicked and was caught: the instance is restarted, the message delivered again a few times, then parked.
#define DR_PANIC 5

// A person is needed, or data was lost.
#define DR_ERROR 1

// Something is wrong, nothing is lost.
#define DR_WARN 2

// Worth knowing in normal operation.
#define DR_INFO 3

// For the module's author.
#define DR_DEBUG 4

// Everything.
#define DR_TRACE 5

#endif  /* DINRAIL_MODULE_H */

/* ---- Helpers: plain functions of this header, no part of the binary contract. ----
 *
 * They allocate nothing and keep nothing: what they give is a number, lies in a buffer of the caller's, or points into what the
 * caller passed and lives as long as that. None has a state of its own, so each may be called on any thread.
 * Names that end in an underscore are the header's own.
 */

#if defined(__cplusplus)
#define DR_EXTERN_C extern "C"
#else
#define DR_EXTERN_C
#endif

#if defined(_WIN32)
#define DR_EXPORT __declspec(dllexport)
#else
#define DR_EXPORT __attribute__((visibility("default")))
#endif

/** Borrows a terminated string; NULL becomes "absent". */
static inline DrText dr_text(const char *text) {
  DrText out;
  out.ptr = (const uint8_t *)text;
  out.len = text == NULL ? 0 : strlen(text);
  return out;
}

/** Borrows `len` bytes. */
static inline DrText dr_bytes(const void *ptr, size_t len) {
  DrText out;
  out.ptr = (const uint8_t *)ptr;
  out.len = len;
  return out;
}

/** Says whether `text` reads `expected`. */
static inline bool dr_text_is(DrText text, const char *expected) {
  size_t len = strlen(expected);
  return text.len == len && (len == 0 || memcmp(text.ptr, expected, len) == 0);
}

/** Copies `text` into `out` with a terminator, cut to `size` bytes in all; `size` is at least 1. Returns `out`. */
static inline char *dr_copy(char *out, size_t size, DrText text) {
  size_t len = text.len < size - 1 ? text.len : size - 1;
  if (len > 0) {
    memcpy(out, text.ptr, len);
  }
  out[len] = '\0';
  return out;
}

/** Writes a terminated string into a sink, which may be NULL. */
static inline void dr_say(const DrSink *sink, const char *text) {
  if (sink != NULL) {
    sink->write(sink->ctx, dr_text(text));
  }
}

/** A verdict without a time: DR_ACCEPT, DR_PARK, DR_DEFER, DR_FAULT. */
static inline DrVerdict dr_verdict(DrVerdictKind kind) {
  DrVerdict out;
  out.kind = kind;
  out.reserved = 0;
  out.retry_after_ms = 0;
  return out;
}

/** DR_RETRY; 0 ms lets the runtime choose. */
static inline DrVerdict dr_retry(uint64_t after_ms) {
  DrVerdict out = dr_verdict(DR_RETRY);
  out.retry_after_ms = after_ms;
  return out;
}

/** A message with a body and nothing else; set further fields as needed. */
static inline DrOutgoing dr_outgoing(const void *body, size_t len) {
  DrOutgoing out;
  memset(&out, 0, sizeof out);
  out.size = (uint32_t)sizeof out;
  out.body = (const uint8_t *)body;
  out.body_len = len;
  return out;
}

/** Says whether the runtime's table is new enough to have `field`. */
#define DR_HOST_HAS(host, field) ((host)->size >= offsetof(DrHost, field) + sizeof(void (*)(void)))

/** Writes a log line if anybody listens to `level`. */
static inline void dr_log(const DrHost *host, uint64_t ticket, DrLevel level, const char *target, const char *text) {
  if (level <= *(const volatile uint32_t *)host->max_level) {
    host->log(ticket, level, dr_text(target), dr_text(text), dr_text(NULL), 0);
  }
}

static inline const DrIdentity *dr_identity_(const DrHost *host) {
  const DrIdentity *identity = (const DrIdentity *)host->extension(dr_text(DR_EXTENSION_IDENTITY));
  return identity != NULL && identity->size >= sizeof(DrIdentity) ? identity : NULL;
}

/** Signs `len` bytes with the key of the instance's identity: see `DrIdentity`. DR_UNSUPPORTED from an older runtime. */
static inline DrStatus dr_sign(const DrHost *host, uint64_t ticket, const void *bytes, size_t len, uint8_t signature[32]) {
  const DrIdentity *identity = dr_identity_(host);
  return identity == NULL ? DR_UNSUPPORTED : identity->sign(ticket, (const uint8_t *)bytes, len, signature);
}

/** Writes a token of the instance's identity for its own device into `token`: see `DrIdentity`. */
static inline DrStatus dr_token(const DrHost *host, uint64_t ticket, uint64_t ttl_secs, const DrSink *token) {
  const DrIdentity *identity = dr_identity_(host);
  return identity == NULL ? DR_UNSUPPORTED : identity->token(ticket, dr_text(NULL), ttl_secs, token);
}

/**
 * Sends outside of a handler and waits until the message is committed and synced to disk, where one of its routes is durable: see
 * `DrSends`. `reason` may be NULL. DR_UNSUPPORTED from an older runtime.
 */
static inline DrStatus dr_send_and_wait(const DrHost *host, uint64_t ticket, uint32_t output, const DrOutgoing *message,
                                        const DrSink *reason) {
  const DrSends *sends = (const DrSends *)host->extension(dr_text(DR_EXTENSION_SENDS));
  return sends == NULL || sends->size < sizeof(DrSends) ? DR_UNSUPPORTED : sends->send_and_wait(ticket, output, message, reason);
}

/**
 * A send that was begun, to be asked for its end: the caller's, who leaves it where it is until it has ended. (To be called back
 * instead, pass a `DrCompletion` of your own to `send` of the runtime's table.)
 */
typedef struct DrSending {
  /** What became of it; DR_PENDING until it has ended. Read it with dr_sending_status. */
  volatile DrStatus status_;
} DrSending;

static inline void dr_sending_end_(void *ctx, DrStatus status, DrText detail) {
  (void)detail;
#if defined(_MSC_VER)
  *(volatile DrStatus *)&((DrSending *)ctx)->status_ = status;
#else
  __atomic_store_n(&((DrSending *)ctx)->status_, status, __ATOMIC_RELEASE);
#endif
}

/** What became of a send; DR_PENDING while it is on its way. May be asked on any thread. */
static inline DrStatus dr_sending_status(const DrSending *sending) {
#if defined(_MSC_VER)
  return sending->status_;
#else
  return __atomic_load_n(&sending->status_, __ATOMIC_ACQUIRE);
#endif
}

/** Sends outside of a handler without waiting: `sending` tells the end, and is returned what is known at once. */
static inline DrStatus dr_start_send(const DrHost *host, uint64_t ticket, uint32_t output, const DrOutgoing *message,
                                     DrSending *sending) {
  DrCompletion completion;
  DrStatus status;
  completion.ctx = sending;
  completion.done = dr_sending_end_;
  sending->status_ = DR_PENDING;
  status = host->send(ticket, DR_NO_DELIVERY, output, message, &completion);
  if (status != DR_PENDING) {
    sending->status_ = status;
  }
  return status;
}

/** What a status means, for a log line. Never NULL; the text lives as long as the library. */
static inline const char *dr_status_text(DrStatus status) {
  switch (status) {
    case DR_OK: return "done";
    case DR_PENDING: return "begun; its completion follows";
    case DR_GONE: return "gone: the instance, delivery or timer has ended";
    case DR_INVALID: return "an argument is malformed";
    case DR_TOO_LARGE: return "larger than the limit allows";
    case DR_FULL: return "a receiver's queue or the store is full";
    case DR_TIMEOUT: return "not within the time allowed";
    case DR_NOT_FOUND: return "no such thing";
    case DR_DENIED: return "not allowed for this identity or in this state";
    case DR_UNSUPPORTED: return "this side does not have that function";
    case DR_FAILED: return "failed";
    case DR_REFUSED: return "the desired properties are not acceptable";
    case DR_PANICKED: return "it panicked";
    default: return "an unknown status";
  }
}

/** What a verdict is called. Never NULL; the text lives as long as the library. */
static inline const char *dr_verdict_text(DrVerdictKind kind) {
  switch (kind) {
    case DR_ACCEPT: return "accept";
    case DR_RETRY: return "retry";
    case DR_PARK: return "park";
    case DR_DEFER: return "defer";
    case DR_FAULT: return "fault";
    case DR_PANIC: return "panic";
    default: return "an unknown verdict";
  }
}

/** The verdict that suits a failed send or report: later where there was no room, else a fault. Says what failed as the reason. */
static inline DrVerdict dr_verdict_of(DrStatus status, const char *what, const DrSink *reason) {
  if (status == DR_OK || status == DR_PENDING) {
    return dr_verdict(DR_ACCEPT);
  }
  dr_say(reason, what);
  dr_say(reason, ": ");
  dr_say(reason, dr_status_text(status));
  return dr_verdict(status == DR_FULL || status == DR_TIMEOUT ? DR_RETRY : DR_FAULT);
}

/** The body of a message; borrowed as long as the message. */
static inline DrText dr_body(const DrMessage *message) { return dr_bytes(message->body, message->body_len); }

/** An application property; absent (`ptr` NULL) where the message has none of that name. Borrowed as long as the message. */
static inline DrText dr_property(const DrMessage *message, const char *key) {
  uint32_t at;
  for (at = 0; at < message->property_count; at++) {
    if (dr_text_is(message->properties[at].key, key)) {
      DrText value = message->properties[at].value;
      return value.ptr == NULL ? dr_text("") : value;
    }
  }
  return dr_text(NULL);
}

/* ---- Reading JSON. ----
 *
 * Each getter checks the whole document first, so that what is cut or damaged is never half believed, and reads no byte beyond
 * its length. A path names a value from the root: "limit", "line.speed", "points[2].name", "['a.b']"; "" is the root.
 *
 *   DR_OK         `out` is set
 *   DR_NOT_FOUND  there is no such value, or it is null (which removes, in a twin)
 *   DR_INVALID    not JSON, not a path, or a value of another type or beyond what `out` can hold
 *   DR_TOO_LARGE  the text does not fit the buffer
 *
 * `out` is left as it was unless it is DR_OK: put the default there first.
 */

/** Levels of arrays and objects that are followed; what is deeper is DR_INVALID. */
#define DR_JSON_DEPTH 64

/** Type of a JSON value. */
typedef enum DrJsonKind {
  DR_JSON_NONE,
  DR_JSON_NULL,
  DR_JSON_BOOL,
  DR_JSON_NUMBER,
  DR_JSON_STRING,
  DR_JSON_ARRAY,
  DR_JSON_OBJECT
} DrJsonKind;

typedef struct DrScan_ {
  const uint8_t *at;
  const uint8_t *end;
} DrScan_;

typedef struct DrStep_ {
  const char *name;
  size_t len;
  bool is_index;
} DrStep_;

static inline DrScan_ dr_scan_(DrText text) {
  DrScan_ out;
  out.at = text.ptr;
  out.end = text.ptr == NULL ? NULL : text.ptr + text.len;
  return out;
}

static inline DrText dr_between_(const uint8_t *from, const uint8_t *to) { return dr_bytes(from, (size_t)(to - from)); }

static inline bool dr_scan_is_(const DrScan_ *s, char expected) { return s->at < s->end && *s->at == (uint8_t)expected; }

static inline void dr_scan_space_(DrScan_ *s) {
  while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) {
    s->at++;
  }
}

static inline bool dr_scan_word_(DrScan_ *s, const char *word) {
  size_t len = strlen(word);
  if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0) {
    return false;
  }
  s->at += len;
  return true;
}

static inline uint32_t dr_scan_hex_(DrScan_ *s) {
  uint32_t out = 0;
  int n;
  if (s->end - s->at < 4) {
    return UINT32_MAX;
  }
  for (n = 0; n < 4; n++) {
    uint8_t c = *s->at++;
    if (c >= '0' && c <= '9') {
      out = out << 4 | (uint32_t)(c - '0');
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
      out = out << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
    } else {
      return UINT32_MAX;
    }
  }
  return out;
}

/* Behind a backslash. UINT32_MAX where it is malformed. */
static inline uint32_t dr_scan_escape_(DrScan_ *s) {
  uint32_t high, low;
  if (s->at == s->end) {
    return UINT32_MAX;
  }
  switch (*s->at++) {
    case '"': return '"';
    case '\\': return '\\';
    case '/': return '/';
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'u': break;
    default: return UINT32_MAX;
  }
  high = dr_scan_hex_(s);
  if (high < 0xD800 || high > 0xDFFF) {
    return high;
  }
  if (high > 0xDBFF || !dr_scan_word_(s, "\\u")) {
    return UINT32_MAX;
  }
  low = dr_scan_hex_(s);
  return low < 0xDC00 || low > 0xDFFF ? UINT32_MAX : 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* One character of a string, an escape or UTF-8. UINT32_MAX where it is malformed. */
static inline uint32_t dr_scan_char_(DrScan_ *s) {
  static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
  uint32_t c = *s->at++;
  int more, n;
  if (c == '\\') {
    return dr_scan_escape_(s);
  }
  if (c < 0x80) {
    return c < 0x20 ? UINT32_MAX : c;
  }
  more = c >= 0xF0 && c < 0xF8 ? 3 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xC0 && c < 0xE0 ? 1 : 0;
  if (more == 0 || s->end - s->at < more) {
    return UINT32_MAX;
  }
  c &= 0x3FU >> more;
  for (n = 0; n < more; n++) {
    if ((*s->at & 0xC0) != 0x80) {
      return UINT32_MAX;
    }
    c = c << 6 | (uint32_t)(*s->at++ & 0x3F);
  }
  return c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF) ? UINT32_MAX : c;
}

static inline bool dr_scan_string_(DrScan_ *s) {
  if (!dr_scan_is_(s, '"')) {
    return false;
  }
  s->at++;
  while (s->at < s->end) {
    if (*s->at == '"') {
      s->at++;
      return true;
    }
    if (dr_scan_char_(s) == UINT32_MAX) {
      return false;
    }
  }
  return false;
}

static inline bool dr_scan_digits_(DrScan_ *s) {
  const uint8_t *from = s->at;
  while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
    s->at++;
  }
  return s->at > from;
}

static inline bool dr_scan_number_(DrScan_ *s) {
  if (dr_scan_is_(s, '-')) {
    s->at++;
  }
  if (dr_scan_is_(s, '0')) {
    s->at++;
  } else if (!dr_scan_digits_(s)) {
    return false;
  }
  if (dr_scan_is_(s, '.')) {
    s->at++;
    if (!dr_scan_digits_(s)) {
      return false;
    }
  }
  if (dr_scan_is_(s, 'e') || dr_scan_is_(s, 'E')) {
    s->at++;
    if (dr_scan_is_(s, '+') || dr_scan_is_(s, '-')) {
      s->at++;
    }
    return dr_scan_digits_(s);
  }
  return true;
}

static inline bool dr_scan_key_(DrScan_ *s) {
  dr_scan_space_(s);
  if (!dr_scan_string_(s)) {
    return false;
  }
  dr_scan_space_(s);
  if (!dr_scan_is_(s, ':')) {
    return false;
  }
  s->at++;
  return true;
}

static inline bool dr_scan_scalar_(DrScan_ *s) {
  if (s->at == s->end) {
    return false;
  }
  switch (*s->at) {
    case '"': return dr_scan_string_(s);
    case 't': return dr_scan_word_(s, "true");
    case 'f': return dr_scan_word_(s, "false");
    case 'n': return dr_scan_word_(s, "null");
    default: return dr_scan_number_(s);
  }
}

/* Passes one value of any depth, without recursion: a bit a level says whether it is an object. */
static inline bool dr_scan_value_(DrScan_ *s) {
  uint64_t objects = 0;
  unsigned depth = 0;
  for (;;) {
    dr_scan_space_(s);
    if (dr_scan_is_(s, '{') || dr_scan_is_(s, '[')) {
      bool is_object = *s->at == '{';
      if (depth == DR_JSON_DEPTH) {
        return false;
      }
      s->at++;
      dr_scan_space_(s);
      if (!dr_scan_is_(s, is_object ? '}' : ']')) {
        objects = objects << 1 | (is_object ? 1U : 0U);
        depth++;
        if (is_object && !dr_scan_key_(s)) {
          return false;
        }
        continue;
      }
      s->at++;
    } else if (!dr_scan_scalar_(s)) {
      return false;
    }
    /* A value has ended: close what it ends, go on to the next. */
    for (;;) {
      bool in_object = (objects & 1U) != 0;
      if (depth == 0) {
        return true;
      }
      dr_scan_space_(s);
      if (dr_scan_is_(s, ',')) {
        s->at++;
        if (in_object && !dr_scan_key_(s)) {
          return false;
        }
        break;
      }
      if (!dr_scan_is_(s, in_object ? '}' : ']')) {
        return false;
      }
      s->at++;
      objects >>= 1;
      depth--;
    }
  }
}

/** Says whether `json` is one JSON document (RFC 8259; UTF-8, no lone surrogates) of at most DR_JSON_DEPTH levels. */
static inline bool dr_json_valid(DrText json) {
  DrScan_ s = dr_scan_(json);
  if (!dr_scan_value_(&s)) {
    return false;
  }
  dr_scan_space_(&s);
  return s.at == s.end;
}

/** Type of a value that dr_json_get or dr_json_next gave; DR_JSON_NONE for absent text. */
static inline DrJsonKind dr_json_kind(DrText value) {
  if (value.ptr == NULL || value.len == 0) {
    return DR_JSON_NONE;
  }
  switch (value.ptr[0]) {
    case '{': return DR_JSON_OBJECT;
    case '[': return DR_JSON_ARRAY;
    case '"': return DR_JSON_STRING;
    case 't':
    case 'f': return DR_JSON_BOOL;
    case 'n': return DR_JSON_NULL;
    default: return DR_JSON_NUMBER;
  }
}

/**
 * Walks over the members of an object or array: begin with `*at` 0 and call until it says false.
 *
 * `key` is the text between the quotes, escapes and all; absent in an array. Both may be NULL; both point into `container`,
 * which is a value that dr_json_get gave.
 *
 *   for (size_t at = 0; dr_json_next(points, &at, NULL, &point);) { ... }
 */
static inline bool dr_json_next(DrText container, size_t *at, DrText *key, DrText *value) {
  DrScan_ s = dr_scan_(container);
  bool is_object = dr_json_kind(container) == DR_JSON_OBJECT;
  const uint8_t *from;
  if ((!is_object && dr_json_kind(container) != DR_JSON_ARRAY) || *at >= container.len) {
    return false;
  }
  s.at += *at;
  dr_scan_space_(&s);
  if (!dr_scan_is_(&s, *at == 0 ? container.ptr[0] == '{' ? '{' : '[' : ',')) {
    return false;
  }
  s.at++;
  if (key != NULL) {
    *key = dr_text(NULL);
  }
  if (is_object) {
    dr_scan_space_(&s);
    from = s.at;
    if (!dr_scan_string_(&s)) {
      return false;
    }
    if (key != NULL) {
      *key = dr_between_(from + 1, s.at - 1);
    }
    dr_scan_space_(&s);
    if (!dr_scan_is_(&s, ':')) {
      return false;
    }
    s.at++;
  }
  dr_scan_space_(&s);
  from = s.at;
  if (!dr_scan_value_(&s)) {
    return false;
  }
  if (value != NULL) {
    *value = dr_between_(from, s.at);
  }
  *at = (size_t)(s.at - container.ptr);
  return true;
}

/* Takes the next step off a path: 1 it did, 0 the path has ended, -1 it is malformed. */
static inline int dr_path_step_(const char **path, bool is_first, DrStep_ *step) {
  const char *at = *path, *from;
  if (*at == '\0') {
    return 0;
  }
  step->is_index = false;
  if (*at == '[' && at[1] == '\'') {
    from = at + 2;
    at = strchr(from, '\'');
    if (at == NULL || at[1] != ']') {
      return -1;
    }
    *path = at + 2;
  } else if (*at == '[') {
    from = ++at;
    step->is_index = true;
    while (*at >= '0' && *at <= '9') {
      at++;
    }
    if (at == from || at - from > 9 || *at != ']') {
      return -1;
    }
    *path = at + 1;
  } else {
    if (*at == '.') {
      at++;
    } else if (!is_first) {
      return -1;
    }
    from = at;
    at += strcspn(at, ".[");
    if (at == from || (is_first && **path == '.')) {
      return -1;
    }
    *path = at;
  }
  step->name = from;
  step->len = (size_t)(at - from);
  return 1;
}

static inline size_t dr_utf8_(uint32_t c, char out[4]) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = (char)(0xE0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3F));
    out[2] = (char)(0x80 | (c & 0x3F));
    return 3;
  }
  out[0] = (char)(0xF0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 0x3F));
  out[2] = (char)(0x80 | (c >> 6 & 0x3F));
  out[3] = (char)(0x80 | (c & 0x3F));
  return 4;
}

/* Compares a key, as it stands between its quotes, with `len` plain bytes. */
static inline bool dr_key_is_(DrText key, const char *name, size_t len) {
  DrScan_ s = dr_scan_(key);
  size_t done = 0;
  while (s.at < s.end) {
    char utf8[4];
    size_t bytes = dr_utf8_(dr_scan_char_(&s), utf8);
    if (len - done < bytes || memcmp(name + done, utf8, bytes) != 0) {
      return false;
    }
    done += bytes;
  }
  return done == len;
}

/**
 * Gives the value at `path` as it stands in the text, which it points into: `{"a":[1,"x"]}`, "a[1]" gives `"x"` with its quotes.
 * Of a key that comes twice, the last one counts. Null is a value here.
 */
static inline DrStatus dr_json_get(DrText json, const char *path, DrText *out) {
  DrScan_ s = dr_scan_(json);
  DrStep_ step;
  DrText here;
  bool is_first = true;
  int more;
  if (!dr_json_valid(json)) {
    return DR_INVALID;
  }
  dr_scan_space_(&s);
  here.ptr = s.at;
  dr_scan_value_(&s);
  here = dr_between_(here.ptr, s.at);
  while ((more = dr_path_step_(&path, is_first, &step)) == 1) {
    DrText key, value, found = dr_text(NULL);
    size_t at = 0;
    is_first = false;
    if (dr_json_kind(here) == (step.is_index ? DR_JSON_ARRAY : DR_JSON_OBJECT)) {
      if (step.is_index) {
        size_t left = 0, n;
        for (n = 0; n < step.len; n++) {
          left = left * 10 + (size_t)(step.name[n] - '0');
        }
        while (dr_json_next(here, &at, NULL, &value)) {
          if (left-- == 0) {
            found = value;
            break;
          }
        }
      } else {
        while (dr_json_next(here, &at, &key, &value)) {
          if (dr_key_is_(key, step.name, step.len)) {
            found = value;
          }
        }
      }
    }
    if (found.ptr == NULL) {
      /* The rest of the path is still to be a path. */
      while ((more = dr_path_step_(&path, false, &step)) == 1) {
      }
      return more < 0 ? DR_INVALID : DR_NOT_FOUND;
    }
    here = found;
  }
  if (more < 0) {
    return DR_INVALID;
  }
  *out = here;
  return DR_OK;
}

/* As dr_json_get, for a value of one type. */
static inline DrStatus dr_json_typed_(DrText json, const char *path, DrJsonKind kind, DrText *out) {
  DrText value;
  DrStatus status = dr_json_get(json, path, &value);
  if (status == DR_OK && dr_json_kind(value) == DR_JSON_NULL) {
    return DR_NOT_FOUND;
  }
  if (status == DR_OK && dr_json_kind(value) != kind) {
    return DR_INVALID;
  }
  if (status == DR_OK) {
    *out = value;
  }
  return status;
}

/** Says whether there is a value at `path`, which may be null. */
static inline bool dr_json_exists(DrText json, const char *path) {
  DrText value;
  return dr_json_get(json, path, &value) == DR_OK;
}

/** Counts the members of the array or object at `path`. */
static inline DrStatus dr_json_count(DrText json, const char *path, size_t *out) {
  DrText value;
  size_t at = 0, count = 0;
  DrStatus status = dr_json_get(json, path, &value);
  if (status != DR_OK) {
    return status;
  }
  if (dr_json_kind(value) != DR_JSON_ARRAY && dr_json_kind(value) != DR_JSON_OBJECT) {
    return dr_json_kind(value) == DR_JSON_NULL ? DR_NOT_FOUND : DR_INVALID;
  }
  while (dr_json_next(value, &at, NULL, NULL)) {
    count++;
  }
  *out = count;
  return DR_OK;
}

/** Gives `true` or `false`. */
static inline DrStatus dr_json_bool(DrText json, const char *path, bool *out) {
  DrText value;
  DrStatus status = dr_json_typed_(json, path, DR_JSON_BOOL, &value);
  if (status == DR_OK) {
    *out = value.ptr[0] == 't';
  }
  return status;
}

/** Gives a whole number, written without fraction and exponent; DR_INVALID for any other. */
static inline DrStatus dr_json_int64(DrText json, const char *path, int64_t *out) {
  DrText value;
  uint64_t sum = 0, limit = (uint64_t)INT64_MAX;
  size_t at = 0;
  DrStatus status = dr_json_typed_(json, path, DR_JSON_NUMBER, &value);
  if (status != DR_OK) {
    return status;
  }
  if (value.ptr[0] == '-') {
    at = 1;
    limit++;
  }
  for (; at < value.len; at++) {
    uint64_t digit = (uint64_t)value.ptr[at] - '0';
    if (digit > 9 || sum > (limit - digit) / 10) {
      return DR_INVALID;
    }
    sum = sum * 10 + digit;
  }
  if (value.ptr[0] == '-') {
    *out = sum == limit ? INT64_MIN : -(int64_t)sum;
  } else {
    *out = (int64_t)sum;
  }
  return DR_OK;
}

/* A number that is known to be well written. Digits behind the 19th do not count; exact in nearly all cases, else next to it. */
static inline double dr_number_of_(DrText value) {
  uint64_t sum = 0;
  int64_t exponent = 0, written = 0;
  long double out, power = 10.0L;
  size_t at = 0;
  bool is_behind_point = false, is_negative = value.ptr[0] == '-';
  for (at = is_negative ? 1 : 0; at < value.len && (value.ptr[at] | 0x20) != 'e'; at++) {
    if (value.ptr[at] == '.') {
      is_behind_point = true;
      continue;
    }
    if (sum <= (UINT64_MAX - 9) / 10) {
      sum = sum * 10 + (uint64_t)(value.ptr[at] - '0');
      exponent -= is_behind_point ? 1 : 0;
    } else {
      exponent += is_behind_point ? 0 : 1;
    }
  }
  if (at < value.len) {
    bool is_down = value.ptr[++at] == '-';
    for (at += value.ptr[at] == '-' || value.ptr[at] == '+' ? 1 : 0; at < value.len; at++) {
      written = written > 99999999 ? written : written * 10 + (value.ptr[at] - '0');
    }
    exponent += is_down ? -written : written;
  }
  out = (long double)sum;
  if (sum != 0 && exponent != 0) {
    bool is_down = exponent < 0;
    uint64_t left = (uint64_t)(is_down ? -exponent : exponent);
    if (left > 400) {
      left = 400;
    }
    /* In two parts, so that a small number with many digits does not vanish on the way. */
    while (left > 0) {
      uint64_t part = left > 27 ? 27 : left;
      long double factor = 1.0L, base = power;
      uint64_t bits = part;
      for (; bits > 0; bits >>= 1) {
        if ((bits & 1U) != 0) {
          factor *= base;
        }
        base *= base;
      }
      out = is_down ? out / factor : out * factor;
      left -= part;
    }
  }
  return (double)(is_negative ? -out : out);
}

/** Gives a number; DR_INVALID where it is beyond a double. */
static inline DrStatus dr_json_number(DrText json, const char *path, double *out) {
  DrText value;
  double number;
  DrStatus status = dr_json_typed_(json, path, DR_JSON_NUMBER, &value);
  if (status != DR_OK) {
    return status;
  }
  number = dr_number_of_(value);
  if (number - number != 0.0) {
    return DR_INVALID;
  }
  *out = number;
  return DR_OK;
}

/* Writes a string value without quotes and escapes, and a terminator. */
static inline DrStatus dr_unescape_(DrText value, char *out, size_t size) {
  int pass;
  for (pass = 0; pass < 2; pass++) {
    DrScan_ s = dr_scan_(dr_bytes(value.ptr + 1, value.len - 2));
    size_t len = 0;
    while (s.at < s.end) {
      char utf8[4];
      uint32_t c = dr_scan_char_(&s);
      size_t bytes = dr_utf8_(c, utf8);
      if (c == 0) {
        return DR_INVALID;
      }
      if (size <= bytes || len >= size - bytes) {
        return DR_TOO_LARGE;
      }
      if (pass == 1) {
        memcpy(out + len, utf8, bytes);
      }
      len += bytes;
    }
    if (size == 0) {
      return DR_TOO_LARGE;
    }
    if (pass == 1) {
      out[len] = '\0';
    }
  }
  return DR_OK;
}

/** Writes the text at `path`, without escapes and terminated, into `out` of `size` bytes in all. Text with a NUL is DR_INVALID. */
static inline DrStatus dr_json_string(DrText json, const char *path, char *out, size_t size) {
  DrText value;
  DrStatus status = dr_json_typed_(json, path, DR_JSON_STRING, &value);
  return status == DR_OK ? dr_unescape_(value, out, size) : status;
}

/* ---- Writing JSON into a buffer of the caller's. ----
 *
 *   char text[200];
 *   DrText json;
 *   DrWriter w = dr_writer(text, sizeof text);
 *   dr_write_object(&w);
 *   dr_write_key(&w, "greeted");
 *   dr_write_int(&w, 3);
 *   dr_write_end(&w);
 *   status = dr_written(&w, &json);
 *
 * Commas, colons and escapes are the writer's. What does not fit or does not belong is remembered until dr_written says so.
 */

/** A writer; use it through its functions. Lives where the caller puts it, needs no end. */
typedef struct DrWriter {
  char *out;
  size_t size;
  size_t len;
  uint64_t objects;
  unsigned depth;
  bool has_item;
  bool has_key;
  DrStatus status;
} DrWriter;

/** Begins in `out`, which is the caller's and must live as long as what is written is used. */
static inline DrWriter dr_writer(char *out, size_t size) {
  DrWriter w;
  memset(&w, 0, sizeof w);
  w.out = out;
  w.size = size;
  return w;
}

static inline void dr_put_(DrWriter *w, const char *bytes, size_t len) {
  if (w->status != DR_OK) {
    return;
  }
  if (w->size - w->len <= len) {
    w->status = DR_TOO_LARGE;
    return;
  }
  memcpy(w->out + w->len, bytes, len);
  w->len += len;
}

static inline bool dr_in_object_(const DrWriter *w) { return w->depth > 0 && (w->objects & 1U) != 0; }

/* Before a value: the comma, and whether one may stand here. */
static inline void dr_put_value_(DrWriter *w) {
  if (dr_in_object_(w) ? !w->has_key : w->depth == 0 && w->has_item) {
    w->status = w->status == DR_OK ? DR_INVALID : w->status;
  }
  if (!dr_in_object_(w) && w->has_item) {
    dr_put_(w, ",", 1);
  }
  w->has_key = false;
  w->has_item = true;
}

static inline void dr_put_open_(DrWriter *w, bool is_object) {
  dr_put_value_(w);
  if (w->depth == DR_JSON_DEPTH) {
    w->status = w->status == DR_OK ? DR_INVALID : w->status;
    return;
  }
  dr_put_(w, is_object ? "{" : "[", 1);
  w->objects = w->objects << 1 | (is_object ? 1U : 0U);
  w->depth++;
  w->has_item = false;
}

/** Begins an object; end it with dr_write_end. */
static inline void dr_write_object(DrWriter *w) { dr_put_open_(w, true); }

/** Begins an array; end it with dr_write_end. */
static inline void dr_write_array(DrWriter *w) { dr_put_open_(w, false); }

/** Ends the innermost object or array. */
static inline void dr_write_end(DrWriter *w) {
  if (w->depth == 0 || w->has_key) {
    w->status = w->status == DR_OK ? DR_INVALID : w->status;
    return;
  }
  dr_put_(w, dr_in_object_(w) ? "}" : "]", 1);
  w->objects >>= 1;
  w->depth--;
  w->has_item = true;
}

static inline void dr_put_escaped_(DrWriter *w, DrText text) {
  static const char hex[] = "0123456789abcdef";
  DrScan_ s = dr_scan_(text);
  dr_put_(w, "\"", 1);
  while (s.at < s.end && w->status == DR_OK) {
    const uint8_t *from = s.at;
    uint8_t c = *from;
    if (c == '"' || c == '\\') {
      char escaped[2];
      escaped[0] = '\\';
      escaped[1] = (char)c;
      dr_put_(w, escaped, sizeof escaped);
      s.at++;
    } else if (c < 0x20) {
      char escaped[6] = {'\\', 'u', '0', '0', '0', '0'};
      escaped[4] = hex[c >> 4];
      escaped[5] = hex[c & 15];
      dr_put_(w, escaped, sizeof escaped);
      s.at++;
    } else if (dr_scan_char_(&s) == UINT32_MAX) {
      /* What is not UTF-8 becomes the replacement character, a byte each. */
      s.at = from + 1;
      dr_put_(w, "\xEF\xBF\xBD", 3);
    } else {
      dr_put_(w, (const char *)from, (size_t)(s.at - from));
    }
  }
  dr_put_(w, "\"", 1);
}

/** Writes the key of the next member. */
static inline void dr_write_key(DrWriter *w, const char *key) {
  if (!dr_in_object_(w) || w->has_key) {
    w->status = w->status == DR_OK ? DR_INVALID : w->status;
    return;
  }
  if (w->has_item) {
    dr_put_(w, ",", 1);
  }
  dr_put_escaped_(w, dr_text(key));
  dr_put_(w, ":", 1);
  w->has_key = true;
}

/** Writes text; absent text becomes null. */
static inline void dr_write_text(DrWriter *w, DrText text) {
  dr_put_value_(w);
  if (text.ptr == NULL) {
    dr_put_(w, "null", 4);
  } else {
    dr_put_escaped_(w, text);
  }
}

/** Writes a terminated string; NULL becomes null. */
static inline void dr_write_string(DrWriter *w, const char *text) { dr_write_text(w, dr_text(text)); }

/** Writes `true` or `false`. */
static inline void dr_write_bool(DrWriter *w, bool value) {
  dr_put_value_(w);
  dr_put_(w, value ? "true" : "false", value ? 4 : 5);
}

/** Writes null. */
static inline void dr_write_null(DrWriter *w) {
  dr_put_value_(w);
  dr_put_(w, "null", 4);
}

/* Digits of `value` at the end of `out`; returns where they begin. */
static inline size_t dr_digits_(uint64_t value, char out[20]) {
  size_t at = 20;
  do {
    out[--at] = (char)('0' + (char)(value % 10));
    value /= 10;
  } while (value > 0);
  return at;
}

/** Writes a whole number. */
static inline void dr_write_uint(DrWriter *w, uint64_t value) {
  char digits[20];
  size_t at = dr_digits_(value, digits);
  dr_put_value_(w);
  dr_put_(w, digits + at, sizeof digits - at);
}

/** Writes a whole number. */
static inline void dr_write_int(DrWriter *w, int64_t value) {
  char digits[20];
  size_t at = dr_digits_(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, digits);
  dr_put_value_(w);
  if (value < 0) {
    dr_put_(w, "-", 1);
  }
  dr_put_(w, digits + at, sizeof digits - at);
}

/** Writes a number so that it is read as the same one; what is not finite becomes null. */
static inline void dr_write_number(DrWriter *w, double value) {
  char text[40], *comma;
  int len;
  if (value - value != 0.0) {
    dr_write_null(w);
    return;
  }
  len = snprintf(text, sizeof text, "%.15g", value);
  /* The decimal comma of a locale that somebody in the process has set. */
  if ((comma = strchr(text, ',')) != NULL) {
    *comma = '.';
  }
  if (dr_number_of_(dr_bytes(text, (size_t)len)) != value) {
    len = snprintf(text, sizeof text, "%.17g", value);
    if ((comma = strchr(text, ',')) != NULL) {
      *comma = '.';
    }
  }
  dr_put_value_(w);
  dr_put_(w, text, (size_t)len);
}

/** Writes a value that is JSON already, such as one that dr_json_get gave. */
static inline void dr_write_json(DrWriter *w, DrText json) {
  dr_put_value_(w);
  if (!dr_json_valid(json)) {
    w->status = w->status == DR_OK ? DR_INVALID : w->status;
    return;
  }
  dr_put_(w, (const char *)json.ptr, json.len);
}

/**
 * Ends the writing: terminates the text and gives it. DR_TOO_LARGE where the buffer is too small, DR_INVALID where it is no
 * document: a member without key, an object without end.
 */
static inline DrStatus dr_written(DrWriter *w, DrText *json) {
  if (w->status == DR_OK && (w->depth > 0 || !w->has_item)) {
    w->status = DR_INVALID;
  }
  if (w->status == DR_OK) {
    w->out[w->len] = '\0';
    *json = dr_bytes(w->out, w->len);
  }
  return w->status;
}

/* ---- Desired properties: one call each. ----
 *
 * Put the default into `out` first. A property that is not there, or null, leaves it so; one that does not fit is explained in
 * `error`, as "maxLength: must be a whole number from 1 to 100", and the answer is false: return DR_REFUSED then. Read all into
 * locals before you change anything: a refused change leaves everything as it was.
 */

static inline void dr_say_int_(const DrSink *sink, int64_t value) {
  char digits[20];
  size_t at = dr_digits_(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, digits);
  if (sink != NULL) {
    dr_say(sink, value < 0 ? "-" : "");
    sink->write(sink->ctx, dr_bytes(digits + at, sizeof digits - at));
  }
}

static inline void dr_say_number_(const DrSink *sink, double value) {
  char text[40];
  DrText json;
  DrWriter w = dr_writer(text, sizeof text);
  dr_write_number(&w, value);
  if (sink != NULL && dr_written(&w, &json) == DR_OK) {
    sink->write(sink->ctx, json);
  }
}

/** Takes a whole number from `least` to `most`. */
static inline bool dr_desired_int(DrText desired, const char *path, int64_t least, int64_t most, int64_t *out,
                                  const DrSink *error) {
  int64_t value = 0;
  DrStatus status = dr_json_int64(desired, path, &value);
  if (status == DR_NOT_FOUND) {
    return true;
  }
  if (status == DR_OK && value >= least && value <= most) {
    *out = value;
    return true;
  }
  dr_say(error, path);
  dr_say(error, ": must be a whole number from ");
  dr_say_int_(error, least);
  dr_say(error, " to ");
  dr_say_int_(error, most);
  return false;
}

/** Takes a number from `least` to `most`. */
static inline bool dr_desired_number(DrText desired, const char *path, double least, double most, double *out,
                                     const DrSink *error) {
  double value = 0;
  DrStatus status = dr_json_number(desired, path, &value);
  if (status == DR_NOT_FOUND) {
    return true;
  }
  if (status == DR_OK && value >= least && value <= most) {
    *out = value;
    return true;
  }
  dr_say(error, path);
  dr_say(error, ": must be a number from ");
  dr_say_number_(error, least);
  dr_say(error, " to ");
  dr_say_number_(error, most);
  return false;
}

/** Takes `true` or `false`. */
static inline bool dr_desired_bool(DrText desired, const char *path, bool *out, const DrSink *error) {
  DrStatus status = dr_json_bool(desired, path, out);
  if (status == DR_OK || status == DR_NOT_FOUND) {
    return true;
  }
  dr_say(error, path);
  dr_say(error, ": must be true or false");
  return false;
}

/** Takes text that fits `out` of `size` bytes, terminator included. */
static inline bool dr_desired_string(DrText desired, const char *path, char *out, size_t size, const DrSink *error) {
  DrStatus status = dr_json_string(desired, path, out, size);
  if (status == DR_OK || status == DR_NOT_FOUND) {
    return true;
  }
  dr_say(error, path);
  dr_say(error, ": must be text of at most ");
  dr_say_int_(error, (int64_t)size - 1);
  dr_say(error, " bytes");
  return false;
}

/* ---- Readings: the one shape in which modules hand measured values to each other. ----
 *
 *   {"name": "cpu.load", "value": 12.5, "unit": "%", "quality": "good", "sourceTime": "2026-11-21T14:05:09.123456Z"}
 */

/** How far a reading may be believed. */
typedef enum DrQuality { DR_GOOD, DR_UNCERTAIN, DR_BAD } DrQuality;

/** A measured value. */
typedef struct DrReading {
  /** What it is a reading of; "" where it does not say. */
  char name[128];
  /** DR_JSON_NUMBER, DR_JSON_STRING, DR_JSON_BOOL, or DR_JSON_NULL where no value could be had. */
  DrJsonKind kind;
  /** The value of a DR_JSON_NUMBER; 1 or 0 for a DR_JSON_BOOL. */
  double number;
  /** The value of a DR_JSON_STRING. */
  char text[128];
  /** Such as "%"; "" where there is none. */
  char unit[32];
  /** How far it may be believed. */
  DrQuality quality;
  /** When it was true at its source: microseconds since 1970-01-01 UTC. */
  int64_t source_time_us;
} DrReading;

/** A good reading of a number. Names and units are cut to what fits. */
static inline DrReading dr_reading(const char *name, double number, const char *unit, int64_t source_time_us) {
  DrReading out;
  memset(&out, 0, sizeof out);
  dr_copy(out.name, sizeof out.name, dr_text(name));
  dr_copy(out.unit, sizeof out.unit, dr_text(unit));
  out.kind = DR_JSON_NUMBER;
  out.number = number;
  out.source_time_us = source_time_us;
  return out;
}

static inline int64_t dr_floor_(int64_t value, int64_t by) { return value / by - (value % by < 0 ? 1 : 0); }

/* Days from 1970-01-01. Source: H. Hinnant, "chrono-compatible low-level date algorithms". */
static inline int64_t dr_days_(int64_t year, int64_t month, int64_t day) {
  int64_t era, of_era;
  year -= month <= 2 ? 1 : 0;
  era = dr_floor_(year, 400);
  of_era = year - era * 400;
  day += (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + day - 719468;
}

static inline int64_t dr_time_digits_(const uint8_t *at, size_t count) {
  int64_t out = 0;
  for (; count > 0; count--, at++) {
    if (*at < '0' || *at > '9') {
      return -1;
    }
    out = out * 10 + (*at - '0');
  }
  return out;
}

/** Reads an RFC 3339 time, such as "2026-11-21T14:05:09.123456Z", as microseconds since 1970-01-01 UTC. */
static inline DrStatus dr_time_read(DrText text, int64_t *out) {
  const uint8_t *t = text.ptr;
  int64_t field[6], micros = 0, offset = 0;
  static const uint8_t place[6] = {0, 5, 8, 11, 14, 17};
  size_t at = 19, n, scale;
  if (t == NULL || text.len < 20 || t[4] != '-' || t[7] != '-' || (t[10] != 'T' && t[10] != 't' && t[10] != ' ') ||
      t[13] != ':' || t[16] != ':') {
    return DR_INVALID;
  }
  for (n = 0; n < 6; n++) {
    field[n] = dr_time_digits_(t + place[n], n == 0 ? 4 : 2);
    if (field[n] < 0) {
      return DR_INVALID;
    }
  }
  if (field[1] < 1 || field[1] > 12 || field[2] < 1 || field[2] > 31 || field[3] > 23 || field[4] > 59 || field[5] > 60) {
    return DR_INVALID;
  }
  if (t[at] == '.') {
    for (at++, scale = 0; at < text.len && t[at] >= '0' && t[at] <= '9'; at++, scale++) {
      micros = scale < 6 ? micros * 10 + (t[at] - '0') : micros;
    }
    if (scale == 0) {
      return DR_INVALID;
    }
    for (; scale < 6; scale++) {
      micros *= 10;
    }
  }
  if (at + 1 == text.len && (t[at] == 'Z' || t[at] == 'z')) {
    offset = 0;
  } else if (at + 6 == text.len && (t[at] == '+' || t[at] == '-') && t[at + 3] == ':') {
    int64_t hours = dr_time_digits_(t + at + 1, 2), minutes = dr_time_digits_(t + at + 4, 2);
    if (hours < 0 || minutes < 0) {
      return DR_INVALID;
    }
    offset = (hours * 60 + minutes) * (t[at] == '-' ? -60 : 60);
  } else {
    return DR_INVALID;
  }
  *out = (dr_days_(field[0], field[1], field[2]) * 86400 + field[3] * 3600 + field[4] * 60 + field[5] - offset) * 1000000 + micros;
  return DR_OK;
}

/** Room that dr_time_write needs. */
#define DR_TIME_SIZE 28

/** Writes `us`, microseconds since 1970-01-01 UTC, as RFC 3339 with a terminator; years 0 to 9999, others become those. Returns `out`. */
static inline char *dr_time_write(char out[DR_TIME_SIZE], int64_t us) {
  static const char form[DR_TIME_SIZE] = "0000-00-00T00:00:00.000000Z";
  static const uint8_t last[7] = {3, 6, 9, 12, 15, 18, 25};
  int64_t seconds, days, era, of_era, year_of_era, of_year, month, field[7];
  size_t n;
  us = us < -62167219200000000 ? -62167219200000000 : us > 253402300799999999 ? 253402300799999999 : us;
  seconds = dr_floor_(us, 1000000);
  days = dr_floor_(seconds, 86400) + 719468;
  era = dr_floor_(days, 146097);
  of_era = days - era * 146097;
  year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  month = (5 * of_year + 2) / 153;
  field[2] = of_year - (153 * month + 2) / 5 + 1;
  field[1] = month < 10 ? month + 3 : month - 9;
  field[0] = year_of_era + era * 400 + (field[1] <= 2 ? 1 : 0);
  seconds -= (days - 719468) * 86400;
  field[3] = seconds / 3600;
  field[4] = seconds / 60 % 60;
  field[5] = seconds % 60;
  field[6] = us - dr_floor_(us, 1000000) * 1000000;
  memcpy(out, form, sizeof form);
  for (n = 0; n < 7; n++) {
    size_t at = last[n];
    for (; field[n] > 0; field[n] /= 10) {
      out[at--] = (char)('0' + (char)(field[n] % 10));
    }
  }
  return out;
}

/** Reads a reading from JSON, such as a message's body. DR_NOT_FOUND where value or time is missing; DR_INVALID for any other shape. */
static inline DrStatus dr_reading_read(DrText json, DrReading *out) {
  DrReading r;
  DrText value;
  char word[40];
  DrStatus status;
  memset(&r, 0, sizeof r);
  if ((status = dr_json_get(json, "value", &value)) != DR_OK) {
    return status;
  }
  r.kind = dr_json_kind(value);
  if (r.kind == DR_JSON_NUMBER) {
    status = dr_json_number(value, "", &r.number);
  } else if (r.kind == DR_JSON_STRING) {
    status = dr_unescape_(value, r.text, sizeof r.text);
  } else if (r.kind == DR_JSON_BOOL) {
    r.number = value.ptr[0] == 't' ? 1 : 0;
  } else if (r.kind != DR_JSON_NULL) {
    status = DR_INVALID;
  }
  if (status != DR_OK) {
    return status;
  }
  status = dr_json_string(json, "name", r.name, sizeof r.name);
  if (status == DR_OK || status == DR_NOT_FOUND) {
    status = dr_json_string(json, "unit", r.unit, sizeof r.unit);
  }
  if (status != DR_OK && status != DR_NOT_FOUND) {
    return status;
  }
  status = dr_json_string(json, "quality", word, sizeof word);
  if (status == DR_OK) {
    DrText quality = dr_text(word);
    if (dr_text_is(quality, "uncertain") || dr_text_is(quality, "bad")) {
      r.quality = word[0] == 'b' ? DR_BAD : DR_UNCERTAIN;
    } else if (!dr_text_is(quality, "good")) {
      return DR_INVALID;
    }
  } else if (status != DR_NOT_FOUND) {
    return DR_INVALID;
  }
  if (dr_json_int64(json, "sourceTime", &r.source_time_us) != DR_OK) {
    status = dr_json_string(json, "sourceTime", word, sizeof word);
    if (status == DR_OK) {
      status = dr_time_read(dr_text(word), &r.source_time_us);
    }
    if (status != DR_OK) {
      return status == DR_NOT_FOUND ? DR_NOT_FOUND : DR_INVALID;
    }
  }
  *out = r;
  return DR_OK;
}

/** Writes a reading as the next value of `w`. */
static inline void dr_write_reading(DrWriter *w, const DrReading *reading) {
  static const char *const qualities[3] = {"good", "uncertain", "bad"};
  char time[DR_TIME_SIZE];
  dr_write_object(w);
  if (reading->name[0] != '\0') {
    dr_write_key(w, "name");
    dr_write_string(w, reading->name);
  }
  dr_write_key(w, "value");
  switch (reading->kind) {
    case DR_JSON_NUMBER: dr_write_number(w, reading->number); break;
    case DR_JSON_STRING: dr_write_string(w, reading->text); break;
    case DR_JSON_BOOL: dr_write_bool(w, reading->number > 0 || reading->number < 0); break;
    default: dr_write_null(w); break;
  }
  if (reading->unit[0] != '\0') {
    dr_write_key(w, "unit");
    dr_write_string(w, reading->unit);
  }
  dr_write_key(w, "quality");
  dr_write_string(w, qualities[reading->quality == DR_BAD ? 2 : reading->quality == DR_UNCERTAIN ? 1 : 0]);
  dr_write_key(w, "sourceTime");
  dr_write_string(w, dr_time_write(time, reading->source_time_us));
  dr_write_end(w);
}

/* ---- The export: what makes a library a module. Once per library, in one of its files. ----
 *
 *   DR_DESCRIBE_MODULE("hello", "1.0.0", "Greets whoever is named in a message",
 *                      DR_NAMES("names"), DR_NAMES("greetings"), DR_NAMES("count"))
 *   DR_EXPORT_MODULE(create, destroy, start, stop, on_message)
 */

#if defined(__cplusplus)
#define DR_NULL_ nullptr
#else
#define DR_NULL_ NULL
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define DR_TARGET_ARCH "x86_64"
#elif defined(__aarch64__) || defined(_M_ARM64)
#define DR_TARGET_ARCH "aarch64"
#elif defined(__i386__) || defined(_M_IX86)
#define DR_TARGET_ARCH "x86"
#elif defined(__arm__)
#define DR_TARGET_ARCH "arm"
#elif defined(__riscv) && __riscv_xlen == 64
#define DR_TARGET_ARCH "riscv64"
#else
#define DR_TARGET_ARCH "unknown"
#endif
#if defined(_WIN32)
#define DR_TARGET_OS "windows"
#elif defined(__APPLE__)
#define DR_TARGET_OS "macos"
#else
#define DR_TARGET_OS "linux"
#endif
/** The descriptor's `target`, such as "x86_64-linux". */
#define DR_TARGET DR_TARGET_ARCH "-" DR_TARGET_OS

#define DR_QUOTE_2_(text) #text
#define DR_QUOTE_(text) DR_QUOTE_2_(text)
/** The descriptor's `abi`, such as "1.0". */
#define DR_ABI DR_QUOTE_(DR_ABI_MAJOR) "." DR_QUOTE_(DR_ABI_MINOR)

/**
 * Puts a descriptor, a JSON object in a string literal, where the runtime reads it without running code. DR_DESCRIBE_MODULE
 * writes the JSON for you.
 */
#if defined(_MSC_VER)
#pragma section(".dinrail", read)
#define DR_EXPORT_DESCRIPTOR(json) __declspec(allocate(".dinrail")) static const char dr_descriptor[] = json;
#elif defined(__APPLE__)
#define DR_EXPORT_DESCRIPTOR(json) static const char dr_descriptor[] __attribute__((section("__DATA,.dinrail"), used)) = json;
#else
#define DR_EXPORT_DESCRIPTOR(json) static const char dr_descriptor[] __attribute__((section(".dinrail"), used)) = json;
#endif
#define DR_DESCRIPTOR { (const uint8_t *)dr_descriptor, sizeof dr_descriptor - 1 }

#define DR_EXPAND_(x) x
#define DR_N1_(a) "\"" a "\""
#define DR_N2_(a, b) DR_N1_(a) "," DR_N1_(b)
#define DR_N3_(a, b, c) DR_N2_(a, b) "," DR_N1_(c)
#define DR_N4_(a, b, c, d) DR_N3_(a, b, c) "," DR_N1_(d)
#define DR_N5_(a, b, c, d, e) DR_N4_(a, b, c, d) "," DR_N1_(e)
#define DR_N6_(a, b, c, d, e, f) DR_N5_(a, b, c, d, e) "," DR_N1_(f)
#define DR_N7_(a, b, c, d, e, f, g) DR_N6_(a, b, c, d, e, f) "," DR_N1_(g)
#define DR_N8_(a, b, c, d, e, f, g, h) DR_N7_(a, b, c, d, e, f, g) "," DR_N1_(h)
#define DR_PICK_(a, b, c, d, e, f, g, h, it, ...) it
/** Up to eight names of inputs, outputs or methods, as string literals. */
#define DR_NAMES(...) \
  "[" DR_EXPAND_(DR_PICK_(__VA_ARGS__, DR_N8_, DR_N7_, DR_N6_, DR_N5_, DR_N4_, DR_N3_, DR_N2_, DR_N1_, 0)(__VA_ARGS__)) "]"
/** No names. */
#define DR_NONE "[]"

/** Option of DR_DESCRIBE_MODULE: create, on_desired and stop have no side effects, so that the module may be tried out. */
#define DR_TRIAL_SAFE ",\"trialSafe\":true"
/** Option of DR_DESCRIBE_MODULE: owns a device or a connection; an upgrade stops the old instance before the new one starts. */
#define DR_EXCLUSIVE ",\"exclusive\":true"

#define DR_DESCRIBE_(name, version, description, inputs, outputs, methods, options, ...)                               \
  DR_EXPORT_DESCRIPTOR("{\"name\":\"" name "\",\"version\":\"" version "\",\"abi\":\"" DR_ABI "\",\"target\":\"" DR_TARGET \
                       "\",\"description\":\"" description "\",\"inputs\":" inputs ",\"outputs\":" outputs                \
                       ",\"methods\":" methods options ",\"sdk\":\"c\"}")
/**
 * Says what the module is: `name`, `version` (1.2.3), `description` (one sentence without quotes), the names of its inputs,
 * outputs and methods (DR_NAMES or DR_NONE), and where they apply the options, side by side: DR_TRIAL_SAFE DR_EXCLUSIVE.
 */
#define DR_DESCRIBE_MODULE(name, version, description, inputs, outputs, ...) \
  DR_EXPAND_(DR_DESCRIBE_(name, version, description, inputs, outputs, __VA_ARGS__, "", ""))

#define DR_TABLE_(create, destroy, start, stop, on_message, on_desired, on_method, on_timer, on_event, describe, extension, ...) \
  const DrModule DINRAIL_MODULE_V1 = {DR_MAGIC,  DR_ABI_MAJOR, DR_ABI_MINOR, sizeof(DrModule), 0,    DR_DESCRIPTOR,             \
                                      create,    destroy,      start,        on_message,       on_desired, on_method,           \
                                      on_timer,  on_event,     stop,         describe,         extension};
/**
 * Exports the module: create, destroy, start, stop, on_message, on_desired, on_method, on_timer, on_event, describe, extension,
 * in this order (that of a life, not that of DrModule). NULL for what it does not have; what is left out at the end is NULL.
 * Follows DR_DESCRIBE_MODULE or DR_EXPORT_DESCRIPTOR.
 */
#define DR_EXPORT_MODULE(...)                                                                                               \
  DR_EXPAND_(DR_TABLE_(__VA_ARGS__, DR_NULL_, DR_NULL_, DR_NULL_, DR_NULL_, DR_NULL_, DR_NULL_, DR_NULL_, DR_NULL_, DR_NULL_, \
                       DR_NULL_, DR_NULL_))

#if defined(__cplusplus)
extern "C" {
#endif

/** The one symbol that a module exports; DR_EXPORT_MODULE defines it. */
extern DR_EXPORT const DrModule DINRAIL_MODULE_V1;

#if defined(__cplusplus)
} /* extern "C" */
#endif
