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
