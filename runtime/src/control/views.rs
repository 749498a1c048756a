//! What clients are shown of the loop's state.

use std::collections::BTreeMap;

use super::Control;
use super::instances::{Entry, origin_word};
use crate::clock;
use crate::deployment::{kept_for, wait};
use crate::image::Library;
use crate::instance::link::Link;
use crate::instance::spec::{Isolation, RestartPolicy};
use crate::instance::state::State;
use crate::name::Identity;
use crate::refusal::{Refusal, RefusalKind};
use crate::spelling::nearest;
use crate::twin::Part;
use crate::view::{
    HealthSentence, HealthView, ImageView, InboxView, LogView, ModuleDetail, ModuleView, RefusedView, Status,
    ThreadView, WatchedFolderView,
};

impl Control {
    pub(crate) fn module_views(&self) -> Vec<ModuleView> {
        self.instances.values().map(|entry| self.module_view(entry)).collect()
    }

    /// Instances that run, and all of them.
    pub(crate) fn count_running(&self) -> (usize, usize) {
        let running = self.instances.values().filter(|entry| entry.life.status() == Status::Running).count();
        (running, self.instances.len())
    }

    fn module_view(&self, entry: &Entry) -> ModuleView {
        let life = &entry.life;
        let name = &entry.spec.name;
        let identity = Identity::module(self.identities.device_id(), name).ok();
        let twin = identity.as_ref().and_then(|identity| self.twins.get(identity));
        let version_of = |part| twin.as_ref().map(|twin| twin.section(part).version);
        let image =
            life.digest.as_ref().and_then(|digest| digest.parse().ok()).and_then(|digest| self.catalog.get(&digest));
        let (messages, bytes) = self.services.ingest.waiting(name);
        let link = entry.link.as_ref().map(|(_, link)| link);
        let now = clock::now();
        let stuck = if life.status() == Status::Unhealthy { self.stuck_in(entry, now) } else { None };
        let reason = stuck.unwrap_or_else(|| life.reason(now));
        let health = link.map(|link| link.health()).filter(|health| !health.sentence.is_empty());
        let health = health
            .map(|health| HealthSentence { level: level_word(health.level).to_owned(), sentence: health.sentence });
        ModuleView {
            name: name.clone(),
            identity: identity.map(|identity| identity.to_string()).unwrap_or_default(),
            status: life.status(),
            image: entry.spec.image.clone(),
            version: image.map(|image| image.descriptor.version.to_string()),
            digest: life.digest.clone(),
            isolation: match entry.spec.options.isolation {
                // Processes come later; until then everything is a thread, which the plan says.
                Isolation::Auto | Isolation::Thread | Isolation::Process => "thread".to_owned(),
            },
            restart_policy: match entry.spec.restart_policy {
                RestartPolicy::Never => "never",
                RestartPolicy::OnFailure => "on-failure",
                RestartPolicy::OnUnhealthy => "on-unhealthy",
                RestartPolicy::Always => "always",
            }
            .to_owned(),
            restart_count: life.failures,
            last_start_time_utc: entry.last_start_us.map(clock::rfc3339),
            last_exit_time_utc: entry.last_exit_us.map(clock::rfc3339),
            exit_code: entry.exit_code,
            status_description: match &health {
                Some(health) if reason.is_empty() => health.sentence.clone(),
                _ => reason,
            },
            health,
            desired_version: version_of(Part::Desired),
            reported_version: version_of(Part::Reported),
            inbox: InboxView { messages, bytes, spilled: self.services.ingest.on_disk(name) },
            cpu_seconds: entry.last_start_us.map(|_| entry.cpu_before + link.map_or(0.0, |link| link.cpu_seconds())),
            memory_bytes: image.and_then(|image| Library::memory_in_use(&image.digest)),
        }
    }

    pub(crate) fn module_details(&self) -> Vec<ModuleDetail> {
        self.instances.keys().filter_map(|name| self.module_detail(name)).collect()
    }

    /// What is wanted of an instance.
    pub(crate) fn spec_of(&self, name: &str) -> Option<&crate::instance::spec::InstanceSpec> {
        self.instances.get(name).map(|entry| &entry.spec)
    }

    pub(crate) fn watched_folders(&self) -> Vec<WatchedFolderView> {
        let view = |(folder, trouble): &(crate::image::WatchedFolder, Option<String>)| WatchedFolderView {
            path: folder.path.display().to_string(),
            autostart: folder.autostart,
            trouble: trouble.clone(),
        };
        self.watched.iter().map(view).collect()
    }

