//! What must survive a power cut: two SQLite files and the one thread that writes them.
//!
//! `dinrail.db` holds identities, twins, images, deployments and instances and is checked at every start; `queue.db`
//! holds messages and is checked only after damage was seen in it, because it is large and must not hold up a start. A
//! lost queue does not take the twins with it.
//!
//! Guarantee: a completion that gets `Ok` runs after the commit was synced to disk, in a file that was still at its path.
//! Order: changes of one file are made in the order of their submission. SQL stands only in the store files ([`tables`],
//! `identity/store`, `twin/store`) and migrations.

mod ballast;
mod damage;
mod error;
mod figures;
mod inbox;
mod migrate;
mod open;
mod place;
mod recovery;
mod room;
mod space;
mod start;
pub mod tables;
mod upkeep;
mod vacuum;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;

pub use damage::{damage, step_back};
pub use error::{DatabaseError, StoreError};
pub use figures::{COMMIT_BUCKETS_US, Figures};
pub use inbox::Work;
use place::Place;
pub use room::{Room, Shares, Shortage};
pub use space::disk_space;
use start::suspect_marker;
pub use writer::{Completion, Job};
use writer::{Desk, Writer};

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// `dinrail.db`.
    Main = 0,
    /// `queue.db`.
    Queue = 1,
}

impl File {
    /// In the order in which they commit.
    pub(crate) const ALL: [File; 2] = [File::Main, File::Queue];

