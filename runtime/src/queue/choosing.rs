//! Which of an output's targets a message goes to, where routes have conditions.
//!
//! Conditions are evaluated on the sender's thread, under its output's lock, before anything is copied but the properties, which
//! are encoded once for that and for the lanes. An output without conditions has none of this.

use std::sync::Arc;

use super::ingest::Target;
use super::lane::{MetaWriter, Source};
use super::outgoing::Outgoing;
use super::target::{Gate, TargetSpec};
use crate::routing::{Asked, BodyPaths, MessageView, Test, Truth};

/// Room for encoded properties that is kept from one message to the next.
const KEPT_META: usize = 4096;

/// The conditions of an output's targets.
pub(super) struct Choosing {
    paths: BodyPaths,
    /// One for each target, in their order.
    choices: Box<[Choice]>,
    meta: Vec<u8>,
    chosen: Vec<usize>,
}

/// The targets of a message.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'t> {
    among: &'t [Target],
    /// Their places; all of them where there is none.
    only: Option<&'t [usize]>,
}

impl<'t> Chosen<'t> {
    /// Every one of these.
    pub fn all(targets: &'t [Target]) -> Chosen<'t> {
        Chosen { among: targets, only: None }
    }

    /// Places of those that `wanted` is true of.
    pub fn places(self, wanted: impl Fn(&Target) -> bool) -> Vec<usize> {
        let place = |at: usize| self.only.map_or(Some(at), |only| only.get(at).copied());
        let places = (0..self.len()).filter_map(place);
        places.filter(|at| self.among.get(*at).is_some_and(&wanted)).collect()
    }

    /// The ones at `places`.
    pub fn only(self, places: &'t [usize]) -> Chosen<'t> {
        Chosen { among: self.among, only: Some(places) }
    }

    /// In their order.
    pub fn iter(self) -> impl Iterator<Item = &'t Target> {
        (0..self.len()).filter_map(move |at| self.get(at))
    }

    /// Where there is one, and no other.
    #[inline]
    pub fn single(self) -> Option<&'t Target> {
        if self.len() == 1 { self.get(0) } else { None }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn len(self) -> usize {
        self.only.map_or(self.among.len(), <[usize]>::len)
    }

    #[inline]
    fn get(self, at: usize) -> Option<&'t Target> {
        match self.only {
            None => self.among.get(at),
            Some(only) => self.among.get(*only.get(at)?),
        }
    }
}

struct Choice {
    test: Option<Test>,
    /// Only where the one before it, for the same endpoint, did not take the message.
    is_alternative: bool,
    gate: Option<Arc<Gate>>,
}

impl Choosing {
    /// `None` where every message goes to every target.
    pub(super) fn of(specs: &[TargetSpec]) -> Option<Box<Choosing>> {
        if specs.iter().all(|spec| spec.condition.is_none() && spec.gate.is_none() && !spec.is_alternative) {
            return None;
        }
        let mut paths = BodyPaths::default();
        let choice = |spec: &TargetSpec| Choice {
            test: spec.condition.as_ref().map(|condition| condition.among(&mut paths)),
            is_alternative: spec.is_alternative,
            gate: spec.gate.clone(),
        };
        let choices = specs.iter().map(choice).collect();
        Some(Box::new(Choosing { paths, choices, meta: Vec::new(), chosen: Vec::new() }))
    }

    /// The targets of a message, and its properties, encoded.
    pub(super) fn choose<'t>(
        &'t mut self,
        targets: &'t [Target],
        source: &Source,
        message: &Outgoing<'_>,
        (sequence, created_us): (u64, i64),
    ) -> (Chosen<'t>, &'t [u8]) {
        if self.meta.capacity() > KEPT_META {
            self.meta = Vec::new();
        }
        self.meta.clear();
        self.meta.resize(message.meta_len, 0);
        if message.meta_len > 0 {
            (message.fill)(&mut MetaWriter::new(&mut self.meta));
        }
        self.chosen.clear();
        let view = MessageView {
            meta: &self.meta,
            body: message.body.bytes(),
            sender: &source.identity,
            output: &source.output,
            epoch: source.epoch,
            sequence,
            created_us,
        };
        let asked = Asked::new(view, &self.paths);
        let mut is_settled = false;
        for (at, choice) in self.choices.iter().enumerate() {
            is_settled &= choice.is_alternative;
            if is_settled {
                continue;
            }
            let is_wanted = choice.test.as_ref().is_none_or(|test| test.evaluate(&asked) == Truth::True);
            if is_wanted && choice.gate.as_ref().is_none_or(|gate| gate.admits()) {
                is_settled = true;
                self.chosen.push(at);
            }
        }
        (Chosen { among: targets, only: Some(&self.chosen) }, &self.meta)
    }
}
