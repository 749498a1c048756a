//! Why a library is not taken in: for the person who dropped it, with the next step.

use std::fmt;

/// Why a library is not taken in. [`Refusal::line`] is the one line for log, `image list` and `show`; the file is named by
/// whoever knows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Refusal {
    /// What class of defect.
    pub defect: Defect,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// Class of a [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// No bytes at all.
    Empty,
    /// Text, an archive, an executable: anything but a shared library.
    NotALibrary,
    /// A library for another operating system or processor, or one that needs a newer C library than this device has.
    OtherPlatform,
    /// It needs a library that this device does not have.
    MissingLibrary,
    /// It needs a symbol that neither it nor its libraries have.
    MissingSymbol,
    /// The end of the file is missing.
    Truncated,
    /// The file contradicts itself.
    Malformed,
    /// A library that is not a module.
    Foreign,
    /// A module of an ABI that this runtime does not speak.
    OtherAbi,
    /// A module whose descriptor is missing or wrong.
    BadDescriptor,
    /// Larger than [`MAX_LIBRARY_BYTES`](super::MAX_LIBRARY_BYTES).
    TooLarge,
    /// It changed while it was read.
    Changing,
    /// The file cannot be opened or read.
    Unreadable,
    /// The image store cannot be written.
    StoreTrouble,
}

impl Defect {
    /// Whether a file that is still being copied may show it.
    pub fn may_be_unfinished(self) -> bool {
        matches!(
            self,
            Defect::Empty
                | Defect::NotALibrary
                | Defect::Truncated
                | Defect::Malformed
                | Defect::BadDescriptor
                | Defect::Foreign
        )
    }

    /// Whether the same bytes may be taken in later: the trouble is not in the file.
    pub fn may_pass(self) -> bool {
        matches!(self, Defect::Changing | Defect::Unreadable | Defect::StoreTrouble | Defect::MissingLibrary)
    }
}

impl Refusal {
    pub(super) fn new(defect: Defect, what: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { defect, what: what.into(), hint: hint.into() }
    }

    /// Several in one: what, and what to do, in the order of the first words. At least one.
    pub(super) fn all(refusals: Vec<Refusal>) -> Refusal {
        let defect = refusals.first().map_or(Defect::Malformed, |first| first.defect);
        let mut hints: Vec<String> = Vec::new();
        for refusal in &refusals {
            if !hints.contains(&refusal.hint) {
                hints.push(refusal.hint.clone());
            }
        }
        let what: Vec<String> = refusals.into_iter().map(|refusal| refusal.what).collect();
        Refusal::new(defect, what.join("; "), hints.join("; "))
    }

    pub(super) fn malformed(what: impl fmt::Display) -> Refusal {
        Refusal::new(Defect::Malformed, format!("damaged library: {what}"), "build or copy it again")
    }

    pub(super) fn truncated(part: &str, ends_at: u64, file_has: u64) -> Refusal {
        let what = format!("truncated: {part} ends at {ends_at} but the file has {file_has} bytes");
        Refusal::new(Defect::Truncated, what, "copy it again")
    }

    /// What is wrong and what to do, in one line.
    pub fn line(&self) -> String {
        format!("{}: {}", self.what, self.hint)
    }
}
