
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
