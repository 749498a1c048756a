//! Instances as the loop owns them: what is wanted, where each stands, and the doing of what `state::next` decides.

use std::collections::VecDeque;
use std::sync::Arc;

use super::tally::Tally;
use super::{Control, Event};
use crate::clock;
use crate::database::tables::instance::{self as instance_table, InstanceRow};
use crate::database::{File, StoreError};
use crate::image::{Digest, Reference, Verdict};
use crate::instance::host;
use crate::instance::link::{Control as Tell, Link};
use crate::instance::spec::{DesiredStatus, InstanceSpec, Origin};
use crate::instance::state::{
    self, Action, By, Hold, Input, Instance, Moment, RestartPacing, Settings, State, Then, WorkerId,
};
use crate::instance::ticket::{self, Ticket};
use crate::instance::watchdog::Watch;
use crate::instance::worker::{self, Assignment, Ending, WorkerEvent};
use crate::name::folder_name;
use crate::refusal::{Refusal, RefusalKind};
use crate::view::Status;

/// Stack of a worker's thread unless the deployment says otherwise; only what is used is resident.
const STACK_BYTES: usize = 2 << 20;

/// One instance.
pub(super) struct Entry {
    pub spec: InstanceSpec,
    pub origin: Origin,
    /// A file or a person wanted it before a deployment took it over.
    pub was_local: bool,
    pub life: Instance,
    /// How much it had done when that was last looked at.
    pub seen_work: u64,
    /// The image that a full version found first.
    pub first_found: Option<Digest>,
    /// The image that the database knows of.
    pub stored_digest: Option<String>,
    pub link: Option<(WorkerId, Arc<Link>)>,
    pub watch: Watch,
    pub last_start_us: Option<i64>,
    pub last_exit_us: Option<i64>,
    pub exit_code: Option<i32>,
    pub last_exit: Option<String>,
    /// Processor time of its earlier workers, in seconds.
    pub cpu_before: f64,
    pub notes: Vec<String>,
    pub tally: Tally,
}

impl Entry {
    /// Removed, and only waiting for the end of its worker.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.life.state, State::Stopping { then: Then::Remove, .. } | State::Removed)
    }

    fn row(&self) -> InstanceRow {
        InstanceRow {
            name: self.spec.name.clone(),
            origin: origin_word(self.origin).to_owned(),
            image: self.spec.image.clone(),
            digest: self.stored_digest.clone(),
            spec: serde_json::to_string(&self.spec).unwrap_or_default(),
            stopped_by: self.life.hold.as_ref().map(|hold| hold.by.clone()),
            stopped_us: self.life.hold.as_ref().map(|hold| hold.at_us),
            is_local: self.was_local || self.origin != Origin::Deployment,
        }
    }
}

/// The origin behind its word.
pub(super) fn origin_of(word: &str) -> Origin {
    match word {
        "drop" => Origin::Drop,
        "cli" => Origin::Cli,
        _ => Origin::Deployment,
    }
}

/// The word for an origin in the database and in views.
pub(super) fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Drop => "drop",
        Origin::Deployment => "deployment",
        Origin::Cli => "cli",
    }
}

impl Control {
    pub(super) fn settings(&self, spec: &InstanceSpec) -> Settings {
        Settings {
            wanted: spec.status == DesiredStatus::Running,
            policy: spec.restart_policy,
            pacing: RestartPacing { ..self.config.restart },
            stop_grace: spec.options.stop_grace,
        }
    }

    /// Adds an instance, which then looks for its image. Its identity and twin are there already.
    pub(super) fn add(&mut self, spec: InstanceSpec, origin: Origin, hold: Option<Hold>, first_found: Option<Digest>) {
        let life = self.unless_disabled(Instance::new(&spec.name, self.settings(&spec), hold, clock::wall_us()));
        let name = spec.name.clone();
        let entry = Entry {
            spec,
            origin,
            was_local: false,
            life,
            seen_work: 0,
            first_found,
            stored_digest: None,
            link: None,
            watch: Watch::default(),
            last_start_us: None,
            last_exit_us: None,
            exit_code: None,
            last_exit: None,
            cpu_before: 0.0,
            notes: Vec::new(),
            tally: Tally::new(clock::now()),
        };
        self.instances.insert(name, entry);
    }

