
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
