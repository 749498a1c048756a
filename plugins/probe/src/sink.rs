//! Counts the messages of a run: how many, in which order, how fast.

use std::time::Duration;

use dinrail_plugin::ErrorKind;
use dinrail_plugin::prelude::*;

use crate::body::{Head, Shape, now_ns, write_ack};
use crate::{Desired, Mode};

/// How often a sink looks whether anything came.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in vain after which a run is over; at the begin of a run, before its first message.
const PATIENCE: u32 = 3;
const PATIENCE_AT_FIRST: u32 = 30;
/// Messages between two looks at the clock, for the end of a run that stays incomplete.
const CLOCK_EVERY: u64 = 256;
/// Latencies that are kept; later ones are not measured.
const MAX_LATENCIES: u64 = 1_000_000;

/// A run that is being received.
pub struct Sink {
    client: Client,
    ack: Output,
    timer: Timer,
    run: u64,
    mode: Mode,
    shape: Shape,
    count: u64,
    /// Messages between two acknowledgements; never reached where there are none.
    ack_every: u64,
    unacknowledged: u64,
    received: u64,
    /// The sequence that is to come next.
    next: u64,
    lost: u64,
    reordered: u64,
    first_sent_ns: u64,
    last_received_ns: u64,
    /// In nanoseconds; has its whole capacity from the start.
    latencies: Vec<u32>,
    received_at_look: u64,
    looks_in_vain: u32,
    is_over: bool,
}

impl Sink {
    pub fn start(client: &Client, ack: Output, desired: &Desired) -> Result<Sink, Error> {
        let latencies = if desired.mode == Mode::Paced { desired.count.min(MAX_LATENCIES) } else { 0 };
        Ok(Sink {
            client: client.clone(),
            ack,
            timer: client.every(LOOK)?,
            run: desired.run,
            mode: desired.mode,
            shape: desired.shape,
            count: desired.count,
            ack_every: if desired.mode == Mode::Windowed { (desired.window / 4).max(1) } else { u64::MAX },
            unacknowledged: 0,
            received: 0,
            next: 0,
            lost: 0,
            reordered: 0,
            first_sent_ns: 0,
            last_received_ns: 0,
            latencies: Vec::with_capacity(latencies as usize),
            received_at_look: 0,
            looks_in_vain: 0,
            is_over: false,
        })
    }

    /// Takes a message. One of another run, such as the rest of the one before, is not looked at.
    #[inline]
    pub fn take(&mut self, body: &[u8]) -> Result<(), Error> {
        let is_ours = |head: &Head| head.run == self.run && head.sequence < self.count && !self.is_over;
        let Some(head) = self.shape.read(body).filter(is_ours) else { return Ok(()) };
        self.received += 1;
        match head.sequence.cmp(&self.next) {
            std::cmp::Ordering::Equal => self.next += 1,
            std::cmp::Ordering::Greater => {
                self.lost += head.sequence - self.next;
                self.next = head.sequence + 1;
            }
            // Late or a repeat. A late one stays lost: better to blame too much than too little.
            std::cmp::Ordering::Less => self.reordered += 1,
        }
        if head.sent_ns != 0 {
            self.stamped(head.sent_ns);
        } else if self.received.is_multiple_of(CLOCK_EVERY) {
            self.last_received_ns = now_ns();
        }
        self.unacknowledged += 1;
        if self.unacknowledged >= self.ack_every {
            match self.client.send_message_to_output(self.ack, &write_ack(self.unacknowledged, self.run)) {
                Ok(()) => self.unacknowledged = 0,
                // The next message tries again; a fault would only bring this one a second time.
                Err(error) if error.kind() == ErrorKind::Full => {}
                Err(error) => return Err(error),
            }
        }
        // With gaps, what is late may still come: then silence ends the run.
        if self.next == self.count && self.lost == 0 { self.end(now_ns()) } else { Ok(()) }
    }

    fn stamped(&mut self, sent_ns: u64) {
        self.last_received_ns = now_ns();
        if self.first_sent_ns == 0 {
            self.first_sent_ns = sent_ns;
        }
        if self.latencies.len() < self.latencies.capacity() {
            let ns = self.last_received_ns.saturating_sub(sent_ns);
            self.latencies.push(u32::try_from(ns).unwrap_or(u32::MAX));
        }
    }

    /// Ends a run in which nothing comes any more.
    pub fn look(&mut self, timer: Timer) -> Result<(), Error> {
        if timer != self.timer || self.is_over {
            return Ok(());
        }
        self.looks_in_vain = if self.received == self.received_at_look { self.looks_in_vain + 1 } else { 0 };
        self.received_at_look = self.received;
        let patience = if self.received == 0 { PATIENCE_AT_FIRST } else { PATIENCE };
        if self.looks_in_vain >= patience { self.end(self.last_received_ns) } else { Ok(()) }
    }

    fn end(&mut self, now_ns: u64) -> Result<(), Error> {
        self.is_over = true;
        self.client.cancel(self.timer);
        // The last ones of a run are missing without a gap that shows it.
        self.lost += self.count - self.next.min(self.count);
        let is_timed = self.first_sent_ns != 0;
        let elapsed_ns = if is_timed { now_ns.saturating_sub(self.first_sent_ns) } else { 0 };
        let per_second = if elapsed_ns > 0 { self.received as f64 * 1e9 / elapsed_ns as f64 } else { 0.0 };
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_unstable();
        let result = json!({
            "run": self.run, "mode": self.mode, "received": self.received,
            "lost": self.lost, "reordered": self.reordered,
            "elapsedNs": elapsed_ns, "perSecond": per_second.round(),
            "p50Us": quantile_us(&latencies, 0.5),
            "p99Us": quantile_us(&latencies, 0.99),
            "p999Us": quantile_us(&latencies, 0.999),
        });
        self.client.begin_patch_reported(json!({"result": result}), |end| {
            if let Err(error) = end {
                warn!("the result is not reported: {error}");
            }
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.client.cancel(self.timer);
    }
}

/// The smallest latency that is not exceeded by `share` of all, in microseconds; `None` where there are none.
fn quantile_us(sorted_ns: &[u32], share: f64) -> Option<f64> {
    let rank = (share * sorted_ns.len() as f64).ceil() as usize;
    sorted_ns.get(rank.max(1) - 1).map(|ns| f64::from(*ns) / 1000.0)
}
