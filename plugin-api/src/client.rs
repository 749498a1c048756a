//! What an instance can ask of the runtime, in the words of the IoT SDKs.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::abi::{
    DR_CREATE_TRIAL, DR_DEBUG, DR_ERROR, DR_INFO, DR_NO_DELIVERY, DR_NO_OUTPUT, DR_OK, DR_PENDING, DR_TRACE, DR_WARN,
    DrBuffer, DrCreate, DrSends, DrStatus, DrText, DrTwin, DrVerdict,
};
use crate::body::Body;
use crate::completion::{begin_with, wait_for};
use crate::error::{Context, Error, ErrorKind};
use crate::host::{Host, lent};
use crate::logs::Voice;
use crate::message::KeptMessage;
use crate::module::{MethodResponse, Module, Timer};
use crate::outgoing::Outgoing;
use crate::sending::Sending;
use crate::twin::{LastRead, Twin};
use crate::work::{Work, lock};

/// An instance's way to the runtime. Cheap to clone, and every call may be made on any thread; once the instance has stopped, all
/// answer [`ErrorKind::Gone`].
///
/// Calls that wait for the disk (`patch_reported`, sends along durable routes) return when it is done. Inside a handler use
/// the forms of [`crate::Delivery`] instead: they return at once, and what goes to disk is committed with the handler's
/// verdict.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    host: Host,
    sends: Option<&'static DrSends>,
    ticket: u64,
    identity: String,
    device: String,
    module: String,
    generation_id: String,
    data_folder: Option<PathBuf>,
    image_folder: PathBuf,
    env: BTreeMap<String, String>,
    is_trial: bool,
    outputs: Mutex<Vec<(Box<str>, Output)>>,
    twin: Mutex<LastRead>,
    work: Work,
}

/// An output, interned: sending from it needs no look-up. Belongs to the instance whose client gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output(u32);

pub(crate) const NO_OUTPUT: Output = Output(DR_NO_OUTPUT);

/// What names an output: an [`Output`], or its name, which is looked up at every call.
pub trait IntoOutput {
    /// Finds the output.
    fn into_output(self, client: &Client) -> Result<Output, Error>;
}

impl IntoOutput for Output {
    #[inline]
    fn into_output(self, _: &Client) -> Result<Output, Error> {
        Ok(self)
    }
}

impl IntoOutput for &Output {
    #[inline]
    fn into_output(self, _: &Client) -> Result<Output, Error> {
        Ok(*self)
    }
}

impl IntoOutput for &str {
    fn into_output(self, client: &Client) -> Result<Output, Error> {
        client.output(self)
    }
}

/// Severity of a health sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// A person is needed, or data was lost.
    Error = DR_ERROR,
    /// Something is wrong, nothing is lost.
    Warn = DR_WARN,
    /// Worth knowing in normal operation.
    Info = DR_INFO,
    /// For the module's author.
    Debug = DR_DEBUG,
    /// Everything.
    Trace = DR_TRACE,
}

impl Client {
    /// # Safety
    /// `args` holds what the contract of `create` says, and is borrowed for this call.
    pub(crate) unsafe fn from_raw<M: Module>(args: &DrCreate, host: Host) -> Result<Client, Error> {
        // SAFETY: the caller's promise.
        let text = |text: DrText| unsafe { lent(text) };
        let env = match text(args.env) {
            "" => BTreeMap::new(),
            env => serde_json::from_str(env).context("the runtime's 'env' is not an object of strings")?,
        };
        Ok(Client(Arc::new(Inner {
            host,
            sends: host.sends(),
            ticket: args.ticket,
            identity: text(args.identity).to_owned(),
            device: text(args.device).to_owned(),
            module: text(args.module).to_owned(),
            generation_id: text(args.generation_id).to_owned(),
            data_folder: (args.data_folder.len > 0).then(|| text(args.data_folder).into()),
            image_folder: text(args.image_folder).into(),
            env,
            is_trial: args.flags & DR_CREATE_TRIAL != 0,
            outputs: Mutex::default(),
            twin: Mutex::default(),
            work: Work::of::<M>(),
        })))
    }

    pub(crate) fn work(&self) -> &Work {
        &self.0.work
    }

    pub(crate) fn voice(&self) -> Voice {
        Voice { host: self.0.host, ticket: self.0.ticket }
    }

    /// `/devices/{device}/modules/{module}`.
    pub fn identity(&self) -> &str {
        &self.0.identity
    }

    /// Name of the instance.
    pub fn module(&self) -> &str {
        &self.0.module
    }

