//! A guest: one module instance behind its table. The only place that calls module code.
//!
//! `[worker]` throughout: all calls of one guest are made by the thread that created it, one after the other.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dinrail_plugin::abi::*;

use super::link::Link;
use super::spec::DeviceTwin;
use super::watchdog::Callback;
use crate::image::Library;
use crate::method::{CallError, MethodAnswer, MethodRequest};

/// How a call ended, other than well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The desired properties are not acceptable.
    Refused(String),
    /// It said that it failed.
    Failed(String),
    /// It panicked: its state is not trusted any more.
    Panicked(String),
}

impl Fault {
    /// Why.
    pub fn reason(&self) -> &str {
        match self {
            Fault::Refused(reason) | Fault::Failed(reason) | Fault::Panicked(reason) => reason,
        }
    }
}

/// What an instance is made from.
pub struct Making<'a> {
    /// Changes when the identity is made anew.
    pub generation_id: &'a str,
    /// The instance's own folder.
    pub data_folder: &'a str,
    /// The image's folder.
    pub image_folder: &'a str,
    /// JSON object of strings.
    pub env: &'a str,
    /// Desired properties.
    pub desired: &'a str,
    /// `$version` of these.
    pub version: u64,
    /// Revision of these.
    pub revision: u64,
}

/// Desired properties as they are handed over.
pub struct Desired<'a> {
    /// The change: a merge patch, or the whole section.
    pub patch: &'a str,
    /// The whole section after it.
    pub whole: &'a str,
    /// `patch` is the whole section.
    pub is_whole: bool,
    /// `$version` after it.
    pub version: u64,
    /// Revision after it.
    pub revision: u64,
}

impl Desired<'_> {
    fn raw(&self) -> DrDesired {
        DrDesired {
            size: size_of::<DrDesired>() as u32,
            flags: if self.is_whole { DR_DESIRED_WHOLE } else { 0 },
            patch: DrText::new(self.patch),
            whole: DrText::new(self.whole),
            version: self.version,
            revision: self.revision,
        }
    }
}

/// See the module's documentation.
pub struct Guest {
    table: &'static DrModule,
    instance: *mut c_void,
    /// What it has for changes of the device's twin, where it is permitted that.
    device: Option<&'static DrDeviceHandler>,
    link: Arc<Link>,
}