    pub(crate) fn module_detail(&self, name: &str) -> Option<ModuleDetail> {
        let entry = self.instances.get(name)?;
        let module = self.module_view(entry);
        let image =
            entry.life.digest.as_ref().and_then(|d| d.parse().ok()).and_then(|digest| self.catalog.get(&digest));
        let mut notes = entry.notes.clone();
        notes.extend(self.barred_notes(name));
        notes.extend(self.secret_notes(entry));
        let now = clock::now();
        let retries = entry.link.as_ref().map(|(_, link)| &link.retries);
        let waits_long = retries.is_some_and(|retries| retries.long_note(now).is_some());
        let retry_notes = retries.map(|retries| retries.notes(now)).unwrap_or_default();
        if entry.spec.options.isolation == Isolation::Process {
            notes.push("isolation 'process' is not available in this version: it runs as a thread".to_owned());
        }
        let is_running = module.status == Status::Running;
        let twin = Identity::module(self.identities.device_id(), name).ok().and_then(|id| self.twins.get(&id));
        let refused = twin.and_then(|twin| {
            let said = twin.acknowledged().filter(|said| !said.ok && said.version == twin.desired.version)?;
            Some(RefusedView { version: said.version, error: said.error.unwrap_or_default() })
        });
        Some(ModuleDetail {
            origin: origin_word(entry.origin).to_owned(),
            reason: match is_running {
                true if retry_notes.is_empty() => "up and doing its work".to_owned(),
                true => "up, and waits for another try of a message: see the note".to_owned(),
                false => module.status_description.clone(),
            },
            last_exit: entry.last_exit.clone(),
            next_start_time_utc: match entry.life.state {
                State::Backoff { until, .. } => {
                    let left = until.saturating_duration_since(clock::now());
                    let left = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
                    Some(clock::rfc3339(clock::wall_us().saturating_add(left)))
                }
                _ => None,
            },
            refused,
            threads: entry.link.as_ref().map(|(_, link)| threads(link)).unwrap_or_default(),
            image_instances: image.map_or(0, |image| self.users(&image.digest).len()),
            parked: 0,
            waiting_calls: entry.link.as_ref().map_or(0, |(_, link)| link.waiting_calls()),
            late_answers: self.services.calls.figures().late_answers_of(&module.identity),
            losses: Vec::new(),
            next_step: entry.life.next_step().or_else(|| waits_long.then(|| retry_step(name))),
            data_folder: self.folders.data.join(crate::name::folder_name(name)).display().to_string(),
            log: self.log_view(name),
            startup_order: entry.spec.startup_order,
            notes: [retry_notes, notes].concat(),
            descriptor: image.and_then(|image| serde_json::to_value(&image.descriptor).ok()),
            module,
        })
    }

    fn log_view(&self, name: &str) -> LogView {
        let logs = &self.services.logs;
        let dropped = logs.dropped(name);
        LogView {
            file: logs.file_of(name).map(|file| file.display().to_string()),
            dropped: dropped.sum(),
            dropped_by_rate: dropped.rate,
            dropped_by_queue: dropped.queue,
            dropped_by_disk: dropped.disk,
        }
    }

    /// The state of a module that a message is sent to; refused where its image says that it has no such input.
    pub(crate) fn receiver(&self, name: &str, input: &str) -> Result<Status, Refusal> {
        let Some(entry) = self.instances.get(name) else { return Err(self.unknown_module(name)) };
        if let Some(reason) = &entry.life.disabled {
            let message = format!("{name} takes no messages: {reason}");
            return Err(Refusal::new(RefusalKind::Conflict, message, format!("dinrail identity enable {name}")));
        }
        let image = entry.life.digest.as_ref().and_then(|digest| digest.parse().ok());
        if let Some(image) = image.and_then(|digest| self.catalog.get(&digest)) {
            let inputs = &image.descriptor.inputs;
            if !inputs.iter().any(|known| known == input) {
                let hint = match &inputs[..] {
                    [] => format!("{name} takes no messages"),
                    inputs => format!("it has {}", inputs.join(", ")),
                };
                return Err(Refusal::new(RefusalKind::NotFound, format!("{name} has no input '{input}'"), hint));
            }
        }
        Ok(entry.life.status())
    }

    pub(crate) fn image_views(&self) -> Vec<ImageView> {
        self.catalog.views(|digest| self.users(digest), |name| self.removal_of(name))
    }

    pub(crate) fn health_view(&self) -> HealthView {
        let mut notes = self.notes.clone();
        let (messages, parked, bytes) = self.services.disk.stored();
        let held = self.services.disk.budget().by_endpoint();
        let upstream = held.iter().find(|held| &*held.endpoint == "$upstream").map_or(0, |held| held.bytes);
        notes.extend(upstream_note(messages, bytes, upstream));
        notes.extend(stranded_notes(self.services.ingest.waiting_inputs(), |module| {
            self.instances.contains_key(module)
        }));
        if parked > 0 {
            let are = if parked == 1 { "1 message is".to_owned() } else { format!("{parked} messages are") };
            notes.push(format!("{are} parked as poisonous: dinrail dead-letter list"));
        }
        let shortage = self.database.room().shortage();
        if let Some(shortage) = shortage {
            notes.push(format!("the store takes no more messages: {shortage}; {}", shortage.hint()));
        }
        let troubles = self.database.troubles();
        let is_stored = shortage.is_none() && troubles.is_empty();
        notes.extend(troubles);
        notes.extend(self.unwell());
        notes.extend(self.held_up());
        let late = self.services.calls.figures().late_answers();
        if late > 0 {
            notes.push(format!("{late} answers to method calls came after their deadline and were dropped"));
        }
        let is_well = |status: Status| !matches!(status, Status::Failed | Status::Quarantined | Status::Unhealthy);
        let is_ok = self.instances.values().all(|entry| is_well(entry.life.status()));
        HealthView {
            status: if is_ok && is_stored { "ok" } else { "degraded" }.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device_id: self.identities.device_id().to_owned(),
            pid: std::process::id(),
            state: self.folders.state.display().to_string(),
            uptime_secs: self.started.elapsed().as_secs(),
            notes,
            api: None,
        }
    }

