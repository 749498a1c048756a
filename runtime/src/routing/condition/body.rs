//! Values out of a JSON body, several in one pass: what nobody asked for is skipped over, and once all is found the rest is not
//! looked at. Of two members with one name the first counts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::reference::{BodyPath, Step};
use super::value::{Value, number};

/// Everything that is asked of the same body.
#[derive(Debug, Clone, Default)]
pub struct BodyPaths {
    root: Node,
    count: u32,
}

/// What is wanted at one place of a body, and below it.
#[derive(Debug, Clone, Default)]
struct Node {
    slot: Option<u32>,
    members: Vec<(Box<str>, Node)>,
    items: Vec<(u32, Node)>,
}

impl BodyPaths {
    /// The place at which the value of `path` will be found.
    pub(super) fn slot(&mut self, path: &BodyPath) -> u32 {
        let mut node = &mut self.root;
        for step in &path.0 {
            node = match step {
                Step::Member(name) => {
                    let at = node.members.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                        node.members.push((name.clone(), Node::default()));
                        node.members.len() - 1
                    });
                    &mut node.members[at].1
                }
                Step::Item(index) => {
                    let at = node.items.iter().position(|(known, _)| known == index).unwrap_or_else(|| {
                        node.items.push((*index, Node::default()));
                        node.items.len() - 1
                    });
                    &mut node.items[at].1
                }
            };
        }
        *node.slot.get_or_insert_with(|| {
            self.count += 1;
            self.count - 1
        })
    }

    /// The values of all paths, by their slots. What is not there is undefined; so is what stands behind a mistake.
    pub(super) fn read<'m>(&self, body: &'m [u8]) -> BodyValues<'m> {
        let mut found = Found { values: vec![Value::Undefined; self.count as usize], missing: self.count };
        let mut json = serde_json::Deserializer::from_slice(body);
        // An error is a mistake in the body, or says that all was found.
        let read = Seek { node: &self.root, found: &mut found }.deserialize(&mut json).and_then(|()| json.end());
        let is_object = body.trim_ascii_start().starts_with(b"{");
        BodyValues { is_sound_object: is_object && (found.missing == 0 || read.is_ok()), values: found.values }
    }
}

/// What was found in a body.
#[derive(Debug, Default)]
pub(super) struct BodyValues<'m> {
    /// By the slots of their paths.
    pub(super) values: Vec<Value<'m>>,
    /// It is an object without a mistake, as far as it was read: what is not in it is not there.
    pub(super) is_sound_object: bool,
}

struct Found<'m> {
    values: Vec<Value<'m>>,
    missing: u32,
}

/// Reads one value of the body.
struct Seek<'p, 'f, 'm> {
    node: &'p Node,
    found: &'f mut Found<'m>,
}

impl<'m> Seek<'_, '_, 'm> {
    /// Keeps what stands here. The error ends the reading: nothing more is wanted.
    fn keep<E: Error>(&mut self, value: Value<'m>) -> Result<(), E> {
        let Some(slot) = self.node.slot else { return Ok(()) };
        let place = &mut self.found.values[slot as usize];
        if !place.is_defined() && value.is_defined() {
            *place = value;
            self.found.missing -= 1;
            if self.found.missing == 0 {
                return Err(E::custom(""));
            }
        }
        Ok(())
    }
}

impl<'m> DeserializeSeed<'m> for Seek<'_, '_, 'm> {
    type Value = ();

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'m> Visitor<'m> for Seek<'_, '_, 'm> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        self.keep(Value::Null)
    }

    fn visit_bool<E: Error>(mut self, truth: bool) -> Result<(), E> {
        self.keep(Value::Bool(truth))
    }

    fn visit_i64<E: Error>(mut self, whole: i64) -> Result<(), E> {
        self.keep(Value::Number(whole as f64))
    }

    fn visit_u64<E: Error>(mut self, whole: u64) -> Result<(), E> {
        self.keep(Value::Number(whole as f64))
    }

    fn visit_f64<E: Error>(mut self, real: f64) -> Result<(), E> {
        self.keep(number(real))
    }

    fn visit_borrowed_str<E: Error>(mut self, text: &'m str) -> Result<(), E> {
        self.keep(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.keep(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'m>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.keep(Value::Structure)?;
        let node = self.node;
        while let Some(wanted) = members.next_key_seed(Wanted(node))? {
            match wanted {
                Some(node) => members.next_value_seed(Seek { node, found: &mut *self.found })?,
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'m>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.keep(Value::Structure)?;
        let node = self.node;
        for index in 0.. {
            let wanted = node.items.iter().find(|(known, _)| *known == index);
            let item = match wanted {
                Some((_, node)) => items.next_element_seed(Seek { node, found: &mut *self.found })?,
                None => items.next_element::<IgnoredAny>()?.map(drop),
            };
            if item.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// Reads a member's name: what is wanted of it, if anything.
struct Wanted<'p>(&'p Node);

impl<'p, 'm> DeserializeSeed<'m> for Wanted<'p> {
    type Value = Option<&'p Node>;

    fn deserialize<D: Deserializer<'m>>(self, deserializer: D) -> Result<Option<&'p Node>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for Wanted<'p> {
    type Value = Option<&'p Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<&'p Node>, E> {
        Ok(self.0.members.iter().find(|(known, _)| **known == *name).map(|(_, node)| node))
    }
}
