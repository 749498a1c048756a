//! Which images there are, and which of them a reference means. Pure: built from rows of the database and from what the
//! watcher saw; touches no file.
//!
//! A moving reference (`name`, `name:1`, `name:1.2`) follows the highest version and, of one version, the bytes that arrived
//! last. A full version stays on the bytes that it first found. A digest is a pin.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};

use super::{Defect, Descriptor, Digest, Reference, Refusal, TakenIn, Wanted};
use crate::clock;
use crate::view::ImageView;

/// Refused files that are remembered; the oldest are forgotten first.
const MAX_REFUSED: usize = 100;

/// Refusals of a file that follow one another as closely as this belong together, in microseconds.
const ALIKE_US: i64 = 30_000_000;

/// An image as it is kept in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRecord {
    /// Its name in the store.
    pub digest: Digest,
    /// What it says about itself.
    pub descriptor: Descriptor,
    /// Counts arrivals: of two rebuilds of a version the greater one is the later.
    pub order: u64,
    /// When it arrived last: microseconds since 1970-01-01 UTC.
    pub arrived_us: i64,
    /// Whether instances may use it.
    pub verdict: Verdict,
    /// The file that it came from last.
    pub source: Option<PathBuf>,
    /// Size of the library.
    pub bytes: u64,
}

/// Whether instances may use an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They may.
    Admitted,
    /// They may not.
    Quarantined {
        /// Why, and what to do.
        reason: String,
    },
}

/// A file that was not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedFile {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub refusal: Refusal,
    /// When: microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

impl RefusedFile {
    /// Whether it was sent: then all that is left of it is the name that it came with.
    fn is_upload(&self) -> bool {
        self.file.parent() == Some(Path::new(""))
    }

    fn view(&self) -> ImageView {
        ImageView {
            name: None,
            version: None,
            digest: None,
            verdict: "refused".to_owned(),
            reason: self.refusal.line(),
            used_by: Vec::new(),
            source: Some(self.file.display().to_string()),
            arrived_utc: Some(clock::rfc3339(self.at_us)),
            bytes: None,
        }
    }
}

/// What the arrival of a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// An image that was not known.
    New,
    /// A known image that is now the latest of its version: its row changed.
    Again,
    /// Nothing: the same bytes lie where they lay.
    Known,
}

/// What a reference means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// This image.
    Found(Digest),
    /// No image that is here.
    NotFound {
        /// A sentence, with what is known instead.
        reason: String,
    },
    /// Only images that may not be used; the best of them.
    Quarantined {
        /// The image.
        digest: Digest,
        /// Why it may not be used.
        reason: String,
    },
    /// Only images that are barred for who asks; the best of them.
    Barred(Digest),
}

/// The images that are known. Not shared: the control loop owns it.
#[derive(Debug, Default)]
pub struct Catalog {
    images: BTreeMap<Digest, ImageRecord>,
    /// What each file held when it was last seen.
    files: HashMap<PathBuf, Digest>,
    refused: VecDeque<RefusedFile>,
    last_order: u64,
}

impl Catalog {
    /// The catalog of the rows that the database holds.
    pub fn new(rows: impl IntoIterator<Item = ImageRecord>) -> Catalog {
        let mut catalog = Catalog::default();
        let mut rows: Vec<ImageRecord> = rows.into_iter().collect();
        rows.sort_by_key(|row| row.order);
        for row in rows {
            catalog.last_order = row.order;
            if let Some(source) = &row.source {
                catalog.files.insert(source.clone(), row.digest);
            }
            catalog.images.insert(row.digest, row);
        }
        catalog
    }

    /// Notes that `file` holds the library that was taken in.
    ///
    /// `at_start`: it was found by the first scan, so its bytes did not arrive now unless the file held others before.
    pub fn arrive(&mut self, file: Option<&Path>, taken: &TakenIn, at_start: bool, now_us: i64) -> Arrival {
        let inspection = &taken.inspection;
        let digest = inspection.digest;
        let held = file.and_then(|file| self.files.insert(file.to_owned(), digest));
        if let Some(file) = file {
            self.refused.retain(|refused| refused.file != file);
        }
        let known = self.images.get(&digest);
        // A copy of what could not be loaded is there to be tried again, also over the same file.
        let is_retried = !at_start && known.is_some_and(|known| known.verdict != Verdict::Admitted);
        let stayed = held == Some(digest) || (at_start && held.is_none());
        if known.is_some() && stayed && !is_retried {
            return Arrival::Known;
        }
        let is_new = known.is_none();
        self.last_order += 1;
        let record = ImageRecord {
            digest,
            descriptor: inspection.descriptor.clone(),
            order: self.last_order,
            arrived_us: now_us,
            verdict: known.filter(|_| !is_retried).map_or(Verdict::Admitted, |known| known.verdict.clone()),
            source: file.map(Path::to_owned).or_else(|| known?.source.clone()),
            bytes: inspection.bytes,
        };
        self.images.insert(digest, record);
        if is_new { Arrival::New } else { Arrival::Again }
    }

