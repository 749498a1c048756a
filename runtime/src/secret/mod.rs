//! Secrets: values that modules need and nobody else is to see, such as the password of a PLC.
//!
//! A person sets one by name. Desired properties and `env` of a manifest say `{"$secret": NAME}` in its place, and only the
//! instance that says so *and* is allowed the secret is given the value, on the way into its code.
//!
//! ```text
//! secret set ─► sealed under the device's key ─► dinrail.db
//!                                   │ opened for each delivery, wiped after it
//! twin, manifest: {"$secret": NAME} ┴─► instance: create, desired change, get_twin, env
//!                                            │ what it says
//!                       log, reports, reasons ◄─ mask: *** in place of every value that it was given
//! ```
//!
//! Guarantee: no value is in a twin, its history, a manifest, a log, an answer of the management API or a support bundle, nor in
//! clear on the disk. Invariant: a value leaves this folder only as [`Resolved`], which is wiped from memory when it is dropped.
//!
//! A new value reaches the modules that refer to it as a change of their desired properties. One that is not there, not allowed
//! or not readable is told to nobody: the instance waits, or keeps what it has, and the reason names the command to run.

mod error;
mod figures;
mod mask;
mod registry;
mod resolve;
mod store;

pub use error::{SecretError, Unresolved};
pub use figures::Figures;
pub use mask::Mask;
pub use registry::{Allow, Allowed, MAX_VALUE_BYTES, Outcome, SecretInfo, Secrets};
pub use resolve::{Resolved, Used};

#[cfg(test)]
mod tests;
