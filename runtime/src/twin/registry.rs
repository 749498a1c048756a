//! All twins: the way in for changes, the way out for snapshots. See the [folder](super) for how a change travels.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, mpsc};

use serde_json::{Map, Value, json};

use super::change::{Change, Preview, check_basis, make};
use super::edit::{self, Edit};
use super::error::TwinError;
use super::figures::Figures;
use super::history::{HistoryLimits, Past, PastChange, Row, Walk};
use super::parsed::{Busy, Parsed};
use super::pending::Twin;
use super::rules::{self, Violation};
use super::snapshot::{Accepted, Acknowledgement, Part, Section, TwinSnapshot};
use super::{patch, secret, store};
use crate::clock;
use crate::database::{Database, File, Job, StoreError, Work, lock};
use crate::identity::Identities;
use crate::name::Identity;

/// A committed change of desired properties.
#[derive(Debug)]
pub struct DesiredChange {
    /// Merge patch from the section as it was to the section as it is: a JSON object, null removes.
    pub patch: Arc<str>,
    /// The whole section after it, without `$version`.
    pub whole: Arc<str>,
    /// `$version` after it.
    pub version: u64,
    /// Revision after it: one more than that of the change before.
    pub revision: u64,
    /// The section was replaced; `patch` is the difference.
    pub whole_replaced: bool,
    /// Who changed it, such as `operator` or `deployment`.
    pub by: Arc<str>,
}

type OnDesired = Box<dyn Fn(&Identity, &Arc<DesiredChange>) + Send + Sync>;
/// Who hears of reported changes: whether it wants to, and what it is told.
type OnReported = (Box<dyn Fn() -> bool + Send + Sync>, Box<dyn Fn(&Identity, &Map<String, Value>, u64) + Send + Sync>);
type OnChange = Box<dyn Fn(&Arc<TwinSnapshot>) + Send + Sync>;
type Outcome = Result<Arc<TwinSnapshot>, TwinError>;

/// Handle of all twins; clones are the same.
#[derive(Clone)]
pub struct Twins(Arc<Inner>);

struct Inner {
    database: Database,
    identities: Identities,
    twins: RwLock<HashMap<Identity, Arc<Twin>>>,
    history: HistoryLimits,
    figures: Figures,
    busy: Busy,
    on_desired: OnceLock<OnDesired>,
    on_reported: OnceLock<OnReported>,
    on_change: OnceLock<OnChange>,
}

impl Twins {
    /// Loads all twins; of their past is kept what is usual.
    pub fn open(database: &Database, identities: &Identities) -> Result<Twins, StoreError> {
        Twins::open_with(database, identities, HistoryLimits::default())
    }

    /// Loads all twins. `history`: how much of their past is kept.
    pub fn open_with(
        database: &Database,
        identities: &Identities,
        history: HistoryLimits,
    ) -> Result<Twins, StoreError> {
        let mut rows = database.read(File::Main, store::load_all)?;
        let mut twins = HashMap::with_capacity(rows.len());
        for record in identities.list() {
            let Some(row) = rows.remove(&record.key) else { continue };
            let sections = row.sections.map(|section| section.map(|section| sound(&record.identity, section)));
            let mut accepted = row.accepted;
            if let (Some(accepted), Some(desired)) = (&mut accepted, &sections[Part::Desired as usize])
                && accepted.document == desired.document
            {
                accepted.document = desired.document.clone();
            }
            let snapshot = TwinSnapshot::empty(record.identity.clone()).with(&sections, accepted.as_ref());
            twins.insert(record.identity.clone(), Arc::new(Twin::new(record.key, snapshot)));
        }
        Ok(Twins(Arc::new(Inner {
            database: database.clone(),
            identities: identities.clone(),
            twins: RwLock::new(twins),
            history,
            figures: Figures::default(),
            busy: Busy::default(),
            on_desired: OnceLock::new(),
            on_reported: OnceLock::new(),
            on_change: OnceLock::new(),
        })))
    }

