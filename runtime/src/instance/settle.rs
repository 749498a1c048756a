//! What a verdict means: what is committed, held, set aside or given up.

use std::num::NonZeroI64;
use std::sync::Arc;
use std::time::Duration;

use dinrail_plugin::abi::*;
use serde_json::Value;

use super::delivering::{Delivering, Then};
use super::link::{Link, Stage};
use super::retrying::{Try, Which, spoken_wait};
use crate::clock;
use crate::name::Identity;
use crate::queue::disk::{End, RowBehind, Settlement};
use crate::queue::kept::{Kept, Standing};
use crate::queue::losses;
use crate::queue::settling::{Before, Parking, Tries};
use crate::queue::{Queue, Source};
use crate::twin::TwinError;

/// Faults and panics over one message, before it is set aside as poisonous.
const MAX_FAULTS: u32 = 5;
/// Wait before the second delivery where the handler does not say; doubled for each further one.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Longest such wait.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// Longest wait that a handler is granted: its endpoint stands still in this priority, and a message that never comes again is never
/// parked either.
const MAX_ASKED_RETRY: Duration = Duration::from_secs(3600);
/// From this wait on each retry is noted on disk; of quicker ones, those whose number is a power of two.
const NOTED_RETRY: Duration = Duration::from_secs(1);

/// A message that was handed over, and what is known of it besides.
pub(super) struct HandedOver<'a> {
    pub message: &'a DrMessage,
    /// Where it came from disk.
    pub row: Option<RowBehind>,
    /// With the delivery that has just ended, and its fault if it was one.
    pub tries: Tries,
    /// In its queue.
    pub standing: Standing,
}

impl Delivering {
    /// Ends a delivery that was accepted. Nothing is to be written for a message that waited in memory and staged nothing.
    #[inline]
    pub(super) fn accept(&mut self, delivery: u64, row: Option<RowBehind>) {
        let stage = self.take_stage(delivery);
        if stage.is_some() || row.is_some() {
            self.settle(row, End::Handled, stage.unwrap_or_default());
        }
    }

    /// Gives up what was staged under a delivery that failed. Nobody else gets the numbers of these messages, which the ledger says.
    #[cold]
    pub(super) fn withdraw(&self, delivery: u64) {
        if let Some(stage) = self.take_stage(delivery) {
            self.link.services.ingest.losses().withdrawn(&stage.messages);
        }
    }

    /// What was staged under a delivery that ends. What came for one that had ended goes no further.
    #[inline]
    fn take_stage(&self, delivery: u64) -> Option<Stage> {
        let (stage, late) = self.link.deliveries.take_stage(delivery)?;
        if !late.is_empty() {
            self.link.services.ingest.losses().withdrawn(&late);
        }
        stage
    }

    /// Holds, parks or gives up, for every verdict that is neither acceptance nor deferral. True: the message is done with.
    #[cold]
    pub(super) fn after_failure(
        &mut self,
        kind: DrVerdictKind,
        retry_after_ms: u64,
        reason: &str,
        handed: &HandedOver<'_>,
    ) -> (Then, bool) {
        let Tries { attempts, faults } = handed.tries;
        let is_poison = faults >= MAX_FAULTS && is_fault(kind);
        let max_attempts = self.link.services.max_attempts;
        let parked_for = match kind {
            DR_PARK => Some(reason.to_owned()),
            _ if is_poison => Some(reason.to_owned()),
            _ if attempts >= max_attempts => {
                let last = if reason.is_empty() { String::new() } else { format!("; the last time: {reason}") };
                Some(format!("delivered {attempts} times and retried each time{last}"))
            }
            _ => None,
        };
        let is_parked = parked_for.is_some();
        if !is_parked {
            self.link.retries.count(is_fault(kind));
        }
        let wait = wait_after(kind, retry_after_ms, handed.tries);
        match parked_for {
            Some(reason) => self.park(handed, &reason),
            None => self.note(handed, kind, wait),
        }
        let then = match kind {
            DR_PANIC => Then::Panic(reason.to_owned()),
            _ if is_parked => Then::Next,
            _ => {
                self.say_retry(kind, wait, reason, handed);
                Then::Hold(wait)
            }
        };
        (then, is_parked)
    }