    /// Its name in the state directory.
    pub fn name(self) -> &'static str {
        match self {
            File::Main => "dinrail.db",
            File::Queue => "queue.db",
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Handle of the open databases; clones are the same. The last one to go closes them.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

/// See [`Database::snapshot`].
pub struct Snapshot {
    database: Database,
    file: File,
    conn: Connection,
}

impl Snapshot {
    /// Reads what was committed when this was made.
    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        read(&self.conn).map_err(|e| self.database.read_error(self.file, &e))
    }
}

struct Inner {
    folder: PathBuf,
    notes: Vec<String>,
    /// Held by whoever reads the queue's file from end to end.
    looking: Mutex<()>,
    places: Arc<[Place; 2]>,
    desk: Arc<Desk>,
    figures: Arc<Figures>,
    room: Arc<Room>,
    readers: [Mutex<Option<Connection>>; 2],
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Database {
    /// Opens or creates both files in `folder`, which exists. A damaged file is set aside as `NAME.corrupt-<time>` and
    /// what can be read of it salvaged; [`Database::notes`] says so.
    ///
    /// # Errors
    /// Only where no file can be had: folder not writable, disk full, or written by a release too new.
    pub fn open(folder: &Path) -> Result<Database, DatabaseError> {
        let mut found = recovery::Found::default();
        let mut conns = start::open_files(folder, &mut found)?;
        let places = Arc::new(File::ALL.map(|file| Place::of(folder, file)));
        let (figures, room) = (Arc::<Figures>::default(), Arc::<Room>::default());
        let upkeep = upkeep::Upkeep::new(folder, room.clone(), figures.clone(), places.clone());
        for (conn, file) in conns.iter_mut().zip(File::ALL) {
            upkeep.watch(conn, file).map_err(|e| DatabaseError::sql(&folder.join(file.name()), &e))?;
        }
        let damaged = folder.to_owned();
        let on_damage = Box::new(move |file| report_damage(&damaged, file));
        let desk =
            Arc::new(Desk::new(Writer { conns, figures: figures.clone(), places: places.clone(), upkeep, on_damage }));
        let thread = std::thread::Builder::new()
            .name("database".to_owned())
            .stack_size(512 << 10)
            .spawn({
                let desk = desk.clone();
                move || desk.run()
            })
            .map_err(|e| DatabaseError::Thread { cause: e.to_string() })?;
        Ok(Database(Arc::new(Inner {
            folder: folder.to_owned(),
            notes: found.notes,
            looking: Mutex::new(()),
            places,
            desk,
            figures,
            room,
            readers: Default::default(),
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// What a person should know about the start, such as a file that was set aside.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// Puts a change in line for the next commit; `completion` follows always, on the writer's thread (or here, once
    /// closed).
    ///
    /// `[any thread]`; waits while the disk is so far behind that 8 MiB of changes are in line.
    pub fn submit(&self, file: File, job: Job, completion: Completion) {
        self.submit_work(Work::new(completion).job(file, job));
    }

    /// [`Database::submit`] that never waits, however far behind the disk is: for the control loop, which everybody waits for, and
    /// for changes of which few are in line at a time.
    pub fn submit_now(&self, file: File, job: Job, completion: Completion) {
        self.submit_work(Work::new(completion).job(file, job).hurried());
    }

    /// [`Database::submit`] for work with changes of both files or of a stated size.
    pub fn submit_work(&self, work: Work) {
        if let Err(work) = self.push(work) {
            work.refuse(StoreError::Closed);
        }
    }

    /// [`Database::submit_work`] that gives the work back, completion not run, once the database is closed.
    pub(crate) fn push(&self, work: Work) -> Result<(), Box<Work>> {
        self.0.desk.inbox.push(work)
    }

    /// To be called at once by whoever has submitted [`Work::attended`], and waits for it then, holding no lock: where nobody
    /// writes, this thread does.
    pub(crate) fn attend(&self) {
        self.0.desk.attend();
    }

    /// False while so much is in line that whoever may wait has to.
    pub fn has_room(&self) -> bool {
        self.0.desk.inbox.has_room()
    }

    /// True on the thread that writes just now, which must not wait for itself.
    pub(crate) fn is_writer(&self) -> bool {
        self.0.desk.inbox.is_writer()
    }

    /// Makes a change and waits until it is committed and synced.
    pub fn call<T: Send + 'static>(
        &self,
        file: File,
        mut job: impl FnMut(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.0.desk.inbox.is_writer() {
            return Err(StoreError::OnWriter);
        }
        let slot = Arc::new(Mutex::new(None));
        let (done, wait) = mpsc::sync_channel(1);
        let result = slot.clone();
        self.submit(
            file,
            Box::new(move |tx| {
                *lock(&result) = Some(job(tx)?);
                Ok(())
            }),
            Box::new(move |outcome| {
                let _ = done.send(outcome);
            }),
        );
        wait.recv().unwrap_or(Err(StoreError::Closed))?;
        lock(&slot).take().ok_or(StoreError::Closed)
    }

    /// Reads committed state, through a connection of its own that readers of the same file take turns with.
    pub fn read<T>(&self, file: File, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut reader = lock(&self.0.readers[file as usize]);
        if reader.is_none() {
            // Another file at this path is not the one that is written.
            self.0.places[file as usize].look()?;
            let path = self.0.folder.join(file.name());
            *reader = Some(open::reader(&path).map_err(|e| self.read_error(file, &e))?);
        }
        let Some(conn) = &*reader else { return Err(StoreError::Closed) };
        read(conn).map_err(|e| self.read_error(file, &e))
    }

    /// A connection that goes on seeing what is committed now, and how many bytes of the file are in use. While it lives, the
    /// write-ahead log can only grow.
    pub fn snapshot(&self, file: File) -> Result<(Snapshot, u64), StoreError> {
        let look = || -> rusqlite::Result<(Connection, u64)> {
            let conn = open::reader(&self.0.folder.join(file.name()))?;
            conn.execute_batch("BEGIN")?;
            let count = |pragma: &str| conn.query_row(pragma, [], |row| row.get::<_, i64>(0));
            let used = (count("PRAGMA page_count")? - count("PRAGMA freelist_count")?) * count("PRAGMA page_size")?;
            // Only a look at a table begins to see.
            count("SELECT count(*) FROM sqlite_schema")?;
            Ok((conn, u64::try_from(used).unwrap_or(0)))
        };
        self.0.places[file as usize].look()?;
        let (conn, bytes) = look().map_err(|e| self.read_error(file, &e))?;
        Ok((Snapshot { database: self.clone(), file, conn }, bytes))
    }

    fn read_error(&self, file: File, error: &rusqlite::Error) -> StoreError {
        let error = StoreError::sql(file, error);
        if let StoreError::Corrupt { .. } = error {
            report_damage(&self.0.folder, file);
        }
        error
    }

    /// [`Database::look_for_damage`] on a thread of its own, behind all others. Waits for nothing.
    pub fn look_for_damage_beside(&self) {
        let database = self.clone();
        let look = move || {
            damage::step_back();
            database.look_for_damage();
        };
        let started = std::thread::Builder::new().name("disk-check".to_owned()).stack_size(128 << 10).spawn(look);
        if let Err(error) = started {
            tracing::warn!("{} is not looked at: {error}", File::Queue);
        }
    }

    /// Reads the queue's file from end to end, beside whoever writes. What is damaged is said, and repaired by the next start.
    /// Nothing happens while another one looks.
    pub fn look_for_damage(&self) {
        let file = File::Queue;
        let Ok(_alone) = self.0.looking.try_lock() else { return };
        if self.0.places[file as usize].look().is_err() {
            return;
        }
        match damage(&self.0.folder.join(file.name())) {
            Ok(None) => tracing::debug!("{file} is sound"),
            Ok(Some(damage)) => {
                tracing::error!("{file}: {damage}");
                report_damage(&self.0.folder, file);
            }
            Err(error) => tracing::warn!("{file} cannot be looked at: {error}"),
        }
    }

    /// Waits until everything submitted before has been committed or has failed, and its completions have run.
    pub fn flush(&self) -> Result<(), StoreError> {
        if self.0.desk.inbox.is_writer() {
            return Err(StoreError::OnWriter);
        }
        let (done, wait) = mpsc::sync_channel(1);
        self.submit_work(Work::new(Box::new(move |outcome| {
            let _ = done.send(outcome);
        })));
        wait.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// Does what is in line, folds the write-ahead logs into the files and closes them. Later changes get
    /// [`StoreError::Closed`].
    pub fn close(&self) {
        self.0.close();
    }

    /// The room that is left.
    pub fn room(&self) -> &Arc<Room> {
        &self.0.room
    }

    /// Counters for metrics.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// What is wrong with the files just now, a line each with what to do; empty as a rule.
    pub fn troubles(&self) -> Vec<String> {
        let told = |error: StoreError| match error.hint() {
            Some(hint) => format!("{error}; {hint}"),
            None => error.to_string(),
        };
        let mut troubles: Vec<String> = self.faults().into_iter().map(told).collect();
        if suspect_marker(&self.0.folder).exists() && !troubles.iter().any(|trouble| trouble.contains("damaged")) {
            troubles.push("queue.db is damaged; restart dinrail: it sets the file aside and salvages it".to_owned());
        }
        troubles
    }

    /// Why files cannot be written just now; empty as a rule.
    pub fn faults(&self) -> Vec<StoreError> {
        let mut faults = self.0.figures.troubles();
        faults.extend(self.0.places.iter().filter_map(|place| place.look().err()));
        faults
    }
}

impl Inner {
    fn close(&self) {
        for reader in &self.readers {
            *lock(reader) = None;
        }
        let is_writer = self.desk.inbox.is_writer();
        self.desk.inbox.close();
        let thread = lock(&self.thread).take();
        // The last handle may go inside a completion: the writer cannot wait for itself, and ends by itself.
        if let Some(thread) = thread.filter(|_| !is_writer)
            && thread.join().is_err()
        {
            tracing::error!("the database writer panicked");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Remembers damage of the queue for the next start, which would otherwise not look.
fn report_damage(folder: &Path, file: File) {
    tracing::error!("{file} is damaged; restart dinrail: it sets the file aside and salvages what can be read");
    if file == File::Queue
        && let Err(error) = std::fs::write(suspect_marker(folder), b"")
    {
        tracing::error!("{} cannot be written: {error}", suspect_marker(folder).display());
    }
}

/// Locks through a poisoned mutex: what they guard here is whole at every step that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
