//! The child of `try`: a runtime on a scratch directory with one instance, driven step by step.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Runtime as Executor;

use super::event::Event;
use super::plan::{Plan, Step};
use super::{lens, record, threads};
use crate::config::Config;
use crate::handle::{DeployRequest, Handle, TwinChange, TwinWish};
use crate::image;
use crate::message::{Message, SystemProperties};
use crate::name::Identity;
use crate::refusal::Refusal;
use crate::runtime;
use crate::view::{ImageView, ModuleDetail, Status};

/// Between two looks at what has no event.
const LOOK: Duration = Duration::from_millis(20);
/// Time for threads of the module to end that its stop has told to, but not waited for.
const THREADS_END: Duration = Duration::from_millis(200);

/// File with the plan, in the scratch folder.
pub(super) const PLAN: &str = "plan.json";
/// File with the notes.
pub(super) const NOTES: &str = "notes";

/// Nothing more can be tried: it is noted why.
struct Over;

/// Tries what the plan in `scratch` says. What was seen is in the notes; this process then has nothing more to do.
///
/// # Errors
/// Why there are no notes.
pub fn run(scratch: &Path) -> std::io::Result<()> {
    let plan: Plan = serde_json::from_slice(&std::fs::read(scratch.join(PLAN))?)?;
    record::start(&scratch.join(NOTES))?;
    image::observe(lens::observe);
    let executor = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let state = scratch.join("state");
    let options = runtime::Options {
        manifest: None,
        config: Config::default(),
        state,
        device_id: Some("try".to_owned()),
        new_device_key: false,
        watch: Vec::new(),
        autostart: false,
        logs: crate::log::Logs::nowhere(),
        session_folder: Some(scratch.to_owned()),
    };
    let running = match runtime::start(options) {
        Ok(running) => running,
        Err(error) => {
            problem(format!("the private runtime does not start: {error}: {}", error.hint()));
            return Ok(());
        }
    };
    let handle = running.handle().clone();
    // Whether it ended early is in the notes.
    let _ = Trial { plan, handle, executor, name: String::new(), inputs: Vec::new(), outputs: Vec::new() }.run();
    // Nothing of the runtime is of use any more, and a module that hangs would hold its end up.
    std::mem::forget(running);
    Ok(())
}

fn problem(text: impl Into<String>) {
    record::note(Event::Problem { text: text.into() });
}

fn warning(text: impl Into<String>) {
    record::note(Event::Warning { text: text.into() });
}

fn refused(refusal: &Refusal) -> String {
    match &refusal.hint {
        Some(hint) => format!("{}: {hint}", refusal.message),
        None => refusal.message.clone(),
    }
}

struct Trial {
    plan: Plan,
    handle: Handle,
    executor: Executor,
    name: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

impl Trial {
    fn run(mut self) -> Result<(), Over> {
        let image = self.take_in()?;
        self.name = self.plan.name.clone().or(image.name.clone()).unwrap_or_else(|| "module".to_owned());
        let before = threads::now();
        self.deploy(&image)?;
        let steps = std::mem::take(&mut self.plan.steps);
        let outcome = steps.iter().try_for_each(|step| self.step(step)).and_then(|()| self.see_the_messages_through());
        if outcome.is_err() && self.is_hung() {
            return Err(Over);
        }
        self.end(&before)
    }

    fn take_in(&self) -> Result<ImageView, Over> {
        let file = self.plan.file.clone();
        let title = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let view = self.executor.block_on(self.handle.image_add(file, title, false));
        let reason = match view {
            Ok(view) if view.verdict == "admitted" => {
                let part = |part: &Option<String>| part.clone().unwrap_or_default();
                let (name, version, digest) = (part(&view.name), part(&view.version), part(&view.digest));
                record::note(Event::Image { name, version, digest });
                return Ok(view);
            }
            Ok(view) => view.reason,
            Err(refusal) => refused(&refusal),
        };
        record::note(Event::Refused { reason });
        Err(Over)
    }

