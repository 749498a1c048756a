//! What conditions ask one message for. The body is read when the first of them wants it, for all of them at once.

use std::cell::OnceCell;

use super::body::{BodyPaths, BodyValues};
use super::reference::{Name, SystemName};
use super::value::Value;
use crate::routing::view::{Encoding, MessageView, NotJson};

/// A message and what was found out about it so far.
pub struct Asked<'m> {
    view: MessageView<'m>,
    paths: &'m BodyPaths,
    body: OnceCell<Vec<Value<'m>>>,
    /// The body of a change of a twin, which is JSON whatever its type says.
    change: OnceCell<BodyValues<'m>>,
}

impl<'m> Asked<'m> {
    /// Nothing is looked at yet. `paths` are those of all conditions that will be evaluated with it.
    pub fn new(view: MessageView<'m>, paths: &'m BodyPaths) -> Asked<'m> {
        Asked { view, paths, body: OnceCell::new(), change: OnceCell::new() }
    }

    /// The bytes of a property, which are in the order of its text.
    #[inline]
    pub(super) fn bytes(&self, name: &Name) -> Option<&'m [u8]> {
        self.view.property_bytes(name)
    }

    pub(super) fn property(&self, name: &Name) -> Value<'m> {
        self.view.property(name).map_or(Value::Undefined, |text| Value::Text(text.into()))
    }

    pub(super) fn system(&self, name: &SystemName) -> Value<'m> {
        self.view.system(name).map_or(Value::Undefined, Value::Text)
    }

    pub(super) fn body(&self, slot: u32) -> Value<'_> {
        let found = self.body.get_or_init(|| match self.view.json_encoding() {
            Ok(encoding) => read(self.paths, encoding, self.view.body).values,
            Err(_) => Vec::new(),
        });
        found.get(slot as usize).map_or(Value::Undefined, Value::borrowed)
    }

    /// Whether a change has a value for a path; null is one: it says that it was removed. The body of a change is the patch of the
    /// reported properties, as at IoT Edge, or has the twin's shape around it, as at IoT Hub: `whole` and `patch` are the path in
    /// both.
    pub(super) fn change_includes(&self, slots: &[u32], whole: u16, patch: Option<u16>) -> Value<'_> {
        let found = self.change.get_or_init(|| {
            let encoding = self.view.json_encoding().unwrap_or(Encoding::Utf8);
            read(self.paths, encoding, self.view.body)
        });
        let has = |path: u16| {
            let slot = slots.get(usize::from(path));
            slot.and_then(|slot| found.values.get(*slot as usize)).is_some_and(Value::is_defined)
        };
        if has(whole) || patch.is_some_and(has) {
            return Value::Bool(true);
        }
        if found.is_sound_object { Value::Bool(false) } else { Value::Undefined }
    }

    /// Why the body is not looked into; `None` where it is.
    pub(super) fn no_body(&self) -> Option<&'static str> {
        match self.view.json_encoding() {
            Err(reason) => Some(NotJson::reason(reason)),
            Ok(encoding) => {
                let is_json = encoding
                    .decode(self.view.body)
                    .is_some_and(|json| serde_json::from_slice::<serde::de::IgnoredAny>(&json).is_ok());
                (!is_json).then_some("the message's body is not the JSON that its contentType says")
            }
        }
    }
}

fn read<'m>(paths: &BodyPaths, encoding: Encoding, body: &'m [u8]) -> BodyValues<'m> {
    match encoding.decode(body) {
        None => BodyValues::default(),
        Some(std::borrow::Cow::Borrowed(json)) => paths.read(json),
        Some(std::borrow::Cow::Owned(json)) => {
            let BodyValues { values, is_sound_object } = paths.read(&json);
            BodyValues { values: values.into_iter().map(Value::into_owned).collect(), is_sound_object }
        }
    }
}
