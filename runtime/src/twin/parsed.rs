//! A section that is being worked with, and which twins keep it so between two reports.
//!
//! A module that reports again and again would have its reported properties read from their text each time. So whoever reports
//! more often than [`Busy::rest`] is called keeps them parsed, beside the newest pending state. They are used only if they
//! are of that very text: where a change failed and the twin fell back, they are of another one and are dropped.
//! Few twins, small ones only, and for seconds: at rest nothing is kept.

use std::sync::{Arc, Mutex, TryLockError};

use serde_json::{Map, Value};

use super::pending::Twin;
use super::snapshot::Section;
use super::{metadata, rules, text};
use crate::database::lock;

/// Twins that are kept parsed at most.
const MAX_TWINS: usize = 64;
/// The longest texts, together, of a section that is kept: parsed it takes many times as much.
const MAX_KEPT_BYTES: usize = 8 * 1024;

/// A section, parsed.
#[derive(Debug)]
pub(super) struct Parsed {
    pub document: Map<String, Value>,
    pub times: Map<String, Value>,
    /// Of the document, as it is limited.
    pub size: usize,
    /// What it is the parsed form of.
    pub of: Section,
}

impl Parsed {
    pub fn new(of: &Section) -> Parsed {
        let document = of.parse();
        Parsed { size: rules::size_of(&document), document, times: of.parse_times(), of: of.clone() }
    }

    /// Whether it is of these very texts.
    pub fn is_of(&self, section: &Section) -> bool {
        Arc::ptr_eq(&self.of.document, &section.document) && Arc::ptr_eq(&self.of.times, &section.times)
    }

    /// The section after `now` that it was made into.
    pub fn next(&mut self, now: &Section) -> Section {
        self.of = Section {
            times: metadata::to_text(&self.document, &mut self.times, now.times.len()),
            document: text::of(&self.document, now.document.len()),
            revision: now.revision + 1,
            version: now.version + 1,
        };
        self.of.clone()
    }

    fn is_small(&self) -> bool {
        self.of.document.len() + self.of.times.len() <= MAX_KEPT_BYTES
    }
}

/// What a twin keeps of its reported properties.
#[derive(Default)]
pub(super) struct Kept {
    pub parsed: Option<Box<Parsed>>,
    is_listed: bool,
    /// Since the last rest.
    is_used: bool,
}

/// The twins that were reported to since the last rest or the one before.
#[derive(Default)]
pub(super) struct Busy(Mutex<Vec<Arc<Twin>>>);

impl Busy {
    /// Notes that the twin was changed by its module. Its parsed form is kept only if it is one of several changes.
    pub fn note(&self, twin: &Arc<Twin>, kept: &mut Kept) {
        kept.is_used = true;
        if !kept.is_listed {
            kept.parsed = None;
            // Taken with the twin's lock held; whoever holds it never waits for a twin.
            let mut listed = lock(&self.0);
            if listed.len() < MAX_TWINS {
                listed.push(twin.clone());
                kept.is_listed = true;
            }
        } else if kept.parsed.as_ref().is_some_and(|parsed| !parsed.is_small()) {
            kept.parsed = None;
        }
    }

    /// Drops what was not used since the last call. `[never blocks]`
    pub fn rest(&self) {
        let mut listed = lock(&self.0);
        listed.retain(|twin| match twin.line().pending.try_lock() {
            Ok(mut pending) if !pending.kept.is_used => {
                pending.kept = Kept::default();
                false
            }
            Ok(mut pending) => {
                pending.kept.is_used = false;
                true
            }
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Poisoned(poisoned)) => {
                poisoned.into_inner().kept = Kept::default();
                false
            }
        });
        if listed.is_empty() {
            *listed = Vec::new();
        }
    }

    /// Twins that are kept parsed, each of which is what its text says.
    #[cfg(test)]
    pub fn checked(&self) -> usize {
        let twins = lock(&self.0).clone();
        let is_kept = |twin: &&Arc<Twin>| {
            let pending = lock(&twin.line().pending);
            let Some(parsed) = &pending.kept.parsed else { return false };
            assert_eq!((&parsed.document, &parsed.times), (&parsed.of.parse(), &parsed.of.parse_times()));
            assert_eq!(text::of(&parsed.document, 0), parsed.of.document, "in the same order");
            assert_eq!(parsed.size, rules::size_of(&parsed.document));
            true
        };
        twins.iter().filter(is_kept).count()
    }
}
