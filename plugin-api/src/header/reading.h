
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
