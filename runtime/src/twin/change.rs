//! What the service side asks of a twin: one form for every way in.

use serde_json::{Map, Value};

use super::edit::{self, Edit, How};
use super::error::TwinError;
use super::etag;
use super::history::Row;
use super::rules::{self, Violation};
use super::snapshot::{Part, Section};
use crate::clock;
use crate::name::Identity;

/// A change that the service side asks for. Made by one of the first five functions, refined by the others.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    wish: Wish<'a>,
    how: How,
    pub(super) by: &'a str,
    if_match: Option<&'a str>,
    /// The desired section that it was checked against outside.
    basis: Option<Section>,
    is_forced: bool,
    undoes_to: Option<u64>,
    is_of_runtime: bool,
    leaves_desired: bool,
}

#[derive(Debug, Clone, Copy)]
enum Wish<'a> {
    /// `{"tags": …, "properties": {"desired": …}}`.
    Body(&'a Value),
    /// The same, of which a part that is missing stays in any case.
    Given(&'a Value),
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

    /// Puts the parts of a body as for [`Change::patch`] in place of those that are there; one that is missing or null stays.
    pub fn replace_given(body: &'a Value, by: &'a str) -> Change<'a> {
        Change::new(Wish::Given(body), How::Replace, by)
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
        Change {
            wish,
            how,
            by,
            if_match: None,
            basis: None,
            is_forced: false,
            undoes_to: None,
            is_of_runtime: false,
            leaves_desired: false,
        }
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

    /// The same, of desired properties that are the runtime's: those that a body sends back as they are, `now`, are left out.
    /// `None` where it would change them in somebody else's name.
    pub(super) fn beside_desired(&self, now: &Section) -> Option<Change<'a>> {
        let desired = match self.is_of_runtime {
            true => None,
            false => self.parts(&mut Vec::new()).desired,
        };
        let Some(desired) = desired else { return Some(self.clone()) };
        let mut sent = desired.as_object().filter(|_| matches!(self.wish, Wish::Body(_) | Wish::Given(_)))?.clone();
        sent.retain(|key, _| key != "$version" && key != "$metadata");
        (sent == now.parse()).then(|| Change { leaves_desired: true, ..self.clone() })
    }

    /// The parts that it touches, and what is wrong with its form.
    fn parts(&self, found: &mut Vec<Violation>) -> Parts<'a> {
        let parts = match self.wish {
            Wish::Body(body) => edit::parts(body, self.how, found),
            Wish::Given(body) => edit::parts(body, How::Merge, found),
            Wish::Desired(desired) => Parts { desired: Some(desired), tags: None },
            Wish::Tags(tags) => Parts { tags: Some(tags), desired: None },
        };
        Parts { desired: parts.desired.filter(|_| !self.leaves_desired), ..parts }
    }

    /// `patch`, `replace` or `undo to N`.
    fn action(&self) -> String {
        match (self.undoes_to, self.how) {
            (Some(version), _) => format!("undo to {version}"),
            (None, How::Merge) => "patch".to_owned(),
            (None, How::Replace) => "replace".to_owned(),
        }
    }

    /// Whether it puts a part back as it is.
    fn leaves(&self, wanted: &Value, now: &Section) -> bool {
        self.refuses_nulls() && wanted.as_object().is_some_and(|wanted| *wanted == now.parse())
    }

    /// Whether a body's nulls are violations.
    fn refuses_nulls(&self) -> bool {
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
pub(super) fn check_basis(identity: &Identity, change: &Change<'_>, now: &Section) -> Result<(), TwinError> {
    match &change.basis {
        Some(basis) if !std::sync::Arc::ptr_eq(&basis.document, &now.document) || basis.revision != now.revision => {
            Err(TwinError::Moved { identity: identity.clone() })
        }
        _ => Ok(()),
    }
}

/// Refuses a body whose desired properties carry another `$version` than they have: it guards a change as an etag does, for
/// who names no etag. One that cannot be a version is a violation in any case.
fn check_version(
    identity: &Identity,
    change: &Change<'_>,
    desired: Option<&Value>,
    now: &Section,
    found: &mut Vec<Violation>,
) -> Result<(), TwinError> {
    let guard = desired.filter(|_| matches!(change.wish, Wish::Body(_))).and_then(|desired| desired.get("$version"));
    let Some(guard) = guard.filter(|guard| !guard.is_null()) else { return Ok(()) };
    match guard.as_u64() {
        None => {
            found.push(Violation {
                path: format!("{}.$version", Part::Desired.path()),
                value: rules::shown(guard),
                limit: "the version that is expected, a whole number; or leave it out".to_owned(),
            });
            Ok(())
        }
        Some(asked) if change.if_match.is_none() && asked != now.version => {
            Err(TwinError::VersionMismatch { identity: identity.clone(), version: now.version, asked })
        }
        Some(_) => Ok(()),
    }
}

/// Compares `If-Match` with the newest state, pending changes included: of two writers with the same tag, one wins.
fn check_etag(identity: &Identity, now: &[Section; 3], if_match: Option<&str>) -> Result<(), TwinError> {
    let Some(asked) = if_match else { return Ok(()) };
    let etag = etag::of(&now[Part::Tags as usize], &now[Part::Desired as usize]);
    if etag::matches(asked, &etag) {
        return Ok(());
    }
    Err(TwinError::EtagMismatch { identity: identity.clone(), etag, asked: asked.to_owned() })
}

/// What a change of the service side makes of the newest state.
pub(super) fn make(
    identity: &Identity,
    change: &Change<'_>,
    now: &[Section; 3],
    found: &mut Vec<Violation>,
) -> Result<Edit, TwinError> {
    check_etag(identity, now, change.if_match)?;
    let parts = change.parts(found);
    check_version(identity, change, parts.desired, &now[Part::Desired as usize], found)?;
    let mut edit = Edit::default();
    let at_us = clock::wall_us();
    for (part, wanted) in [(Part::Tags, parts.tags), (Part::Desired, parts.desired)] {
        let (Some(wanted), now) = (wanted, &now[part as usize]) else { continue };
        if change.refuses_nulls() {
            rules::check_no_null(part.path(), wanted, found);
        }
        if part == Part::Tags && change.leaves(wanted, now) {
            // Tags have no version of their own to the outside: put back as they are, they are not changed.
            continue;
        }
        let Some(changed) = edit::change(part, now, wanted, change.how, at_us / 1000, found) else { continue };
        if part == Part::Desired {
            edit.desired_patch = Some((changed.patch.into(), change.how == How::Replace));
        }
        edit.history.push(Row {
            part,
            from_version: now.version,
            to_version: changed.section.version,
            at_us,
            by: change.by.to_owned(),
            action: change.action(),
            is_forced: change.is_forced,
            reverse: changed.reverse.into(),
        });
        edit.sections[part as usize] = Some(changed.section);
    }
    Ok(edit)
}
