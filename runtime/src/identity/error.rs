//! Why an identity cannot be had or changed.

use super::credential::KeyError;
use super::key_file::KeyFileError;
use crate::database::StoreError;
use crate::name::{Identity, NameError};

/// Why an identity cannot be had or changed. Nothing of the change was made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Not an id.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The device id was fixed at the first start.
    #[error("this state directory belongs to the device '{fixed}', not to '{asked}'")]
    OtherDevice {
        /// The id it has.
        fixed: String,
        /// The id asked for.
        asked: String,
    },
    /// The device's own identity stays.
    #[error("the device's own identity cannot be {what}")]
    OwnDevice {
        /// What was asked for.
        what: &'static str,
    },
    /// The runtime's own identities stay too.
    #[error("{identity} is the runtime itself and cannot be {what}")]
    Runtime {
        /// Which.
        identity: Identity,
        /// What was asked for.
        what: &'static str,
    },
    /// Not in the registry.
    #[error("there is no identity {0}")]
    NotFound(Identity),
    /// A module needs its device.
    #[error("there is no device '{device}', so that it cannot have the module {module}")]
    NoDevice {
        /// The device that is missing.
        device: String,
        /// The module that was to be added.
        module: String,
    },
    /// In the registry already.
    #[error("there is an identity {0} already")]
    Exists(Identity),
    /// `If-Match` names another state of it.
    #[error("the identity {identity} has changed: its etag is \"{etag}\", not {asked}")]
    EtagMismatch {
        /// Which.
        identity: Identity,
        /// Its present tag.
        etag: String,
        /// The tag that was asked for.
        asked: String,
    },
    /// A key that was given cannot be used.
    #[error("the {slot} key of {identity}: {cause}")]
    Key {
        /// Whose.
        identity: String,
        /// Which.
        slot: &'static str,
        /// Why.
        cause: KeyError,
    },
    /// The two keys are one.
    #[error("both keys of {0} are the same, so that neither could be replaced without an outage")]
    SameKeys(Identity),
    /// More than the registry holds.
    #[error("the registry holds {limit} identities at most")]
    Full {
        /// So many.
        limit: usize,
    },
    /// The device's key cannot be had.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// Not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IdentityError {
    /// What a person does next; `None` where there is nothing to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            IdentityError::Name(_) => {
                "an id is such as Hannover01; an identity /devices/Hannover01/modules/filter".to_owned()
            }
            IdentityError::OtherDevice { fixed, .. } => {
                format!(
                    "start with --device-id {fixed} or without the option; another device needs another --state directory"
                )
            }
            IdentityError::OwnDevice { .. } => {
                "act on its modules, or stop the runtime; the whole device goes with its state directory".to_owned()
            }
            IdentityError::Runtime { .. } => "it comes and goes with the runtime: nothing is to be done".to_owned(),
            IdentityError::NotFound(_) => "dinrail identity list; a new one: dinrail identity add ID".to_owned(),
            IdentityError::NoDevice { device, .. } => format!("dinrail identity add /devices/{device}"),
            IdentityError::Exists(identity) => {
                format!("dinrail identity show {identity}; to change it, send it with its etag, or with \"*\"")
            }
            IdentityError::EtagMismatch { .. } => {
                "read the identity again, then change it with its new etag, or with \"*\"".to_owned()
            }
            IdentityError::Key { cause, .. } => cause.hint().to_owned(),
            IdentityError::SameKeys(_) => "give two different keys, or none to have them derived".to_owned(),
            IdentityError::Full { .. } => "remove identities that are not used: dinrail identity list".to_owned(),
            IdentityError::KeyFile(error) => error.hint(),
            IdentityError::Store(error) => return error.hint().map(str::to_owned),
        })
    }
}
