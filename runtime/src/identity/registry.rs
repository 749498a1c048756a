//! The registry: all identities in memory, each of them in the database before anybody gets it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::activity::Presence;
use super::credential::MasterKey;
use super::keys::KeyPair;
use super::policy::{Policy, Role};
use super::{IdentityError, IdentityRecord, device, key_file, store};
use crate::clock;
use crate::database::tables::setting;
use crate::database::{Database, File, StoreError, lock};
use crate::name::Identity;

/// Who manages an identity that an instance needed.
pub const MANAGED_BY: &str = "dinrail";
/// From 0001-01-01, from which .NET counts, to 1970-01-01, in 100 ns.
const TICKS_BEFORE_1970: i64 = 621_355_968_000_000_000;
/// The print by which the device's key is known again. No id has a space, so that no identity's key is this.
const PRINT: &str = "dinrail print 1";

type OnStatus = Box<dyn Fn(&Identity) + Send + Sync>;

/// Handle of the registry; clones are the same.
#[derive(Clone)]
pub struct Identities(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) database: Database,
    pub(super) device_id: String,
    pub(super) master: MasterKey,
    pub(super) records: RwLock<BTreeMap<Identity, Arc<IdentityRecord>>>,
    pub(super) policies: RwLock<[Arc<Policy>; 3]>,
    /// Of those that were ever connected, by number.
    pub(super) presence: RwLock<HashMap<i64, Presence>>,
    pub(super) on_status: OnceLock<OnStatus>,
    /// Last generation given; held while the registry is changed, so that changes follow one another.
    pub(super) changing: Mutex<i64>,
}

/// The device's key for the registry in `database`: made at the first start, else that of the folder `keys` in `state`.
///
/// With `renew` the present one, if there is one, is set aside: all derived keys are others then, given ones are lost. Gives
/// notes for a person.
///
/// # Errors
/// A key that is damaged, that others can read, that is missing although keys were derived from it, or that is another one.
pub fn device_key(database: &Database, state: &Path, renew: bool) -> Result<(MasterKey, Vec<String>), IdentityError> {
    let known = database.read(File::Main, |conn| setting::get(conn, setting::key::DEVICE_KEY_PRINT))?;
    let mut notes = Vec::new();
    if renew {
        notes = key_file::set_aside(state)?;
        if known.is_some() {
            database.call(File::Main, |tx| {
                setting::delete(tx, setting::key::DEVICE_KEY_PRINT)?;
                store::forget_given_keys(tx)
            })?;
        }
    }
    let known = known.filter(|_| !renew);
    let master = key_file::open(state, known.is_none())?;
    let print: String = master.derive(PRINT).bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    match known {
        Some(known) if known != print => {
            return Err(key_file::KeyFileError::Other { file: key_file::path(state) }.into());
        }
        Some(_) => {}
        None => database.call(File::Main, move |tx| setting::set(tx, setting::key::DEVICE_KEY_PRINT, &print))?,
    }
    Ok((master, notes))
}

impl Identities {
    /// Loads the registry; at the first start it fixes the device id: `requested`, else `host_name`. Gives notes for a
    /// person.
    ///
    /// # Errors
    /// A bad id, or another `requested` than the one that was fixed.
    pub fn open(
        database: &Database,
        master: MasterKey,
        requested: Option<&str>,
        host_name: &str,
    ) -> Result<(Identities, Vec<String>), IdentityError> {
        let mut notes = Vec::new();
        let device_id = match database.read(File::Main, store::self_device)? {
            Some((_, id)) => {
                device::check_later(&id, requested)?;
                id
            }
            None => {
                let (id, first_notes) = device::first_id(requested, host_name)?;
                notes = first_notes;
                let name = id.clone();
                database.call(File::Main, move |tx| store::insert_self_device(tx, &name))?;
                id
            }
        };
        let mut records = BTreeMap::new();
        let mut presence = HashMap::new();
        let mut last_generation = 0;
        let mut before: Option<Arc<IdentityRecord>> = None;
        for row in database.read(File::Main, store::load_all)? {
            last_generation = last_generation.max(row.generation_id.parse().unwrap_or(0));
            let record = Arc::new(IdentityRecord::from_row(&row, before.as_deref())?);
            if let Some(stored) = Presence::from_row(&row) {
                presence.insert(record.key, stored);
            }
            records.insert(record.identity.clone(), record.clone());
            before = Some(record);
        }
        let mut policies = Role::ALL.map(Policy::new);
        for (name, keys) in database.read(File::Main, store::load_policies)? {
            if let Some(policy) = policies.iter_mut().find(|policy| policy.name() == name) {
                policy.keys = KeyPair::from_row(&keys);
            }
        }
        let identities = Identities(Arc::new(Inner {
            database: database.clone(),
            device_id,
            master,
            records: RwLock::new(records),
            policies: RwLock::new(policies.map(Arc::new)),
            presence: RwLock::new(presence),
            on_status: OnceLock::new(),
            changing: Mutex::new(last_generation),
        }));
        identities.ensure(None)?;
        Ok((identities, notes))
    }