    /// Notes that `file` was not taken in; replaces what was noted of it before.
    pub fn refuse(&mut self, file: &Path, refusal: Refusal, now_us: i64) {
        self.refused.retain(|refused| refused.file != file);
        if self.refused.len() == MAX_REFUSED {
            self.refused.pop_front();
        }
        self.refused.push_back(RefusedFile { file: file.to_owned(), refusal, at_us: now_us });
    }

    /// Whether `file` was refused for a defect of this class a moment ago.
    pub fn is_refused_alike(&self, file: &Path, defect: Defect, now_us: i64) -> bool {
        let is_recent = |at_us: i64| (0..ALIKE_US).contains(&(now_us - at_us));
        self.refused.iter().any(|known| known.file == file && known.refusal.defect == defect && is_recent(known.at_us))
    }

    /// Notes that `file` is no longer there. Images that came from it stay.
    pub fn forget_file(&mut self, file: &Path) {
        self.files.remove(file);
        self.refused.retain(|refused| refused.file != file);
    }

    /// Forgets that an upload of this file name was refused. A file in a folder is refused for as long as it is there.
    pub fn forget_upload(&mut self, name: &str) -> Option<ImageView> {
        let at = self.refused.iter().position(|refused| refused.is_upload() && refused.file == Path::new(name))?;
        self.refused.remove(at).as_ref().map(RefusedFile::view)
    }

    /// Changes whether instances may use an image; false where it is not known.
    pub fn judge(&mut self, digest: &Digest, verdict: Verdict) -> bool {
        self.images.get_mut(digest).map(|record| record.verdict = verdict).is_some()
    }

    /// Forgets an image that was removed from the store.
    pub fn remove(&mut self, digest: &Digest) -> Option<ImageRecord> {
        self.files.retain(|_, held| held != digest);
        self.images.remove(digest)
    }

    /// An image.
    pub fn get(&self, digest: &Digest) -> Option<&ImageRecord> {
        self.images.get(digest)
    }

    /// All images by name, the best of each name first.
    pub fn images(&self) -> Vec<&ImageRecord> {
        let mut images: Vec<&ImageRecord> = self.images.values().collect();
        images.sort_by(|a, b| a.descriptor.name.cmp(&b.descriptor.name).then_with(|| best_first(a, b)));
        images
    }

    /// Files that were not taken in, the latest last.
    pub fn refused(&self) -> impl Iterator<Item = &RefusedFile> {
        self.refused.iter()
    }

    /// Every image that `reference` could mean, admitted or not, the best first.
    pub fn matching(&self, reference: &Reference) -> Vec<&ImageRecord> {
        let mut matching: Vec<&ImageRecord> =
            self.images.values().filter(|record| matches(reference, record)).collect();
        matching.sort_by(|a, b| best_first(a, b));
        matching
    }

    /// What `reference` means for an instance that first found `first_found` for it and must not use `barred`.
    ///
    /// A pin is not affected by `barred`: it is a person's word.
    pub fn resolve(&self, reference: &Reference, first_found: Option<Digest>, barred: &[Digest]) -> Resolution {
        let matching = self.matching(reference);
        let Some(best) = matching.first() else { return Resolution::NotFound { reason: self.not_found(reference) } };
        let is_pin = matches!(reference, Reference::Named { wanted: Wanted::Digest(_), .. });
        let is_admitted = |record: &&&ImageRecord| record.verdict == Verdict::Admitted;
        let may_use = |record: &&&ImageRecord| is_admitted(record) && (is_pin || !barred.contains(&record.digest));
        if !reference.is_moving()
            && let Some(stays) = matching.iter().filter(may_use).find(|record| Some(record.digest) == first_found)
        {
            return Resolution::Found(stays.digest);
        }
        if let Some(found) = matching.iter().find(may_use) {
            return Resolution::Found(found.digest);
        }
        if let Some(record) = matching.iter().find(is_admitted) {
            return Resolution::Barred(record.digest);
        }
        let reason = match &best.verdict {
            Verdict::Quarantined { reason } => reason.clone(),
            Verdict::Admitted => String::new(),
        };
        Resolution::Quarantined { digest: best.digest, reason }
    }

    /// Whether there is an image of this name.
    pub fn has_name(&self, name: &str) -> bool {
        self.images.values().any(|record| record.descriptor.name == name)
    }

