//! Dead letters of the store: looked at, put back to the end of their queues, discarded.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};

use rusqlite::Connection;

use super::disk::Disk;
use super::lane::lock;
use crate::database::tables::clock as clock_table;
use crate::database::tables::dead_letter::{self, DeadLetter, Filter, Moved};
use crate::database::{File, StoreError, Work};

impl Disk {
    /// How many there are, and up to `limit` of them with ids above `after`, without properties and bodies.
    pub fn dead_letters(&self, filter: &Filter, after: i64, limit: u32) -> Result<(u64, Vec<DeadLetter>), StoreError> {
        self.database.read(File::Queue, |conn| {
            Ok((dead_letter::count(conn, filter)?, dead_letter::list(conn, filter, after, limit)?))
        })
    }

    /// One with everything, and when it was really taken in, where that is known.
    pub fn dead_letter(&self, id: i64) -> Result<Option<(DeadLetter, Option<i64>)>, StoreError> {
        self.database.read(File::Queue, |conn| {
            let Some(letter) = dead_letter::get(conn, id)? else { return Ok(None) };
            Ok(Some((letter, clock_table::true_time(conn, id)?)))
        })
    }

    /// Messages that wait on disk, and messages that are set aside, for endpoints that begin with `prefix`.
    pub fn stored_for(&self, prefix: &str) -> Result<(u64, u64), StoreError> {
        self.database.read(File::Queue, |conn| dead_letter::stored_for(conn, prefix))
    }

    /// Puts them back, as if they had never been delivered; how many. Waits for the disk.
    pub fn resend_dead_letters(&self, filter: &Filter, now_us: i64) -> Result<u64, StoreError> {
        let mut count = 0;
        // What is set aside again meanwhile is not meant.
        let filter = Filter { up_to: Some(self.last_id()?), ..filter.clone() };
        loop {
            let (of, disk, shared) = (filter.clone(), self.clone(), self.shared.clone());
            let moved = self.change(
                move |tx| dead_letter::resend(tx, &of, &shared.ids, now_us),
                move |moved| {
                    disk.shared.parked.fetch_sub(moved.messages, Ordering::Relaxed);
                    disk.shared.messages.fetch_add(moved.messages, Ordering::Relaxed);
                    if !moved.rows.is_empty() {
                        disk.shared.tell_arrived(&moved.rows, moved.first);
                    }
                },
            )?;
            count += moved.messages;
            if !moved.is_more {
                return Ok(count);
            }
        }
    }

    /// Discards them; how many. Waits for the disk.
    pub fn purge_dead_letters(&self, filter: &Filter, reason: &'static str, now_us: i64) -> Result<u64, StoreError> {
        let mut count = 0;
        let filter = Filter { up_to: Some(self.last_id()?), ..filter.clone() };
        loop {
            let (of, disk) = (filter.clone(), self.clone());
            let moved = self.change(
                move |tx| dead_letter::purge(tx, &of, reason, now_us),
                move |moved| {
                    disk.shared.parked.fetch_sub(moved.messages, Ordering::Relaxed);
                    moved.bytes.iter().for_each(|(endpoint, bytes)| disk.budget.give(endpoint, *bytes));
                },
            )?;
            count += moved.messages;
            if !moved.is_more {
                return Ok(count);
            }
        }
    }

    fn last_id(&self) -> Result<i64, StoreError> {
        self.database.read(File::Queue, dead_letter::last_id)
    }

    /// Makes a change and waits for it. `done` runs right after the commit, on the writer's thread, so that others hear of it in the
    /// order in which it was made.
    fn change(
        &self,
        mut job: impl FnMut(&Connection) -> rusqlite::Result<Moved> + Send + 'static,
        done: impl FnOnce(&Moved) + Send + 'static,
    ) -> Result<Moved, StoreError> {
        let slot = Arc::new(Mutex::new(Moved::default()));
        let (made, result) = (slot.clone(), slot);
        let (tell, wait) = mpsc::sync_channel(1);
        let completion = move |outcome: Result<(), StoreError>| {
            let moved = std::mem::take(&mut *lock(&result));
            let _ = tell.send(outcome.map(|()| {
                done(&moved);
                moved
            }));
        };
        let job = move |tx: &Connection| {
            *lock(&made) = job(tx)?;
            Ok(())
        };
        self.database.submit_work(Work::new(Box::new(completion)).job(File::Queue, Box::new(job)));
        wait.recv().unwrap_or(Err(StoreError::Closed))
    }
}
