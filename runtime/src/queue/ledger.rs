//! The ledger of losses as it stands on disk, and what of it is still to be told.

use super::disk::Disk;
use crate::database::tables::loss::{self, LossLine, LossRow, LossTotal};
use crate::database::{File, StoreError};

impl Disk {
    /// See [`loss::toll`]. Reads, and waits for nobody's commit.
    pub fn toll(&self, sender: &str, prefix: &str) -> Result<loss::Toll, StoreError> {
        self.database.read(File::Queue, |conn| loss::toll(conn, sender, prefix))
    }

    /// The ledger of losses, sorted. Reads, and waits for nobody's commit.
    pub fn losses(&self) -> Result<Vec<LossLine>, StoreError> {
        self.database.read(File::Queue, loss::all)
    }

    /// What came into the ledger and is to be told, the oldest first, each with its id. Reads, and waits for nobody's commit.
    pub fn untold_losses(&self) -> Result<Vec<(i64, LossRow)>, StoreError> {
        self.database.read(File::Queue, loss::untold)
    }

    /// Takes out of it what was told; `then` follows always, on the writer's thread. `[never blocks]`
    pub fn told_losses(&self, ids: Vec<i64>, then: impl FnOnce() + Send + 'static) {
        self.database.submit_now(
            File::Queue,
            Box::new(move |tx| loss::told(tx, &ids)),
            Box::new(move |outcome| {
                if let Err(error) = outcome {
                    tracing::debug!("lines of the ledger will be told again: {error}");
                }
                then();
            }),
        );
    }

    /// The ledger without its ranges, sorted.
    pub fn loss_totals(&self) -> Result<Vec<LossTotal>, StoreError> {
        self.database.read(File::Queue, loss::totals)
    }
}