/// What a module has for changes of the device's twin.
fn device_handler(table: &'static DrModule) -> Option<&'static DrDeviceHandler> {
    let extension = table.extension?;
    // SAFETY: any thread may call; the name is borrowed for the call.
    let handler = unsafe { extension(DrText::new(DR_EXTENSION_DEVICE_HANDLER)) }.cast::<DrDeviceHandler>();
    // SAFETY: null or, by the contract of that name, a table that lives as long as the library, which is never unloaded; its size
    // comes first.
    unsafe { handler.as_ref() }.filter(|handler| handler.size as usize >= size_of::<DrDeviceHandler>())
}

/// Collects what a module writes.
struct Collector(Vec<u8>);

/// Most bytes taken from one call; more is cut off.
const MAX_TEXT: usize = 1 << 20;

impl Collector {
    fn sink(&mut self) -> DrSink {
        unsafe extern "C" fn write(ctx: *mut c_void, text: DrText) {
            // SAFETY: `ctx` is the collector, which outlives the call it is passed to; `text` is borrowed by contract.
            let (collector, text) = unsafe { (&mut *ctx.cast::<Collector>(), text.bytes()) };
            let room = MAX_TEXT.saturating_sub(collector.0.len());
            collector.0.extend_from_slice(&text[..text.len().min(room)]);
        }
        DrSink { ctx: std::ptr::from_mut(self).cast(), write }
    }

    /// What it wrote, without the secrets that it was given.
    fn text(self, link: &Link) -> String {
        link.masked(&String::from_utf8_lossy(&self.0)).into_owned()
    }

    fn reason(self, link: &Link) -> String {
        if self.0.is_empty() { "the module gave no reason".to_owned() } else { self.text(link) }
    }
}

fn outcome(link: &Link, status: DrStatus, text: Collector) -> Result<(), Fault> {
    match status {
        DR_OK => Ok(()),
        DR_REFUSED => Err(Fault::Refused(text.reason(link))),
        DR_PANICKED => Err(Fault::Panicked(text.reason(link))),
        _ => Err(Fault::Failed(text.reason(link))),
    }
}

impl Guest {
    /// Creates the instance.
    pub fn create(library: &Library, link: &Arc<Link>, making: &Making<'_>) -> Result<Guest, Fault> {
        let table = library.table();
        let identity = link.identity.to_string();
        let args = DrCreate {
            size: size_of::<DrCreate>() as u32,
            flags: 0,
            ticket: link.ticket.0,
            host: super::host::table(),
            identity: DrText::new(&identity),
            device: DrText::new(link.identity.device_id()),
            module: DrText::new(&link.name),
            generation_id: DrText::new(making.generation_id),
            data_folder: DrText::new(making.data_folder),
            image_folder: DrText::new(making.image_folder),
            env: DrText::new(making.env),
            desired: DrText::new(making.desired),
            desired_version: making.version,
            desired_revision: making.revision,
        };
        let mut instance = std::ptr::null_mut();
        let mut text = Collector(Vec::new());
        let sink = text.sink();
        Callback::Create.begin(&link.doing);
        let status = in_call(link, || {
            // SAFETY: the table was checked at load; all arguments live until the call returns.
            unsafe { (table.create)(&args, &mut instance, &sink) }
        });
        outcome(link, status, text)?;
        let device = (link.device_twin != DeviceTwin::None).then(|| device_handler(table)).flatten();
        Ok(Guest { table, instance, device, link: link.clone() })
    }

    /// True when it takes messages.
    pub fn takes_messages(&self) -> bool {
        self.table.on_message.is_some()
    }

    /// Opens what the instance needs.
    pub fn start(&mut self) -> Result<(), Fault> {
        let Some(start) = self.table.start else { return Ok(()) };
        // SAFETY: a live instance of this table.
        self.call(Callback::Start, |instance, sink| unsafe { start(instance, sink) })
    }

    /// Closes what the instance opened.
    pub fn stop(&mut self) -> Result<(), Fault> {
        let Some(stop) = self.table.stop else { return Ok(()) };
        // SAFETY: a live instance of this table.
        self.call(Callback::Stop, |instance, sink| unsafe { stop(instance, sink) })
    }

    /// Tells it about a change of the desired properties.
    pub fn on_desired(&mut self, change: &Desired<'_>) -> Result<(), Fault> {
        let Some(on_desired) = self.table.on_desired else { return Ok(()) };
        let change = change.raw();
        // SAFETY: a live instance of this table; the change lives until the call returns.
        self.call(Callback::Desired, |instance, sink| unsafe { on_desired(instance, &change, sink) })
    }

    /// True when it is told of the device's desired properties.
    pub fn hears_of_device(&self) -> bool {
        self.device.is_some()
    }

    /// Tells it about a change of the device's desired properties.
    pub fn on_device_desired(&mut self, change: &Desired<'_>) -> Result<(), Fault> {
        let Some(handler) = self.device else { return Ok(()) };
        let change = change.raw();
        // SAFETY: a live instance of the table that the handler belongs to; the change lives until the call returns.
        self.call(Callback::Desired, |instance, sink| unsafe { (handler.on_desired)(instance, &change, sink) })
    }

    /// A timer fired.
    pub fn on_timer(&mut self, timer: u64, missed: u64) -> Result<(), Fault> {
        let Some(on_timer) = self.table.on_timer else { return Ok(()) };
        // SAFETY: a live instance of this table.
        self.call(Callback::Timer, |instance, sink| unsafe { on_timer(instance, timer, missed, sink) })
    }

    /// A posted value arrived.
    pub fn on_event(&mut self, value: u64) -> Result<(), Fault> {
        let Some(on_event) = self.table.on_event else { return Ok(()) };
        // SAFETY: a live instance of this table.
        self.call(Callback::Event, |instance, sink| unsafe { on_event(instance, value, sink) })
    }

    /// Hands a message over. `reason` gets why, for every verdict but acceptance and deferral.
    #[inline]
    pub fn on_message(&mut self, delivery: u64, message: &DrMessage, reason: &mut String) -> DrVerdict {
        let Some(on_message) = self.table.on_message else {
            return DrVerdict { kind: DR_RETRY, reserved: 0, retry_after_ms: 1000 };
        };
        let mut text = Collector(Vec::new());
        let sink = text.sink();
        let instance = self.instance;
        Callback::begin_message(&self.link.doing, message.input_index);
        let verdict = in_call(&self.link, || {
            // SAFETY: a live instance of this table; the message lives until the call returns.
            unsafe { on_message(instance, delivery, message, &sink) }
        });
        if verdict.kind == DR_ACCEPT { verdict } else { self.explained(verdict, text, reason) }
    }

    #[cold]
    fn explained(&self, verdict: DrVerdict, text: Collector, reason: &mut String) -> DrVerdict {
        match verdict.kind {
            DR_ACCEPT | DR_DEFER => verdict,
            DR_RETRY..=DR_PANIC => {
                *reason = text.reason(&self.link);
                verdict
            }
            unknown => {
                *reason = format!("its verdict {unknown} is none");
                DrVerdict { kind: DR_FAULT, ..verdict }
            }
        }
    }

    /// Calls a direct method. Only a panic is a fault of the instance.
    pub fn on_method(&mut self, request: &MethodRequest) -> Result<Result<MethodAnswer, CallError>, Fault> {
        let missing = || format!("{} has no method '{}'", self.link.identity, request.name);
        let unknown = || Ok(Err(CallError::NoMethod(missing())));
        let Some(on_method) = self.table.on_method else { return unknown() };
        let call = DrMethodCall {
            size: size_of::<DrMethodCall>() as u32,
            flags: 0,
            name: DrText::new(&request.name),
            payload: DrText::new(&request.payload),
            caller: DrText::new(&request.caller),
            timeout_ms: u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX),
        };
        let (mut status, mut text) = (200, Collector(Vec::new()));
        let sink = text.sink();
        let instance = self.instance;
        Callback::Method.begin(&self.link.doing);
        let outcome = in_call(&self.link, || {
            // SAFETY: a live instance of this table; the call's parts live until it returns.
            unsafe { on_method(instance, &call, &mut status, &sink) }
        });
        match outcome {
            DR_OK => Ok(match std::str::from_utf8(&text.0) {
                Ok(_) => Ok(MethodAnswer { status, payload: text.text(&self.link) }),
                Err(_) => Err(CallError::BadAnswer("its answer is not UTF-8".to_owned())),
            }),
            DR_NOT_FOUND => unknown(),
            DR_PANICKED => Err(Fault::Panicked(text.reason(&self.link))),
            _ => Ok(Err(CallError::Failed(text.reason(&self.link)))),
        }
    }

    fn call(
        &mut self,
        callback: Callback,
        act: impl FnOnce(*mut c_void, *const DrSink) -> DrStatus,
    ) -> Result<(), Fault> {
        callback.begin(&self.link.doing);
        let mut text = Collector(Vec::new());
        let sink = text.sink();
        let instance = self.instance;
        let status = in_call(&self.link, || act(instance, &sink));
        outcome(&self.link, status, text)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        Callback::Destroy.begin(&self.link.doing);
        // SAFETY: the last call for this instance, on the thread that created it.
        in_call(&self.link, || unsafe { (self.table.destroy)(self.instance) });
    }
}

/// Marks the time during which module code runs, for the watchdog.
fn in_call<R>(link: &Link, act: impl FnOnce() -> R) -> R {
    let calls = link.calls.load(Ordering::Relaxed);
    link.calls.store(calls + 1, Ordering::Relaxed);
    let result = act();
    link.calls.store(calls + 2, Ordering::Relaxed);
    result
}
