//! Instances that a person adds, without a manifest: part of the local layer, which deployments keep.

use serde_json::{Map, Value};

use super::Control;
use super::instances::origin_of;
use crate::clock;
use crate::database::File;
use crate::database::tables::removed as removed_table;
use crate::image::Reference;
use crate::instance::spec::{DeviceTwin, EnvValue, InstanceSpec, Isolation, Origin, RestartPolicy};
use crate::instance::state::Hold;
use crate::name::{Identity, check_id};
use crate::refusal::{Refusal, RefusalKind};
use crate::spelling::nearest;
use crate::twin::{Change, TwinError, rules, secret};
use crate::view::{AddRequest, ModuleDetail};

impl Control {
    /// Adds an instance; `by` says who. Its desired properties are there before its first start.
    pub(crate) fn add_instance(&mut self, request: AddRequest, by: &str) -> Result<ModuleDetail, Refusal> {
        let spec = read(&request)?;
        let name = spec.name.clone();
        self.check_free(&name)?;
        self.check_added_secrets(&spec, request.desired.as_ref())?;
        let identity = Identity::module(self.identities.device_id(), &name).map_err(|error| {
            Refusal::new(RefusalKind::Invalid, format!("'{name}' is not a name: {error}"), "choose another name")
        })?;
        let is_known = self.identities.get(&identity).is_some();
        self.identities.ensure(Some(&name)).map_err(|error| {
            let hint = error.hint().unwrap_or_else(|| "see the log of the runtime".to_owned());
            Refusal::new(RefusalKind::Failed, format!("its identity cannot be made: {error}"), hint)
        })?;
        if let Some(desired) = request.desired.filter(|desired| !desired.is_empty())
            && let Err(error) = self.patch_now(&identity, &Value::Object(desired), by)
        {
            if !is_known {
                // Nothing of a refused request stays.
                let _ = self.identities.remove(&identity, None);
                self.twins.forget(&identity);
            }
            return Err(error.into());
        }
        let hold = request.stopped.then(|| Hold { by: by.to_owned(), at_us: clock::wall_us() });
        tracing::info!(module = name, image = spec.image, "added by {by}");
        self.forget_removal(&name);
        self.add(spec, Origin::Cli, hold, None);
        if is_known && let Some(entry) = self.instances.get_mut(&name) {
            entry.notes.push("its identity, twin and data are those of an earlier instance of this name".to_owned());
        }
        self.keep(std::slice::from_ref(&name));
        self.look_for_image(&name);
        self.module_detail(&name).ok_or_else(|| self.unknown_module(&name))
    }

    /// Brings an instance back that was removed, as it was; nothing where none of this name was.
    pub(super) fn bring_back(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(row) = self.removed.get(name) else { return Ok(()) };
        let spec = serde_json::from_str(&row.spec).unwrap_or_else(|_| InstanceSpec::new(name, name));
        let origin = origin_of(&row.origin);
        self.check_free(name)?;
        tracing::info!(module = name, "is back: it was removed and is started again");
        self.forget_removal(name);
        self.add(spec, origin, None, None);
        self.keep(&[name.to_owned()]);
        self.look_for_image(name);
        Ok(())
    }

    fn look_for_image(&mut self, name: &str) {
        if let Some(input) = self.choose_image(name) {
            self.apply(name, input);
        }
        self.changed();
    }

    /// From now on a file may start it again.
    pub(super) fn forget_removal(&mut self, name: &str) {
        if self.removed.remove(name).is_none() {
            return;
        }
        let name = name.to_owned();
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| removed_table::delete(tx, &name)),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("that a removed instance may come back could not be stored: {error}");
                }
            }),
        );
    }

    /// Refuses a name that is taken, saying by whom and what to do.
    fn check_free(&self, name: &str) -> Result<(), Refusal> {
        let refuse = |message, hint: String| Err(Refusal::new(RefusalKind::Conflict, message, hint));
        if self.shutdown.is_some() {
            return Err(Refusal::ending());
        }
        if self.left_behind.contains(name) {
            let message = format!("{name} cannot be added: the thread of the {name} that was removed never returned");
            return refuse(message, "choose another name, or restart the runtime".to_owned());
        }
        let Some(entry) = self.instances.get(name) else { return Ok(()) };
        if entry.is_leaving() {
            return refuse(
                format!("the {name} that was there is being removed"),
                format!("repeat it in {}", clock::spoken(entry.spec.options.stop_grace)),
            );
        }
        let (whose, hint) = match entry.origin {
            Origin::Deployment => {
                ("the deployment in force names it", "change its entry in the manifest, and deploy that".to_owned())
            }
            Origin::Drop => (
                "it was started by its file in a watched folder",
                format!("dinrail twin patch {name} … changes it; or first: dinrail remove {name}"),
            ),
            Origin::Cli => ("it was added before", format!("choose another name, or first: dinrail remove {name}")),
        };
        refuse(format!("there is a module '{name}' already: {whose}"), hint)
    }

    /// Refuses a module that refers to secrets which it is not to be given.
    fn check_added_secrets(&self, spec: &InstanceSpec, desired: Option<&Map<String, Value>>) -> Result<(), Refusal> {
        let of_env = |(key, value): (&String, &EnvValue)| {
            let why = self.services.secrets.refusal(value.secret_name()?, &spec.name)?;
            Some(format!("env {key}: {why}"))
        };
        let mut details: Vec<String> = spec.env.iter().filter_map(of_env).collect();
        if let Some(desired) = desired {
            let desired = Value::Object(desired.clone());
            details.extend(self.refused_secrets(&spec.name, "properties.desired", &desired));
        }
        if details.is_empty() {
            return Ok(());
        }
        let message = format!("the module {} is not added: it refers to secrets that it cannot be given", spec.name);
        let hint = Some("run the commands that the details name, then repeat it; nothing was changed".to_owned());
        Err(Refusal { kind: RefusalKind::Conflict, message, hint, details })
    }

    /// Merges into desired properties and waits for the commit.
    fn patch_now(&self, identity: &Identity, patch: &Value, by: &str) -> Result<(), TwinError> {
        let (done, outcome) = std::sync::mpsc::channel();
        let report = move |outcome: Result<_, TwinError>| drop(done.send(outcome.map(drop)));
        self.twins.change(identity, &Change::patch_desired(patch, by), report)?;
        // The writer always answers.
        outcome.recv().unwrap_or(Ok(()))
    }
}

