//! Sends that wait for the disk, and the handler at the other end of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dinrail_plugin::prelude::*;

use crate::Desired;
use crate::body::{Head, now_ns};
use crate::twin::Busy;

/// Sends `count` messages, each once the one before is safe, and reports how long each took.
pub fn send(client: &Client, out: Output, desired: &Desired) -> Result<Busy, Error> {
    let is_over = Arc::new(AtomicBool::new(false));
    let (told, own) = (is_over.clone(), client.clone());
    let (run, count, starts_at_ms) = (desired.run, desired.count, desired.start_at_ms);
    let (mut body, mut times_us) = (vec![0; desired.body_bytes], Vec::<u32>::with_capacity(count as usize));
    client.spawn("probe-store", move |stop| {
        // Several probes begin together.
        let ahead = starts_at_ms.saturating_sub(now_ns() / 1_000_000);
        if stop.wait(Duration::from_millis(ahead)) {
            return;
        }
        let (begin, mut error) = (Instant::now(), None);
        while (times_us.len() as u64) < count && error.is_none() && !told.load(Ordering::Relaxed) {
            Head { run, sequence: times_us.len() as u64, sent_ns: 0 }.write(&mut body);
            let before = Instant::now();
            match own.send_message_to_output(out, &body) {
                Ok(()) => times_us.push(before.elapsed().as_micros() as u32),
                Err(why) => error = Some(why.to_string()),
            }
        }
        let elapsed_us = begin.elapsed().as_micros() as u64;
        let done = times_us.len();
        times_us.sort_unstable();
        let quantile = |q: f64| times_us.get((done.saturating_sub(1) as f64 * q) as usize);
        let result = json!({
            "run": run, "done": done, "elapsedUs": elapsed_us, "p50Us": quantile(0.5), "p99Us": quantile(0.99), "error": error
        });
        // Gone: the instance was stopped meanwhile.
        if let Err(error) = own.patch_reported(json!({"result": result})) {
            warn!("the result of run {run} is not reported: {error}");
        }
    })?;
    Ok(Busy(is_over))
}

/// Counts the messages of a run.
pub struct Taker {
    run: u64,
    count: u64,
    starts_at_ms: u64,
    taken: u64,
}

impl Taker {
    pub fn start(desired: &Desired) -> Taker {
        Taker { run: desired.run, count: desired.count, starts_at_ms: desired.start_at_ms, taken: 0 }
    }

    /// Takes a message. What the last one reports is committed with its removal.
    pub fn take(&mut self, body: &[u8], delivery: &Delivery<'_>) -> Result<(), Error> {
        if Head::read(body).is_none_or(|head| head.run != self.run) {
            return Ok(());
        }
        self.taken += 1;
        if self.taken == self.count {
            let elapsed_us = (now_ns() / 1000).saturating_sub(self.starts_at_ms * 1000);
            delivery.patch_reported(
                json!({"result": {"run": self.run, "done": self.taken, "elapsedUs": elapsed_us, "error": null}}),
            )?;
        }
        Ok(())
    }
}
