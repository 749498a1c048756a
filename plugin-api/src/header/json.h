
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
