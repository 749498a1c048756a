//! The registry: all identities in memory, each of them in the database before anybody gets it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::{IdentityError, IdentityRecord, device, store};
use crate::clock;
use crate::database::{Database, File, StoreError, lock};
use crate::name::Identity;

/// Who manages an identity that an instance needed.
const MANAGED_BY: &str = "dinrail";
/// From 0001-01-01, from which .NET counts, to 1970-01-01, in 100 ns.
const TICKS_BEFORE_1970: i64 = 621_355_968_000_000_000;

/// Handle of the registry; clones are the same.
#[derive(Clone)]
pub struct Identities(Arc<Inner>);

struct Inner {
    database: Database,
    device: i64,
    device_id: String,
    records: RwLock<HashMap<Identity, IdentityRecord>>,
    /// Last generation given; held while an identity is added, so that two needs of the same one add it once.
    last_generation: Mutex<i64>,
}

impl Identities {
    /// Loads the registry; at the first start it fixes the device id: `requested`, else `host_name`. Gives notes for a
    /// person.
    ///
    /// # Errors
    /// A bad id, or another `requested` than the one that was fixed.
    pub fn open(
        database: &Database,
        requested: Option<&str>,
        host_name: &str,
    ) -> Result<(Identities, Vec<String>), IdentityError> {
        let mut notes = Vec::new();
        let (device, device_id) = match database.read(File::Main, store::self_device)? {
            Some((number, id)) => {
                device::check_later(&id, requested)?;
                (number, id)
            }
            None => {
                let (id, first_notes) = device::first_id(requested, host_name)?;
                notes = first_notes;
                let name = id.clone();
                (database.call(File::Main, move |tx| store::insert_self_device(tx, &name))?, id)
            }
        };
        let mut records = HashMap::new();
        let mut last_generation = 0;
        for row in database.read(File::Main, store::load_all)? {
            last_generation = last_generation.max(row.generation_id.parse().unwrap_or(0));
            let record = IdentityRecord::from_row(row)?;
            records.insert(record.identity.clone(), record);
        }
        let identities = Identities(Arc::new(Inner {
            database: database.clone(),
            device,
            device_id,
            records: RwLock::new(records),
            last_generation: Mutex::new(last_generation),
        }));
        identities.ensure(None)?;
        Ok((identities, notes))
    }

    /// The id of this device.
    pub fn device_id(&self) -> &str {
        &self.0.device_id
    }

    /// The device's own identity.
    pub fn device(&self) -> Result<Identity, IdentityError> {
        Ok(Identity::device(&self.0.device_id)?)
    }

    /// The identity of a module of this device, or of the device itself (`None`), made where it is not there yet. Waits
    /// for the disk then.
    pub fn ensure(&self, module: Option<&str>) -> Result<IdentityRecord, IdentityError> {
        let mut records = self.ensure_each(&[module])?;
        records.pop().ok_or(IdentityError::Store(StoreError::Closed))
    }

    /// [`Identities::ensure`] for many modules in one commit, in their order.
    pub fn ensure_many(&self, modules: &[&str]) -> Result<Vec<IdentityRecord>, IdentityError> {
        self.ensure_each(&modules.iter().copied().map(Some).collect::<Vec<_>>())
    }

    fn ensure_each(&self, modules: &[Option<&str>]) -> Result<Vec<IdentityRecord>, IdentityError> {
        let wanted = modules.iter().map(|module| self.identity(*module)).collect::<Result<Vec<_>, _>>()?;
        let mut last_generation = lock(&self.0.last_generation);
        let mut missing: Vec<&Identity> = wanted.iter().filter(|identity| self.get(identity).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let now = clock::wall_us();
            let mut generation = (now * 10 + TICKS_BEFORE_1970).max(*last_generation + 1);
            let mut rows = Vec::with_capacity(missing.len());
            for identity in missing {
                rows.push(store::IdentityRow {
                    id: 0,
                    device: self.0.device_id.clone(),
                    module: identity.module_id().map(str::to_owned),
                    generation_id: generation.to_string(),
                    status: "enabled".to_owned(),
                    managed_by: MANAGED_BY.to_owned(),
                    created_us: now,
                });
                generation += 1;
            }
            *last_generation = generation;
            self.add(rows)?;
        }
        Ok(wanted.iter().filter_map(|identity| self.get(identity)).collect())
    }

    fn add(&self, mut rows: Vec<store::IdentityRow>) -> Result<(), IdentityError> {
        let device = self.0.device;
        let rows = self.0.database.call(File::Main, move |tx| {
            for row in &mut rows {
                row.id = store::insert(tx, device, row)?;
            }
            Ok(rows.clone())
        })?;
        let mut records = self.0.records.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let record = IdentityRecord::from_row(row)?;
            records.insert(record.identity.clone(), record);
        }
        Ok(())
    }

    fn identity(&self, module: Option<&str>) -> Result<Identity, IdentityError> {
        Ok(match module {
            Some(module) => Identity::module(&self.0.device_id, module)?,
            None => Identity::device(&self.0.device_id)?,
        })
    }

    /// The record of an identity, if there is one. `[never blocks]`
    pub fn get(&self, identity: &Identity) -> Option<IdentityRecord> {
        self.0.records.read().unwrap_or_else(PoisonError::into_inner).get(identity).cloned()
    }

    /// All identities, sorted.
    pub fn list(&self) -> Vec<IdentityRecord> {
        let mut all: Vec<_> = self.0.records.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by(|a, b| a.identity.cmp(&b.identity));
        all
    }

    /// Removes an identity for good, its twin with it; made again, it has another generation. False where there was
    /// none.
    ///
    /// [`crate::twin::Twins::forget`] drops what is in memory of its twin.
    pub fn remove(&self, identity: &Identity) -> Result<bool, IdentityError> {
        let _adding = lock(&self.0.last_generation);
        let Some(record) = self.get(identity) else { return Ok(false) };
        if record.identity.module_id().is_none() && record.identity.device_id() == self.0.device_id {
            return Err(IdentityError::OwnDevice);
        }
        self.0.database.call(File::Main, move |tx| store::delete(tx, record.key))?;
        self.0.records.write().unwrap_or_else(PoisonError::into_inner).remove(identity);
        Ok(true)
    }
}
