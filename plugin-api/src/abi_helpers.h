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