    /// Sets who hears that an identity was enabled or disabled, once that is stored. Only the first call counts.
    pub fn hear(&self, listener: impl Fn(&Identity) + Send + Sync + 'static) {
        let _ = self.0.on_status.set(Box::new(listener));
    }

    /// The id of this device.
    pub fn device_id(&self) -> &str {
        &self.0.device_id
    }

    /// The device's own identity.
    pub fn device(&self) -> Result<Identity, IdentityError> {
        Ok(Identity::device(&self.0.device_id)?)
    }

    /// The device's key: to seal what only this device may open.
    pub fn master(&self) -> &MasterKey {
        &self.0.master
    }

    /// The identity of a module of this device, or of the device itself (`None`), made where it is not there yet. Waits
    /// for the disk then, and only then: not for what others are changing.
    pub fn ensure(&self, module: Option<&str>) -> Result<Arc<IdentityRecord>, IdentityError> {
        let mut records = self.ensure_each(&[module])?;
        records.pop().ok_or(IdentityError::Store(StoreError::Closed))
    }

    /// [`Identities::ensure`] for many modules in one commit, in their order.
    pub fn ensure_many(&self, modules: &[&str]) -> Result<Vec<Arc<IdentityRecord>>, IdentityError> {
        self.ensure_each(&modules.iter().copied().map(Some).collect::<Vec<_>>())
    }

    fn ensure_each(&self, modules: &[Option<&str>]) -> Result<Vec<Arc<IdentityRecord>>, IdentityError> {
        let wanted = modules.iter().map(|module| self.identity(*module)).collect::<Result<Vec<_>, _>>()?;
        let known: Vec<_> = wanted.iter().filter_map(|identity| self.get(identity)).collect();
        if known.len() == wanted.len() {
            return Ok(known);
        }
        let mut changing = lock(&self.0.changing);
        let mut missing: Vec<&Identity> = wanted.iter().filter(|identity| self.get(identity).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let rows = missing.into_iter().map(|identity| self.new_row(identity, MANAGED_BY, &mut changing)).collect();
            self.insert(rows, &changing)?;
        }
        Ok(wanted.iter().filter_map(|identity| self.get(identity)).collect())
    }

    /// A new identity, with a generation of its own.
    pub(super) fn new_row(
        &self,
        identity: &Identity,
        managed_by: &str,
        changing: &mut MutexGuard<'_, i64>,
    ) -> store::IdentityRow {
        let now = clock::wall_us();
        **changing = (now * 10 + TICKS_BEFORE_1970).max(**changing + 1);
        store::IdentityRow {
            id: 0,
            device: identity.device_id().to_owned(),
            module: identity.module_id().map(str::to_owned),
            generation_id: changing.to_string(),
            status: store::ENABLED,
            status_reason: String::new(),
            status_us: None,
            managed_by: managed_by.to_owned(),
            created_us: now,
            revision: 1,
            keys: store::KeyRow::default(),
            connection_us: None,
            activity_us: None,
        }
    }

    /// Stores new identities in one commit, and has them here then.
    pub(super) fn insert(
        &self,
        mut rows: Vec<store::IdentityRow>,
        _changing: &MutexGuard<'_, i64>,
    ) -> Result<(), IdentityError> {
        let rows = self.0.database.call(File::Main, move |tx| {
            for row in &mut rows {
                row.id = store::insert(tx, row)?;
            }
            Ok(rows.clone())
        })?;
        let mut records = self.0.records.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let device = Identity::device(&row.device)?;
            let like = records.range(&device..).next().map(|(_, like)| like.clone());
            let record = IdentityRecord::from_row(&row, like.as_deref())?;
            records.insert(record.identity.clone(), Arc::new(record));
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
    pub fn get(&self, identity: &Identity) -> Option<Arc<IdentityRecord>> {
        self.0.records.read().unwrap_or_else(PoisonError::into_inner).get(identity).cloned()
    }

    /// The record of an identity.
    ///
    /// # Errors
    /// [`IdentityError::NotFound`].
    pub fn require(&self, identity: &Identity) -> Result<Arc<IdentityRecord>, IdentityError> {
        self.get(identity).ok_or_else(|| IdentityError::NotFound(identity.clone()))
    }

    /// All identities, sorted: each device is followed by its modules.
    pub fn list(&self) -> Vec<Arc<IdentityRecord>> {
        self.0.records.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The identities of a device, sorted: its own first, if it has one.
    pub fn of_device(&self, device: &Identity) -> Vec<Arc<IdentityRecord>> {
        let device = device.of_device();
        let records = self.0.records.read().unwrap_or_else(PoisonError::into_inner);
        let is_its = |(identity, _): &(&Identity, _)| identity.device_id() == device.device_id();
        records.range(&device..).take_while(is_its).map(|(_, record)| record.clone()).collect()
    }
}
