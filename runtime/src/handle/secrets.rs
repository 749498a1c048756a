//! Secrets: set, allowed, listed and removed; and the modules that refer to them told.

use serde_json::Value;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::clock;
use crate::name::{Identity, check_id};
use crate::secret::{Allow, Outcome, SecretError, SecretInfo, Secrets};
use crate::twin::{TwinSnapshot, secret};
use crate::view::{SecretUser, SecretView};

/// Values shorter than this are not taken out of what modules say.
const SHORT_BYTES: usize = 4;

impl Handle {
    /// All secrets, without their values.
    pub async fn secrets(&self) -> Answer<Vec<SecretView>> {
        let users = self.ask(|control, _| control.secret_users()).await?;
        Ok(self.services.secrets.list().into_iter().map(|info| view(info, &users)).collect())
    }

    /// One secret, without its value.
    pub async fn secret(&self, name: &str) -> Answer<SecretView> {
        let info = self.services.secrets.get(name)?;
        let users = self.ask(|control, _| control.secret_users()).await?;
        Ok(view(info, &users))
    }

    /// Gives a secret a value, or says who may have it, or both. Modules that refer to it have been told when this returns: as a
    /// change of their desired properties.
    pub async fn secret_set(
        &self,
        name: &str,
        value: Option<Zeroizing<String>>,
        allow: Allow,
        by: &str,
    ) -> Answer<SecretView> {
        let is_short = value.as_ref().is_some_and(|value| value.len() < SHORT_BYTES);
        let (of, who) = (name.to_owned(), by.to_owned());
        let outcome = self.with_secrets(move |secrets| secrets.set(&of, value.as_ref(), &allow, &who)).await??;
        let what = if outcome.has_new_value { "set" } else { "allowed" };
        tracing::info!(
            secret = name,
            version = outcome.now.version,
            "{what} by {by}: {}",
            outcome.now.allowed.names().join(", ")
        );
        let mut notes = self.tell_users(&outcome).await?;
        let users = self.ask(|control, _| control.secret_users()).await?;
        let mut view = view(outcome.now, &users);
        if view.allowed.is_empty() {
            notes.push(format!("no module may have it yet: dinrail secret allow {name} MODULE"));
        }
        for user in &view.used_by {
            let module = &user.module;
            if user.needs_restart {
                notes.push(format!("{module} has the value before in {}: dinrail restart {module}", user.place));
            } else if !user.allowed {
                notes.push(format!("{module} refers to it and may not have it: dinrail secret allow {name} {module}"));
            }
        }
        if is_short {
            notes.push(format!(
                "with less than {SHORT_BYTES} characters it is not taken out of what modules log and report"
            ));
        }
        notes.dedup();
        view.notes = notes;
        Ok(view)
    }

    /// Removes a secret; refused while somebody refers to it, unless `force`d. What runs keeps the value that it was given.
    pub async fn secret_remove(&self, name: &str, force: bool, by: &str) -> Answer<SecretView> {
        let users = self.ask(|control, _| control.secret_users()).await?;
        let mut view = view(self.services.secrets.get(name)?, &users);
        if !view.used_by.is_empty() && !force {
            let details = view.used_by.iter().map(|user| format!("{}: {}", user.module, user.place)).collect();
            return Err(Refusal {
                kind: RefusalKind::Conflict,
                message: format!("the secret {name} is in use"),
                hint: Some(format!(
                    "take it out of these first; or dinrail secret remove {name} --force: what runs keeps its value, and waits for it at its next start"
                )),
                details,
            });
        }
        let of = name.to_owned();
        self.with_secrets(move |secrets| secrets.remove(&of)).await??;
        tracing::info!(secret = name, "removed by {by}");
        self.ask(|control, _| control.secrets_changed()).await?;
        let waiting = view.used_by.iter().map(|user| {
            let module = &user.module;
            format!("{module} keeps the value until it stops, and then waits: dinrail secret set {name} --for {module}")
        });
        view.notes = waiting.collect();
        view.notes.dedup();
        Ok(view)
    }

