//! What the registry of identities and the instances have to do with each other: who may act runs, and who runs is connected.

use crossbeam_channel::Sender;

use super::{Control, Event};
use crate::clock;
use crate::identity::IdentityRecord;
use crate::instance::state::{Input, Instance, Moment, next};
use crate::name::Identity;

/// Why an instance of a disabled identity is stopped.
pub(super) fn disabled_reason(record: &IdentityRecord) -> String {
    match &record.status_reason {
        Some(reason) => format!("its identity is disabled ({reason})"),
        None => "its identity is disabled".to_owned(),
    }
}

/// Tells the loop of identities that were enabled or disabled, whoever did it.
pub(super) fn teller(events: Sender<Event>) -> impl Fn(&Identity) + Send + Sync {
    move |identity| {
        let identity = identity.clone();
        // A loop that has ended stops all instances anyway.
        drop(events.send(Event::Request(Box::new(move |control, _| control.status_changed(&identity)))));
    }
}

impl Control {
    /// Stops the instance of an identity that was disabled, or starts that of one that was enabled.
    fn status_changed(&mut self, identity: &Identity) {
        if self.shutdown.is_some() || identity.device_id() != self.identities.device_id() {
            return;
        }
        let (Some(module), Some(record)) = (identity.module_id(), self.identities.get(identity)) else { return };
        let input = match record.is_enabled {
            true => Input::Enabled,
            false => Input::Disabled { reason: disabled_reason(&record) },
        };
        self.apply(module, input);
    }

    /// A new instance, stopped where its identity may not act.
    pub(super) fn unless_disabled(&self, life: Instance) -> Instance {
        let identity = Identity::module(self.identities.device_id(), &life.name).ok();
        let record = identity.and_then(|identity| self.identities.get(&identity));
        let Some(record) = record.filter(|record| !record.is_enabled) else { return life };
        let moment = Moment { now: clock::now(), wall_us: clock::wall_us(), random: 0 };
        next(&life, Input::Disabled { reason: disabled_reason(&record) }, moment).0
    }

    /// Notes that the instance behind an identity has come up or gone down.
    pub(super) fn connection_changed(&self, name: &str, is_connected: bool, wall_us: i64) {
        if let Ok(identity) = Identity::module(self.identities.device_id(), name) {
            self.identities.set_connected(&identity, is_connected, wall_us);
        }
    }

    /// Notes who has done anything since the last look: called its runtime, was called, or sent.
    pub(super) fn look_for_activity(&mut self) {
        let mut wall_us = None;
        for entry in self.instances.values_mut() {
            let Some((_, link)) = entry.link.as_ref().filter(|_| entry.life.is_connected()) else { continue };
            let work = link.work();
            if std::mem::replace(&mut entry.seen_work, work) == work {
                continue;
            }
            if let Some(record) = self.identities.get(&link.identity) {
                self.identities.was_active(&record, *wall_us.get_or_insert_with(clock::wall_us));
            }
        }
    }
}
