//! What an author implements.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::Client;
use crate::delivery::Delivery;
use crate::device::DeviceDesired;
use crate::error::{Context, Error, Fault};
use crate::message::Message;

/// One kind of module. Each instance is a value of the type that implements it, on a thread of its own; its calls never overlap.
///
/// ```text
/// create ─► start ─► on_message | on_desired | on_device_desired | on_method | on_timer | posted closures … ─► stop ─► drop
/// ```
/// A panic in any of them is caught and logged with its place; the instance is then stopped and its restart policy decides.
///
/// Keep state in the value, never in a `static`: all instances of one image in a process share its statics.
pub trait Module: Sized + 'static {
    /// The desired properties. A section of the twin may leave out whatever [`Default`] has, at any depth; unknown properties
    /// are ignored unless the type says `#[serde(deny_unknown_fields)]`.
    type Desired: Serialize + DeserializeOwned + JsonSchema + Default;

    /// Names of the inputs.
    const INPUTS: &'static [&'static str] = &[];
    /// Names of the outputs.
    const OUTPUTS: &'static [&'static str] = &[];
    /// Names of the direct methods.
    const METHODS: &'static [&'static str] = &[];
    /// It owns a device or a connection: an upgrade stops the old instance before it starts the new one.
    const EXCLUSIVE: bool = false;
    /// `create` has no side effects, so that a new image may be tried out before it is used.
    const TRIAL_SAFE: bool = false;

    /// Makes an instance. Opens no port, file or thread, since it also runs in trials; that is for [`Module::start`].
    ///
    /// # Errors
    /// [`Error::refused`] where the desired properties are at fault: it is tried again when they change. Properties that do not
    /// fit [`Module::Desired`] are refused before this is called.
    fn create(client: Client, desired: Self::Desired) -> Result<Self, Error>;

    /// Opens ports and sockets, starts timers and threads.
    fn start(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Handles a message. `Ok` accepts it: what was sent along durable routes or reported through `delivery` is committed together
    /// with its removal. What was sent along memory routes was sent at once, and stays sent after an error.
    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        let _ = delivery;
        Err(Fault::park(format!("this module does not handle messages (input '{}')", message.input())))
    }

    /// Takes the desired properties after a change. Version and revision are in [`Client::get_twin`].
    ///
    /// # Errors
    /// Every error refuses the change; keep what was in force. The runtime reports the acknowledgement `{version, ok, error}`.
    fn on_desired(&mut self, desired: Self::Desired) -> Result<(), Error> {
        let _ = desired;
        Ok(())
    }

    /// Takes the device's own desired properties: as they are after [`Module::start`], and then after each change, in the order of
    /// their revisions. Only where the deployment permits [`Client::device_client`].
    ///
    /// # Errors
    /// Are logged; nobody is told that the change was refused, since other modules may have taken it.
    fn on_device_desired(&mut self, change: &DeviceDesired<'_>) -> Result<(), Error> {
        let _ = change;
        Ok(())
    }

    /// Answers a direct method.
    ///
    /// # Errors
    /// [`Error::not_found`] for an unknown name; others tell the caller that it failed, and why.
    fn on_method(&mut self, call: &MethodCall<'_>) -> Result<MethodResponse, Error> {
        Err(Error::not_found(format!("this module has no method '{}'", call.name())))
    }

    /// A timer fired. `missed` ticks were left out since its last call because the instance was busy.
    fn on_timer(&mut self, timer: Timer, missed: u64) -> Result<(), Error> {
        let _ = (timer, missed);
        Ok(())
    }

    /// Closes what `start` opened; also called when `start` failed. Threads of [`Client::spawn`] have been told to end before
    /// and are joined after it.
    fn stop(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// A timer of [`Client::every`] or [`Client::after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timer(pub(crate) u64);

/// A direct method call.
#[derive(Debug, Clone, Copy)]
pub struct MethodCall<'a> {
    pub(crate) name: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) caller: &'a str,
    pub(crate) timeout: Duration,
}

impl<'a> MethodCall<'a> {
    /// Name of the method.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Payload: JSON text, or empty.
    pub fn payload(&self) -> &'a str {
        self.payload
    }

    /// Payload read as `T`; an empty one is read as `null`, and so is `""` where `T` is no text: service SDKs send it for nothing.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let read = |text| serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text));
        match self.payload {
            "" => read("null"),
            "\"\"" => read("\"\"").or_else(|error| read("null").map_err(|_| error)),
            payload => read(payload),
        }
        .context("reading the payload")
    }

    /// Who calls, as the runtime knows it: an identity such as `/devices/Hannover01/modules/insight`, or the name of a person.
    pub fn caller(&self) -> &'a str {
        self.caller
    }

    /// After this time nobody waits for the answer.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Answer to a direct method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodResponse {
    /// 200–299 says that it worked, as in HTTP.
    pub status: i32,
    /// JSON; `null` where there is nothing to say.
    pub payload: Value,
}

impl MethodResponse {
    /// An answer with this status.
    pub fn new(status: i32, payload: Value) -> MethodResponse {
        MethodResponse { status, payload }
    }

    /// Status 200 with `payload`.
    pub fn ok(payload: impl Serialize) -> Result<MethodResponse, Error> {
        Ok(MethodResponse::new(200, serde_json::to_value(payload).context("writing the answer as JSON")?))
    }
}