    /// Refuses a change of desired properties that refers to what the module is not to be given: `body` holds them under
    /// `properties.desired`.
    pub(super) fn check_secrets(&self, id: &Identity, body: &Value) -> Answer<()> {
        let Some(desired) = body.pointer("/properties/desired") else { return Ok(()) };
        let secrets = &self.services.secrets;
        let why = |(path, name): (String, String)| match id.module_id() {
            Some(module) => secrets.refusal(&name, module).map(|why| format!("{path}: {why}")),
            // Which module reads the device's twin is not known: it has to be there.
            None if check_id(&name).is_err() => None,
            None => secrets.get(&name).err().map(|why| format!("{path}: {why}")),
        };
        let details: Vec<String> = secret::places("properties.desired", desired).into_iter().filter_map(why).collect();
        if details.is_empty() {
            return Ok(());
        }
        Err(Refusal {
            kind: RefusalKind::Invalid,
            message: format!("the change of the twin of {id} refers to secrets that it cannot be given"),
            hint: Some("run the commands that the details name, then repeat it; nothing was changed".to_owned()),
            details,
        })
    }

    /// Brings a new value, or a new permission, to those who refer to the secret.
    async fn tell_users(&self, outcome: &Outcome) -> Answer<Vec<String>> {
        let name = &outcome.now.name;
        let mut notes = Vec::new();
        for twin in self.twins.list() {
            if !is_for(outcome, &twin) || !secret::names_in(&twin.desired.document).contains(name) {
                continue;
            }
            let (done, wait) = oneshot::channel();
            let by = format!("secret {name}");
            let told = self.twins.refresh_secret(&twin.identity, name, &by, move |told| drop(done.send(told.err())));
            let failed = match told {
                Ok(()) => wait.await.map_err(|_| Refusal::ending())?,
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                let module = twin.identity.module_id().unwrap_or_default();
                notes.push(format!("{} was not told: {error}; dinrail restart {module}", twin.identity));
            }
        }
        self.ask(|control, _| control.secrets_changed()).await?;
        Ok(notes)
    }

    /// Does what waits for the disk on a thread that may.
    async fn with_secrets<T: Send + 'static>(&self, act: impl FnOnce(&Secrets) -> T + Send + 'static) -> Answer<T> {
        let secrets = self.services.secrets.clone();
        tokio::task::spawn_blocking(move || act(&secrets)).await.map_err(|_| Refusal::ending())
    }
}

/// Whether the change is one for whoever has this twin.
fn is_for(outcome: &Outcome, twin: &TwinSnapshot) -> bool {
    let Some(module) = twin.identity.module_id() else { return outcome.has_new_value };
    let could_have = outcome.allowed_before.as_ref().is_some_and(|before| before.has(module));
    outcome.now.allowed.has(module) && (outcome.has_new_value || !could_have)
}

fn view(info: SecretInfo, users: &[(String, SecretUser)]) -> SecretView {
    let used_by = users.iter().filter(|(name, _)| *name == info.name).map(|(_, user)| user.clone());
    SecretView {
        version: info.version,
        set_time_utc: clock::rfc3339(info.set_us),
        set_by: info.set_by,
        readable: info.is_readable,
        allowed: info.allowed.names(),
        used_by: used_by.collect(),
        notes: Vec::new(),
        name: info.name,
    }
}

impl From<SecretError> for Refusal {
    fn from(error: SecretError) -> Refusal {
        let kind = match &error {
            SecretError::Name { .. } | SecretError::Module { .. } | SecretError::Empty { .. } => RefusalKind::Invalid,
            SecretError::TooLarge { .. } => RefusalKind::TooLarge,
            SecretError::NotFound { .. } => RefusalKind::NotFound,
            SecretError::TooMany => RefusalKind::Conflict,
            SecretError::Key { .. } | SecretError::Store { .. } => RefusalKind::Failed,
        };
        Refusal::new(kind, error.to_string(), error.hint())
    }
}