    /// Device id.
    pub fn device(&self) -> &str {
        &self.0.device
    }

    /// Changes when the identity is deleted and made again.
    pub fn generation_id(&self) -> &str {
        &self.0.generation_id
    }

    /// The instance's own folder, which exists and stays over restarts and upgrades.
    ///
    /// # Errors
    /// There is none on trial.
    pub fn data_folder(&self) -> Result<&Path, Error> {
        let none =
            || Error::with_kind(ErrorKind::Denied, "an instance on trial has no data folder; use it from `start` on");
        self.0.data_folder.as_deref().ok_or_else(none)
    }

    /// Folder of the image's own files, read-only.
    pub fn image_folder(&self) -> &Path {
        &self.0.image_folder
    }

    /// A variable of the deployment's `env`.
    pub fn env(&self, key: &str) -> Option<&str> {
        self.0.env.get(key).map(String::as_str)
    }

    /// All variables of the deployment's `env`.
    pub fn envs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.env.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// This instance only shows that it can be made: sends and reports are refused.
    pub fn is_trial(&self) -> bool {
        self.0.is_trial
    }

    /// The twin as committed: shared as long as it stays the same, so that it can be read a million times a second.
    /// `[any thread]` `[never blocks]`
    pub fn get_twin(&self) -> Result<Arc<Twin>, Error> {
        let fill = |twin: &mut DrTwin| done(self.0.host.get_twin(self.0.ticket, twin), "get_twin");
        read_twin(fill, |json, desired, reported| lock(&self.0.twin).read(json, desired, reported))?
    }

    /// Merges a patch (a JSON object; null removes) into the reported properties, and waits until it is committed.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`], [`ErrorKind::Invalid`]: over IoT Hub's limits; nothing was changed.
    pub fn patch_reported(&self, patch: impl Serialize) -> Result<(), Error> {
        let patch = patch_text(patch)?;
        let begin =
            |completion: &_| self.0.host.patch_reported(self.0.ticket, DR_NO_DELIVERY, DrText::new(&patch), completion);
        ended(wait_for(begin), "patch_reported")
    }

    /// As [`Client::patch_reported`], without waiting: `then` is told the end, on any thread, and must not block.
    pub fn begin_patch_reported(
        &self,
        patch: impl Serialize,
        then: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let patch = patch_text(patch)?;
        let begin =
            |completion: &_| self.0.host.patch_reported(self.0.ticket, DR_NO_DELIVERY, DrText::new(&patch), completion);
        begin_with(begin, |outcome| then(ended(outcome, "patch_reported")))
            .map_err(|status| Error::from_status(status, "patch_reported", ""))
    }

    /// Interns an output; do it once, in `create`.
    pub fn output(&self, name: &str) -> Result<Output, Error> {
        let mut known = lock(&self.0.outputs);
        if let Some((_, output)) = known.iter().find(|(known, _)| &**known == name) {
            return Ok(*output);
        }
        let mut id = DR_NO_OUTPUT;
        done(self.0.host.output(self.0.ticket, DrText::new(name), &mut id), "output")
            .with_context(|| format!("'{name}'"))?;
        known.push((name.into(), Output(id)));
        Ok(Output(id))
    }

