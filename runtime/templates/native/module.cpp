// {{module}}: passes on readings above a limit, which the module's twin sets.
//
// Calls of one instance never overlap and come on a thread of its own, so it needs no locks. What it knows
// stands in the instance, never in a static variable: all instances of this library would share that.
#include "dinrail_module.h"

#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace {

// Why a call fails, with the status that says so.
class Failure : public std::runtime_error {
 public:
  Failure(DrStatus status, const std::string &what) : std::runtime_error(what), status_(status) {}
  DrStatus status() const noexcept { return status_; }

 private:
  DrStatus status_;
};

void check(DrStatus status, const char *what) {
  if (status != DR_OK) throw Failure(status, std::string(what) + ": " + dr_status_text(status));
}

// No exception may leave a function of the table: the caller is not C++. Every one of them goes through here.
template <typename Call>
DrStatus guarded(const DrSink *error, Call call) noexcept {
  try {
    call();
    return DR_OK;
  } catch (const Failure &failure) {
    dr_say(error, failure.what());
    return failure.status();
  } catch (const std::exception &exception) {
    dr_say(error, exception.what());
  } catch (...) {
    dr_say(error, "an exception that says nothing");
  }
  return DR_FAILED;
}

DrText borrowed(const std::string &text) { return dr_bytes(text.data(), text.size()); }

// A timer that ends with its owner.
class Timer {
 public:
  Timer(const DrHost *host, uint64_t ticket, uint64_t period_ms) : host_(host), ticket_(ticket) {
    check(host->timer_start(ticket, period_ms, period_ms, &timer_), "starting the timer");
  }
  ~Timer() { host_->timer_stop(ticket_, timer_); }
  Timer(const Timer &) = delete;
  Timer &operator=(const Timer &) = delete;

 private:
  const DrHost *host_;
  uint64_t ticket_;
  uint64_t timer_ = 0;
};

class Alarm {
 public:
  // Opens no port, file or thread, since it also runs when an image is only tried out.
  explicit Alarm(const DrCreate &args) : host_(args.host), ticket_(args.ticket), limit_(read_limit(args.desired)) {
    check(host_->output(ticket_, dr_text("alarms"), &alarms_), "the output alarms");
  }

  // Ports, sockets, timers and threads begin here; they end with `stop`, or with the instance.
  void start() {
    heartbeat_ = std::make_unique<Timer>(host_, ticket_, 60000);
    tell_health();
  }

  void stop() { heartbeat_.reset(); }

  // What is sent along durable routes ("durability": "disk") or reported with the delivery is committed together
  // with the removal of the message, once it is accepted. Otherwise nothing of that remains: the message comes
  // again, or is set aside (DR_PARK). What is sent along routes in memory stays sent, and is sent again by the
  // next try.
  DrVerdict on_message(uint64_t delivery, const DrMessage &message, const DrSink *reason) {
    DrReading reading;
    if (dr_reading_read(dr_body(&message), &reading) != DR_OK) {
      dr_say(reason, "not a reading");
      return dr_verdict(DR_PARK);
    }
    if (reading.kind != DR_JSON_NUMBER || reading.number <= limit_) return dr_verdict(DR_ACCEPT);

    DrOutgoing passed_on = dr_outgoing(message.body, message.body_len);
    passed_on.properties = message.properties;
    passed_on.property_count = message.property_count;
    check(host_->send(ticket_, delivery, alarms_, &passed_on, nullptr), "sending the alarm");
    const std::string reported = "{\"alarms\":" + std::to_string(count_ + 1) + "}";
    check(host_->patch_reported(ticket_, delivery, borrowed(reported), nullptr), "reporting");

    count_++;
    std::ostringstream line;
    line << "above the limit: " << reading.name << ' ' << reading.number << reading.unit;
    dr_log(host_, ticket_, DR_INFO, "{{file}}", line.str().c_str());
    tell_health();
    return dr_verdict(DR_ACCEPT);
  }

  // All or nothing: what is refused leaves everything as it was. The runtime reports it as `acknowledged`.
  void on_desired(const DrDesired &change) {
    limit_ = read_limit(change.whole);
    tell_health();
  }

  void on_timer() { dr_log(host_, ticket_, DR_DEBUG, "{{file}}", "still here"); }

 private:
  static double read_limit(DrText desired) {
    double limit = 80;
    std::string refusal;
    const DrSink into = {&refusal, [](void *ctx, DrText text) {
                           static_cast<std::string *>(ctx)->append(reinterpret_cast<const char *>(text.ptr), text.len);
                         }};
    if (!dr_desired_number(desired, "limit", -1e9, 1e9, &limit, &into)) throw Failure(DR_REFUSED, refusal);
    return limit;
  }

  // The sentence that `dinrail list` shows.
  void tell_health() const {
    std::ostringstream sentence;
    sentence << "alarms: " << count_ << ", limit " << limit_;
    host_->set_health(ticket_, DR_INFO, borrowed(sentence.str()));
  }

  const DrHost *host_;
  uint64_t ticket_;
  uint32_t alarms_ = 0;
  double limit_;
  uint64_t count_ = 0;
  std::unique_ptr<Timer> heartbeat_;
};

Alarm &alarm(void *instance) { return *static_cast<Alarm *>(instance); }

// The functions of the table. All that they do is to pass on the call, and to let no exception out.
DrStatus create(const DrCreate *args, void **instance, const DrSink *error) {
  return guarded(error, [&] { *instance = std::make_unique<Alarm>(*args).release(); });
}

void destroy(void *instance) { delete &alarm(instance); }

DrStatus start(void *instance, const DrSink *error) {
  return guarded(error, [&] { alarm(instance).start(); });
}

DrStatus stop(void *instance, const DrSink *error) {
  return guarded(error, [&] { alarm(instance).stop(); });
}

DrVerdict on_message(void *instance, uint64_t delivery, const DrMessage *message, const DrSink *reason) {
  DrVerdict verdict = dr_verdict(DR_FAULT);
  const DrStatus status = guarded(reason, [&] { verdict = alarm(instance).on_message(delivery, *message, reason); });
  return status == DR_FULL ? dr_retry(0) : verdict;
}

DrStatus on_desired(void *instance, const DrDesired *change, const DrSink *error) {
  return guarded(error, [&] { alarm(instance).on_desired(*change); });
}

DrStatus on_timer(void *instance, uint64_t, uint64_t, const DrSink *error) {
  return guarded(error, [&] { alarm(instance).on_timer(); });
}

}  // namespace

DR_DESCRIBE_MODULE("{{module}}", "1.0.0", "Passes on readings above a limit",
                   DR_NAMES("readings"), DR_NAMES("alarms"), DR_NONE, DR_TRIAL_SAFE)
DR_EXPORT_MODULE(create, destroy, start, stop, on_message, on_desired, nullptr, on_timer)
