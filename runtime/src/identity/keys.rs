//! The two keys of an identity or policy: where each comes from, and how each is replaced while the other holds.
//!
//! Guarantee: a key that was replaced never comes back by itself, because the counter of a pair only grows.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::changes::Rotation;
use super::credential::{KeyError, MasterKey, SymmetricKey};

/// One of the two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySlot {
    /// The one that is shown first.
    Primary,
    /// The one to go over to while the other is replaced.
    Secondary,
}

impl KeySlot {
    /// The other one.
    pub fn other(self) -> KeySlot {
        match self {
            KeySlot::Primary => KeySlot::Secondary,
            KeySlot::Secondary => KeySlot::Primary,
        }
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            KeySlot::Primary => "primary",
            KeySlot::Secondary => "secondary",
        }
    }
}

impl fmt::Display for KeySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeySlot {
    type Err = ();

    fn from_str(text: &str) -> Result<KeySlot, ()> {
        [KeySlot::Primary, KeySlot::Secondary].into_iter().find(|slot| slot.name() == text).ok_or(())
    }
}

/// Where a key comes from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum KeySource {
    /// Derived from the master key, under this word: `primary`, and after a rotation `primary:1`.
    Derived(Arc<str>),
    /// Given by an operator, sealed.
    Given(Arc<[u8]>),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Derived(word) => write!(f, "derived as {word}"),
            KeySource::Given(_) => f.write_str("given"),
        }
    }
}

/// The two keys, and how often they were rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPair {
    pub primary: KeySource,
    pub secondary: KeySource,
    pub counter: u32,
}

impl Default for KeyPair {
    fn default() -> KeyPair {
        use std::sync::OnceLock;
        // Shared by all that were never rotated.
        static WORDS: OnceLock<[Arc<str>; 2]> = OnceLock::new();
        let [primary, secondary] =
            WORDS.get_or_init(|| [KeySlot::Primary, KeySlot::Secondary].map(|slot| slot.name().into()));
        KeyPair {
            primary: KeySource::Derived(primary.clone()),
            secondary: KeySource::Derived(secondary.clone()),
            counter: 0,
        }
    }
}

impl KeyPair {
    pub(super) fn source(&self, slot: KeySlot) -> &KeySource {
        match slot {
            KeySlot::Primary => &self.primary,
            KeySlot::Secondary => &self.secondary,
        }
    }

    fn source_mut(&mut self, slot: KeySlot) -> &mut KeySource {
        match slot {
            KeySlot::Primary => &mut self.primary,
            KeySlot::Secondary => &mut self.secondary,
        }
    }

    /// Puts a key of the pair into this place.
    pub(super) fn put(&mut self, slot: KeySlot, source: KeySource) {
        *self.source_mut(slot) = source;
    }

    /// Does what is asked with the two.
    pub(super) fn turn(&mut self, rotation: Rotation) {
        match rotation {
            Rotation::Renew(slot) => self.rotate(slot),
            Rotation::Swap => self.swap(),
        }
    }

    /// Replaces one key by a newly derived one.
    pub(super) fn rotate(&mut self, slot: KeySlot) {
        self.counter += 1;
        *self.source_mut(slot) = KeySource::Derived(format!("{slot}:{}", self.counter).into());
    }

    /// Replaces one key by a given one, sealed for `owner`.
    pub(super) fn give(
        &mut self,
        slot: KeySlot,
        key: &SymmetricKey,
        master: &MasterKey,
        owner: &str,
    ) -> Result<(), KeyError> {
        let sealed = master.seal(&sealing_context(owner), key.bytes())?;
        *self.source_mut(slot) = KeySource::Given(sealed.into());
        Ok(())
    }

    /// The secondary key becomes the primary one, and the other way round.
    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.primary, &mut self.secondary);
    }

    /// One of the keys of `owner`: `{moduleId}:{generationId}`, or `policy {name}`.
    pub(super) fn key(&self, slot: KeySlot, master: &MasterKey, owner: &str) -> Result<SymmetricKey, KeyError> {
        match self.source(slot) {
            KeySource::Derived(word) => Ok(master.derive(&format!("{owner}:{word}"))),
            KeySource::Given(sealed) => {
                Ok(SymmetricKey::from_bytes(master.open(&sealing_context(owner), sealed)?.to_vec()))
            }
        }
    }
}

/// Of both slots, so that they can be swapped.
fn sealing_context(owner: &str) -> String {
    format!("key of {owner}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_replaces_one_key_and_never_brings_one_back() {
        let master = MasterKey::random().unwrap();
        let mut pair = KeyPair::default();
        let mut seen = Vec::new();
        let mut see = |pair: &KeyPair| {
            for slot in [KeySlot::Primary, KeySlot::Secondary] {
                let key = pair.key(slot, &master, "filter:1").unwrap().to_base64().to_string();
                if !seen.contains(&key) {
                    seen.push(key);
                }
            }
            seen.len()
        };
        assert_eq!(see(&pair), 2);
        pair.rotate(KeySlot::Primary);
        assert_eq!(see(&pair), 3);
        pair.swap();
        assert_eq!(see(&pair), 3, "a swap makes no key");
        pair.rotate(KeySlot::Primary);
        assert_eq!(see(&pair), 4);
        pair.rotate(KeySlot::Secondary);
        assert_eq!(see(&pair), 5);
    }

    #[test]
    fn a_given_key_is_the_one_that_was_given_in_either_slot() {
        let master = MasterKey::random().unwrap();
        let given = SymmetricKey::random().unwrap();
        let mut pair = KeyPair::default();
        pair.give(KeySlot::Primary, &given, &master, "filter:1").unwrap();
        assert_eq!(pair.key(KeySlot::Primary, &master, "filter:1").unwrap().to_base64(), given.to_base64());
        pair.swap();
        assert_eq!(pair.key(KeySlot::Secondary, &master, "filter:1").unwrap().to_base64(), given.to_base64());
        assert!(pair.key(KeySlot::Secondary, &master, "filter:2").is_err(), "another's sealed key does not open");
        let KeySource::Given(sealed) = &pair.secondary else { panic!("{pair:?}") };
        assert!(!sealed.windows(8).any(|part| part == &given.bytes()[..8]));
    }
}
