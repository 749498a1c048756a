//! Brings what a module says to the runtime's log: `tracing` events and panics.
//!
//! Installed once per library. The thread-local here serves *logging only*: it tells for which instance a thread speaks.
//! Threads that the SDK does not know speak for the instance that was made last.

use std::any::Any;
use std::cell::Cell;
use std::fmt::{self, Write};
use std::panic::PanicHookInfo;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::abi::{DR_DEBUG, DR_ERROR, DR_INFO, DR_TRACE, DR_WARN, DrLevel};
use crate::host::Host;

/// For whom a thread speaks.
#[derive(Clone, Copy)]
pub(crate) struct Voice {
    pub host: Host,
    pub ticket: u64,
}

thread_local! {
    static VOICE: Cell<Option<Voice>> = const { Cell::new(None) };
    static PANIC: Cell<Option<String>> = const { Cell::new(None) };
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}
static LAST: Mutex<Option<Voice>> = Mutex::new(None);
static MAX_LEVEL: AtomicPtr<AtomicU32> = AtomicPtr::new(null_mut());

/// Ends with the call that it stands for.
pub(crate) struct Entered(Option<Voice>);

/// This thread speaks for `voice` until the result is dropped.
#[inline]
pub(crate) fn enter(voice: Voice) -> Entered {
    Entered(VOICE.replace(Some(voice)))
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        VOICE.set(self.0);
    }
}

/// Called for every new instance; the first one installs.
pub(crate) fn install(voice: Voice) {
    static INSTALLED: Once = Once::new();
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(voice);
    MAX_LEVEL.store(voice.host.max_level().cast_mut(), Ordering::Release);
    INSTALLED.call_once(|| {
        // A subscriber that the module set itself keeps its place.
        let _ = tracing::subscriber::set_global_default(Forward);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            forward_panic(panic);
            // Threads of others (a test harness) are told in their own way too.
            if VOICE.get().is_none() {
                before(panic);
            }
        }));
    });
}

fn voice() -> Option<Voice> {
    VOICE.get().or_else(|| *LAST.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Logs for the current voice.
pub(crate) fn log(level: DrLevel, target: &str, text: &str, file: Option<&str>, line: u32) {
    if let Some(voice) = voice() {
        voice.host.log(voice.ticket, level, target, text, file, line);
    }
}

fn forward_panic(panic: &PanicHookInfo<'_>) {
    let said = said(panic.payload());
    let (file, line) = panic.location().map_or((None, 0), |place| (Some(place.file()), place.line()));
    let text = format!("panicked: {said}");
    log(DR_ERROR, "panic", &format!("{text}\n{}", crate::backtrace::of_panic()), file, line);
    // During a thread's teardown there may be no place to keep it.
    let _ = PANIC.try_with(|kept| {
        kept.set(Some(match file {
            Some(file) => format!("panicked at {file}:{line}: {said}"),
            None => text,
        }));
    });
}

fn said(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

/// Says what a caught panic said, with its place where the hook saw it.
pub(crate) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let text = PANIC.take().unwrap_or_else(|| format!("panicked: {}", said(&*payload)));
    // The drop of a payload may itself panic.
    std::mem::forget(payload);
    text
}

/// The whole subscriber: events go out, spans are not recorded.
struct Forward;

fn dr_level(level: &Level) -> DrLevel {
    match *level {
        Level::ERROR => DR_ERROR,
        Level::WARN => DR_WARN,
        Level::INFO => DR_INFO,
        Level::DEBUG => DR_DEBUG,
        _ => DR_TRACE,
    }
}

impl Subscriber for Forward {
    #[inline]
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // SAFETY: null or the runtime's level, which lives as long as the process.
        let max = unsafe { MAX_LEVEL.load(Ordering::Acquire).as_ref() };
        metadata.is_event() && max.is_some_and(|max| dr_level(metadata.level()) <= max.load(Ordering::Relaxed))
    }

    fn event(&self, event: &Event<'_>) {
        // Taken, not borrowed: a field's `Debug` may log.
        let mut line = Line { text: LINE.take(), fields: String::new() };
        event.record(&mut line);
        line.text.push_str(&line.fields);
        let metadata = event.metadata();
        log(
            dr_level(metadata.level()),
            metadata.target(),
            &line.text,
            metadata.file(),
            metadata.line().unwrap_or_default(),
        );
        line.text.clear();
        LINE.set(line.text);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// `message key=value key=value`.
struct Line {
    text: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail; a `Debug` that does is left out.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.text.push_str(value) } else { self.record_debug(field, &value) }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
