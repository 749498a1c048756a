//! Drives a module in a unit test, with no runtime.
//!
//! ```
//! # use dinrail_plugin::prelude::*;
//! use dinrail_plugin::testing::{Bench, Verdict};
//! # struct Echo;
//! # impl Module for Echo {
//! #     type Desired = std::collections::BTreeMap<String, Value>;
//! #     fn create(_: Client, _: Self::Desired) -> Result<Echo, Error> { Ok(Echo) }
//! #     fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
//! #         delivery.send("out", message)?;
//! #         Ok(())
//! #     }
//! # }
//!
//! let mut bench = Bench::new::<Echo>(json!({})).create().unwrap();
//! bench.start().unwrap();
//! assert_eq!(bench.message("in", "hello").property("line", "3").deliver(), Verdict::Accepted);
//! assert_eq!(bench.sent("out")[0].text(), "hello");
//! ```
//! It goes through the same tables as the runtime, so what is tested is what ships. The clock stands still: timers fire when
//! [`Bench::advance`] says so, posted closures run in [`Bench::run_posts`]. All routes are treated as durable: what a handler
//! sends through its delivery appears in [`Bench::sent`] when it was accepted.

mod bed;
mod device;
mod seen;
mod signing;
mod table;

use std::ffi::c_void;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use self::bed::{Bed, StagedEnd};
use self::seen::read_verdict;
pub use self::seen::{LogLine, Sent, Verdict};
#[cfg(test)]
pub(crate) use self::table::HOST;
use crate::abi::{
    DR_ABI_MAJOR, DR_CREATE_TRIAL, DR_DESCRIBE_DEFAULTS, DR_DESCRIBE_SCHEMA, DR_DESIRED_WHOLE, DR_MAGIC, DR_OK,
    DrCreate, DrDesired, DrMethodCall, DrModule, DrSink, DrStatus, DrText,
};
use crate::body::Body;
use crate::client::Level;
use crate::error::Error;
use crate::host::sink_into;
use crate::module::{MethodResponse, Module, Timer};

/// An instance to be made.
pub struct BenchBuilder {
    module: Rc<DrModule>,
    inputs: Vec<String>,
    desired: Value,
    name: String,
    env: Map<String, Value>,
    is_trial: bool,
    folder: Option<PathBuf>,
    device: Option<(Value, bool)>,
}

impl BenchBuilder {
    /// Gives it a data folder that stays, such as that of an instance before it: what a restart looks like to a module.
    #[must_use]
    pub fn data_folder(mut self, folder: impl Into<PathBuf>) -> BenchBuilder {
        self.folder = Some(folder.into());
        self
    }

    /// Sets a variable of the deployment's `env`.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> BenchBuilder {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// Names the instance; `bench` unless told.
    #[must_use]
    pub fn name(mut self, name: &str) -> BenchBuilder {
        self.name = name.to_owned();
        self
    }

    /// Permits it the device's own twin, as `"deviceTwin": "report"` does or, without `may_report`, `"read"`.
    #[must_use]
    pub fn device_twin(mut self, desired: Value, may_report: bool) -> BenchBuilder {
        self.device = Some((desired, may_report));
        self
    }

    /// Makes it as in the trial of a new image: sends and reports are refused, there is no data folder.
    #[must_use]
    pub fn trial(mut self) -> BenchBuilder {
        self.is_trial = true;
        self
    }

