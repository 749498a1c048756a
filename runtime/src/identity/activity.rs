//! Whether an identity is connected, and when it did anything last.
//!
//! Of this device's modules that is whether their instance runs. It is stored when the connection changes and when the runtime
//! ends, not with each activity: what a power cut takes of it is a time, no fact.

use std::sync::{Arc, PoisonError};

use super::IdentityRecord;
use super::registry::Identities;
use super::store::{self, IdentityRow};
use crate::database::File;
use crate::name::Identity;

/// See the module's documentation. Times are wall times in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence {
    /// Now.
    pub is_connected: bool,
    /// Since when it is so; `None`: it never was connected.
    pub changed_us: Option<i64>,
    /// The last sign of it; `None`: none ever.
    pub activity_us: Option<i64>,
}

impl Presence {
    pub(super) fn from_row(row: &IdentityRow) -> Option<Presence> {
        let presence = Presence { is_connected: false, changed_us: row.connection_us, activity_us: row.activity_us };
        Some(presence).filter(|presence| *presence != Presence::default())
    }
}

impl Identities {
    /// Whether and when it was there.
    pub fn presence(&self, record: &IdentityRecord) -> Presence {
        let presence = self.0.presence.read().unwrap_or_else(PoisonError::into_inner);
        presence.get(&record.key).copied().unwrap_or_default()
    }

    /// Notes that an identity has connected or disconnected. It is stored soon. `[never waits]`
    pub fn set_connected(&self, identity: &Identity, is_connected: bool, now_us: i64) {
        let Some(record) = self.get(identity) else { return };
        let presence = {
            let mut all = self.0.presence.write().unwrap_or_else(PoisonError::into_inner);
            let presence = all.entry(record.key).or_default();
            if presence.is_connected == is_connected {
                return;
            }
            *presence = Presence { is_connected, changed_us: Some(now_us), activity_us: Some(now_us) };
            *presence
        };
        self.store_presence(vec![(record.key, presence)]);
    }

    /// Notes a sign of life. It is stored with the next change of the connection. `[never waits]`
    pub fn was_active(&self, record: &Arc<IdentityRecord>, now_us: i64) {
        let mut all = self.0.presence.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(record.key).or_default().activity_us = Some(now_us);
    }

    /// Has everything of it stored, for the end of the runtime: nobody is connected then.
    pub fn settle_presence(&self, now_us: i64) {
        let mut all = self.0.presence.write().unwrap_or_else(PoisonError::into_inner);
        for presence in all.values_mut().filter(|presence| presence.is_connected) {
            presence.is_connected = false;
            presence.changed_us = Some(now_us);
        }
        let all = all.iter().map(|(key, presence)| (*key, *presence)).collect();
        self.store_presence(all);
    }

    fn store_presence(&self, changed: Vec<(i64, Presence)>) {
        self.0.database.submit_now(
            File::Main,
            Box::new(move |tx| {
                changed.iter().try_for_each(|(key, now)| store::touch(tx, *key, now.changed_us, now.activity_us))
            }),
            Box::new(|outcome| {
                if let Err(error) = outcome {
                    tracing::warn!("when identities connected could not be stored: {error}");
                }
            }),
        );
    }
}