/// The record of what is wanted, or everything that is wrong with the request.
fn read(request: &AddRequest) -> Result<InstanceSpec, Refusal> {
    let mut problems = Vec::new();
    let mut spec = InstanceSpec::new(&request.name, &request.image);
    if let Err(error) = check_id(&request.name) {
        problems.push(format!("name: {error}"));
    }
    if request.name.starts_with('$') {
        problems.push("name: those that begin with $ are the runtime's own".to_owned());
    }
    match request.image.parse::<Reference>() {
        Ok(Reference::Path(path)) => {
            let path = path.display();
            problems.push(format!("image: {path} is a file; `dinrail add` uploads it, here give NAME@sha256:…"));
        }
        Ok(Reference::Named { .. }) => {}
        Err(error) => problems.push(format!("image: {error}")),
    }
    if let Some(text) = &request.isolation {
        word("isolation", text, Isolation::WORDS, &mut problems, |isolation| spec.options.isolation = isolation);
    }
    if let Some(text) = &request.restart_policy {
        word("restartPolicy", text, RestartPolicy::WORDS, &mut problems, |policy| spec.restart_policy = policy);
    }
    for name in request.env.keys().filter(|name| name.is_empty() || name.contains(['=', '\0'])) {
        problems.push(format!("env: '{name}' is not the name of a variable"));
    }
    if let Some(desired) = &request.desired {
        let mut found = Vec::new();
        rules::check_patch("properties.desired", desired, &mut found);
        problems.extend(found.iter().map(ToString::to_string));
    }
    for (name, value) in &request.env {
        match (value, secret::name_of(value)) {
            (Value::String(text), _) => drop(spec.env.insert(name.clone(), EnvValue::Text(text.clone()))),
            (_, Some(secret)) if check_id(secret).is_ok() => {
                spec.env.insert(name.clone(), EnvValue::secret(secret));
            }
            _ => problems.push(format!("env {name}: is neither a text nor {{\"$secret\": \"NAME\"}}")),
        }
    }
    if let Some(text) = &request.device_twin {
        word("deviceTwin", text, DeviceTwin::WORDS, &mut problems, |may| spec.options.device_twin = may);
    }
    if let Some(order) = request.startup_order {
        spec.startup_order = order;
    }
    if problems.is_empty() {
        return Ok(spec);
    }
    let count = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    Err(Refusal {
        kind: RefusalKind::Invalid,
        message: format!("the module is not added: {count}"),
        hint: Some("correct them and repeat it; nothing was changed".to_owned()),
        details: problems,
    })
}

fn word<T: Copy>(what: &str, text: &str, words: &[(&str, T)], problems: &mut Vec<String>, set: impl FnOnce(T)) {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => set(*value),
        None => {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let near = nearest(text, known.iter().copied()).map(|near| format!("; did you mean {near}?"));
            problems.push(format!("{what}: '{text}' is none of {}{}", known.join(", "), near.unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let request: AddRequest = serde_json::from_value(serde_json::json!({
            "name": "a/b", "image": "pump:x", "isolation": "fiber", "restartPolicy": "alway", "env": {"A=B": "1"},
        }))
        .unwrap();

        let refused = read(&request).unwrap_err();

        assert_eq!(refused.details.len(), 5, "{:?}", refused.details);
        assert!(refused.details.iter().any(|line| line.contains("did you mean always?")), "{:?}", refused.details);
    }
}