    /// Creates the instance, with a scratch data folder that is removed at the end.
    ///
    /// # Errors
    /// What `create` said; [`crate::ErrorKind::Refused`] where the desired properties are at fault.
    pub fn create(self) -> Result<Bench, Error> {
        let identity = format!("/devices/bench/modules/{}", self.name);
        let bed = Bed::make(&identity, &self.desired, self.is_trial);
        if let Some((desired, may_report)) = &self.device {
            bed.permit_device(desired, *may_report);
        }
        let scratch = || std::env::temp_dir().join(format!("dinrail-bench-{}-{}", std::process::id(), bed.ticket));
        let (is_scratch, folder) = (self.folder.is_none(), self.folder.unwrap_or_else(scratch));
        std::fs::create_dir_all(&folder)?;
        let mut bench = Bench {
            module: self.module,
            inputs: self.inputs,
            bed,
            folder,
            is_scratch,
            instance: std::ptr::null_mut(),
            to_stop: false,
            deliveries: 0,
        };
        let data_folder = if self.is_trial { String::new() } else { bench.folder.to_string_lossy().into_owned() };
        let (env, desired) = (Value::Object(self.env).to_string(), self.desired.to_string());
        let args = DrCreate {
            size: size_of::<DrCreate>() as u32,
            flags: if self.is_trial { DR_CREATE_TRIAL } else { 0 },
            ticket: bench.bed.ticket,
            host: &raw const table::HOST,
            identity: DrText::new(&identity),
            device: DrText::new("bench"),
            module: DrText::new(&self.name),
            generation_id: DrText::new("1"),
            data_folder: if self.is_trial { DrText::ABSENT } else { DrText::new(&data_folder) },
            image_folder: DrText::new(&data_folder),
            env: DrText::new(&env),
            desired: DrText::new(&desired),
            desired_version: 1,
            desired_revision: 1,
        };
        let instance = &raw mut bench.instance;
        // SAFETY: the arguments are complete and alive for the call.
        told("create", |sink| unsafe { (bench.module.create)(&args, instance, sink) })?;
        Ok(bench)
    }
}

/// An instance on the bench. Dropping it stops and destroys the instance.
pub struct Bench {
    module: Rc<DrModule>,
    inputs: Vec<String>,
    bed: Arc<Bed>,
    folder: PathBuf,
    is_scratch: bool,
    instance: *mut c_void,
    to_stop: bool,
    deliveries: u64,
}

impl Bench {
    /// An instance of `M` with these desired properties (a JSON object; what it leaves out comes from the defaults).
    #[allow(clippy::new_ret_no_self)]
    pub fn new<M: Module>(desired: Value) -> BenchBuilder {
        let inputs = M::INPUTS.iter().map(|input| (*input).to_owned()).collect();
        Bench::build(crate::entry::table::<M>(b"{}"), inputs, desired)
    }

    /// An instance of a module from a loaded library, such as one written in C.
    ///
    /// # Safety
    /// `module` points to a table that keeps the contract of [`crate::abi`], and its library is not unloaded.
    pub unsafe fn of_table(module: *const DrModule, desired: Value) -> BenchBuilder {
        // SAFETY: the caller's promise; the head comes first in every version.
        let (magic, major, size) = unsafe { ((*module).magic, (*module).abi_major, (*module).size as usize) };
        assert!(
            magic == DR_MAGIC && major == DR_ABI_MAJOR && size >= size_of::<DrModule>(),
            "not a module of this ABI"
        );
        // SAFETY: the table is complete, as just checked.
        let module = unsafe { *module };
        // SAFETY: the descriptor lives as long as the library.
        let descriptor: Value =
            serde_json::from_slice(unsafe { module.descriptor.bytes() }).expect("descriptor is JSON");
        let inputs = descriptor["inputs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Bench::build(module, inputs.map(str::to_owned).collect(), desired)
    }

    fn build(module: DrModule, inputs: Vec<String>, desired: Value) -> BenchBuilder {
        let (module, name) = (Rc::new(module), "bench".to_owned());
        BenchBuilder { module, inputs, desired, name, env: Map::new(), is_trial: false, folder: None, device: None }
    }

    /// Starts the instance; one that is permitted the device's twin is then told its desired properties.
    pub fn start(&mut self) -> Result<(), Error> {
        self.to_stop = true;
        if let Some(start) = self.module.start {
            // SAFETY: the instance lives; this thread is its own.
            told("start", |sink| unsafe { start(self.instance, sink) })?;
        }
        match self.bed.device_desired() {
            Some((whole, version)) => self.deliver_device(&whole, &whole, version, DR_DESIRED_WHOLE),
            None => Ok(()),
        }
    }

    /// Stops the instance; its threads are joined.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.to_stop = false;
        match self.module.stop {
            // SAFETY: as in `start`.
            Some(stop) => told("stop", |sink| unsafe { stop(self.instance, sink) }),
            None => Ok(()),
        }
    }