    /// Instances that are not well, a line each.
    fn unwell(&self) -> Vec<String> {
        let is_unwell = |view: &ModuleView| {
            matches!(view.status, Status::Failed | Status::Quarantined | Status::Unhealthy | Status::Backoff)
        };
        let views = self.module_views().into_iter().filter(is_unwell);
        views.map(|view| format!("{} is {}: {}", view.name, view.status.as_str(), view.status_description)).collect()
    }

    /// Instances that run, and wait long for another try of a message, a line each.
    fn held_up(&self) -> Vec<String> {
        let now = clock::now();
        let note = |(name, entry): (&String, &Entry)| {
            let note = entry.link.as_ref()?.1.retries.long_note(now)?;
            Some(format!("{name}: {note}"))
        };
        self.instances.iter().filter_map(note).collect()
    }

    /// For an unknown module: what there is instead.
    pub(crate) fn unknown_module(&self, name: &str) -> Refusal {
        let names: Vec<&str> = self.instances.keys().map(String::as_str).collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(known) => format!("did you mean '{known}'?"),
            _ if names.is_empty() => "nothing is deployed: dinrail deploy FILE".to_owned(),
            _ => format!("there is {}", names.join(", ")),
        };
        Refusal {
            kind: RefusalKind::NotFound,
            message: format!("there is no module '{name}'"),
            hint: Some(hint),
            details: Vec::new(),
        }
    }
}

/// What to do about a message that waits long for another try.
fn retry_step(name: &str) -> String {
    format!("correct the cause; dinrail restart {name} tries it at once")
}

fn threads(link: &Link) -> Vec<ThreadView> {
    link.live_threads().into_iter().map(|(name, cpu_seconds)| ThreadView { name, cpu_seconds }).collect()
}

/// The word for a level of the ABI.
fn level_word(level: u32) -> &'static str {
    use dinrail_plugin::abi::{DR_DEBUG, DR_ERROR, DR_TRACE, DR_WARN};
    match level {
        DR_ERROR => "error",
        DR_WARN => "warn",
        DR_DEBUG => "debug",
        DR_TRACE => "trace",
        _ => "info",
    }
}

/// What waits for a hub that there is not: `upstream` of all `bytes` on disk.
fn upstream_note(messages: u64, bytes: u64, upstream: u64) -> Option<String> {
    if messages == 0 || upstream == 0 {
        return None;
    }
    let wait = wait(messages);
    let what = if upstream == bytes {
        format!("{wait} on disk for $upstream, {bytes} bytes")
    } else {
        format!("{upstream} bytes of messages wait on disk for $upstream")
    };
    Some(format!("{what}; there is no hub above this device"))
}

/// What waits for modules that there are not, from what waits by module and input.
fn stranded_notes(waiting: BTreeMap<(String, String), u64>, is_there: impl Fn(&str) -> bool) -> Vec<String> {
    let mut by_module: BTreeMap<String, u64> = BTreeMap::new();
    for ((module, _), messages) in waiting {
        *by_module.entry(module).or_default() += messages;
    }
    let stranded = by_module.into_iter().filter(|(module, _)| !is_there(module));
    let note = |(module, messages): (String, u64)| format!("{} for {module}, {}", wait(messages), kept_for(&module));
    stranded.map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_module_that_is_gone_is_told_by_its_name() {
        let at = |module: &str, input: &str| (module.to_owned(), input.to_owned());
        let waiting = [(at("gone", "a"), 2), (at("gone", "b"), 1), (at("here", "a"), 7), (at("lost", "a"), 1)];
        let notes = stranded_notes(waiting.into(), |module| module == "here");
        assert_eq!(notes.len(), 2);
        assert!(
            notes[0].starts_with("3 messages wait for gone, ") && notes[1].starts_with("1 message waits for lost, ")
        );
    }

    #[test]
    fn what_waits_for_an_input_is_not_said_to_wait_for_a_hub() {
        assert_eq!(upstream_note(193, 19_974, 0), None);
        let of_both = upstream_note(3, 90, 60).unwrap();
        assert!(of_both.starts_with("60 bytes of messages wait on disk for $upstream;"), "{of_both}");
        assert!(upstream_note(3, 90, 90).unwrap().starts_with("3 messages wait on disk for $upstream, 90 bytes;"));
    }
}
