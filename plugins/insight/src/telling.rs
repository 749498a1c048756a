//! Results on their way out. One that a route could not take goes back to the front of those that wait.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};

use dinrail_plugin::prelude::*;

use crate::engine::Engine;
use crate::outcome::Outcome;

/// The output, and the results that it was given without having said how that ended.
pub struct Telling {
    output: Output,
    on_their_way: BTreeMap<u64, Outcome>,
    last: u64,
    end: Sender<(u64, bool)>,
    ends: Receiver<(u64, bool)>,
}

impl Telling {
    pub fn new(output: Output) -> Telling {
        let (end, ends) = channel();
        Telling { output, on_their_way: BTreeMap::new(), last: 0, end, ends }
    }

    pub fn on_their_way(&self) -> impl Iterator<Item = &Outcome> {
        self.on_their_way.values()
    }

    /// Sends what waits, until a receiver has no room.
    pub fn tell(&mut self, client: &Client, engine: &mut Engine) {
        self.take_back(engine);
        while let Some(outcome) = engine.next() {
            self.last += 1;
            let (number, end) = (self.last, self.end.clone());
            let message = Outgoing::from(&outcome.body)
                .message_id(&outcome.id)
                .content_type("application/json")
                .content_encoding("utf-8")
                .property("query", &outcome.query)
                .property("name", &outcome.name);
            // Durable routes: those of a round go into one commit.
            let begun = client.begin_send(self.output, message, move |how| {
                // Nobody listens any more once the instance has stopped.
                let _ = end.send((number, how.is_ok()));
            });
            if begun.is_err() {
                engine.put_back(outcome);
                return;
            }
            self.on_their_way.insert(number, outcome);
        }
        self.take_back(engine);
    }

    /// Takes note of what has ended.
    pub fn take_back(&mut self, engine: &mut Engine) {
        let mut failed = Vec::new();
        while let Ok((number, is_sent)) = self.ends.try_recv() {
            let outcome = self.on_their_way.remove(&number);
            failed.extend(outcome.filter(|_| !is_sent));
        }
        failed.into_iter().rev().for_each(|outcome| engine.put_back(outcome));
    }
}
