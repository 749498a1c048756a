//! Panics of the runtime's own threads, as lines of its log. (Each module's library has a panic hook of its own, in the SDK.)

use std::panic::PanicHookInfo;

/// From now on panics are lines of the log, with their place, instead of raw text on stderr.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("without a name").to_owned();
        tracing::error!(thread, place, "a defect of dinrail, it panicked: {}", said(panic));
    }));
}

fn said<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}