    /// Stores what is wanted of these instances, in one commit.
    pub(super) fn keep(&self, names: &[String]) {
        let stays = |name: &String| self.instances.get(name).filter(|entry| !entry.is_leaving());
        let rows: Vec<InstanceRow> = names.iter().filter_map(|name| Some(stays(name)?.row())).collect();
        if rows.is_empty() {
            return;
        }
        self.database.submit_now(
            File::Main,
            Box::new(move |tx| rows.iter().try_for_each(|row| instance_table::upsert(tx, row))),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::error!("the state of instances could not be stored: {error}");
                }
            }),
        );
    }

    /// Stores what is wanted of an instance once more, and calls `then` with what became of that; it must not wait. That nothing
    /// else was to be stored is no sign that this is.
    pub(crate) fn when_kept(&self, name: &str, then: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        let entry = self.instances.get(name).filter(|entry| !entry.is_leaving());
        let Some(row) = entry.map(|entry| entry.row()) else { return self.when_committed(then) };
        self.database.submit_now(File::Main, Box::new(move |tx| instance_table::upsert(tx, &row)), Box::new(then));
    }

    /// Lets something happen to an instance, and does what follows from it.
    pub(super) fn apply(&mut self, name: &str, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let random = self.random();
            let Some(entry) = self.instances.get_mut(name) else { return };
            let moment = Moment { now: clock::now(), wall_us: clock::wall_us(), random };
            entry.tally.pass(&entry.life, moment.now);
            let (life, actions) = state::next(&entry.life, input, moment);
            let before = std::mem::replace(&mut entry.life, life);
            let is_connected = entry.life.is_connected();
            let was_abandoned = before.is_abandoned();
            if before.is_connected() != is_connected {
                self.connection_changed(name, is_connected, moment.wall_us);
            }
            let Some(entry) = self.instances.get(name) else { return };
            if was_abandoned && entry.life.state == State::Removed {
                // Its thread lives on, and with it the claim on its name and data folder.
                self.left_behind.insert(name.to_owned());
            }
            self.rollout_saw(name);
            for action in actions {
                inputs.extend(self.act(name, action));
            }
        }
        self.changed();
    }

    fn act(&mut self, name: &str, action: Action) -> Option<Input> {
        match action {
            Action::ChooseImage => return self.choose_image(name),
            Action::Spawn { worker, digest } => return self.spawn(name, worker, &digest),
            Action::AskStop { worker, .. } => {
                if let Some(link) = self.link_of(name, worker) {
                    link.tell(Tell::Stop);
                    self.services.ingest.set_ending(&link.identity, true);
                }
            }
            Action::Abandon { worker, reason } => {
                if let Some(link) = self.link_of(name, worker) {
                    ticket::revoke(link.ticket);
                    self.name_threads(name, &link);
                    // Whoever waits for an answer of it waits no longer.
                    link.fence(&reason);
                    self.forget_link(name, &link);
                }
                if self.instances.get(name).is_some_and(|entry| entry.life.state == State::Removed) {
                    self.left_behind.insert(name.to_owned());
                }
            }
            Action::KeepHold(_) => self.keep(&[name.to_owned()]),
            Action::Forget => {
                self.instances.remove(name);
                let gone = name.to_owned();
                self.database.submit_now(
                    File::Main,
                    Box::new(move |tx| instance_table::delete(tx, &gone)),
                    Box::new(|outcome| {
                        if let Err(error) = outcome {
                            tracing::error!("an instance could not be removed from the store: {error}");
                        }
                    }),
                );
            }
            Action::Report { warn: true, text } => tracing::warn!(module = name, "{text}"),
            Action::Report { warn: false, text } => tracing::info!(module = name, "{text}"),
        }
        None
    }

    /// Says which threads of its module an instance that is given up may be waiting for.
    fn name_threads(&mut self, name: &str, link: &Link) {
        let threads = link.started_threads();
        if threads.is_empty() {
            return;
        }
        let which = if threads.len() == 1 { "a thread" } else { "threads" };
        let text = format!("{which} of its module did not end: {}", threads.join(", "));
        tracing::warn!(module = name, "{text}");
        if let Some(entry) = self.instances.get_mut(name)
            && let State::Failed { reason, .. } = &mut entry.life.state
        {
            *reason = format!("{reason}; {text}");
        }
    }

    fn link_of(&self, name: &str, worker: WorkerId) -> Option<Arc<Link>> {
        self.instances.get(name)?.link.as_ref().filter(|(id, _)| *id == worker).map(|(_, link)| link.clone())
    }

    /// Finds the image that the instance is to use and says so.
    pub(super) fn choose_image(&mut self, name: &str) -> Option<Input> {
        // Until the first look into the watched folders is over, a newer image may still turn up.
        if !self.is_settled {
            return None;
        }
        let entry = self.instances.get(name)?;
        if !self.has_turn(entry) {
            return None;
        }
        let input = match (self.resolve(entry), self.missing_secrets(&entry.spec)) {
            // What runs goes on, with what it was given.
            (Input::ImageChosen { .. }, Some(reason)) if entry.link.is_none() => Input::ImageMissing { reason },
            (input, _) => input,
        };
        let entry = self.instances.get_mut(name)?;
        if let Input::ImageChosen { digest } = &input {
            let is_other = entry.life.digest.as_ref() != Some(digest);
            let is_fixed = entry.spec.image.parse::<Reference>().is_ok_and(|reference| !reference.is_moving());
            if is_fixed && entry.first_found.is_none() {
                entry.first_found = digest.parse().ok();
            }
            if is_other && entry.life.digest.is_some() {
                entry.notes.retain(|note| !note.starts_with("an older image"));
                entry.notes.push(
                    "an older image of it stays loaded (about 0.5 MB, of which 60 KB private) until the runtime ends"
                        .to_owned(),
                );
            }
            if entry.stored_digest.as_ref() != Some(digest) {
                entry.stored_digest = Some(digest.clone());
                let row = entry.row();
                self.database.submit_now(
                    File::Main,
                    Box::new(move |tx| instance_table::upsert(tx, &row)),
                    Box::new(|outcome| {
                        if let Err(error) = outcome {
                            tracing::error!("the image of an instance could not be stored: {error}");
                        }
                    }),
                );
            }
        }
        Some(input)
    }

    fn spawn(&mut self, name: &str, worker: WorkerId, digest: &str) -> Option<Input> {
        let fail = |reason: String| Some(Input::Worker(worker, state::WorkerEvent::StartFailed { reason }));
        if self.shutdown.is_some() {
            return fail("the runtime is ending".to_owned());
        }
        if self.left_behind.contains(name) {
            return fail(format!("the thread of the {name} that was removed never returned; restart the runtime"));
        }
        if let Some(reason) = self.instances.get(name).and_then(|entry| self.missing_secrets(&entry.spec)) {
            return Some(Input::Worker(worker, state::WorkerEvent::NotReady { reason }));
        }
        let Ok(digest) = digest.parse::<Digest>() else { return fail(format!("'{digest}' is not a digest")) };
        let record = match self.identities.ensure(Some(name)) {
            Ok(record) => record,
            Err(error) => return fail(format!("its identity cannot be made: {error}")),
        };
        if !record.is_enabled {
            // The registry was faster than what it tells the loop.
            return Some(Input::Disabled { reason: super::identities::disabled_reason(&record) });
        }
        let entry = self.instances.get_mut(name)?;
        let (services, device_twin) = (self.services.clone(), entry.spec.options.device_twin);
        let identity = record.identity.clone();
        let make = |ticket| Arc::new(Link::new(ticket, identity, services).with_device_twin(device_twin));
        let Some(link) = ticket::issue(make) else {
            return fail("too many instances".to_owned());
        };
        if let Ok(mut directory) = self.directory.write() {
            directory.insert(link.name.clone(), link.clone());
        }
        self.services.ingest.set_ending(&link.identity, false);
        entry.link = Some((worker, link.clone()));
        entry.watch = Watch::default();
        entry.last_start_us = Some(clock::wall_us());
        entry.tally.starts += 1;
        // The first worker of an image asks it, for all of them.
        let ask = self.described.insert(digest);
        self.has_grown = true;
        let events = self.events.clone();
        let (of, ticket) = (name.to_owned(), link.ticket);
        let assignment = Assignment {
            link: link.clone(),
            load: super::images::loader(self.store.clone(), digest, ask, self.events.clone()),
            generation_id: record.generation_id.to_string(),
            inputs: self.catalog.get(&digest).map(|image| image.descriptor.inputs.clone()).unwrap_or_default(),
            env: serde_json::to_string(&entry.spec.env).unwrap_or_else(|_| "{}".to_owned()),
            data_folder: self.folders.data.join(folder_name(name)),
            image_folder: self.store.folder(&digest),
            stack_bytes: entry.spec.options.stack_bytes.unwrap_or(STACK_BYTES),
            report: Box::new(move |event| {
                // The loop is gone only when the process is about to be.
                let _ = events.send(Event::Worker { name: of.clone(), worker, ticket, event });
            }),
        };
        if let Err(error) = worker::spawn(assignment) {
            ticket::revoke(link.ticket);
            self.forget_link(name, &link);
            return fail(format!("its thread cannot be started: {error}"));
        }
        None
    }

    fn forget_link(&mut self, name: &str, link: &Arc<Link>) {
        if let Ok(mut directory) = self.directory.write()
            && directory.get(name).is_some_and(|known| known.ticket == link.ticket)
        {
            directory.remove(name);
        }
        if let Some(entry) = self.instances.get_mut(name)
            && entry.link.as_ref().is_some_and(|(_, known)| known.ticket == link.ticket)
        {
            entry.link = None;
            entry.cpu_before += link.cpu_seconds();
            entry.tally.tries = entry.tally.tries + link.retries.counts();
        }
    }

    pub(super) fn worker_event(&mut self, name: &str, worker: WorkerId, ticket: Ticket, event: WorkerEvent) {
        // No other worker of the name is started before this.
        if matches!(event, WorkerEvent::Ended(_)) && self.left_behind.remove(name) {
            tracing::warn!(module = name, "its thread returned long after it was removed; its name can be used again");
            return self.changed();
        }
        let current = self.instances.get(name).and_then(|entry| entry.link.as_ref());
        if current.is_some_and(|(_, link)| link.ticket != ticket) {
            // One that was given up and removed; an instance of its name has been added since.
            return;
        }
        let said = match event {
            WorkerEvent::Started => state::WorkerEvent::Started,
            WorkerEvent::Ended(ending) => {
                if let Some(link) = self.link_of(name, worker) {
                    self.forget_link(name, &link);
                }
                if let Some(entry) = self.instances.get_mut(name) {
                    entry.last_exit_us = Some(clock::wall_us());
                    entry.exit_code = Some(i32::from(ending != Ending::Stopped));
                    entry.last_exit = Some(ending.reason().to_owned());
                    entry.tally.ended(ending == Ending::Stopped);
                }
                match ending {
                    Ending::Stopped => state::WorkerEvent::Exited { reason: "stopped".to_owned(), clean: true },
                    Ending::StartFailed(reason) if self.is_quarantined(name) => {
                        state::WorkerEvent::NotLoaded { reason }
                    }
                    Ending::StartFailed(reason) => state::WorkerEvent::StartFailed { reason },
                    Ending::Failed(reason) => state::WorkerEvent::Exited { reason, clean: false },
                }
            }
        };
        self.apply(name, Input::Worker(worker, said));
    }

    /// Whether the image of an instance turned out to be of no use.
    fn is_quarantined(&self, name: &str) -> bool {
        let digest = self.instances.get(name).and_then(|entry| entry.life.digest.as_ref()?.parse().ok());
        let image = digest.and_then(|digest| self.catalog.get(&digest));
        image.is_some_and(|image| matches!(image.verdict, Verdict::Quarantined { .. }))
    }

    /// A person's command for one instance.
    pub(crate) fn command(&mut self, name: &str, input: Input) -> Result<(), Refusal> {
        if let Input::StartRequested { by: By::Person(_) } = &input
            && !self.instances.contains_key(name)
            && self.shutdown.is_none()
        {
            self.bring_back(name)?;
        }
        let Some(entry) = self.instances.get(name) else { return Err(self.unknown_module(name)) };
        if self.shutdown.is_some() {
            return Err(Refusal {
                kind: RefusalKind::Conflict,
                message: "the runtime is ending".to_owned(),
                hint: Some("start it again, then repeat the command".to_owned()),
                details: Vec::new(),
            });
        }
        if entry.is_leaving() {
            let hint = "repeat it when `dinrail list` does not show it any more";
            return Err(Refusal::new(RefusalKind::Conflict, format!("{name} is being removed"), hint));
        }
        if entry.life.is_abandoned() && !matches!(input, Input::StopRequested { .. }) {
            return Err(Refusal {
                kind: RefusalKind::Conflict,
                message: format!("{name} cannot start: {}", entry.life.reason(clock::now())),
                hint: entry.life.next_step(),
                details: Vec::new(),
            });
        }
        if let (Some(reason), Input::StartRequested { .. } | Input::RestartRequested { .. }) =
            (&entry.life.disabled, &input)
        {
            let message = format!("{name} cannot start: {reason}");
            return Err(Refusal::new(RefusalKind::Conflict, message, format!("dinrail identity enable {name}")));
        }
        let is_start = matches!(input, Input::StartRequested { .. } | Input::RestartRequested { .. });
        if is_start && entry.life.status() == Status::Quarantined {
            self.try_again(name);
        }
        let is_allowed_again = matches!(input, Input::StartRequested { .. }) && self.lift_bars(name);
        self.apply(name, input);
        if is_allowed_again && let Some(input) = self.choose_image(name) {
            self.apply(name, input);
        }
        Ok(())
    }

    /// Sets the log level that modules format for.
    pub(super) fn set_module_level(level: u32) {
        host::set_max_level(level);
    }
}
