//! Changes of the registry: added, updated, rotated, removed. Each is stored when it returns, and all wait for the disk.

use std::sync::{Arc, PoisonError};

use super::credential::SymmetricKey;
use super::keys::KeySlot;
use super::policy::{Policy, Role};
use super::registry::Identities;
use super::{IdentityError, IdentityRecord, store};
use crate::clock;
use crate::database::{File, lock};
use crate::name::Identity;

/// Most identities of a registry: what the memory for it is planned for.
pub const MAX_IDENTITIES: usize = 50_000;

/// An identity to be added.
#[derive(Debug, Clone)]
pub struct NewIdentity {
    /// Who.
    pub identity: Identity,
    /// What it is to be, other than enabled and with derived keys.
    pub change: IdentityChange,
}

/// What is to become of an identity; `None` leaves a thing as it is.
#[derive(Debug, Clone, Default)]
pub struct IdentityChange {
    /// Whether it may act.
    pub is_enabled: Option<bool>,
    /// Why; empty: no reason.
    pub status_reason: Option<String>,
    /// Who manages it.
    pub managed_by: Option<String>,
    /// Another primary key.
    pub primary: Option<SymmetricKey>,
    /// Another secondary key.
    pub secondary: Option<SymmetricKey>,
}

/// Which of the keys is to be replaced, or what else is to be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// A newly derived key in this place; the other one stays.
    Renew(KeySlot),
    /// Each key in the place of the other.
    Swap,
}

impl Identities {
    /// Adds identities in one commit: all of them, or none.
    ///
    /// # Errors
    /// The first that cannot be added, with its place in `new`.
    pub fn add(&self, new: &[NewIdentity]) -> Result<Vec<Arc<IdentityRecord>>, (usize, IdentityError)> {
        let mut changing = lock(&self.0.changing);
        let known = self.0.records.read().unwrap_or_else(PoisonError::into_inner).len();
        if known + new.len() > MAX_IDENTITIES {
            return Err((0, IdentityError::Full { limit: MAX_IDENTITIES }));
        }
        let mut rows: Vec<store::IdentityRow> = Vec::with_capacity(new.len());
        let mut seen = std::collections::HashSet::new();
        for (at, one) in new.iter().enumerate() {
            let identity = &one.identity;
            if self.get(identity).is_some() || !seen.insert(identity) {
                return Err((at, IdentityError::Exists(identity.clone())));
            }
            let device = identity.of_device();
            if let Some(module) = identity.module_id()
                && self.get(&device).is_none()
                && !seen.contains(&device)
            {
                let (device, module) = (identity.device_id().to_owned(), module.to_owned());
                return Err((at, IdentityError::NoDevice { device, module }));
            }
            let row = self.new_row(identity, "", &mut changing);
            let fresh = IdentityRecord::from_row(&row, None).map_err(|error| (at, error.into()))?;
            let changed = self.changed(&fresh, &one.change).map_err(|error| (at, error))?;
            rows.push(store::IdentityRow { revision: 1, ..changed.row() });
        }
        self.insert(rows, &changing).map_err(|error| (0, error))?;
        Ok(new.iter().filter_map(|one| self.get(&one.identity)).collect())
    }

    /// Changes an identity. `if_match`: its etag, with or without quotes, or `*`; `None` is whatever it is.
    pub fn update(
        &self,
        identity: &Identity,
        change: &IdentityChange,
        if_match: Option<&str>,
    ) -> Result<Arc<IdentityRecord>, IdentityError> {
        let _changing = lock(&self.0.changing);
        let record = self.require(identity)?;
        check_etag(&record, if_match)?;
        if change.is_enabled == Some(false) && self.is_own_device(identity) {
            return Err(IdentityError::OwnDevice { what: "disabled" });
        }
        if change.is_enabled == Some(false) && identity.is_runtime_of(&self.0.device_id) {
            return Err(IdentityError::Runtime { identity: identity.clone(), what: "disabled" });
        }
        let changed = self.put(self.changed(&record, change)?)?;
        if (changed.is_enabled, &changed.status_reason) != (record.is_enabled, &record.status_reason)
            && let Some(listener) = self.0.on_status.get()
        {
            listener(identity);
        }
        Ok(changed)
    }

    /// Replaces one key of an identity, or swaps the two.
    pub fn rotate(
        &self,
        identity: &Identity,
        rotation: Rotation,
        if_match: Option<&str>,
    ) -> Result<Arc<IdentityRecord>, IdentityError> {
        let _changing = lock(&self.0.changing);
        let record = self.require(identity)?;
        check_etag(&record, if_match)?;
        let mut rotated = IdentityRecord::clone(&record);
        rotated.revision += 1;
        rotated.keys.turn(rotation);
        self.put(rotated)
    }

    /// Replaces one key of a shared access policy, or swaps the two.
    pub fn rotate_policy(&self, role: Role, rotation: Rotation) -> Result<Arc<Policy>, IdentityError> {
        let _changing = lock(&self.0.changing);
        let mut policy = Policy::clone(&self.policy(role));
        policy.keys.turn(rotation);
        let (name, keys) = (policy.name(), policy.keys.row());
        self.0.database.call(File::Main, move |tx| store::put_policy(tx, name, &keys))?;
        let policy = Arc::new(policy);
        self.0.policies.write().unwrap_or_else(PoisonError::into_inner)[role as usize] = policy.clone();
        Ok(policy)
    }

