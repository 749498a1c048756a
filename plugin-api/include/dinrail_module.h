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
 *   Every function of `DrHost` may be called on any thread.
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
#include <string.h>

#define DR_ENTRY_SYMBOL "DINRAIL_MODULE_V1"
#define DR_DESCRIPTOR_SECTION ".dinrail"
#define DR_EXTENSION_LAYOUT "dinrail.layout-proof/1"


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
  // First byte; may be null when `len` is 0.
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
  // First byte.
  const uint8_t *ptr;
  // Length in bytes.
  size_t len;
  // Passed back to `retain` and `release`.
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
  // Application properties.
  const struct DrProperty *properties;
  // Body; copied. Ignored where `buffer` is given.
  const uint8_t *body;
  // Length of the body in bytes.
  size_t body_len;
  // Body that is not copied: worth it above 256 bytes. May be null.
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
  // Passed back to `done`.
  void *ctx;
  // `[any thread]`, must not block. `detail` is the reason of a failure, or the answer.
  void (*done)(void *ctx, DrStatus status, struct DrText detail);
} DrCompletion;

// A twin as committed: a refcounted snapshot. The receiver releases `json` once.
typedef struct DrTwin {
  // Size of this struct as its maker knows it; set by the caller before the call.
  uint32_t size;
  // Zero.
  uint32_t flags;
  // `{"desired": {…, "$version": n}, "reported": {…, "$version": n}}`.
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
  // Application properties.
  const struct DrProperty *properties;
  // Body.
  const uint8_t *body;
  // Length of the body in bytes.
  size_t body_len;
  // The buffer that holds the body, to be retained instead of copied; null where the body lives inline.
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
  // For `DR_RETRY`: milliseconds until the next delivery; 0 lets the runtime choose.
  uint64_t retry_after_ms;
} DrVerdict;

// The runtime's table. Every function may be called on any thread, also after the instance has stopped: a stale ticket gets
// `DR_GONE`. None is null.
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
  // The most verbose level that anybody listens to; may change at any time, read it before formatting. Never null.
  const uint32_t *max_level;
  // Writes a log line of the instance. `file` may be absent. `[never blocks]`
  void (*log)(uint64_t ticket, DrLevel level, struct DrText target, struct DrText text, struct DrText file, uint32_t line);
  // Gives the id of an output, the same for the same name as long as the instance lives. `DR_INVALID` for a bad name.
  DrStatus (*output)(uint64_t ticket, struct DrText name, uint32_t *id);
  // Sends a message from `output` (`DR_NO_OUTPUT`: to the hub) along the routes.
  //
  // Memory routes: done on return; may hold the caller for up to 50 ms while a receiver's queue is full, then
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
  // Gives the twin as committed.
  DrStatus (*get_twin)(uint64_t ticket, struct DrTwin *twin);
  // Sets the sentence that `list` shows, such as "2 of 3 PLCs connected"; empty text clears it. `[never blocks]`
  DrStatus (*set_health)(uint64_t ticket, DrLevel level, struct DrText sentence);
  // Starts a timer that calls `on_timer`: first after `first_ms`, then every `period_ms` (0: once).
  DrStatus (*timer_start)(uint64_t ticket, uint64_t first_ms, uint64_t period_ms, uint64_t *timer);
  // Ends a timer; it does not fire after this returned on the instance's own thread.
  DrStatus (*timer_stop)(uint64_t ticket, uint64_t timer);
  // Brings `value` to the instance's own thread, as `on_event`. Values that still wait at stop are dropped.
  // `DR_FULL` when too many wait.
  DrStatus (*post)(uint64_t ticket, uint64_t value);
  // Gives a message under delivery a life of its own (perhaps by a copy), until `message_release`.
  DrStatus (*message_keep)(uint64_t ticket, uint64_t delivery, const struct DrMessage **message);
  // Ends the life of a kept message. Any ticket state.
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
  // Finds what this table does not have, by name; null where unknown.
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
  // The runtime's table; valid until the process ends.
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
  // Passed back to `write`.
  void *ctx;
  // Appends `text`; may be called several times.
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
  // Identity of the caller; empty for the operator.
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
  // The descriptor: the same bytes as the section `DR_DESCRIPTOR_SECTION`.
  struct DrText descriptor;
  // Makes an instance from its identity and desired properties. No side effects: no ports, files or threads, since it also
  // runs in trials. `DR_REFUSED` means that the desired properties are at fault.
  DrStatus (*create)(const struct DrCreate *args, void **instance, const struct DrSink *error);
  // Frees the instance; the last call that it sees. Follows every successful `create`.
  void (*destroy)(void *instance);
  // Opens ports, sockets and threads. May be null.
  DrStatus (*start)(void *instance, const struct DrSink *error);
  // Handles a message. `delivery` goes into what the handler sends and reports so that it is committed with the verdict.
  // May be null: messages then wait.
  struct DrVerdict (*on_message)(void *instance, uint64_t delivery, const struct DrMessage *message, const struct DrSink *reason);
  // Takes a change of the desired properties, or answers `DR_REFUSED`. The runtime reports the acknowledgement
  // `{version, ok, error}`. May be null: every change is then accepted.
  DrStatus (*on_desired)(void *instance, const struct DrDesired *change, const struct DrSink *error);
  // Answers a direct method: sets `status` and writes the JSON payload. `DR_NOT_FOUND` for an unknown name. May be null.
  DrStatus (*on_method)(void *instance, const struct DrMethodCall *call, int32_t *status, const struct DrSink *payload);
  // A timer fired; `missed` ticks were left out since its last call. May be null.
  DrStatus (*on_timer)(void *instance, uint64_t timer, uint64_t missed, const struct DrSink *error);
  // A value posted with `post` arrived. May be null.
  DrStatus (*on_event)(void *instance, uint64_t value, const struct DrSink *error);
  // Closes what `start` opened and joins the instance's threads. Follows every `start`, also one that failed. May be null.
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

// A receiver's queue stayed full for the time that a sender may be held (50 ms), or the store's byte budget is spent.
// Receivers that had room did get the message.
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

// Handled: the message is removed, and what the handler staged is committed with it.
#define DR_ACCEPT 0

// Not now: delivered again after `retry_after_ms`; what was staged is discarded.
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

/* Helpers; no part of the binary contract. */

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

/**
 * Puts the descriptor, a JSON object in a string literal, where the runtime reads it without running code. Once per library:
 *
 *   DR_EXPORT_DESCRIPTOR("{\"name\":\"hello\",\"version\":\"1.0.0\",\"abi\":\"1.0\",\"target\":\"" DR_TARGET "\"}")
 *
 * Then use DR_DESCRIPTOR for the field `descriptor` of the table.
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

#if defined(__x86_64__) || defined(_M_X64)
#define DR_TARGET_ARCH "x86_64"
#elif defined(__aarch64__) || defined(_M_ARM64)
#define DR_TARGET_ARCH "aarch64"
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

#if defined(__cplusplus)
extern "C" {
#endif

/** The one symbol that a module exports. Define it as `const DrModule DINRAIL_MODULE_V1 = { ... };` */
extern DR_EXPORT const DrModule DINRAIL_MODULE_V1;

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

#if defined(__cplusplus)
} /* extern "C" */
#endif
