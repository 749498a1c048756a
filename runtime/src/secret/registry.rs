//! All secrets: who set them, who may have them, and their values under the device's key.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use zeroize::Zeroizing;

use super::error::{SecretError, Unresolved};
use super::figures::Figures;
use super::store::{self, Row};
use crate::clock;
use crate::database::{Database, File, StoreError, lock};
use crate::identity::MasterKey;
use crate::name::check_id;

/// Longest value. Source: longest text in a twin.
pub const MAX_VALUE_BYTES: usize = 4096;
/// Secrets of one device.
pub(super) const MAX_SECRETS: usize = 1000;
/// Stands for every module.
const EVERY: &str = "*";

/// Handle of all secrets; clones are the same.
#[derive(Clone)]
pub struct Secrets(Arc<Inner>);

struct Inner {
    database: Database,
    key: MasterKey,
    /// As committed.
    known: RwLock<BTreeMap<String, Arc<Row>>>,
    /// Counts changes.
    changes: AtomicU64,
    figures: Figures,
    /// Held by whoever changes something.
    turn: Mutex<()>,
}

/// Which modules may have a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Every module that names it.
    Every,
    /// These.
    Modules(BTreeSet<String>),
}

impl Allowed {
    /// Whether a module is among them.
    pub fn has(&self, module: &str) -> bool {
        match self {
            Allowed::Every => true,
            Allowed::Modules(modules) => modules.contains(module),
        }
    }

    /// Their names, or `*`.
    pub fn names(&self) -> Vec<String> {
        match self {
            Allowed::Every => vec![EVERY.to_owned()],
            Allowed::Modules(modules) => modules.iter().cloned().collect(),
        }
    }

    fn read(names: impl IntoIterator<Item = String>) -> Allowed {
        let names: BTreeSet<String> = names.into_iter().collect();
        if names.contains(EVERY) { Allowed::Every } else { Allowed::Modules(names) }
    }
}

/// Who is to be allowed a secret from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// Names of modules, or `*`.
    pub modules: Vec<String>,
    /// These and nobody else; otherwise in addition.
    pub only: bool,
}

/// What is known of a secret, but for its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Counts its values, from 1.
    pub version: u64,
    /// When it was given its value, in microseconds since 1970-01-01 UTC.
    pub set_us: i64,
    /// By whom.
    pub set_by: String,
    /// Who may have it.
    pub allowed: Allowed,
    /// The device's key opens it.
    pub is_readable: bool,
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// As it is now.
    pub now: SecretInfo,
    /// It has another value.
    pub has_new_value: bool,
    /// Who could have it before; `None`: there was none of this name.
    pub allowed_before: Option<Allowed>,
}

impl Secrets {
    /// Loads them. Those that the key does not open are kept, and wait for their value to be given again; the notes say so.
    pub fn open(database: &Database, key: &MasterKey) -> Result<(Secrets, Vec<String>), StoreError> {
        let rows = database.read(File::Main, store::load_all)?;
        let secrets = Secrets(Arc::new(Inner {
            database: database.clone(),
            key: key.clone(),
            known: RwLock::new(rows.into_iter().map(|row| (row.name.clone(), Arc::new(row))).collect()),
            changes: AtomicU64::new(0),
            figures: Figures::default(),
            turn: Mutex::default(),
        }));
        let unreadable: Vec<String> =
            secrets.list().into_iter().filter(|secret| !secret.is_readable).map(|secret| secret.name).collect();
        let note = format!(
            "secrets were sealed under another key than this device has now, and are to be set again: {}",
            unreadable.join(", ")
        );
        Ok((secrets, if unreadable.is_empty() { Vec::new() } else { vec![note] }))
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<SecretInfo> {
        let rows: Vec<Arc<Row>> = self.known().values().cloned().collect();
        rows.iter().map(|row| self.info(row)).collect()
    }

    /// How many there are. `[never blocks]`
    pub fn count(&self) -> usize {
        self.known().len()
    }

    /// Counters.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Result<SecretInfo, SecretError> {
        let row = self.known().get(name).cloned().ok_or_else(|| self.unknown(name))?;
        Ok(self.info(&row))
    }