    /// A message for an input.
    pub fn message(&mut self, input: &str, body: impl AsRef<[u8]>) -> BenchMessage<'_> {
        let message = bed::Stored {
            input: input.to_owned(),
            body: Body::from(body.as_ref()),
            sender: "/devices/bench/modules/sender".into(),
            attempt: 1,
            ..bed::Stored::default()
        };
        BenchMessage { bench: self, message }
    }

    /// Merges a patch into the desired properties and delivers the change.
    ///
    /// # Errors
    /// The module's refusal. As in the runtime, the twin keeps the refused properties; the module goes on with the old ones.
    pub fn desired(&mut self, patch: Value) -> Result<(), Error> {
        let (whole, version) = self.bed.patch_desired(&patch);
        let (patch, whole) = (patch.to_string(), whole.to_string());
        let change = DrDesired {
            size: size_of::<DrDesired>() as u32,
            flags: 0,
            patch: DrText::new(&patch),
            whole: DrText::new(&whole),
            version,
            revision: version,
        };
        match self.module.on_desired {
            // SAFETY: as in `start`; the change is borrowed for the call.
            Some(on_desired) => told("desired", |sink| unsafe { on_desired(self.instance, &change, sink) }),
            None => Ok(()),
        }
    }

    /// Calls a direct method, as the operator.
    pub fn method(&mut self, name: &str, payload: impl Serialize) -> Result<MethodResponse, Error> {
        let payload = serde_json::to_string(&payload)?;
        let call = DrMethodCall {
            size: size_of::<DrMethodCall>() as u32,
            flags: 0,
            name: DrText::new(name),
            payload: DrText::new(&payload),
            caller: DrText::new(""),
            timeout_ms: 30_000,
        };
        let on_method = self.module.on_method.ok_or_else(|| Error::not_found("the module has no methods"))?;
        let (mut status, mut text) = (0, String::new());
        // SAFETY: as in `start`; everything is borrowed for the call.
        let outcome = unsafe { on_method(self.instance, &call, &mut status, &sink_into(&mut text)) };
        if outcome != DR_OK {
            return Err(Error::from_status(outcome, "method", &text));
        }
        let payload = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        Ok(MethodResponse { status, payload })
    }

    /// The timers that run.
    pub fn timers(&self) -> Vec<Timer> {
        self.bed.timers()
    }

    /// Lets a timer fire now, `missed` ticks too late.
    pub fn fire(&mut self, timer: Timer, missed: u64) -> Result<(), Error> {
        match self.module.on_timer {
            // SAFETY: as in `start`.
            Some(on_timer) => told("timer", |sink| unsafe { on_timer(self.instance, timer.0, missed, sink) }),
            None => Ok(()),
        }
    }

    /// Moves the clock and fires what falls due, in order. Says how many ticks that were.
    pub fn advance(&mut self, span: Duration) -> Result<usize, Error> {
        let until = self.bed.now() + span;
        let mut fired = 0;
        while let Some(timer) = self.bed.next_due(until) {
            fired += 1;
            self.fire(timer, 0)?;
        }
        Ok(fired)
    }

    /// Runs the closures that were posted. Says how many.
    pub fn run_posts(&mut self) -> Result<usize, Error> {
        let mut ran = 0;
        while let Some(value) = self.bed.next_post() {
            ran += 1;
            if let Some(on_event) = self.module.on_event {
                // SAFETY: as in `start`.
                told("post", |sink| unsafe { on_event(self.instance, value, sink) })?;
            }
        }
        Ok(ran)
    }

    /// Waits until a thread of the module posts, then runs what was posted. Says whether something came in time.
    pub fn wait_for_post(&mut self, patience: Duration) -> Result<bool, Error> {
        Ok(self.bed.wait_for_post(patience) && self.run_posts()? > 0)
    }

    /// Answers the module's calls of a direct method of another identity; without, it is told that there is none.
    pub fn answer_method(&self, target: &str, name: &str, response: MethodResponse) {
        self.bed.answer_method(target, name, response);
    }

    /// Lets every send fail as if a receiver's queue stayed full, or work again.
    pub fn set_full(&self, is_full: bool) {
        self.bed.set_full(is_full);
    }

    /// What was sent from an output and committed; from `""`: to the hub.
    pub fn sent(&self, output: &str) -> Vec<Sent> {
        self.bed.sent(output)
    }

    /// Forgets what was sent so far.
    pub fn clear_sent(&self) {
        self.bed.clear_sent();
    }

    /// The reported properties as committed.
    pub fn reported(&self) -> Value {
        self.bed.reported()
    }

    /// The health sentence.
    pub fn health(&self) -> Option<(Level, String)> {
        self.bed.health()
    }

    /// What was logged so far.
    pub fn logs(&self) -> Vec<LogLine> {
        self.bed.logs()
    }

    /// The reason, once the module said that it cannot go on.
    pub fn failed(&self) -> Option<String> {
        self.bed.failed()
    }

    /// How deferred messages ended, in the order of their decisions.
    pub fn decided(&self) -> Vec<Verdict> {
        self.bed.decided()
    }

    /// The data folder.
    pub fn data_folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// The JSON Schema of the desired properties, as the runtime asks for it.
    pub fn schema(&self) -> Result<Value, Error> {
        self.describe(DR_DESCRIBE_SCHEMA)
    }

    /// The defaults of the desired properties, as the runtime asks for them.
    pub fn defaults(&self) -> Result<Value, Error> {
        self.describe(DR_DESCRIBE_DEFAULTS)
    }

    fn describe(&self, what: u32) -> Result<Value, Error> {
        let describe = self.module.describe.ok_or_else(|| Error::not_found("the module does not describe itself"))?;
        let mut text = String::new();
        // SAFETY: needs no instance; the sink is alive for the call.
        match unsafe { describe(what, &sink_into(&mut text)) } {
            DR_OK => Ok(serde_json::from_str(&text)?),
            status => Err(Error::from_status(status, "describe", &text)),
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !self.instance.is_null() {
            if self.to_stop {
                // A test that cares calls `stop` itself.
                let _ = self.stop();
            }
            // SAFETY: the last call.
            unsafe { (self.module.destroy)(self.instance) };
        }
        self.bed.close();
        if self.is_scratch {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// A message that is about to be delivered.
pub struct BenchMessage<'b> {
    bench: &'b mut Bench,
    message: bed::Stored,
}

impl BenchMessage<'_> {
    /// Adds an application property.
    #[must_use]
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.message.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets the identity of the sender.
    #[must_use]
    pub fn sender(mut self, identity: &str) -> Self {
        self.message.sender = identity.to_owned();
        self
    }

    /// Sets the content type.
    #[must_use]
    pub fn content_type(mut self, name: &str) -> Self {
        self.message.content_type = Some(name.to_owned());
        self
    }

    /// Sets `(epoch, n)`; without, it is counted up with every message.
    #[must_use]
    pub fn sequence(mut self, epoch: u64, n: u64) -> Self {
        (self.message.epoch, self.message.sequence) = (epoch, n);
        self
    }

    /// Sets when the runtime took it in, in microseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn created_us(mut self, us: i64) -> Self {
        self.message.created_us = us;
        self
    }

    /// Makes it the nth delivery.
    #[must_use]
    pub fn attempt(mut self, n: u32) -> Self {
        self.message.attempt = n;
        self
    }

    /// Delivers it, and says what became of it.
    pub fn deliver(self) -> Verdict {
        let BenchMessage { bench, mut message } = self;
        bench.deliveries += 1;
        let delivery = bench.deliveries;
        if message.sequence == 0 {
            message.sequence = delivery;
        }
        message.input_index = bench.inputs.iter().position(|input| *input == message.input);
        let Some(on_message) = bench.module.on_message else {
            return Verdict::Failed("the module does not handle messages".into());
        };
        bench.bed.begin(delivery, message.clone());
        let lent = table::Lent::new(message);
        let mut reason = String::new();
        // SAFETY: the instance lives; message and sink are borrowed for the call.
        let verdict = unsafe { on_message(bench.instance, delivery, lent.message(), &sink_into(&mut reason)) };
        let read = read_verdict(verdict, reason);
        bench.bed.end(
            delivery,
            match read {
                Verdict::Accepted => StagedEnd::Commit,
                Verdict::Deferred => StagedEnd::Keep,
                _ => StagedEnd::Discard,
            },
        );
        read
    }
}

/// Makes a call that answers with a status and writes its error into a sink.
fn told(what: &str, call: impl FnOnce(*const DrSink) -> DrStatus) -> Result<(), Error> {
    let mut text = String::new();
    match call(&sink_into(&mut text)) {
        DR_OK => Ok(()),
        status => Err(Error::from_status(status, what, &text)),
    }
}
