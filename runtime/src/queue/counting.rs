//! What the table of messages held at the start, counted. A large one is counted while messages pass already.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::budget::Budget;
use super::disk::Shared;
use crate::database::tables::queue::{self, Count};
use crate::database::{Database, File, StoreError};

/// A file of up to so many bytes is counted at once, which takes a few milliseconds.
const SMALL: u64 = 4 << 20;

/// Counts into `shared` and `budget`. Nothing is stored yet when this is called: what is stored or removed meanwhile changes the
/// same counters, and the table is seen as it was.
pub(super) fn count(database: &Database, shared: &Arc<Shared>, budget: &Arc<Budget>) -> Result<(), StoreError> {
    let (snapshot, bytes) = database.snapshot(File::Queue)?;
    if bytes <= SMALL {
        add(snapshot.read(queue::counts)?, shared, budget);
        return Ok(());
    }
    budget.expect(bytes);
    let (shared, budget) = (shared.clone(), budget.clone());
    let count = move || match snapshot.read(queue::counts) {
        Ok(counts) => add(counts, &shared, &budget),
        // The size of the file goes on standing for it.
        Err(error) => tracing::error!("the messages on disk could not be counted: {error}"),
    };
    let spawned = std::thread::Builder::new().name("count".to_owned()).stack_size(256 << 10).spawn(count);
    if let Err(error) = spawned {
        tracing::error!("the messages on disk are not counted: {error}");
    }
    Ok(())
}

fn add(counts: Vec<Count>, shared: &Shared, budget: &Budget) {
    shared.tell_counted(&counts);
    for count in &counts {
        let counter = if count.is_parked { &shared.parked } else { &shared.messages };
        counter.fetch_add(count.messages, Ordering::Relaxed);
    }
    budget.counted(counts.into_iter().map(|count| (count.endpoint.into(), count.bytes)));
}
