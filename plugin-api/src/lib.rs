//! Everything that the author of a dinrail module needs.

pub mod abi;
mod client;
mod completion;
mod delivery;
mod descriptor;
mod desired;
mod entry;
mod error;
mod export;
mod host;
mod logs;
mod message;
mod module;
#[cfg(feature = "abi-proof")]
pub mod proof;
mod reading;
pub mod testing;
mod twin;

pub use client::{Client, IntoOutput, Level, Output, Stop};
pub use delivery::{Deferred, Delivery};
pub use error::{Context, Error, ErrorKind, Fault};
pub use message::{Body, KeptMessage, Message, Outgoing, Property};
pub use module::{MethodCall, MethodResponse, Module, Timer};
pub use reading::{Quality, Reading, ReadingValue};
pub use twin::Twin;

pub use {schemars, serde, serde_json, tracing};

/// What almost every module needs: `use dinrail_plugin::prelude::*;`
pub mod prelude {
    pub use crate::{
        Body, Client, Context, Deferred, Delivery, Error, Fault, Level, Message, MethodCall, MethodResponse, Module,
        Outgoing, Output, Property, Quality, Reading, Stop, Timer, Twin, export_module,
    };
    pub use schemars::JsonSchema;
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::{Value, json};
    pub use tracing::{debug, error, info, trace, warn};
}

/// For the macro only; no part of the contract.
#[doc(hidden)]
pub mod __private {
    pub use crate::descriptor::{Facts, length, write};
    pub use crate::entry::table;
}
