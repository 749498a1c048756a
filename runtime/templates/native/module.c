/* {{module}}: passes on readings above a limit, which the module's twin sets.
 *
 * Calls of one instance never overlap and come on a thread of its own, so it needs no locks. What it knows
 * stands in the instance, never in a static variable: all instances of this library would share that.
 */
#include "dinrail_module.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct Alarm {
  const DrHost *host;
  uint64_t ticket;
  uint32_t alarms; /* the output */
  double limit;
  uint64_t count;
} Alarm;

/* Takes the desired properties, all or none: what is refused leaves everything as it was. */
static bool configure(Alarm *alarm, DrText desired, const DrSink *error) {
  double limit = 80;
  if (!dr_desired_number(desired, "limit", -1e9, 1e9, &limit, error)) return false;
  alarm->limit = limit;
  return true;
}

/* The sentence that `dinrail list` shows. */
static void tell_health(const Alarm *alarm) {
  char text[100];
  snprintf(text, sizeof text, "alarms: %" PRIu64 ", limit %g", alarm->count, alarm->limit);
  alarm->host->set_health(alarm->ticket, DR_INFO, dr_text(text));
}

/* Opens no port, file or thread, since it also runs when an image is only tried out. */
static DrStatus create(const DrCreate *args, void **instance, const DrSink *error) {
  Alarm *alarm = calloc(1, sizeof *alarm);
  DrStatus status = DR_OK;
  if (alarm == NULL) {
    dr_say(error, "out of memory");
    return DR_FAILED;
  }
  alarm->host = args->host;
  alarm->ticket = args->ticket;
  if (!configure(alarm, args->desired, error)) {
    status = DR_REFUSED;
  } else {
    status = alarm->host->output(alarm->ticket, dr_text("alarms"), &alarm->alarms);
  }
  if (status != DR_OK) {
    free(alarm);
    return status;
  }
  *instance = alarm;
  return DR_OK;
}

static void destroy(void *instance) { free(instance); }

/* Ports, sockets, timers and threads begin here. */
static DrStatus start(void *instance, const DrSink *error) {
  (void)error;
  tell_health(instance);
  return DR_OK;
}

/* What is sent along durable routes ("durability": "disk") or reported with the delivery is committed together
 * with the removal of the message, once it is accepted. Otherwise nothing of that remains: the message comes
 * again, or is set aside (DR_PARK). What is sent along routes in memory stays sent, and is sent again by the
 * next try. */
static DrVerdict on_message(void *instance, uint64_t delivery, const DrMessage *message, const DrSink *reason) {
  Alarm *alarm = instance;
  DrReading reading;
  DrOutgoing passed_on;
  DrStatus status;
  char text[300];

  if (dr_reading_read(dr_body(message), &reading) != DR_OK) {
    dr_say(reason, "not a reading");
    return dr_verdict(DR_PARK);
  }
  if (reading.kind != DR_JSON_NUMBER || reading.number <= alarm->limit) return dr_verdict(DR_ACCEPT);

  passed_on = dr_outgoing(message->body, message->body_len);
  passed_on.properties = message->properties;
  passed_on.property_count = message->property_count;
  status = alarm->host->send(alarm->ticket, delivery, alarm->alarms, &passed_on, NULL);
  if (status != DR_OK) return dr_verdict_of(status, "sending the alarm", reason);

  snprintf(text, sizeof text, "{\"alarms\":%" PRIu64 "}", alarm->count + 1);
  status = alarm->host->patch_reported(alarm->ticket, delivery, dr_text(text), NULL);
  if (status != DR_OK) return dr_verdict_of(status, "reporting", reason);

  alarm->count++;
  snprintf(text, sizeof text, "above the limit: %s %g%s", reading.name, reading.number, reading.unit);
  dr_log(alarm->host, alarm->ticket, DR_INFO, "{{file}}", text);
  tell_health(alarm);
  return dr_verdict(DR_ACCEPT);
}

/* The runtime reports whether it was accepted, as `acknowledged`. */
static DrStatus on_desired(void *instance, const DrDesired *change, const DrSink *error) {
  if (!configure(instance, change->whole, error)) return DR_REFUSED;
  tell_health(instance);
  return DR_OK;
}

DR_DESCRIBE_MODULE("{{module}}", "1.0.0", "Passes on readings above a limit",
                   DR_NAMES("readings"), DR_NAMES("alarms"), DR_NONE, DR_TRIAL_SAFE)
DR_EXPORT_MODULE(create, destroy, start, NULL, on_message, on_desired)
