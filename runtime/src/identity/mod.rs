//! Identities: who acts. The device has one, each of its modules has one, and nobody acts without.
//!
//! An identity is made at the first need and stays until it is removed by name, with or without an instance. Guarantee:
//! what [`Identities`] hands out is in the database. The generation tells two identities of one name apart that were
//! made one after the other.

mod device;
mod registry;
mod store;

pub use device::is_generic;
pub use registry::Identities;

use std::sync::Arc;

use crate::database::StoreError;
use crate::name::{Identity, NameError};

/// An identity of the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRecord {
    /// Its number in the database: never used again for another one.
    pub key: i64,
    /// Who.
    pub identity: Identity,
    /// Differs after the identity was removed and made again: digits.
    pub generation_id: Arc<str>,
    /// Disabled ones are refused.
    pub is_enabled: bool,
    /// Who made it: `dinrail`, or empty.
    pub managed_by: Arc<str>,
    /// Wall time.
    pub created_us: i64,
}

impl IdentityRecord {
    fn from_row(row: store::IdentityRow) -> Result<IdentityRecord, NameError> {
        let identity = match &row.module {
            Some(module) => Identity::module(&row.device, module)?,
            None => Identity::device(&row.device)?,
        };
        Ok(IdentityRecord {
            key: row.id,
            identity,
            generation_id: row.generation_id.into(),
            is_enabled: row.status == "enabled",
            managed_by: row.managed_by.into(),
            created_us: row.created_us,
        })
    }
}

/// Why an identity cannot be had.
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
    #[error("the device's own identity cannot be removed")]
    OwnDevice,
    /// Not stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IdentityError {
    /// What a person does next; `None` where there is nothing to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            IdentityError::Name(_) => Some("--device-id takes an id such as Hannover01".to_owned()),
            IdentityError::OtherDevice { fixed, .. } => Some(format!(
                "start with --device-id {fixed} or without the option; another device needs another --state directory"
            )),
            IdentityError::OwnDevice => {
                Some("remove its modules, or delete the state directory while stopped".to_owned())
            }
            IdentityError::Store(error) => error.hint().map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests;