    /// One line for `image list`: who uses an image, or why nobody does. `removed` tells of the instance of a name that a person
    /// has ended.
    pub fn explain(&self, digest: &Digest, used_by: &[String], removed: impl Fn(&str) -> Option<String>) -> String {
        let Some(record) = self.images.get(digest) else { return "not known".to_owned() };
        let version = &record.descriptor.version;
        if let Verdict::Quarantined { reason } = &record.verdict {
            return format!("{version} quarantined: {reason}");
        }
        if !used_by.is_empty() {
            return format!("used by {}", used_by.join(", "));
        }
        let same_name = |other: &&ImageRecord| {
            other.descriptor.name == record.descriptor.name && other.verdict == Verdict::Admitted
        };
        let better = self.images.values().filter(same_name).min_by(|a, b| best_first(a, b));
        let why = match better.map(|better| (better, better.descriptor.version.cmp_precedence(version))) {
            Some((better, Ordering::Greater)) => format!("{} is newer", better.descriptor.version),
            Some((better, Ordering::Equal)) if better.order > record.order => {
                "a rebuild of the same version arrived later".to_owned()
            }
            _ => removed(&record.descriptor.name).unwrap_or_else(|| "no instance asks for it".to_owned()),
        };
        format!("{version} admitted, unused: {why}")
    }

    /// The document of `image list`: all images, then the files that were not taken in.
    pub fn views(
        &self,
        used_by: impl Fn(&Digest) -> Vec<String>,
        removed: impl Fn(&str) -> Option<String>,
    ) -> Vec<ImageView> {
        let images = self.images().into_iter().map(|record| self.view(record, used_by(&record.digest), &removed));
        let refused = self.refused.iter().map(RefusedFile::view);
        images.chain(refused).collect()
    }

    /// The document of one image.
    fn view(&self, record: &ImageRecord, used_by: Vec<String>, removed: impl Fn(&str) -> Option<String>) -> ImageView {
        ImageView {
            name: Some(record.descriptor.name.clone()),
            version: Some(record.descriptor.version.to_string()),
            digest: Some(record.digest.to_string()),
            verdict: match record.verdict {
                Verdict::Admitted => "admitted".to_owned(),
                Verdict::Quarantined { .. } => "quarantined".to_owned(),
            },
            reason: self.explain(&record.digest, &used_by, removed),
            used_by,
            source: record.source.as_ref().map(|source| source.display().to_string()),
            arrived_utc: Some(clock::rfc3339(record.arrived_us)),
            bytes: Some(record.bytes),
        }
    }

    fn not_found(&self, reference: &Reference) -> String {
        let Reference::Named { name, wanted } = reference else {
            return format!("no image was added from {reference}; 'dinrail image add {reference}' adds it");
        };
        let mut versions: Vec<&ImageRecord> = self.images.values().filter(|r| r.descriptor.name == *name).collect();
        versions.sort_by(|a, b| best_first(a, b));
        if !versions.is_empty() {
            let have: Vec<String> = match wanted {
                Wanted::Digest(_) => versions.iter().map(|r| format!("sha256:{}…", r.digest.short())).collect(),
                _ => versions.iter().map(|r| r.descriptor.version.to_string()).collect(),
            };
            return format!("no image {reference} here; of {name} there is {}", have.join(", "));
        }
        let near = self.names_near(name);
        let known = match &near[..] {
            [] => String::new(),
            near => format!("; did you mean {}?", near.join(" or ")),
        };
        format!("no image '{name}' here{known}; copy its library into a watched folder, or 'dinrail image add FILE'")
    }

    fn names_near(&self, name: &str) -> Vec<&str> {
        let mut near: Vec<(usize, &str)> = self
            .images
            .values()
            .map(|record| (strsim::damerau_levenshtein(name, &record.descriptor.name), &*record.descriptor.name))
            .filter(|(distance, known)| {
                *distance <= known.len().max(name.len()) / 3 || known.starts_with(name) || name.starts_with(known)
            })
            .collect();
        near.sort_unstable();
        near.dedup();
        near.truncate(3);
        near.into_iter().map(|(_, known)| known).collect()
    }
}

/// Order of preference among images of one name: higher version, then later arrival. Build metadata does not count.
fn best_first(a: &ImageRecord, b: &ImageRecord) -> Ordering {
    b.descriptor.version.cmp_precedence(&a.descriptor.version).then(b.order.cmp(&a.order))
}

fn matches(reference: &Reference, record: &ImageRecord) -> bool {
    let Reference::Named { name, wanted } = reference else {
        return matches!(reference, Reference::Path(path) if record.source.as_ref() == Some(path));
    };
    let version = &record.descriptor.version;
    *name == record.descriptor.name
        && match wanted {
            Wanted::Newest => true,
            Wanted::Major(major) => version.major == *major,
            Wanted::Minor(major, minor) => (version.major, version.minor) == (*major, *minor),
            Wanted::Exact(exact) if exact.build.is_empty() => version.cmp_precedence(exact) == Ordering::Equal,
            Wanted::Exact(exact) => version == exact,
            Wanted::Digest(digest) => record.digest == *digest,
        }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