    /// Removes an identity for good, its twin with it; of another device all its modules too. Made again, it has another
    /// generation and other keys. Gives what was removed: empty where there was none.
    ///
    /// [`crate::twin::Twins::forget`] drops what is in memory of their twins.
    pub fn remove(&self, identity: &Identity, if_match: Option<&str>) -> Result<Vec<Identity>, IdentityError> {
        let _changing = lock(&self.0.changing);
        if self.is_own_device(identity) {
            return Err(IdentityError::OwnDevice { what: "removed" });
        }
        if identity.is_runtime_of(&self.0.device_id) {
            return Err(IdentityError::Runtime { identity: identity.clone(), what: "removed" });
        }
        let Some(record) = self.get(identity) else { return Ok(Vec::new()) };
        check_etag(&record, if_match)?;
        let going = match identity.module_id() {
            Some(_) => vec![record.clone()],
            None => self.of_device(identity),
        };
        let is_device = identity.module_id().is_none();
        let device = identity.device_id().to_owned();
        // First here, so that nobody gets what is about to go: who needs it waits for its turn and makes another.
        let mut records = self.0.records.write().unwrap_or_else(PoisonError::into_inner);
        going.iter().for_each(|gone| drop(records.remove(&gone.identity)));
        drop(records);
        let stored = self.0.database.call(File::Main, move |tx| match is_device {
            true => store::delete_device(tx, &device),
            false => store::delete(tx, record.key),
        });
        if let Err(error) = stored {
            let mut records = self.0.records.write().unwrap_or_else(PoisonError::into_inner);
            records.extend(going.into_iter().map(|kept| (kept.identity.clone(), kept)));
            return Err(error.into());
        }
        let mut presence = self.0.presence.write().unwrap_or_else(PoisonError::into_inner);
        for gone in &going {
            presence.remove(&gone.key);
        }
        drop(presence);
        Ok(going.iter().map(|gone| gone.identity.clone()).collect())
    }

    /// Whether it is the identity of this device itself.
    pub fn is_own_device(&self, identity: &Identity) -> bool {
        identity.module_id().is_none() && identity.device_id() == self.0.device_id
    }

    /// What `record` is with a change, not stored.
    fn changed(&self, record: &IdentityRecord, change: &IdentityChange) -> Result<IdentityRecord, IdentityError> {
        let mut changed = record.clone();
        changed.revision += 1;
        if let Some(is_enabled) = change.is_enabled {
            if is_enabled != record.is_enabled {
                changed.status_us = Some(clock::wall_us());
                // The reason of the other status is none of this one.
                changed.status_reason = None;
            }
            changed.is_enabled = is_enabled;
        }
        if let Some(reason) = &change.status_reason {
            changed.status_reason = Some(reason.as_str()).filter(|reason| !reason.is_empty()).map(Arc::from);
        }
        if let Some(managed_by) = &change.managed_by {
            changed.managed_by = managed_by.as_str().into();
        }
        self.give_keys(&mut changed, change)?;
        Ok(changed)
    }

    /// A key that is there already stays what it is, in whichever place it is wanted: clients send back what they have read.
    fn give_keys(&self, record: &mut IdentityRecord, change: &IdentityChange) -> Result<(), IdentityError> {
        let owner = record.key_owner();
        let (before, master) = (record.keys.clone(), &self.0.master);
        let is =
            |slot, key: &SymmetricKey| before.key(slot, master, &owner).is_ok_and(|known| known.bytes() == key.bytes());
        for (slot, given) in [(KeySlot::Primary, &change.primary), (KeySlot::Secondary, &change.secondary)] {
            let Some(given) = given else { continue };
            if is(slot, given) {
                continue;
            }
            if is(slot.other(), given) {
                record.keys.put(slot, before.source(slot.other()).clone());
                continue;
            }
            record.keys.give(slot, given, master, &owner).map_err(|cause| IdentityError::Key {
                identity: record.identity.to_string(),
                slot: slot.name(),
                cause,
            })?;
        }
        let key = |slot| record.keys.key(slot, master, &owner).ok();
        if let (Some(primary), Some(secondary)) = (key(KeySlot::Primary), key(KeySlot::Secondary))
            && primary.bytes() == secondary.bytes()
        {
            return Err(IdentityError::SameKeys(record.identity.clone()));
        }
        Ok(())
    }

    fn put(&self, record: IdentityRecord) -> Result<Arc<IdentityRecord>, IdentityError> {
        let row = record.row();
        self.0.database.call(File::Main, move |tx| store::update(tx, &row))?;
        let record = Arc::new(record);
        let mut records = self.0.records.write().unwrap_or_else(PoisonError::into_inner);
        records.insert(record.identity.clone(), record.clone());
        Ok(record)
    }
}

fn check_etag(record: &IdentityRecord, if_match: Option<&str>) -> Result<(), IdentityError> {
    let Some(asked) = if_match else { return Ok(()) };
    let etag = record.etag();
    if crate::twin::etag_matches(asked, &etag) {
        return Ok(());
    }
    Err(IdentityError::EtagMismatch { identity: record.identity.clone(), etag, asked: asked.to_owned() })
}