    /// Counts changes: what was resolved under another number may be out of date. `[never blocks]`
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Acquire)
    }

    /// Gives a secret a value, or says who may have it, or both; what is not given stays. `[blocks: until it is committed]`
    pub fn set(
        &self,
        name: &str,
        value: Option<&Zeroizing<String>>,
        allow: &Allow,
        by: &str,
    ) -> Result<Outcome, SecretError> {
        check_id(name).map_err(|cause| SecretError::Name { name: name.to_owned(), cause })?;
        for module in allow.modules.iter().filter(|module| *module != EVERY) {
            check_id(module).map_err(|cause| SecretError::Module { module: module.clone(), cause })?;
        }
        match value.map(|value| value.len()) {
            Some(0) => return Err(SecretError::Empty { name: name.to_owned() }),
            Some(bytes) if bytes > MAX_VALUE_BYTES => {
                return Err(SecretError::TooLarge { name: name.to_owned(), bytes });
            }
            _ => {}
        }
        let _turn = lock(&self.0.turn);
        let before = self.known().get(name).cloned();
        let mut row = match (&before, value) {
            (Some(before), _) => Row::clone(before),
            (None, None) => return Err(self.unknown(name)),
            (None, Some(_)) if self.known().len() >= MAX_SECRETS => return Err(SecretError::TooMany),
            (None, Some(_)) => Row {
                name: name.to_owned(),
                version: 0,
                sealed: Vec::new(),
                set_us: 0,
                set_by: String::new(),
                allowed: "[]".to_owned(),
            },
        };
        if let Some(value) = value {
            row.version += 1;
            let sealed = self.0.key.seal(&context(name, row.version), value.as_bytes());
            row.sealed = sealed.map_err(|cause| SecretError::Key { name: name.to_owned(), cause })?;
            row.set_us = clock::wall_us();
            row.set_by = by.to_owned();
        }
        let allowed_before = before.as_ref().map(|row| row.allowed());
        let kept = if allow.only { Vec::new() } else { row.allowed().names() };
        let allowed = Allowed::read(kept.into_iter().chain(allow.modules.iter().cloned()));
        row.allowed = serde_json::to_string(&allowed.names()).unwrap_or_else(|_| "[]".to_owned());
        self.commit(name, Some(row.clone()))?;
        Ok(Outcome { now: self.info(&row), has_new_value: value.is_some(), allowed_before })
    }

    /// Removes a secret. `[blocks: until it is committed]`
    pub fn remove(&self, name: &str) -> Result<SecretInfo, SecretError> {
        let _turn = lock(&self.0.turn);
        let before = self.get(name)?;
        self.commit(name, None)?;
        Ok(before)
    }

    /// The value for a module, with the version and the time that tell it from others of its name.
    pub(super) fn value_for(&self, name: &str, module: &str) -> Result<(Zeroizing<String>, u64, i64), Unresolved> {
        self.look_up(name, module).inspect_err(|why| self.0.figures.count_refused(why))
    }

    fn look_up(&self, name: &str, module: &str) -> Result<(Zeroizing<String>, u64, i64), Unresolved> {
        let unreadable = || Unresolved::NotReadable { name: name.to_owned() };
        let row = self.known().get(name).cloned();
        let row = row.ok_or_else(|| Unresolved::NotSet { name: name.to_owned(), module: module.to_owned() })?;
        if !row.allowed().has(module) {
            return Err(Unresolved::NotAllowed { name: name.to_owned(), module: module.to_owned() });
        }
        let opened = self.0.key.open(&context(name, row.version), &row.sealed).map_err(|_| unreadable())?;
        let value = std::str::from_utf8(&opened).map_err(|_| unreadable())?.to_owned();
        Ok((Zeroizing::new(value), row.version, row.set_us))
    }

    /// Version and time of the value that a secret has now.
    pub(super) fn stamp(&self, name: &str) -> Option<(u64, i64)> {
        self.known().get(name).map(|row| (row.version, row.set_us))
    }

    /// Every value that can be read, for whoever has to keep them out of something.
    pub fn each_value(&self, mut see: impl FnMut(&str)) {
        let rows: Vec<Arc<Row>> = self.known().values().cloned().collect();
        for row in rows {
            if let Ok(value) = self.0.key.open(&context(&row.name, row.version), &row.sealed)
                && let Ok(value) = std::str::from_utf8(&value)
            {
                see(value);
            }
        }
    }

    fn commit(&self, name: &str, row: Option<Row>) -> Result<(), SecretError> {
        let (stored, gone) = (row.clone(), name.to_owned());
        let job = move |tx: &rusqlite::Connection| match &stored {
            Some(row) => store::upsert(tx, row),
            None => store::delete(tx, &gone),
        };
        self.0.database.call(File::Main, job).map_err(|cause| SecretError::Store { name: name.to_owned(), cause })?;
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        match (known.entry(name.to_owned()), row) {
            (Entry::Occupied(mut entry), Some(row)) => drop(entry.insert(Arc::new(row))),
            (Entry::Vacant(entry), Some(row)) => drop(entry.insert(Arc::new(row))),
            (Entry::Occupied(entry), None) => drop(entry.remove()),
            (Entry::Vacant(_), None) => {}
        }
        drop(known);
        self.0.changes.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Row>>> {
        self.0.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn info(&self, row: &Row) -> SecretInfo {
        SecretInfo {
            name: row.name.clone(),
            version: row.version,
            set_us: row.set_us,
            set_by: row.set_by.clone(),
            allowed: row.allowed(),
            is_readable: self.0.key.open(&context(&row.name, row.version), &row.sealed).is_ok(),
        }
    }

    fn unknown(&self, name: &str) -> SecretError {
        let known = self.known();
        let near = crate::spelling::nearest(name, known.keys().map(String::as_str)).map(str::to_owned);
        SecretError::NotFound { name: name.to_owned(), near }
    }
}

impl Row {
    fn allowed(&self) -> Allowed {
        Allowed::read(serde_json::from_str::<Vec<String>>(&self.allowed).unwrap_or_default())
    }
}

/// What a value is sealed for. No name has a space, so that no other thing's context is this one.
fn context(name: &str, version: u64) -> String {
    format!("dinrail secret {name} {version}")
}
