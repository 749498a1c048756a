//! Everything that the author of a dinrail module needs.
//!
//! A module is a shared library with one type that implements [`Module`] and one [`export_module!`] line. The runtime makes
//! instances of it, each with an identity, a twin and a thread of its own. This one passes on readings over a limit that its
//! twin sets:
//!
//! ```
//! use dinrail_plugin::prelude::*;
//!
//! /// Desired properties. What the twin leaves out comes from `Default`.
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Desired {
//!     /// Readings above it are passed on.
//!     limit: f64,
//! }
//!
//! impl Default for Desired {
//!     fn default() -> Desired {
//!         Desired { limit: 80.0 }
//!     }
//! }
//!
//! struct Alarm {
//!     client: Client,
//!     alarms: Output,
//!     limit: f64,
//!     count: u64,
//! }
//!
//! impl Module for Alarm {
//!     type Desired = Desired;
//!     const INPUTS: &'static [&'static str] = &["readings"];
//!     const OUTPUTS: &'static [&'static str] = &["alarms"];
//!     const METHODS: &'static [&'static str] = &["reset"];
//!     const TRIAL_SAFE: bool = true;
//!
//!     fn create(client: Client, desired: Desired) -> Result<Alarm, Error> {
//!         Ok(Alarm { alarms: client.output("alarms")?, client, limit: desired.limit, count: 0 })
//!     }
//!
//!     fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
//!         let reading = Reading::parse(message.body()).map_err(Fault::park)?;
//!         if reading.number().is_some_and(|value| value > self.limit) {
//!             self.count += 1;
//!             delivery.send(self.alarms, message)?;
//!             delivery.patch_reported(json!({ "alarms": self.count }))?;
//!         }
//!         Ok(())
//!     }
//!
//!     fn on_desired(&mut self, desired: Desired) -> Result<(), Error> {
//!         if !desired.limit.is_finite() {
//!             return Err(Error::refused("limit: must be a finite number"));
//!         }
//!         self.limit = desired.limit;
//!         info!(limit = self.limit, "new limit");
//!         Ok(())
//!     }
//!
//!     fn on_method(&mut self, call: &MethodCall<'_>) -> Result<MethodResponse, Error> {
//!         match call.name() {
//!             "reset" => {
//!                 self.count = 0;
//!                 self.client.health(Level::Info, "counting from zero");
//!                 MethodResponse::ok(json!({ "alarms": 0 }))
//!             }
//!             name => Err(Error::not_found(format!("no method '{name}'; there is: reset"))),
//!         }
//!     }
//! }
//!
//! export_module!(Alarm);
//!
//! # fn main() {
//! // In its tests, with no runtime:
//! use dinrail_plugin::testing::{Bench, Verdict};
//!
//! let mut bench = Bench::new::<Alarm>(json!({ "limit": 5 })).create().unwrap();
//! bench.start().unwrap();
//! assert_eq!(bench.message("readings", Reading::now("t", 7.0, "°C").to_json()).deliver(), Verdict::Accepted);
//! assert_eq!(bench.sent("alarms").len(), 1);
//! assert_eq!(bench.reported(), json!({ "alarms": 1 }));
//! # }
//! ```
//!
//! # Building
//! `dinrail new NAME` makes a project: this module with its test and a manifest to deploy it, plugin-api and every crate that it
//! is built from, so that it needs no network. `cargo test`, `cargo build --release`, then copy the library into the folder
//! `drop/` of the runtime's state directory, or any folder that it watches. A higher `version` in `Cargo.toml`, copied over it,
//! upgrades what runs. `dinrail try FILE` runs the library alone and prints everything that it does.
//!
//! By hand:
//! ```toml
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! dinrail-plugin = { path = "../dinrail/plugin-api" } # in a clone of dinrail
//! serde = { version = "1", features = ["derive"] }
//! schemars = "1"
//! ```
//! Name and version are those of the crate. `panic = "abort"` does not compile. Without the feature `abi-proof`, a default in the
//! clone and not in what `dinrail new` lays beside a project, the build is about 25 s shorter and the library smaller; the runtime
//! then relies on the table's version alone.
//!
//! # Life
//! `create` (no side effects: it also runs when an image is only tried out) → `start` (ports, sockets, timers, threads) →
//! handlers → `stop` → drop. A panic in any of them is caught, logged with its place and handled by the restart policy. State
//! belongs in the value: statics are shared by all instances of an image.
//!
//! # Threads
//! Calls of one instance never overlap and come on its own thread, so a module needs no locks. The [`Client`] may be cloned
//! and used on any thread. Threads of [`Client::spawn`] are joined at stop; [`Client::post`] brings their results home. The
//! runtime never waits for a module, but messages do: a handler that takes long holds up what is behind it.
//!
//! # Verdicts
//! | a handler's result | the message |
//! |---|---|
//! | `Ok(())` | is done |
//! | [`Fault::Retry`] | comes again later; those behind it wait |
//! | [`Fault::Park`] | is set aside, counted, and seen in `dinrail losses` |
//! | any other error by `?` | comes again a few times, is then parked, with the chain of causes |
//! | `Ok(())` after [`Delivery::defer`] | ends when the [`Deferred`] says so |
//!
//! # Staging
//! What is sent along durable routes (`"durability": "disk"`) or reported **through the delivery** returns at once and is committed
//! together with the removal of the message when the handler accepts; otherwise nothing of it remains. What goes along memory routes
//! is sent at once, and stays sent if the handler fails: the next try sends it again. The same calls **on the client** stand alone
//! and return when the message is safe on disk (durable routes) or in the receiver's queue (memory routes). Delivery is at least
//! once: drop repeats by [`Message::sequence`] where that matters.
//!
//! | a send along a durable route | returns | who hears that it is committed and synced |
//! |---|---|---|
//! | [`Delivery::send`] | at once, staged | nobody needs to: it is committed with the verdict |
//! | [`Client::send_message_to_output`] | then | its caller |
//! | [`Client::begin_send`] | at once | the closure it was given, on any thread |
//! | [`Client::start_send`] | at once | who awaits the [`Sending`], or calls its `wait` |
//!
//! # The device's own twin
//! [`Client::device_client`] gives the same calls on the device's own identity, and [`Module::on_device_desired`] hears of its desired
//! properties, where the deployment says `"createOptions": {"deviceTwin": "read"}`, or `"report"` to report into it as well.
//!
//! # Secrets
//! A desired property or variable of `env` that the manifest gives as `{"$secret": "plc-pw"}` arrives as the text behind that
//! name: `plc_pw: String` in [`Module::Desired`]. A new value comes as a change. The runtime takes values that it gave an instance
//! out of what that instance logs, reports, answers and says about its state; what is sent in messages is the module's own affair.
//!
//! # Other languages
//! `include/dinrail_module.h` is the same contract for C and C++, generated from [`abi`]. `tests/fixtures/c/hello.c` is a complete module.

pub mod abi;
mod backtrace;
mod body;
mod client;
mod completion;
mod delivery;
mod descriptor;
mod desired;
mod device;
mod entry;
mod error;
mod export;
mod host;
mod logs;
mod memory;
mod message;
mod module;
mod outgoing;
mod problems;
#[cfg(feature = "abi-proof")]
pub mod proof;
pub mod reading;
mod sending;
mod span;
pub mod testing;
mod twin;
mod work;

pub use body::Body;
pub use client::{Client, IntoOutput, Level, Output};
pub use delivery::{Deferred, Delivery};
pub use device::{DeviceClient, DeviceDesired};
pub use error::{Context, Error, ErrorKind, Fault};
pub use memory::CountingAllocator;
pub use message::{KeptMessage, Message, Property};
pub use module::{MethodCall, MethodResponse, Module, Timer};
pub use outgoing::Outgoing;
pub use reading::{Quality, Reading, ReadingValue};
pub use sending::Sending;
pub use span::Span;
pub use twin::Twin;
pub use work::Stop;

pub use {schemars, serde, serde_json, tracing};

/// What almost every module needs: `use dinrail_plugin::prelude::*;`
pub mod prelude {
    pub use crate::{
        Body, Client, Context, Deferred, Delivery, DeviceClient, DeviceDesired, Error, Fault, Level, Message,
        MethodCall, MethodResponse, Module, Outgoing, Output, Property, Quality, Reading, Sending, Span, Stop, Timer,
        Twin, export_module,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
    pub use tracing::{debug, error, info, trace, warn};
}

/// The module in the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// For the macro only; no part of the contract.
#[doc(hidden)]
pub mod __private {
    pub use crate::descriptor::{Facts, length, write};
    pub use crate::entry::table;
}
