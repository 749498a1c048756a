
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
