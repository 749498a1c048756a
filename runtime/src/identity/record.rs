//! One identity, as the registry keeps it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::{KeyPair, KeySource};
use super::store::{DISABLED, ENABLED, IdentityRow, KeyRow};
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
    /// Why it has its status, in the words of who set it.
    pub status_reason: Option<Arc<str>>,
    /// When its status was set, wall time; `None`: when it was made.
    pub status_us: Option<i64>,
    /// Who made it: `dinrail`, or empty.
    pub managed_by: Arc<str>,
    /// Wall time.
    pub created_us: i64,
    /// Counts its changes.
    pub revision: i64,
    pub(super) keys: KeyPair,
}

impl IdentityRecord {
    /// Another one after each change, and after it was removed and made again.
    pub fn etag(&self) -> String {
        STANDARD.encode(format!("{}-{}", self.generation_id, self.revision))
    }

    /// What its keys are derived for. Source: IoT Edge, `{moduleId}:{generationId}:primary`.
    pub(super) fn key_owner(&self) -> String {
        let id = self.identity.module_id().unwrap_or(self.identity.device_id());
        format!("{id}:{}", self.generation_id)
    }

    /// With texts that many identities have shared with `like`, which is of the same device.
    pub(super) fn from_row(row: &IdentityRow, like: Option<&IdentityRecord>) -> Result<IdentityRecord, NameError> {
        let like = like.filter(|like| like.identity.device_id() == row.device);
        let identity = match (&row.module, like) {
            (Some(module), Some(like)) => like.identity.with_module(module)?,
            (Some(module), None) => Identity::module(&row.device, module)?,
            (None, _) => Identity::device(&row.device)?,
        };
        let managed_by = match like {
            Some(like) if *like.managed_by == *row.managed_by => like.managed_by.clone(),
            _ => row.managed_by.as_str().into(),
        };
        Ok(IdentityRecord {
            key: row.id,
            identity,
            generation_id: row.generation_id.as_str().into(),
            is_enabled: row.status == ENABLED,
            status_reason: Some(row.status_reason.as_str()).filter(|reason| !reason.is_empty()).map(Arc::from),
            status_us: row.status_us,
            managed_by,
            created_us: row.created_us,
            revision: row.revision,
            keys: KeyPair::from_row(&row.keys),
        })
    }

    pub(super) fn row(&self) -> IdentityRow {
        IdentityRow {
            id: self.key,
            device: self.identity.device_id().to_owned(),
            module: self.identity.module_id().map(str::to_owned),
            generation_id: self.generation_id.to_string(),
            status: if self.is_enabled { ENABLED } else { DISABLED },
            status_reason: self.status_reason.as_deref().unwrap_or_default().to_owned(),
            status_us: self.status_us,
            managed_by: self.managed_by.to_string(),
            created_us: self.created_us,
            revision: self.revision,
            keys: self.keys.row(),
            connection_us: None,
            activity_us: None,
        }
    }
}

impl KeyPair {
    pub(super) fn from_row(row: &KeyRow) -> KeyPair {
        let mut pair = KeyPair { counter: row.counter, ..KeyPair::default() };
        let places = [
            (&mut pair.primary, &row.primary_word, &row.primary_sealed),
            (&mut pair.secondary, &row.secondary_word, &row.secondary_sealed),
        ];
        for (place, word, sealed) in places {
            match (word, sealed) {
                (_, Some(sealed)) => *place = KeySource::Given(sealed.as_slice().into()),
                (Some(word), None) => *place = KeySource::Derived(word.as_str().into()),
                (None, None) => {}
            }
        }
        pair
    }

    pub(super) fn row(&self) -> KeyRow {
        let first = KeyPair::default();
        let word = |source: &KeySource, first: &KeySource| match source {
            KeySource::Derived(word) if source != first => Some(word.to_string()),
            _ => None,
        };
        let sealed = |source: &KeySource| match source {
            KeySource::Given(sealed) => Some(sealed.to_vec()),
            KeySource::Derived(_) => None,
        };
        KeyRow {
            primary_word: word(&self.primary, &first.primary),
            secondary_word: word(&self.secondary, &first.secondary),
            primary_sealed: sealed(&self.primary),
            secondary_sealed: sealed(&self.secondary),
            counter: self.counter,
        }
    }
}