    /// Sends from an output along the routes. Where one of them is durable, waits until the message is committed and synced to
    /// disk. May hold the caller for up to 50 ms while a receiver's queue is full.
    ///
    /// # Errors
    /// [`ErrorKind::Full`]: not every receiver has it. [`ErrorKind::TooLarge`]: over the limit of a route; the others have it.
    #[inline]
    pub fn send_message_to_output<'m>(
        &self,
        output: impl IntoOutput,
        message: impl Into<Outgoing<'m>>,
    ) -> Result<(), Error> {
        let output = output.into_output(self)?;
        let raw = message.into();
        let raw = raw.raw();
        let Some(sends) = self.0.sends else {
            let begin = |completion: &_| self.0.host.send(self.0.ticket, DR_NO_DELIVERY, output.0, &raw, completion);
            return ended(wait_for(begin), "send");
        };
        let mut reason = String::new();
        match self.0.host.send_and_wait(sends, self.0.ticket, output.0, &raw, &mut reason) {
            DR_OK => Ok(()),
            status => Err(Error::from_status(status, "send", &reason)),
        }
    }

    /// Sends to the hub: as [`Client::send_message_to_output`], without an output.
    #[inline]
    pub fn send_message<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), Error> {
        self.send_message_to_output(NO_OUTPUT, message)
    }

    /// As [`Client::send_message_to_output`], without waiting for the disk: `then` is told the end, on any thread (on this one
    /// where it is done at once), and must not block.
    pub fn begin_send<'m>(
        &self,
        output: impl IntoOutput,
        message: impl Into<Outgoing<'m>>,
        then: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Error> {
        let output = output.into_output(self)?;
        let message = message.into();
        let raw = message.raw();
        let begin = |completion: &_| self.0.host.send(self.0.ticket, DR_NO_DELIVERY, output.0, &raw, completion);
        begin_with(begin, |outcome| then(ended(outcome, "send")))
            .map_err(|status| Error::from_status(status, "send", ""))
    }

    /// As [`Client::send_message_to_output`], without waiting for the disk: what is returned is a future, for any executor, and may
    /// be waited for by a thread as well. Messages go in the order of these calls, awaited or not.
    ///
    /// # Errors
    /// What is known at once; what the disk says is told by the [`Sending`].
    pub fn start_send<'m>(&self, output: impl IntoOutput, message: impl Into<Outgoing<'m>>) -> Result<Sending, Error> {
        let (sending, shared) = Sending::new();
        self.begin_send(output, message, move |end| shared.end(end))?;
        Ok(sending)
    }

    #[inline]
    pub(crate) fn send_under(
        &self,
        delivery: u64,
        output: impl IntoOutput,
        message: &Outgoing<'_>,
    ) -> Result<(), Error> {
        let output = output.into_output(self)?;
        done(self.0.host.send(self.0.ticket, delivery, output.0, &message.raw(), std::ptr::null()), "send")
    }

    pub(crate) fn patch_under(&self, delivery: u64, patch: impl Serialize) -> Result<(), Error> {
        let patch = patch_text(patch)?;
        let text = DrText::new(&patch);
        done(self.0.host.patch_reported(self.0.ticket, delivery, text, std::ptr::null()), "patch_reported")
    }

    pub(crate) fn complete(&self, delivery: u64, verdict: DrVerdict, reason: &str) -> Result<(), Error> {
        done(self.0.host.complete(self.0.ticket, delivery, verdict, DrText::new(reason)), "complete")
    }

    pub(crate) fn keep(&self, delivery: u64) -> Result<KeptMessage, Error> {
        let mut kept = std::ptr::null();
        done(self.0.host.message_keep(self.0.ticket, delivery, &mut kept), "message_keep")?;
        if kept.is_null() {
            return Err(Error::new("the runtime kept nothing").context("message_keep"));
        }
        // SAFETY: just kept, and released only by the value made here.
        Ok(unsafe { KeptMessage::from_raw(kept, self.0.host) })
    }

    /// Sets the sentence that `dinrail list` shows, such as "2 of 3 PLCs connected"; an empty one clears it.
    /// `[any thread]` `[never blocks]`
    pub fn health(&self, level: Level, sentence: &str) {
        // Nobody reads the health of an instance that is gone.
        let _ = self.0.host.set_health(self.0.ticket, level as u32, DrText::new(sentence));
    }

    /// Starts a timer that calls [`Module::on_timer`] every `period`, first after one.
    pub fn every(&self, period: Duration) -> Result<Timer, Error> {
        self.timer(period, timer_ms(period))
    }

    /// Starts a timer that calls [`Module::on_timer`] once.
    pub fn after(&self, delay: Duration) -> Result<Timer, Error> {
        self.timer(delay, 0)
    }

    fn timer(&self, first: Duration, period_ms: u64) -> Result<Timer, Error> {
        let mut timer = 0;
        done(self.0.host.timer_start(self.0.ticket, timer_ms(first), period_ms, &mut timer), "timer")?;
        Ok(Timer(timer))
    }

    /// Ends a timer. Called in a handler, it does not fire after this.
    pub fn cancel(&self, timer: Timer) {
        // One that has ended by itself is unknown to the runtime; that is what was asked for.
        let _ = self.0.host.timer_stop(self.0.ticket, timer.0);
    }

    /// Calls a direct method of `target`, an identity such as `/devices/Hannover01/modules/insight`, and waits for its answer.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Timeout`]. An answer with a bad status is not an error here.
    pub fn invoke_method(
        &self,
        target: &str,
        name: &str,
        payload: impl Serialize,
        timeout: Duration,
    ) -> Result<MethodResponse, Error> {
        let payload = serde_json::to_string(&payload).context("writing the payload as JSON")?;
        let timeout_ms = timer_ms(timeout);
        let (to, call) = (DrText::new(target), DrText::new(name));
        let begin = |completion: &_| {
            self.0.host.invoke_method(self.0.ticket, to, call, DrText::new(&payload), timeout_ms, completion)
        };
        let (status, answer) = wait_for(begin);
        if status != DR_OK {
            return Err(Error::from_status(status, &format!("invoke_method {target} {name}"), &answer));
        }
        #[derive(Deserialize)]
        struct Answer {
            status: i32,
            #[serde(default)]
            payload: Value,
        }
        let Answer { status, payload } =
            serde_json::from_str(&answer).context("reading the answer of invoke_method")?;
        Ok(MethodResponse { status, payload })
    }

    /// HMAC-SHA256 of `data` with the primary key of this identity, which stays with the runtime. `[any thread]`
    /// `[never blocks]`
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] where the identity is disabled.
    pub fn sign(&self, data: &[u8]) -> Result<[u8; 32], Error> {
        let mut signature = [0; 32];
        match self.0.host.sign(self.0.ticket, data, &mut signature) {
            DR_OK => Ok(signature),
            status => Err(Error::from_status(status, "sign", "")),
        }
    }

    /// A SAS token that proves to this device's management API who this is; it holds for `ttl`, a second at least and 365 days
    /// at most. `[any thread]` `[never blocks]`
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], [`ErrorKind::Denied`] where the identity is disabled.
    pub fn token(&self, ttl: Duration) -> Result<String, Error> {
        self.token_text(DrText::ABSENT, ttl)
    }

    /// [`Client::token`] for somebody who knows this device by the name `host`.
    ///
    /// # Errors
    /// As there.
    pub fn token_for(&self, host: &str, ttl: Duration) -> Result<String, Error> {
        self.token_text(DrText::new(host), ttl)
    }

    fn token_text(&self, host: DrText, ttl: Duration) -> Result<String, Error> {
        let mut token = String::new();
        match self.0.host.token(self.0.ticket, host, ttl.as_secs(), &mut token) {
            DR_OK => Ok(token),
            status => Err(Error::from_status(status, "token", "")),
        }
    }

    /// Says that the instance cannot go on: it is stopped and its restart policy decides. `[any thread]` `[never blocks]`
    pub fn fail(&self, reason: &str) {
        // An instance that is gone has failed enough.
        let _ = self.0.host.fail(self.0.ticket, DrText::new(reason));
    }

    /// Finds what the runtime's table does not have, by name. Lives as long as the process.
    pub fn extension(&self, name: &str) -> Option<NonNull<c_void>> {
        NonNull::new(self.0.host.extension(name).cast_mut())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.0.identity).finish()
    }
}