    /// Sets who hears of desired changes: called right after the commit, per twin in the order of revisions, on the
    /// writer's thread. Only the first call counts. `[never blocks]`
    pub fn on_desired(&self, listener: impl Fn(&Identity, &Arc<DesiredChange>) + Send + Sync + 'static) {
        let _ = self.0.on_desired.set(Box::new(listener));
    }

    /// Sets who hears of changes of reported properties while `wants` says so: the patch and the version after it. Called right after
    /// the commit, on the writer's thread. Only the first call counts. `[never blocks]`
    pub fn on_reported(
        &self,
        wants: impl Fn() -> bool + Send + Sync + 'static,
        listener: impl Fn(&Identity, &Map<String, Value>, u64) + Send + Sync + 'static,
    ) {
        let _ = self.0.on_reported.set((Box::new(wants), Box::new(listener)));
    }

    /// Sets who hears that anything of a twin changed, after [`Twins::on_desired`]. Only the first call counts.
    /// `[never blocks]`
    pub fn on_change(&self, listener: impl Fn(&Arc<TwinSnapshot>) + Send + Sync + 'static) {
        let _ = self.0.on_change.set(Box::new(listener));
    }

    /// The twin of a registered identity as committed. `[never blocks]`
    pub fn get(&self, identity: &Identity) -> Option<Arc<TwinSnapshot>> {
        self.twin(identity).ok().map(|twin| twin.committed.load_full())
    }

    /// The twins of all registered identities, sorted.
    pub fn list(&self) -> Vec<Arc<TwinSnapshot>> {
        self.0.identities.list().iter().filter_map(|record| self.get(&record.identity)).collect()
    }

    /// What became of changes.
    pub fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// Gives back the memory of twins that were busy and no longer are. To be called now and then. `[never blocks]`
    pub fn rest(&self) {
        self.0.busy.rest();
    }

    #[cfg(test)]
    pub(super) fn kept_parsed(&self) -> usize {
        self.0.busy.checked()
    }

    /// Changes in the histories of all twins. `[blocks: reads the database]`
    pub fn history_rows(&self) -> Result<u64, StoreError> {
        self.0.database.read(File::Main, store::count_history)
    }

    /// Drops what is in memory of a twin whose identity was removed.
    pub fn forget(&self, identity: &Identity) {
        self.0.twins.write().unwrap_or_else(PoisonError::into_inner).remove(identity);
    }

    /// Makes a change of the service side.
    ///
    /// This and all other changes: an `Err` is about the request, and `done` is not called; after `Ok`, `done` follows
    /// always, on the writer's thread, with the twin as this change left it, or why it is lost. `[any thread]`; may
    /// wait for the disk.
    pub fn change(
        &self,
        identity: &Identity,
        change: &Change<'_>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), TwinError> {
        let change = self.with_owner(identity, change)?;
        self.submit(identity, change.by, None, done, |now, _, found| {
            check_basis(identity, &change, &now[Part::Desired as usize])?;
            make(identity, &change, now, found)
        })
    }

