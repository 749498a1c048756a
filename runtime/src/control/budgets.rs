//! How many bytes of messages may wait on disk: as the deployment says, else the configuration, else as much as the disk of the
//! state directory allows.

use super::Control;
use crate::database::disk_space;
use crate::deployment::StoreConfiguration;
use crate::queue::budget::Limits;

/// Most that the store gets of a disk without being told.
const LARGEST_SHARE: u64 = 8 << 30;
/// Where the system does not tell the size of the disk.
const WITHOUT_A_SIZE: u64 = 1 << 30;

/// What the store gets unless somebody says otherwise: a quarter of the disk, 8 GiB at most.
pub(super) fn share_of_disk(size: Option<u64>) -> u64 {
    size.map_or(WITHOUT_A_SIZE, |size| (size / 4).min(LARGEST_SHARE))
}

impl Control {
    /// Puts the budgets of a deployment in force; what waits already stays.
    pub(super) fn put_budgets_in_force(&self, store: &StoreConfiguration) {
        let limits = self.limits(store);
        let budget = self.services.disk.budget();
        if budget.limits() != limits {
            tracing::info!(
                bytes = limits.total,
                endpoints = limits.endpoints.len(),
                "the store may hold other amounts now"
            );
            budget.set_limits(limits);
        }
    }

    fn limits(&self, store: &StoreConfiguration) -> Limits {
        let configured = store.max_bytes.or(self.config.queue.store_bytes);
        let total = configured.unwrap_or_else(|| share_of_disk(disk_space(&self.folders.state).map(|(_, size)| size)));
        let device = self.identities.device_id();
        let endpoints = store.endpoints.iter().filter_map(|(endpoint, configuration)| {
            // Inputs are named without their device in a manifest, which is for many devices.
            let name =
                if endpoint.starts_with('/') { format!("/devices/{device}{endpoint}") } else { endpoint.clone() };
            Some((name.into(), configuration.max_bytes?))
        });
        Limits { total, endpoints: endpoints.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_gets_a_quarter_of_the_disk_and_never_more_than_8_gib() {
        let table = [(Some(48 << 20), 12 << 20), (Some(8 << 30), 2 << 30), (Some(1 << 40), 8 << 30), (None, 1 << 30)];
        for (size, share) in table {
            assert_eq!(share_of_disk(size), share, "{size:?}");
        }
    }
}