    /// Tells a person that a message waits for another try: `show` always, the log each time after a fault, now and then after a
    /// retry, of which a module may give thousands a second.
    fn say_retry(&self, kind: DrVerdictKind, wait: Duration, reason: &str, handed: &HandedOver<'_>) {
        let (attempt, is_fault) = (handed.tries.attempts, is_fault(kind));
        // A deferred delivery may end without one.
        let reason = if reason.is_empty() { "the module gave no reason" } else { reason };
        let which = which(handed.message);
        let is_said = self.link.retries.waits(which, Try { is_fault, attempts: attempt, wait, reason }, clock::now());
        let (module, input, sender, sequence) = (&*self.link.name, which.input, which.sender, which.sequence);
        if is_fault {
            tracing::warn!(module, sequence, attempt, "message not handled, will be delivered again: {reason}");
        } else if is_said {
            let wait = spoken_wait(wait);
            tracing::warn!(
                module,
                input,
                sender,
                sequence,
                attempt,
                "message retried by its handler, will be delivered again in {wait}: {reason}"
            );
        }
    }

    /// A message that was tried before is handled.
    #[cold]
    pub(super) fn passed(&self, message: &DrMessage, tries: Tries) {
        let which = which(message);
        if let Some(waited) = self.link.retries.end(which, clock::now()) {
            let (module, input, sequence) = (&*self.link.name, which.input, which.sequence);
            let waited = spoken_wait(waited);
            tracing::info!(
                module,
                input,
                sequence,
                attempt = tries.attempts,
                "message handled after another try, {waited} after the first"
            );
        }
    }

    /// Notes on disk how often a message from there was tried, so that a restart does not begin to count anew; a handler that
    /// retries often does not write each time.
    fn note(&mut self, handed: &HandedOver<'_>, kind: DrVerdictKind, wait: Duration) {
        let is_noted = is_fault(kind) || wait >= NOTED_RETRY || handed.tries.attempts.is_power_of_two();
        if handed.row.is_some() && is_noted {
            self.settle(handed.row.clone(), End::Tried(handed.tries), Stage::default());
        }
    }

    /// Sets a message aside, on disk, where a person finds it.
    fn park(&mut self, handed: &HandedOver<'_>, reason: &str) {
        let message = handed.message;
        self.link.retries.end(which(message), clock::now());
        let (name, disk) = (self.link.name.clone(), self.link.services.disk.clone());
        // SAFETY: the message is in place during its handling.
        let kept = unsafe { Kept::copy(message, handed.tries, None, handed.standing) };
        let row = kept.to_row(|input| format!("{}/inputs/{input}", self.link.identity));
        let (module, sequence) = (&*name, message.sequence);
        tracing::error!(module, sequence, sender = %row.sender, "message parked: {reason}");
        let line = losses::line(&row.sender, &row.output, &row.endpoint, losses::PARKED, (row.epoch, row.sequence));
        let parking = Parking { reason: reason.to_owned(), at_us: clock::wall_us(), tries: handed.tries };
        if handed.row.is_some() {
            return self.settle(handed.row.clone(), End::Parked(parking, line, None), Stage::default());
        }
        if let Err(error) = disk.check(std::slice::from_ref(&row)) {
            tracing::error!(module, sequence, "a parked message is lost: {error}");
            let source = Source { identity: row.sender.clone(), output: row.output.clone(), epoch: row.epoch };
            let ledger = self.link.services.ingest.losses();
            return ledger.count(&source, &row.endpoint, losses::NOT_STORED, sequence);
        }
        self.settle(None, End::Parked(parking, line, Some(row)), Stage::default());
    }

    /// Brings the end of a delivery to the disk: what was reported first, then the rest in one transaction.
    pub(super) fn settle(&mut self, row: Option<RowBehind>, end: End, stage: Stage) {
        let before = reports(&self.link, stage.reported, stage.device_reported);
        let settlement = Settlement { row, end, staged: stage.messages, line: stage.line, before };
        let link = &self.link;
        let make = || link.services.disk.settling(&link.identity.to_string().into(), &link.inbox);
        self.settling.get_or_insert_with(make).settle(settlement);
    }
}

