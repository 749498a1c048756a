//! Secrets as the loop sees them: who refers to one, who waits for one, and who has an old one.

use serde_json::Value;

use super::Control;
use crate::deployment::Problem;
use crate::deployment::manifest::Manifest;
use crate::instance::spec::{EnvValue, InstanceSpec};
use crate::instance::state::State;
use crate::name::Identity;
use crate::twin::secret;
use crate::view::SecretUser;

impl Control {
    /// Why an instance cannot be given what it refers to, with the commands to run; `None` where it can.
    pub(super) fn missing_secrets(&self, spec: &InstanceSpec) -> Option<String> {
        let secrets = &self.services.secrets;
        let of_env = spec.env.values().filter_map(EnvValue::secret_name);
        let mut missing: Vec<String> =
            of_env.filter_map(|name| secrets.refusal(name, &spec.name)).map(|why| why.to_string()).collect();
        let twin = Identity::module(self.identities.device_id(), &spec.name).ok().and_then(|id| self.twins.get(&id));
        if let Some(twin) = twin.filter(|twin| twin.has_secrets()) {
            missing.extend(secrets.missing(&twin.desired.document, &spec.name).iter().map(ToString::to_string));
        }
        missing.sort();
        missing.dedup();
        (!missing.is_empty()).then(|| missing.join("; "))
    }

    /// Everybody who refers to a secret, or to any, by `env` or by desired properties.
    pub(crate) fn secret_users(&self) -> Vec<(String, SecretUser)> {
        let mut users = Vec::new();
        for entry in self.instances.values() {
            let link = entry.link.as_ref().map(|(_, link)| link.env_secrets()).unwrap_or_default();
            let outdated = self.services.secrets.outdated(&link);
            for (variable, name) in entry.spec.env.iter().filter_map(|(key, value)| Some((key, value.secret_name()?))) {
                let user = SecretUser {
                    module: entry.spec.name.clone(),
                    place: format!("env {variable}"),
                    allowed: self.services.secrets.get(name).is_ok_and(|it| it.allowed.has(&entry.spec.name)),
                    needs_restart: outdated.contains(&name),
                };
                users.push((name.to_owned(), user));
            }
        }
        for twin in self.twins.list().iter().filter(|twin| twin.has_secrets()) {
            let whose = twin.identity.module_id().unwrap_or("the device").to_owned();
            for (place, name) in secret::places("desired", &Value::Object(twin.desired.parse())) {
                let info = self.services.secrets.get(&name);
                let allowed = twin.identity.module_id().is_none_or(|id| info.is_ok_and(|it| it.allowed.has(id)));
                users.push((name, SecretUser { module: whose.clone(), place, allowed, needs_restart: false }));
            }
        }
        users
    }

    /// A secret has changed: who waits for it looks again.
    pub(crate) fn secrets_changed(&mut self) {
        let waits = |(name, entry): (&String, &super::instances::Entry)| {
            let is_for_secret = matches!(&entry.life.state, State::Waiting { reason } if reason.starts_with("secret "));
            is_for_secret.then(|| name.clone())
        };
        let waiting: Vec<String> = self.instances.iter().filter_map(waits).collect();
        for name in waiting {
            if let Some(input) = self.choose_image(&name) {
                self.apply(&name, input);
            }
        }
        self.changed();
    }

    /// Lines for `show`: which of its secrets have another value than the one that the instance was given with its `env`.
    pub(super) fn secret_notes(&self, entry: &super::instances::Entry) -> Vec<String> {
        let Some((_, link)) = &entry.link else { return Vec::new() };
        let stamps = link.env_secrets();
        let name = &entry.spec.name;
        let note = |secret: &str| {
            format!("the secret {secret} of its env has another value since it was started: dinrail restart {name}")
        };
        self.services.secrets.outdated(&stamps).into_iter().map(note).collect()
    }

    /// What a manifest refers to and its modules are not to be given.
    pub(super) fn check_secrets(&self, manifest: &Manifest) -> Vec<Problem> {
        let secrets = &self.services.secrets;
        let mut problems = Vec::new();
        let mut refuse = |path: String, name: &str, module: &str| {
            if let Some(why) = secrets.refusal(name, module) {
                let (what, hint) = told(&why.to_string());
                problems.push(Problem::at(path, what, hint));
            }
        };
        for (module, section) in &manifest.desired {
            let properties = Value::Object(section.properties().clone());
            let path = format!("modulesContent.{module}.properties.desired");
            secret::places(&path, &properties).into_iter().for_each(|(path, name)| refuse(path, &name, module));
        }
        for (module, spec) in &manifest.modules {
            for (variable, name) in spec.env.iter().filter_map(|(key, value)| Some((key, value.secret_name()?))) {
                let path =
                    format!("modulesContent.$edgeAgent.properties.desired.modules.{module}.env.{variable}.value");
                refuse(path, name, module);
            }
        }
        problems
    }

    /// What desired properties that a person writes refer to and `module` is not to be given: each with its path.
    pub(crate) fn refused_secrets(&self, module: &str, root: &str, desired: &Value) -> Vec<String> {
        let why = |(path, name): (String, String)| {
            self.services.secrets.refusal(&name, module).map(|why| format!("{path}: {why}"))
        };
        secret::places(root, desired).into_iter().filter_map(why).collect()
    }
}

/// A reason, and the command that it ends with.
fn told(reason: &str) -> (String, String) {
    match reason.split_once(": dinrail ") {
        Some((what, command)) => (what.to_owned(), format!("dinrail {command}")),
        None => (reason.to_owned(), String::new()),
    }
}