/// Reads a twin that `fill` gets from the runtime; `parse` is given its text and the revisions of its sections.
pub(crate) fn read_twin<T>(
    fill: impl FnOnce(&mut DrTwin) -> Result<(), Error>,
    parse: impl FnOnce(&[u8], u64, u64) -> T,
) -> Result<T, Error>
where
    T: 'static,
{
    unsafe extern "C" fn nothing(_: *mut c_void) {}
    let json =
        DrBuffer { ptr: std::ptr::null(), len: 0, owner: std::ptr::null_mut(), retain: nothing, release: nothing };
    let mut twin =
        DrTwin { size: size_of::<DrTwin>() as u32, flags: 0, json, desired_revision: 0, reported_revision: 0 };
    fill(&mut twin)?;
    // SAFETY: the runtime filled the buffer and gave us one reference, released below.
    let read = unsafe { DrText { ptr: twin.json.ptr, len: twin.json.len }.bytes() };
    let parsed = parse(read, twin.desired_revision, twin.reported_revision);
    // SAFETY: as above; `parsed` borrows nothing.
    unsafe { (twin.json.release)(twin.json.owner) };
    Ok(parsed)
}

pub(crate) fn patch_text(patch: impl Serialize) -> Result<String, Error> {
    serde_json::to_string(&patch).context("writing the reported properties as JSON")
}

/// Whole milliseconds, at least one.
fn timer_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The result of a call that is done on return.
#[inline]
fn done(status: DrStatus, what: &str) -> Result<(), Error> {
    match status {
        DR_OK | DR_PENDING => Ok(()),
        status => Err(Error::from_status(status, what, "")),
    }
}

/// The result of a call that was waited for.
#[inline]
fn ended((status, detail): (DrStatus, String), what: &str) -> Result<(), Error> {
    match status {
        DR_OK => Ok(()),
        status => Err(Error::from_status(status, what, &detail)),
    }
}

// What may go to other threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Client>();
    shared::<Body>();
    shared::<KeptMessage>();
};
