//! What the service side asks of a twin: one form for every way in.

use serde_json::{Map, Value};

use super::edit::{self, How};
use super::error::TwinError;
use super::rules::Violation;
use super::snapshot::Section;

/// A change that the service side asks for. Made by one of the first five functions, refined by the others.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    wish: Wish<'a>,
    pub(super) how: How,
    pub(super) by: &'a str,
    pub(super) if_match: Option<&'a str>,
    /// The desired section that it was checked against outside.
    pub(super) basis: Option<Section>,
    pub(super) is_forced: bool,
    pub(super) undoes_to: Option<u64>,
    is_of_runtime: bool,
}

#[derive(Debug, Clone, Copy)]
enum Wish<'a> {
    /// `{"tags": …, "properties": {"desired": …}}`.
    Body(&'a Value),
    Desired(&'a Value),
    Tags(&'a Value),
}

/// The parts that a change touches.
#[derive(Debug, Default)]
pub(super) struct Parts<'a> {
    pub tags: Option<&'a Value>,
    pub desired: Option<&'a Value>,
}

impl<'a> Change<'a> {
    /// Merges `{"tags": …, "properties": {"desired": …}}`, both or neither; a part that is missing or null stays. What the
    /// service side cannot write but may send back (`reported`, `etag`, `version`, …) is left out; anything else is a
    /// violation.
    pub fn patch(body: &'a Value, by: &'a str) -> Change<'a> {
        Change::new(Wish::Body(body), How::Merge, by)
    }

    /// Puts tags and desired properties of a body as for [`Change::patch`] in place of those that are there. A part that is
    /// missing or null is emptied, as at IoT Hub; nulls inside of one are violations.
    pub fn replace(body: &'a Value, by: &'a str) -> Change<'a> {
        Change::new(Wish::Body(body), How::Replace, by)
    }

    /// Merges into the desired properties.
    pub fn patch_desired(patch: &'a Value, by: &'a str) -> Change<'a> {
        Change::new(Wish::Desired(patch), How::Merge, by)
    }

    /// Puts another document in place of the desired properties; listeners get the difference. A null in it means that the
    /// member is not there.
    pub fn replace_desired(document: &'a Value, by: &'a str) -> Change<'a> {
        Change::new(Wish::Desired(document), How::Replace, by)
    }

    /// Merges into the tags.
    pub fn patch_tags(patch: &'a Value, by: &'a str) -> Change<'a> {
        Change::new(Wish::Tags(patch), How::Merge, by)
    }

    /// Puts another document in place of the tags.
    pub fn replace_tags(document: &'a Value, by: &'a str) -> Change<'a> {
        Change::new(Wish::Tags(document), How::Replace, by)
    }

    fn new(wish: Wish<'a>, how: How, by: &'a str) -> Change<'a> {
        Change { wish, how, by, if_match: None, basis: None, is_forced: false, undoes_to: None, is_of_runtime: false }
    }

    /// The same, made only if the twin still has one of these tags, written as in the header `If-Match`.
    pub fn if_match(self, tags: Option<&'a str>) -> Change<'a> {
        Change { if_match: tags, ..self }
    }

    /// The same, made only on the desired properties that `preview` was made from.
    pub fn on(self, preview: &Preview) -> Change<'a> {
        Change { basis: Some(preview.basis.clone()), ..self }
    }

    /// The same, kept in the history as one that was made against the schema of the module's image.
    pub fn forced(self, is_forced: bool) -> Change<'a> {
        Change { is_forced, ..self }
    }

    /// The same, kept in the history as one that goes back to a version.
    pub fn undoing_to(self, version: u64) -> Change<'a> {
        Change { undoes_to: Some(version), ..self }
    }

    /// The same, made by the runtime, whose own desired properties nobody else changes.
    pub fn of_runtime(self) -> Change<'a> {
        Change { is_of_runtime: true, ..self }
    }

    /// Whether it changes desired properties in somebody else's name than the runtime's.
    pub(super) fn is_foreign_desire(&self) -> bool {
        !self.is_of_runtime && self.parts(&mut Vec::new()).desired.is_some()
    }

    /// The parts that it touches, and what is wrong with its form.
    pub(super) fn parts(&self, found: &mut Vec<Violation>) -> Parts<'a> {
        match self.wish {
            Wish::Body(body) => edit::parts(body, self.how, found),
            Wish::Desired(desired) => Parts { desired: Some(desired), tags: None },
            Wish::Tags(tags) => Parts { tags: Some(tags), desired: None },
        }
    }

    /// `patch`, `replace` or `undo to N`.
    pub(super) fn action(&self) -> String {
        match (self.undoes_to, self.how) {
            (Some(version), _) => format!("undo to {version}"),
            (None, How::Merge) => "patch".to_owned(),
            (None, How::Replace) => "replace".to_owned(),
        }
    }

    /// Whether a body's nulls are violations.
    pub(super) fn refuses_nulls(&self) -> bool {
        matches!((self.wish, self.how), (Wish::Body(_), How::Replace))
    }
}

/// What a change would make of the desired properties.
#[derive(Debug)]
pub struct Preview {
    pub(super) basis: Section,
    pub(super) after: Option<Section>,
}

impl Preview {
    /// The desired properties after it; `None` where it does not touch them.
    pub fn desired(&self) -> Option<Map<String, Value>> {
        self.after.as_ref().map(Section::parse)
    }
}

/// Refuses a change that was checked against desired properties which are no longer the newest.
pub(super) fn check_basis(
    identity: &crate::name::Identity,
    change: &Change<'_>,
    now: &Section,
) -> Result<(), TwinError> {
    match &change.basis {
        Some(basis) if !std::sync::Arc::ptr_eq(&basis.document, &now.document) || basis.revision != now.revision => {
            Err(TwinError::Moved { identity: identity.clone() })
        }
        _ => Ok(()),
    }
}