    /// Desired properties of the runtime's own identities are what the deployment in force says, and nothing else: a patch would
    /// pass by its plan, its health gate and its way back. Their tags are anybody's, and who has read the whole twin may send it back.
    fn with_owner<'c>(&self, identity: &Identity, change: &Change<'c>) -> Result<Change<'c>, TwinError> {
        if !identity.is_runtime_of(self.0.identities.device_id()) {
            return Ok(change.clone());
        }
        let twin = self.twin(identity)?.committed.load_full();
        let beside = change.beside_desired(twin.section(Part::Desired));
        beside.ok_or_else(|| TwinError::Deployed { identity: identity.clone() })
    }

    /// What a change would make of the desired properties now, with all that is wrong with it.
    pub fn preview(&self, identity: &Identity, change: &Change<'_>) -> Result<Preview, TwinError> {
        let change = &self.with_owner(identity, change)?;
        let twin = self.twin(identity)?;
        let now = twin.newest(&mut lock(&twin.line().pending));
        let mut violations = Vec::new();
        let edit = make(identity, change, &now, &mut violations)?;
        if !violations.is_empty() {
            return Err(TwinError::Invalid { identity: identity.clone(), violations });
        }
        let [_, basis, _] = now;
        let [_, after, _] = edit.sections;
        Ok(Preview { basis, after })
    }

    /// The changes of desired properties and tags that are kept, newest first. `[blocks: reads the database]`
    pub fn history(&self, identity: &Identity) -> Result<Vec<PastChange>, TwinError> {
        let (mut walk, rows) = self.read_history(identity)?;
        Ok(rows.into_iter().map_while(|row| walk.back(row)).collect())
    }

    /// Desired properties and tags as they were when `part` had the version. `[blocks: reads the database]`
    pub fn past(&self, identity: &Identity, part: Part, version: u64) -> Result<Past, TwinError> {
        let (walk, rows) = self.read_history(identity)?;
        walk.to(part, version, rows).map_err(|why| TwinError::NoVersion {
            identity: identity.clone(),
            part,
            asked: version,
            why,
        })
    }

    fn read_history(&self, identity: &Identity) -> Result<(Walk, Vec<Row>), TwinError> {
        let twin = self.twin(identity)?;
        let read = |conn: &rusqlite::Connection| store::history(conn, twin.key);
        let (tags, desired, rows) = self
            .0
            .database
            .read(File::Main, read)
            .map_err(|cause| TwinError::Store { identity: identity.clone(), cause })?;
        Ok((Walk::new(&tags.unwrap_or_else(Section::empty), &desired.unwrap_or_else(Section::empty)), rows))
    }

    /// Sets everything that refers to a secret to what it is: a change that brings the secret's new value to whoever listens. Nothing
    /// changes where nothing refers to it.
    pub fn refresh_secret(
        &self,
        identity: &Identity,
        name: &str,
        by: &str,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), TwinError> {
        self.submit(identity, by, None, done, |now, _, found| {
            match secret::referring(&now[Part::Desired as usize].parse(), name).map(Value::Object) {
                Some(patch) => make(identity, &Change::patch_desired(&patch, by), now, found),
                None => Ok(Edit::default()),
            }
        })
    }

    /// Merges into the reported properties.
    pub fn patch_reported(
        &self,
        identity: &Identity,
        patch: &Value,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), TwinError> {
        self.report(identity, std::slice::from_ref(patch), None, done)
    }

    /// Merges the reports of a handler, as one change, and once they are committed makes `queue`, a change of the
    /// queue's file: what the handler sent, and the removal of its input.
    pub fn report(
        &self,
        identity: &Identity,
        patches: &[Value],
        queue: Option<Job>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), TwinError> {
        self.submit(identity, "module", queue, done, |now, kept, found| {
            let now = &now[Part::Reported as usize];
            let reported = edit::report(now, kept, patches, now_ms(), true, found);
            let reported_patch = self.0.told_of(patches, now, reported.as_ref());
            Ok(Edit { sections: [None, None, reported], reported_patch, ..Edit::default() })
        })
    }

    /// Checks keys and values of a report that is merged later; only its size can still be refused then.
    pub fn check_report(&self, identity: &Identity, patch: &Value) -> Result<(), TwinError> {
        let mut found = Vec::new();
        if let Some(patch) = rules::as_section(Part::Reported.path(), patch, &mut found) {
            rules::check_patch(Part::Reported.path(), patch, &mut found);
        }
        if found.is_empty() {
            Ok(())
        } else {
            Err(TwinError::Invalid { identity: identity.clone(), violations: found })
        }
    }

    /// Writes what the module said to a desired change into its reported properties, as
    /// `{"acknowledged": {"version", "ok", "error"}}`, and keeps the document that it accepted, if it did.
    ///
    /// Exempt from the size limit, so that a full reported section does not silence it.
    pub fn acknowledge(
        &self,
        identity: &Identity,
        said: &Acknowledgement,
        accepted: Option<Accepted>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), TwinError> {
        let error = said.error.as_deref().map(|text| &text[..text.floor_char_boundary(rules::MAX_STRING_BYTES)]);
        let patch = json!({"acknowledged": {"version": said.version, "ok": said.ok, "error": error}});
        self.submit(identity, "module", None, done, move |now, kept, found| {
            let now = &now[Part::Reported as usize];
            let reported = edit::report(now, kept, std::slice::from_ref(&patch), now_ms(), false, found);
            let reported_patch = self.0.told_of(std::slice::from_ref(&patch), now, reported.as_ref());
            Ok(Edit { sections: [None, None, reported], accepted, reported_patch, ..Edit::default() })
        })
    }

    /// Runs a change and waits for its outcome: `Twins::wait(id, |done| twins.change(id, &change, done))`. Not on the writer's thread.
    pub fn wait(
        identity: &Identity,
        change: impl FnOnce(Box<dyn FnOnce(Outcome) + Send>) -> Result<(), TwinError>,
    ) -> Result<Arc<TwinSnapshot>, TwinError> {
        let (done, outcome) = mpsc::sync_channel(1);
        change(Box::new(move |result| {
            let _ = done.send(result);
        }))?;
        outcome
            .recv()
            .unwrap_or_else(|_| Err(TwinError::Store { identity: identity.clone(), cause: StoreError::Closed }))
    }

    /// The way of every change: `make` it from the newest state, put it in line, finish it after the commit.
    fn submit(
        &self,
        identity: &Identity,
        by: &str,
        queue: Option<Job>,
        done: impl FnOnce(Outcome) + Send + 'static,
        make: impl FnOnce(&[Section; 3], &mut Option<Box<Parsed>>, &mut Vec<Violation>) -> Result<Edit, TwinError>,
    ) -> Result<(), TwinError> {
        let counted = |error: TwinError| {
            self.0.figures.count_refused(&error);
            error
        };
        let twin = self.twin(identity).map_err(counted)?;
        let mut pending = lock(&twin.line().pending);
        let mut violations = Vec::new();
        let now = twin.newest(&mut pending);
        let edit = make(&now, &mut pending.kept.parsed, &mut violations).map_err(counted)?;
        if !violations.is_empty() {
            return Err(counted(TwinError::Invalid { identity: identity.clone(), violations }));
        }
        let mut runs = [0; 3];
        for (part, section) in Part::ALL.into_iter().zip(&edit.sections) {
            if let Some(section) = section {
                runs[part as usize] = pending.put(part, section.clone());
            }
        }
        if edit.sections[Part::Reported as usize].is_some() {
            self.0.busy.note(&twin, &mut pending.kept);
        }
        let work = self.work(&twin, edit, runs, by.into(), queue, done);
        // In line while the lock is held, so that the order of the line is that of the revisions.
        let refused = self.0.database.push(work).err();
        drop(pending);
        if let Some(work) = refused {
            work.refuse(StoreError::Closed);
        }
        Ok(())
    }

    fn work(
        &self,
        twin: &Arc<Twin>,
        edit: Edit,
        runs: [u64; 3],
        by: Arc<str>,
        queue: Option<Job>,
        done: impl FnOnce(Outcome) + Send + 'static,
    ) -> Work {
        let bytes = edit.bytes();
        let key = twin.key;
        let (stored, limits) = (edit.clone(), self.0.history);
        let job: Job = Box::new(move |tx| {
            for (part, section) in Part::ALL.into_iter().zip(&stored.sections) {
                if let Some(section) = section {
                    store::write_section(tx, key, part, section)?;
                }
            }
            stored.history.iter().try_for_each(|row| store::add_history(tx, key, row, &limits))?;
            stored.accepted.iter().try_for_each(|accepted| store::write_accepted(tx, key, accepted))
        });
        let identity = twin.committed.load().identity.clone();
        let (inner, twin) = (self.0.clone(), twin.clone());
        let finish = move |outcome: Result<(), StoreError>| match outcome {
            Ok(()) => Ok(inner.publish(&twin, &edit, by)),
            Err(cause) => Err(inner.give_up(&twin, runs, cause)),
        };
        let Some(queue) = queue else {
            return Work::new(Box::new(move |outcome| done(finish(outcome)))).job(File::Main, job).bytes(bytes);
        };
        // The twin has changed once the main file is committed, even if the queue's part then fails and the report is
        // repeated.
        let (keep, kept) = mpsc::sync_channel(1);
        let completion = move |outcome: Result<(), StoreError>| {
            let twin = kept.try_recv();
            done(match (twin, outcome) {
                (Ok(Ok(_)), Err(cause)) => Err(TwinError::Store { identity, cause }),
                (Ok(twin), _) => twin,
                (Err(_), _) => Err(TwinError::Store { identity, cause: StoreError::Closed }),
            });
        };
        Work::new(Box::new(completion))
            .after_main(Box::new(move |outcome| {
                let _ = keep.send(finish(outcome));
            }))
            .job(File::Main, job)
            .job(File::Queue, queue)
            .bytes(bytes)
    }

    fn twin(&self, identity: &Identity) -> Result<Arc<Twin>, TwinError> {
        if let Some(twin) = self.0.twins.read().unwrap_or_else(PoisonError::into_inner).get(identity) {
            return Ok(twin.clone());
        }
        // The registered identity itself, not the caller's equal one, so that all share one copy of its text.
        let Some(record) = self.0.identities.get(identity) else {
            return Err(TwinError::NotFound { identity: identity.clone() });
        };
        let mut twins = self.0.twins.write().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Twin::new(record.key, TwinSnapshot::empty(record.identity.clone())));
        Ok(twins.entry(record.identity.clone()).or_insert_with(make).clone())
    }
}

