//! Identities: who acts. The device has one, each of its modules has one, and nobody acts without.
//!
//! An identity is made at the first need and stays until it is removed by name, with or without an instance; identities of
//! other devices and of modules that run elsewhere are added. Each has two keys, derived from the key of this device or given,
//! and proves itself with tokens signed by one of them; programs do so with the keys of shared access policies.
//!
//! Guarantee: what [`Identities`] hands out is in the database. The generation tells two identities of one name apart that were
//! made one after the other. Derived keys are nowhere but in memory, and there for no longer than a signature takes.
//!
//! ```text
//! keys/device.key ──HMAC──► {moduleId}:{generationId}:primary     first keys
//!                           {moduleId}:{generationId}:primary:1   after a rotation
//!                 ──seal──► keys and secrets that were given
//! ```

mod activity;
mod authentication;
mod changes;
mod credential;
mod device;
mod error;
mod key_file;
mod keys;
mod policy;
mod record;
mod registry;
mod store;
mod token;

pub use activity::Presence;
pub use authentication::Principal;
pub use changes::{IdentityChange, MAX_IDENTITIES, NewIdentity, Rotation};
pub use credential::{GIVEN_KEY_BYTES, KeyError, MasterKey, SymmetricKey};
pub use device::is_generic;
pub use error::IdentityError;
pub use key_file::KeyFileError;
pub use keys::KeySlot;
pub use policy::{Policy, Role};
pub use record::IdentityRecord;
pub use registry::{Identities, MANAGED_BY, device_key};
pub use token::{CLOCK_SKEW_S, MAX_TOKEN_BYTES, Scope, Token, TokenError};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod token_tests;
