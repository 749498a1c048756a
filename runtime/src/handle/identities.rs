//! The registry of identities, as clients see and change it.
//!
//! What is stored waits for the disk, so it is done on a thread that is there for it alone: other clients go on meanwhile.

use std::sync::Arc;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::identity::{Identities, MANAGED_BY};
pub use crate::identity::{
    IdentityChange, IdentityError, IdentityRecord, KeySlot, NewIdentity, Presence, Role, Rotation, SymmetricKey,
};
use crate::name::Identity;

/// Longest life of a token that is made here.
const MAX_TOKEN_SECS: u64 = 365 * 24 * 3600;

/// An identity at this moment.
pub struct IdentityState {
    /// As it is stored.
    pub record: Arc<IdentityRecord>,
    /// Whether it is there.
    pub presence: Presence,
    /// Primary and secondary key in base64, for whoever may have them.
    pub keys: Option<(Zeroizing<String>, Zeroizing<String>)>,
    /// It is this device itself.
    pub is_own_device: bool,
}

impl From<IdentityError> for Refusal {
    fn from(error: IdentityError) -> Refusal {
        let kind = match &error {
            IdentityError::NotFound(_) | IdentityError::NoDevice { .. } => RefusalKind::NotFound,
            IdentityError::Exists(_) => RefusalKind::Conflict,
            IdentityError::EtagMismatch { .. } => RefusalKind::PreconditionFailed,
            IdentityError::Full { .. } => RefusalKind::TooLarge,
            IdentityError::Store(_) | IdentityError::KeyFile(_) => RefusalKind::Failed,
            IdentityError::Name(_)
            | IdentityError::OtherDevice { .. }
            | IdentityError::OwnDevice { .. }
            | IdentityError::Runtime { .. }
            | IdentityError::Key { .. }
            | IdentityError::SameKeys(_) => RefusalKind::Invalid,
        };
        Refusal { kind, message: error.to_string(), hint: error.hint(), details: Vec::new() }
    }
}

impl Handle {
    /// An identity, with its keys where `with_keys`.
    pub fn identity(&self, id: &Identity, with_keys: bool) -> Answer<IdentityState> {
        let record = self.identities.require(id).map_err(|error| {
            let refusal = Refusal::from(error);
            Refusal { hint: self.device_of_that_name(id).or(refusal.hint), ..refusal }
        })?;
        self.identity_state(record, with_keys)
    }

    /// A bare name means a module: says so where there is a device of that name instead.
    pub(super) fn device_of_that_name(&self, id: &Identity) -> Option<String> {
        let module = id.module_id().filter(|_| id.device_id() == self.device_id())?;
        let device = Identity::device(module).ok()?;
        self.identities.require(&device).ok().map(|_| format!("did you mean {device}?"))
    }

    /// The identities of all devices, and none of modules; sorted, `top` of them at most.
    pub fn devices(&self, top: usize, with_keys: bool) -> Answer<Vec<IdentityState>> {
        let devices = self.identities.list().into_iter().filter(|record| record.identity.module_id().is_none());
        devices.take(top).map(|record| self.identity_state(record, with_keys)).collect()
    }

    /// The modules of a device, sorted.
    pub fn modules_of(&self, device: &Identity, with_keys: bool) -> Answer<Vec<IdentityState>> {
        self.identities.require(device).map_err(Refusal::from)?;
        let all = self.identities.of_device(device).into_iter();
        let modules = all.filter(|record| record.identity.module_id().is_some());
        modules.map(|record| self.identity_state(record, with_keys)).collect()
    }

    /// All identities with their presence, sorted.
    pub fn all_identities(&self) -> Vec<(Arc<IdentityRecord>, Presence)> {
        let all = self.identities.list().into_iter();
        all.map(|record| (record.clone(), self.identities.presence(&record))).collect()
    }

    fn identity_state(&self, record: Arc<IdentityRecord>, with_keys: bool) -> Answer<IdentityState> {
        let key = |slot| self.identities.key(&record.identity, slot).map(|key| key.to_base64());
        let keys = match with_keys {
            true => Some((key(KeySlot::Primary)?, key(KeySlot::Secondary)?)),
            false => None,
        };
        let presence = self.identities.presence(&record);
        let is_own_device = self.identities.is_own_device(&record.identity);
        Ok(IdentityState { record, presence, keys, is_own_device })
    }

    /// Adds identities: all in one commit, or none. An error comes with the place of what cannot be added.
    pub async fn identities_add(&self, new: Vec<NewIdentity>, by: &str) -> Answer<Result<(), (usize, Refusal)>> {
        let names: Vec<String> = new.iter().map(|one| one.identity.to_string()).collect();
        let added = self.beside(move |identities| identities.add(&new).map(drop)).await?;
        if added.is_ok() {
            match &names[..] {
                [] => {}
                [name] => tracing::info!("{name} added by {by}"),
                [name, ..] => tracing::info!("{} identities added by {by}, such as {name}", names.len()),
            }
        }
        Ok(added.map_err(|(at, error)| (at, error.into())))
    }

    /// Changes an identity; `if_match` is its etag, `None` any.
    pub async fn identity_update(
        &self,
        id: &Identity,
        change: IdentityChange,
        if_match: Option<String>,
        by: &str,
    ) -> Answer<()> {
        let change = self.managed_as_before(id, change).await?;
        let identity = id.clone();
        let is_enabled = change.is_enabled;
        self.beside(move |identities| identities.update(&identity, &change, if_match.as_deref())).await??;
        let what = match is_enabled {
            Some(true) => "enabled",
            Some(false) => "disabled",
            None => "changed",
        };
        tracing::info!("{id} {what} by {by}");
        Ok(())
    }