impl Inner {
    /// What a listener is to be told of a report; `None` where nobody wants to hear of it.
    fn told_of(&self, patches: &[Value], now: &Section, after: Option<&Section>) -> Option<Arc<Map<String, Value>>> {
        let wants = self.on_reported.get().is_some_and(|(wants, _)| wants());
        let after = after.filter(|_| wants)?;
        Some(Arc::new(patch::together(patches, || patch::diff(&now.parse(), &after.parse()))))
    }

    /// `[writer]`
    fn publish(&self, twin: &Twin, edit: &Edit, by: Arc<str>) -> Arc<TwinSnapshot> {
        let snapshot = Arc::new(twin.committed.load().with(&edit.sections, edit.accepted.as_ref()));
        twin.committed.store(snapshot.clone());
        let changed = Part::ALL.into_iter().zip(&edit.sections).filter(|(_, section)| section.is_some());
        changed.for_each(|(part, _)| self.figures.count_committed(part));
        if let (Some(listener), Some((patch, whole_replaced)), Some(section)) =
            (self.on_desired.get(), &edit.desired_patch, &edit.sections[Part::Desired as usize])
        {
            let change = DesiredChange {
                patch: patch.clone(),
                whole: section.document.clone(),
                version: section.version,
                revision: section.revision,
                whole_replaced: *whole_replaced,
                by,
            };
            listener(&snapshot.identity, &Arc::new(change));
        }
        if let (Some((_, listener)), Some(patch), Some(section)) =
            (self.on_reported.get(), &edit.reported_patch, &edit.sections[Part::Reported as usize])
        {
            listener(&snapshot.identity, patch, section.version);
        }
        if let Some(listener) = self.on_change.get() {
            listener(&snapshot);
        }
        snapshot
    }

    /// `[writer]`: must not take the twin's lock.
    fn give_up(&self, twin: &Twin, runs: [u64; 3], cause: StoreError) -> TwinError {
        self.figures.count_lost();
        for (failed, run) in twin.line().failed.iter().zip(runs) {
            failed.fetch_max(run, Ordering::AcqRel);
        }
        let identity = twin.committed.load().identity.clone();
        if self.identities.get(&identity).is_none_or(|record| record.key != twin.key) {
            return TwinError::NotFound { identity };
        }
        TwinError::Store { identity, cause }
    }
}

fn now_ms() -> i64 {
    clock::wall_us() / 1000
}

/// A loaded section, emptied where its texts are not JSON objects, which only damage can do.
fn sound(identity: &Identity, section: Section) -> Section {
    // Looked through without keeping anything of it.
    let is_object = |text: &str| text.starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let empty = Section::empty();
    let document = if &*section.document == "{}" {
        empty.document
    } else if is_object(&section.document) {
        section.document
    } else {
        tracing::error!("a section of the twin of {identity} was damaged and is empty now; patch or replace it");
        empty.document
    };
    let times = if is_object(&section.times) { section.times } else { empty.times };
    Section { document, times, ..section }
}