    /// Has the instance made and waits until it runs.
    fn deploy(&mut self, image: &ImageView) -> Result<(), Over> {
        let env: serde_json::Map<String, Value> =
            self.plan.env.iter().map(|(key, value)| (key.clone(), json!({ "value": value }))).collect();
        let reference =
            format!("{}@{}", image.name.as_deref().unwrap_or_default(), image.digest.as_deref().unwrap_or_default());
        let module = json!({
            "type": "library", "status": "running", "restartPolicy": "never", "env": env,
            "settings": { "image": reference }
        });
        let manifest = json!({"modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": {self.name.clone(): module}}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
            self.name.clone(): {"properties.desired": self.plan.desired}
        }});
        record::note(Event::Loading);
        let request =
            DeployRequest { text: manifest.to_string(), origin: "try".to_owned(), ..DeployRequest::default() };
        if let Err(refusal) = self.executor.block_on(self.handle.deploy(request)) {
            problem(refused(&refusal));
            refusal.details.iter().for_each(problem);
            return Err(Over);
        }
        let outcome = self.is_still_up();
        if let Ok(detail) = self.executor.block_on(self.handle.module(&self.name)) {
            let names = |key: &str| -> Vec<String> {
                detail.descriptor.as_ref().and_then(|d| serde_json::from_value(d[key].clone()).ok()).unwrap_or_default()
            };
            (self.inputs, self.outputs) = (names("inputs"), names("outputs"));
            self.look_at_the_table(&self.inputs, &names("methods"));
        }
        outcome
    }

    /// What the descriptor promises and the table does not hold.
    fn look_at_the_table(&self, inputs: &[String], methods: &[String]) {
        let Some(module) = lens::module() else { return };
        if !inputs.is_empty() && module.on_message.is_none() {
            warning(format!(
                "the descriptor names inputs ({}), but the table has no on_message: messages would wait for ever",
                inputs.join(", ")
            ));
        }
        if !methods.is_empty() && module.on_method.is_none() {
            warning(format!(
                "the descriptor names methods ({}), but the table has no on_method: nobody answers",
                methods.join(", ")
            ));
        }
    }

    /// Waits until the status is one of those.
    fn await_status(&self, is_reached: impl Fn(Status) -> bool) -> Result<ModuleDetail, Over> {
        let mut waited = Duration::ZERO;
        loop {
            let view = self.executor.block_on(self.handle.module(&self.name));
            let view = view.map_err(|refusal| problem(refused(&refusal))).map_err(|()| Over)?;
            if is_reached(view.module.status) {
                return Ok(view);
            }
            self.watch(&mut waited)?;
            if waited > self.plan.timeout {
                problem(format!("it is still {} after {:?}", view.module.status.as_str(), self.plan.timeout));
                return Err(Over);
            }
        }
    }

    /// Waits until the instance runs; why it does not is noted.
    fn is_still_up(&self) -> Result<(), Over> {
        let view =
            self.await_status(|status| !matches!(status, Status::Waiting | Status::Starting | Status::Stopping))?;
        let status = view.module.status;
        if matches!(status, Status::Running | Status::Unhealthy) {
            return Ok(());
        }
        if matches!(status, Status::Failed | Status::Quarantined | Status::Backoff)
            || view.module.exit_code.is_some_and(|code| code != 0)
        {
            problem(format!("it is {}: {}", status.as_str(), view.reason));
        }
        Err(Over)
    }

    /// Lets a moment pass; a call that has lasted too long ends the trial.
    fn watch(&self, waited: &mut Duration) -> Result<(), Over> {
        record::await_note(LOOK);
        let called = record::look(|state| state.call.clone()).flatten();
        match called {
            Some((what, since)) if crate::clock::now().saturating_duration_since(since) > self.plan.timeout => {
                problem(format!(
                    "{what} hangs: no return after {:?}; in a running system the instance would be given up",
                    self.plan.timeout
                ));
                Err(Over)
            }
            Some(_) => Ok(()),
            None => {
                *waited += LOOK;
                Ok(())
            }
        }
    }

    fn is_hung(&self) -> bool {
        record::look(|state| state.call.is_some()).unwrap_or(false)
    }

    fn has_ended(&self) -> bool {
        let view = self.executor.block_on(self.handle.module(&self.name));
        view.is_ok_and(|view| !matches!(view.module.status, Status::Running | Status::Unhealthy | Status::Starting))
    }

    fn step(&self, step: &Step) -> Result<(), Over> {
        match step {
            Step::Message { input, body, properties } => self.message(input, body, properties),
            Step::Patch(patch) => self.patch(patch),
            Step::Method { name, payload } => self.method(name, payload),
            Step::Pass(time) => {
                let until = crate::clock::now() + *time;
                while crate::clock::now() < until {
                    self.watch(&mut Duration::default())?;
                }
                self.is_still_up()
            }
        }
    }

    fn message(&self, input: &str, body: &[u8], properties: &[(String, String)]) -> Result<(), Over> {
        if !self.inputs.is_empty() && !self.inputs.iter().any(|known| known == input) {
            warning(format!("input '{input}' is not in the descriptor, which names: {}", self.inputs.join(", ")));
        }
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
        let of_json = |text: &str| is_json.then(|| text.to_owned());
        let system = SystemProperties {
            content_type: of_json("application/json"),
            content_encoding: of_json("utf-8"),
            ..SystemProperties::default()
        };
        let message = Message { properties: properties.to_vec(), system, ..Message::new(body) };
        let seen = record::look(|state| state.messages.len()).unwrap_or(0);
        if let Err(refusal) = self.executor.block_on(self.handle.send(&self.name, input, message)) {
            problem(format!("the message for '{input}' is not taken: {}", refused(&refusal)));
            return Err(Over);
        }
        let mut waited = Duration::ZERO;
        while record::look(|state| state.messages.get(seen).is_none_or(|seen| seen.outcome.is_none())).unwrap_or(false)
        {
            self.watch(&mut waited)?;
            if self.has_ended() {
                return self.is_still_up();
            }
            if waited > self.plan.timeout {
                problem(format!("the message for '{input}' was not handed over within {:?}", self.plan.timeout));
                return Err(Over);
            }
        }
        Ok(())
    }

    fn identity(&self) -> Result<Identity, Over> {
        format!("/devices/try/modules/{}", self.name).parse().map_err(|_| Over)
    }

    fn patch(&self, patch: &Value) -> Result<(), Over> {
        let calls = || record::look(|state| state.returned.get("on_desired").copied()).flatten().unwrap_or(0);
        let before = calls();
        let document = json!({"properties": {"desired": patch}});
        let change = TwinChange::of_any(TwinWish::Patch(document), "try");
        let patched = self.executor.block_on(self.handle.change_twin(&self.identity()?, change));
        if let Err(refusal) = patched {
            problem(format!("the change of the desired properties is not taken: {}", refused(&refusal)));
            return Err(Over);
        }
        if lens::module().is_none_or(|module| module.on_desired.is_none()) {
            warning("the table has no on_desired: every change is accepted and has no effect until a restart");
            return Ok(());
        }
        let mut waited = Duration::ZERO;
        while calls() == before {
            self.watch(&mut waited)?;
            if waited > self.plan.timeout || self.has_ended() {
                return self.is_still_up();
            }
        }
        Ok(())
    }

    fn method(&self, name: &str, payload: &str) -> Result<(), Over> {
        let id = Identity::module(self.handle.device_id(), &self.name).map_err(|error| {
            problem(error.to_string());
            Over
        })?;
        let call = self.handle.invoke(&id, name.to_owned(), payload.to_owned(), self.plan.timeout, "dinrail try");
        match self.executor.block_on(call) {
            Ok(Ok(answer)) => {
                let (method, status, payload) = (name.to_owned(), answer.status, answer.payload);
                record::note(Event::Answer { method, status, payload });
                Ok(())
            }
            Ok(Err(error)) => {
                problem(format!("method {name}: {error}"));
                // The watch says it if it hangs.
                self.watch(&mut Duration::default())?;
                self.is_still_up()
            }
            Err(refusal) => {
                problem(refused(&refusal));
                Err(Over)
            }
        }
    }

    /// Waits for what was deferred, and for what is to come again.
    fn see_the_messages_through(&self) -> Result<(), Over> {
        let open = || -> Vec<(usize, record::Seen)> {
            record::look(|state| {
                let numbered = state.messages.iter().cloned().enumerate().map(|(at, seen)| (at + 1, seen));
                numbered.filter(|(_, seen)| !seen.is_ended()).collect()
            })
            .unwrap_or_default()
        };
        let mut waited = Duration::ZERO;
        while !open().is_empty() && waited <= self.plan.timeout && !self.has_ended() {
            self.watch(&mut waited)?;
        }
        for (number, seen) in open() {
            let last = match seen.outcome.as_deref() {
                Some("defer") => "deferred, and no verdict came".to_owned(),
                Some(outcome) => format!("the last of {} verdicts is {outcome}", seen.attempts),
                None => "its handler has not returned".to_owned(),
            };
            problem(format!("message {number} (input {}) was never completed: {last}", seen.input));
        }
        Ok(())
    }

    /// Stops the instance and looks at what it leaves.
    fn end(&self, before: &BTreeMap<u32, String>) -> Result<(), Over> {
        if !self.has_ended() {
            if let Err(refusal) = self.executor.block_on(self.handle.stop(&self.name, "try")) {
                problem(refused(&refusal));
            }
            let view = self.await_status(|status| matches!(status, Status::Stopped | Status::Failed))?;
            if view.module.status == Status::Failed {
                problem(format!("it does not stop: {}", view.reason));
            }
        }
        let until = crate::clock::now() + THREADS_END;
        while !threads::left(before).is_empty() && crate::clock::now() < until {
            record::await_note(LOOK);
        }
        let left = threads::left(before);
        if !left.is_empty() {
            problem(format!(
                "{} thread(s) left behind after its stop, named {}: stop has to end and join them",
                left.len(),
                left.join(", ")
            ));
        }
        let twin = self.executor.block_on(self.handle.twin(&self.identity()?)).unwrap_or_default();
        let mut reported = twin["properties"]["reported"].clone();
        if let Some(members) = reported.as_object_mut() {
            members.retain(|key, _| !key.starts_with('$'));
        }
        let used = record::look(|state| state.outputs.values().cloned().collect::<Vec<_>>()).unwrap_or_default();
        for output in used.iter().filter(|output| !self.outputs.contains(output)) {
            warning(format!(
                "output '{output}' is not in the descriptor: name it there, so that routes can be checked"
            ));
        }
        record::note(Event::End { reported });
        Ok(())
    }
}
