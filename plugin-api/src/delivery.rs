//! The end of a message: what a handler stages under its delivery is committed with its verdict, or not at all.

use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::abi::{DR_ACCEPT, DR_PARK, DR_RETRY, DrVerdict, DrVerdictKind};
use crate::client::{Client, IntoOutput};
use crate::error::Error;
use crate::message::KeptMessage;
use crate::outgoing::Outgoing;

/// The message that a handler has in hand. What is sent through it along durable routes, or reported, is **staged**: it returns at
/// once and is committed together with the removal of the message when the handler accepts; any other verdict discards it.
/// What goes along memory routes is sent at once and stays sent, whatever the verdict.
pub struct Delivery<'a> {
    client: &'a Client,
    id: u64,
    deferred: Cell<bool>,
}

impl<'a> Delivery<'a> {
    pub(crate) fn new(client: &'a Client, id: u64) -> Delivery<'a> {
        Delivery { client, id, deferred: Cell::new(false) }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred.get()
    }

    /// Sends from an output; along durable routes staged.
    #[inline]
    pub fn send<'m>(&self, output: impl IntoOutput, message: impl Into<Outgoing<'m>>) -> Result<(), Error> {
        self.client.send_under(self.id, output, &message.into())
    }

    /// Sends to the hub; along durable routes staged.
    pub fn send_message<'m>(&self, message: impl Into<Outgoing<'m>>) -> Result<(), Error> {
        self.client.send_under(self.id, crate::client::NO_OUTPUT, &message.into())
    }

    /// Merges a patch into the reported properties, staged.
    pub fn patch_reported(&self, patch: impl Serialize) -> Result<(), Error> {
        self.client.patch_under(self.id, patch)
    }

    /// Gives the message a life of its own, for another thread or a later time.
    pub fn keep(&self) -> Result<KeptMessage, Error> {
        self.client.keep(self.id)
    }

    /// Takes the decision out of the handler: its `Ok` then ends nothing, and the next message may come. Decide through
    /// what is returned, from any thread.
    pub fn defer(&self) -> Deferred {
        self.deferred.set(true);
        Deferred { client: self.client.clone(), id: self.id, decided: false }
    }
}

/// A message whose end is decided later. Dropped undecided, it is retried.
pub struct Deferred {
    client: Client,
    id: u64,
    decided: bool,
}

impl Deferred {
    /// Sends from an output; along durable routes staged until the decision. It has its number from now, and its place among what
    /// the output sends from the decision: where several deliveries are deferred, receivers can see a lower number behind a higher.
    pub fn send<'m>(&self, output: impl IntoOutput, message: impl Into<Outgoing<'m>>) -> Result<(), Error> {
        self.client.send_under(self.id, output, &message.into())
    }

    /// Merges a patch into the reported properties, staged until the decision.
    pub fn patch_reported(&self, patch: impl Serialize) -> Result<(), Error> {
        self.client.patch_under(self.id, patch)
    }

    /// Handled.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Gone`] where the instance is no more; the message is then delivered to its successor.
    pub fn accept(mut self) -> Result<(), Error> {
        self.decide(DR_ACCEPT, None, "")
    }

    /// Not now: delivered again, after the given time (an hour at most) or when the runtime thinks best.
    pub fn retry(mut self, after: Option<Duration>) -> Result<(), Error> {
        self.decide(DR_RETRY, after, "")
    }

    /// [`Deferred::retry`] with what it waits for, for the operator: `dinrail show` has it meanwhile.
    pub fn retry_because(mut self, after: Option<Duration>, reason: impl fmt::Display) -> Result<(), Error> {
        self.decide(DR_RETRY, after, &reason.to_string())
    }

    /// Never again by itself.
    pub fn park(mut self, reason: impl fmt::Display) -> Result<(), Error> {
        self.decide(DR_PARK, None, &reason.to_string())
    }

    fn decide(&mut self, kind: DrVerdictKind, after: Option<Duration>, reason: &str) -> Result<(), Error> {
        self.decided = true;
        self.client.complete(self.id, DrVerdict { kind, reserved: 0, retry_after_ms: retry_ms(after) }, reason)
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if !self.decided {
            // A stopped instance's messages are delivered again anyway.
            let _ = self.decide(DR_RETRY, None, "");
        }
    }
}

/// Milliseconds for the ABI, where 0 means "the runtime chooses": a shorter wish is rounded up.
pub(crate) fn retry_ms(after: Option<Duration>) -> u64 {
    after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1))
}
