//! What an instance was given of secrets: their values on the way in, and the mask over what it says. Nothing is made for an
//! instance that refers to none.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwapOption;
use serde_json::Value;
use zeroize::Zeroizing;

use super::link::Link;
use super::lock;
use crate::secret::{Mask, Resolved, Used};
use crate::twin::TwinSnapshot;

/// See the module's documentation. Part of each link.
#[derive(Default)]
pub struct Given(OnceLock<Box<Inner>>);

#[derive(Default)]
struct Inner {
    mask: ArcSwapOption<Mask>,
    /// The twins with values in them, as last read: its own, and the device's.
    views: [Mutex<Option<View>>; 2],
    /// Name, version and time of what its `env` holds.
    env: Mutex<Vec<Stamp>>,
}

/// Name of a secret, and what tells its value from others: version and time.
pub type Stamp = (String, u64, i64);

struct View {
    of: Arc<TwinSnapshot>,
    secrets: u64,
    text: Arc<Zeroizing<String>>,
}

/// A document as it is handed to module code.
pub enum Deliverable<'d> {
    /// Nothing of it is secret.
    Shared(&'d str),
    /// With values in it; wiped when dropped.
    Given(Zeroizing<String>),
}

impl Deref for Deliverable<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Deliverable::Shared(text) => text,
            Deliverable::Given(text) => text,
        }
    }
}

/// The text of a twin as a module reads it. Without values it is shared by everybody who reads that state of the twin.
pub(super) enum TwinText {
    Shared(Arc<str>),
    Given(Arc<Zeroizing<String>>),
}

impl AsRef<[u8]> for TwinText {
    fn as_ref(&self) -> &[u8] {
        match self {
            TwinText::Shared(text) => text.as_bytes(),
            TwinText::Given(text) => text.as_bytes(),
        }
    }
}

/// Whose twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    Own = 0,
    Device = 1,
}

impl Link {
    /// A compact document with the values that it refers to.
    ///
    /// # Errors
    /// Why the instance is not to be given it: in words, with the commands to run.
    pub fn deliverable<'d>(&self, document: &'d str) -> Result<Deliverable<'d>, String> {
        let Some(resolved) = self.services.secrets.resolve(document, &self.name) else {
            return Ok(Deliverable::Shared(document));
        };
        if !resolved.missing.is_empty() {
            return Err(resolved.missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
        }
        Ok(Deliverable::Given(self.learn(resolved)))
    }

    /// As [`Link::deliverable`], with the reference itself where there is no value for this instance.
    pub fn deliverable_so_far<'d>(&self, document: &'d str) -> Deliverable<'d> {
        match self.services.secrets.resolve(document, &self.name) {
            Some(resolved) => Deliverable::Given(self.learn(resolved)),
            None => Deliverable::Shared(document),
        }
    }

    /// As [`Link::deliverable`], for `env`; [`Link::env_secrets`] knows from then on what it holds.
    pub fn deliverable_env<'d>(&self, env: &'d str) -> Result<Deliverable<'d>, String> {
        let deliverable = self.deliverable(env)?;
        if let (Deliverable::Given(_), Some(resolved)) = (&deliverable, self.services.secrets.resolve(env, &self.name))
        {
            let stamp = |used: &Used| (used.name.clone(), used.version, used.set_us);
            *lock(&self.given().env) = resolved.used.iter().map(stamp).collect();
        }
        Ok(deliverable)
    }

    /// The values that its `env` holds.
    pub fn env_secrets(&self) -> Vec<Stamp> {
        self.given.0.get().map(|given| lock(&given.env).clone()).unwrap_or_default()
    }

    /// A twin as this instance reads it: with the references themselves where there is no value for it.
    pub(super) fn twin_text(&self, snapshot: &Arc<TwinSnapshot>, whose: Whose) -> TwinText {
        if !snapshot.has_secrets() {
            return TwinText::Shared(snapshot.module_view());
        }
        let secrets = self.services.secrets.changes();
        let mut view = lock(&self.given().views[whose as usize]);
        if let Some(view) = &*view
            && Arc::ptr_eq(&view.of, snapshot)
            && view.secrets == secrets
        {
            return TwinText::Given(view.text.clone());
        }
        let Some(resolved) = self.services.secrets.resolve(&snapshot.module_view(), &self.name) else {
            return TwinText::Shared(snapshot.module_view());
        };
        let text = Arc::new(self.learn(resolved));
        *view = Some(View { of: snapshot.clone(), secrets, text: text.clone() });
        TwinText::Given(text)
    }

    /// What it says, without the values that it was given.
    pub fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.mask().map_or(Cow::Borrowed(text), |mask| mask.text(text))
    }

    /// As [`Link::masked`].
    pub fn masked_bytes<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        self.mask().map_or(Cow::Borrowed(text), |mask| mask.bytes(text))
    }

    /// Takes the values that it was given out of what it reports.
    pub fn mask_report(&self, report: &mut Value) {
        if self.mask().is_some_and(|mask| mask.document(report)) {
            tracing::warn!(module = &*self.name, "it reported the value of a secret: *** stands in its place");
        }
    }

    fn mask(&self) -> Option<Arc<Mask>> {
        self.given.0.get()?.mask.load_full()
    }

    /// From now on its values are taken out of what the instance says; before it has them.
    fn learn(&self, resolved: Resolved) -> Zeroizing<String> {
        self.services.secrets.figures().count_given(resolved.used.len());
        let mask = &self.given().mask;
        mask.rcu(|known| {
            let values = resolved.used.iter().map(|used| used.value.as_str());
            match known {
                Some(known) => known.with(values).map(Arc::new).or_else(|| Some(known.clone())),
                None => Mask::default().with(values).map(Arc::new),
            }
        });
        resolved.text
    }

    fn given(&self) -> &Inner {
        self.given.0.get_or_init(Box::default)
    }
}