    /// The change, with what the runtime itself manages left to it. An empty `managedBy`, as clients send it that know of none, is read
    /// over; another one is refused.
    async fn managed_as_before(&self, id: &Identity, mut change: IdentityChange) -> Answer<IdentityChange> {
        let Some(wanted) = change.managed_by.as_deref() else { return Ok(change) };
        let record = self.identities.get(id).filter(|record| *record.managed_by == *MANAGED_BY && wanted != MANAGED_BY);
        let Some(module) = id.module_id().filter(|_| id.device_id() == self.device_id() && record.is_some()) else {
            return Ok(change);
        };
        let name = module.to_owned();
        let is_runtimes = id.is_runtime_of(self.device_id());
        if !is_runtimes && !self.ask(move |control, _| control.spec_of(&name).is_some()).await? {
            return Ok(change);
        }
        if !wanted.is_empty() {
            let message =
                format!("managedBy: {id} runs here, so that it is managed by {MANAGED_BY} and not by '{wanted}'");
            return Err(Refusal::new(RefusalKind::Invalid, message, "leave managedBy out, or send back what was read"));
        }
        change.managed_by = None;
        Ok(change)
    }

    /// Removes an identity with its twin, and with a device its modules. Refused for what an instance of this device acts as.
    pub async fn identity_remove(&self, id: &Identity, if_match: Option<String>, by: &str) -> Answer<()> {
        if let Some(module) = id.module_id().filter(|_| id.device_id() == self.device_id()) {
            let name = module.to_owned();
            let (has_instance, is_deployed) =
                self.ask(move |control, _| (control.spec_of(&name).is_some(), control.is_deployed(&name))).await?;
            if has_instance {
                let message = format!("{id} is in use: there is an instance {module}");
                let hint = match is_deployed {
                    true => format!("deploy a manifest without {module}, then dinrail identity remove {module}"),
                    false => format!("dinrail remove {module} --purge"),
                };
                return Err(Refusal::new(RefusalKind::Conflict, message, hint));
            }
        }
        let identity = id.clone();
        let removed = self.beside(move |identities| identities.remove(&identity, if_match.as_deref())).await??;
        if removed.is_empty() {
            return Err(IdentityError::NotFound(id.clone()).into());
        }
        removed.iter().for_each(|gone| self.twins.forget(gone));
        let modules = if removed.len() > 1 { format!(" and {} modules", removed.len() - 1) } else { String::new() };
        tracing::info!("{id}{modules} removed by {by}, their twins with them");
        Ok(())
    }

    /// Replaces one key of an identity.
    pub async fn identity_rotate(&self, id: &Identity, slot: KeySlot, by: &str) -> Answer<()> {
        let identity = id.clone();
        self.beside(move |identities| identities.rotate(&identity, Rotation::Renew(slot), None)).await??;
        tracing::info!("{slot} key of {id} replaced by {by}");
        Ok(())
    }

    /// Replaces one key of a shared access policy.
    pub async fn policy_rotate(&self, role: Role, slot: KeySlot, by: &str) -> Answer<()> {
        self.beside(move |identities| identities.rotate_policy(role, Rotation::Renew(slot))).await??;
        tracing::info!("{slot} key of the policy {role} replaced by {by}");
        Ok(())
    }

    /// The name and the port by which other machines reach this device; `None`: not at all.
    pub fn remote_host(&self) -> Option<String> {
        let api = self.api()?;
        let port = api.address.rsplit(':').next()?;
        Some(format!("{}:{port}", api.names.first()?))
    }

    /// The name by which this device is known: in tokens and connection strings.
    pub fn host(&self) -> String {
        self.remote_host().unwrap_or_else(|| gethostname::gethostname().to_string_lossy().into_owned())
    }

    /// A token of an identity for `host`, and its expiry in seconds after 1970.
    pub fn identity_token(&self, id: &Identity, host: &str, ttl_secs: u64, now_us: i64) -> Answer<(String, u64)> {
        if !(1..=MAX_TOKEN_SECS).contains(&ttl_secs) {
            let message = format!("a token cannot hold for {ttl_secs} s");
            return Err(Refusal::new(RefusalKind::Invalid, message, "from 1 second to 365 days are possible"));
        }
        let expiry = u64::try_from(now_us / 1_000_000).unwrap_or(0) + ttl_secs;
        Ok((self.identities.token(id, host, expiry)?, expiry))
    }

    /// A key of an identity in base64.
    pub fn identity_key(&self, id: &Identity, slot: KeySlot) -> Answer<Zeroizing<String>> {
        Ok(self.identities.key(id, slot)?.to_base64())
    }

    /// A key of a shared access policy in base64.
    pub fn policy_key(&self, role: Role, slot: KeySlot) -> Answer<Zeroizing<String>> {
        Ok(self.identities.policy_key(role, slot)?.to_base64())
    }

    /// Does what waits for the disk on a thread of its own.
    async fn beside<T: Send + 'static>(&self, work: impl FnOnce(&Identities) -> T + Send + 'static) -> Answer<T> {
        let identities = self.identities.clone();
        let (done, wait) = oneshot::channel();
        // The client may have gone; what it asked for is done all the same.
        let work = move || drop(done.send(work(&identities)));
        std::thread::Builder::new().name("registry".to_owned()).spawn(work).map_err(|error| {
            Refusal::new(RefusalKind::Failed, format!("no thread to change the registry: {error}"), "try again")
        })?;
        wait.await.map_err(|_| Refusal::ending())
    }
}
