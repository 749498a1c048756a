//! Why a secret is not set, removed or given to a module. No text holds a value.

use super::registry::{MAX_SECRETS, MAX_VALUE_BYTES};
use crate::database::StoreError;
use crate::identity::KeyError;
use crate::name::NameError;

/// Why a secret was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not a name.
    #[error("'{name}' is not the name of a secret: {cause}")]
    Name {
        /// As it was given.
        name: String,
        /// Why.
        cause: NameError,
    },
    /// Not the name of a module.
    #[error("'{module}' is not the name of a module: {cause}")]
    Module {
        /// As it was given.
        module: String,
        /// Why.
        cause: NameError,
    },
    /// No value.
    #[error("the value of the secret {name} is empty")]
    Empty {
        /// Which.
        name: String,
    },
    /// A value that no twin could hold.
    #[error("the value of the secret {name} has {bytes} bytes, {MAX_VALUE_BYTES} at most")]
    TooLarge {
        /// Which.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// None of this name.
    #[error("there is no secret {name}")]
    NotFound {
        /// Which.
        name: String,
        /// One of a like name.
        near: Option<String>,
    },
    /// As many are there as there may be.
    #[error("there are {MAX_SECRETS} secrets already")]
    TooMany,
    /// Not sealed.
    #[error("the secret {name} cannot be sealed: {cause}")]
    Key {
        /// Which.
        name: String,
        /// Why.
        cause: KeyError,
    },
    /// Not stored.
    #[error("the secret {name} is not stored: {cause}")]
    Store {
        /// Which.
        name: String,
        /// Why.
        cause: StoreError,
    },
}

impl SecretError {
    /// What a person does next.
    pub fn hint(&self) -> String {
        match self {
            SecretError::Name { .. } | SecretError::Module { .. } => {
                "1 to 128 letters, digits and - : . + % _ # * ? ! ( ) , = @ ; $ '".to_owned()
            }
            SecretError::Empty { .. } => "give the value by standard input or @FILE".to_owned(),
            SecretError::TooLarge { .. } => {
                "put what is larger into a file of the module's data folder, and its key here".to_owned()
            }
            SecretError::NotFound { near: Some(near), .. } => format!("did you mean {near}?"),
            SecretError::NotFound { name, .. } => {
                format!("dinrail secret set {name}; dinrail secret list shows those there are")
            }
            SecretError::TooMany => {
                "remove those that nobody uses: dinrail secret list, dinrail secret remove NAME".to_owned()
            }
            SecretError::Key { cause, .. } => cause.hint().to_owned(),
            SecretError::Store { cause, .. } => cause.hint().unwrap_or("repeat it").to_owned(),
        }
    }
}

/// Why a module is not given a secret that it refers to. The text says what to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// Nobody has set it.
    #[error("secret {name} is not set: dinrail secret set {name} --for {module}")]
    NotSet {
        /// Which.
        name: String,
        /// For whom.
        module: String,
    },
    /// It is there, for others.
    #[error("secret {name} is not allowed to {module}: dinrail secret allow {name} {module}")]
    NotAllowed {
        /// Which.
        name: String,
        /// For whom.
        module: String,
    },
    /// It was sealed under another key of this device, or is damaged.
    #[error(
        "secret {name} cannot be read with this device's key, its value is to be given again: dinrail secret set {name}"
    )]
    NotReadable {
        /// Which.
        name: String,
    },
}