/// What brings reports to the disk, and with them what follows in the queue; `None` where there are none.
fn reports(link: &Arc<Link>, own: Vec<Value>, of_device: Vec<Value>) -> Option<Before> {
    let mut reports: Vec<(Identity, Vec<Value>)> = Vec::new();
    if !own.is_empty() {
        reports.push((link.identity.clone(), own));
    }
    if let (false, Some(device)) = (of_device.is_empty(), link.device()) {
        reports.push((device, of_device));
    }
    let (last, others) = reports.pop().map(|last| (last, reports))?;
    let (twins, name) = (link.services.twins.clone(), link.name.clone());
    Some(Box::new(move |job, done| {
        let lost = |name: &Arc<str>| {
            let module = name.clone();
            move |error: &TwinError| tracing::error!(module = &*module, "what a handler reported is lost: {error}")
        };
        for (identity, patches) in &others {
            let (refused, failed) = (lost(&name), lost(&name));
            let heard = move |outcome: Result<_, _>| {
                if let Err(error) = outcome {
                    failed(&error);
                }
            };
            if let Err(error) = twins.report(identity, patches, None, heard) {
                refused(&error);
            }
        }
        let (refused, failed) = (lost(&name), lost(&name));
        let (identity, patches) = &last;
        let outcome = twins.report(identity, patches, Some(job), move |outcome| match outcome {
            Ok(_) => done(Ok(())),
            Err(TwinError::Store { cause, .. }) => done(Err(cause)),
            Err(error) => {
                failed(&error);
                done(Ok(()));
            }
        });
        outcome.inspect_err(refused).is_ok()
    }))
}

/// Which message, to a person.
fn which(message: &DrMessage) -> Which<'_> {
    // SAFETY: the message and what it points to is in place during its handling.
    let text = |text: DrText| unsafe { text.text() }.unwrap_or_default();
    Which {
        input: text(message.input),
        sender: text(message.sender),
        output: text(message.output),
        epoch: message.epoch,
        sequence: message.sequence,
    }
}

pub(super) fn is_fault(kind: DrVerdictKind) -> bool {
    matches!(kind, DR_FAULT | DR_PANIC)
}

/// Wait before the next delivery of a message. `asked_ms`: what the handler asks for; 0: it does not say.
fn wait_after(kind: DrVerdictKind, asked_ms: u64, tries: Tries) -> Duration {
    match kind {
        DR_RETRY if asked_ms > 0 => Duration::from_millis(asked_ms).min(MAX_ASKED_RETRY),
        DR_RETRY => backoff(tries.attempts),
        _ => backoff(tries.faults),
    }
}

fn backoff(attempt: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(MAX_RETRY)
}

/// The row behind a message of a queue, where it has one.
#[inline]
pub(super) fn row_behind(id: Option<NonZeroI64>, queue: &Queue, meta: usize, body: usize) -> Option<RowBehind> {
    id.map(|id| RowBehind { id, endpoint: queue.endpoint().clone(), bytes: (meta + body) as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handler_gets_the_wait_that_it_asks_for_up_to_an_hour() {
        let asked = |ms| wait_after(DR_RETRY, ms, Tries { attempts: 3, faults: 0 });
        assert_eq!(asked(1), Duration::from_millis(1));
        assert_eq!(asked(3_599_999), Duration::from_millis(3_599_999));
        for too_long in [3_600_000, 3_600_001, u64::MAX] {
            assert_eq!(asked(too_long), Duration::from_secs(3600), "{too_long}");
        }
    }

    #[test]
    fn wait_of_a_handler_that_does_not_say_doubles_up_to_half_a_minute() {
        let retried = |attempts| wait_after(DR_RETRY, 0, Tries { attempts, faults: 0 }).as_millis();
        assert_eq!([1, 2, 3].map(retried), [100, 200, 400]);
        assert_eq!([9, 10, 17, 18, u32::MAX].map(retried), [25_600, 30_000, 30_000, 30_000, 30_000]);
        // A fault says nothing of a wait, and counts by itself.
        assert_eq!(wait_after(DR_FAULT, u64::MAX, Tries { attempts: 9, faults: 2 }).as_millis(), 200);
    }
}
