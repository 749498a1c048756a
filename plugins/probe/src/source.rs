//! Sends the messages of a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dinrail_plugin::ErrorKind;
use dinrail_plugin::prelude::*;

use crate::body::{Head, Shape, now_ns, read_ack};
use crate::{Desired, Mode};

/// Full queues in a row until a windowed run is given up; each try has been held for up to 50 ms.
const MAX_FULL_IN_A_ROW: u64 = 100;
/// A clock is waited for by spinning only when it is this near.
const SPIN: Duration = Duration::from_micros(20);

/// A run that is being sent. Dropping it ends it.
pub enum Source {
    /// Sends on the instance's thread: at the start, and at each acknowledgement.
    Windowed { burst: Burst, allowed: u64 },
    /// Sends on a thread of its own until this says that it is over.
    Threaded { is_over: Arc<AtomicBool> },
}

impl Source {
    pub fn start(client: &Client, out: Output, desired: &Desired) -> Result<Source, Error> {
        let mut burst = Burst::new(client, out, desired);
        if desired.mode == Mode::Windowed {
            let mut source = Source::Windowed { burst, allowed: desired.window };
            source.send_allowed()?;
            return Ok(source);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let told = is_over.clone();
        // Only set when paced: a flood does not look at the clock.
        let period = (desired.mode == Mode::Paced).then(|| Duration::from_secs(1) / desired.rate_per_sec);
        client.spawn("probe-source", move |stop| {
            let sent = match period {
                None => burst.flood(&told),
                Some(period) => burst.pace(period, &told, &stop),
            };
            if let Err(error) = sent.and_then(|()| burst.report()) {
                // Gone: the instance was stopped meanwhile.
                if error.kind() != ErrorKind::Gone {
                    warn!("run {} ended early: {error}", burst.run);
                }
            }
        })?;
        Ok(Source::Threaded { is_over })
    }

    /// More may be sent.
    pub fn acknowledged(&mut self, body: &[u8]) -> Result<(), Error> {
        if let (Source::Windowed { burst, allowed }, Some((count, run))) = (&mut *self, read_ack(body))
            && run == burst.run
        {
            *allowed += count;
            self.send_allowed()?;
        }
        Ok(())
    }

    fn send_allowed(&mut self) -> Result<(), Error> {
        let Source::Windowed { burst, allowed } = self else { return Ok(()) };
        let (until, mut full_in_a_row) = (burst.count.min(*allowed), 0);
        if burst.next == burst.count {
            return Ok(());
        }
        while burst.next < until {
            let sent_ns = if burst.next == 0 { now_ns() } else { 0 };
            full_in_a_row = if burst.send(sent_ns)? { 0 } else { full_in_a_row + 1 };
            if full_in_a_row == MAX_FULL_IN_A_ROW {
                return Err(Error::new("the receiver takes nothing; is the sink running?"));
            }
        }
        if burst.next == burst.count { burst.report() } else { Ok(()) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Threaded { is_over } = self {
            is_over.store(true, Ordering::Relaxed);
        }
    }
}

/// What is still to be sent of a run, and how often that failed.
pub struct Burst {
    client: Client,
    out: Output,
    run: u64,
    count: u64,
    next: u64,
    full: u64,
    shape: Shape,
    /// The next message's body: used again for each.
    body: Vec<u8>,
}

impl Burst {
    fn new(client: &Client, out: Output, desired: &Desired) -> Burst {
        let (client, shape) = (client.clone(), desired.shape);
        let body = shape.body(desired.body_bytes);
        Burst { client, out, run: desired.run, count: desired.count, next: 0, full: 0, shape, body }
    }

    /// Sends the next message; says whether there was room for it.
    #[inline]
    fn send(&mut self, sent_ns: u64) -> Result<bool, Error> {
        self.shape.write(Head { run: self.run, sequence: self.next, sent_ns }, &mut self.body);
        match self.client.send_message_to_output(self.out, self.shape.message(&self.body)) {
            Ok(()) => {
                self.next += 1;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Full => {
                self.full += 1;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn flood(&mut self, is_over: &AtomicBool) -> Result<(), Error> {
        // Also the stamp of a repeated first message: waiting for room belongs to the run.
        let began_ns = now_ns();
        while self.next < self.count && !is_over.load(Ordering::Relaxed) {
            self.send(if self.next == 0 { began_ns } else { 0 })?;
        }
        Ok(())
    }

    /// Keeps to the schedule of the start: what is late is sent at once, and none is left out.
    fn pace(&mut self, period: Duration, is_over: &AtomicBool, stop: &Stop) -> Result<(), Error> {
        let mut due = Instant::now();
        while self.next < self.count && !is_over.load(Ordering::Relaxed) {
            let ahead = due.saturating_duration_since(Instant::now());
            if ahead > SPIN && stop.wait(ahead - SPIN) {
                break;
            }
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            if self.send(now_ns())? {
                due += period;
            }
        }
        Ok(())
    }

    fn report(&self) -> Result<(), Error> {
        let sent = json!({"sent": {"run": self.run, "sent": self.next, "full": self.full}});
        self.client.begin_patch_reported(sent, |end| {
            if let Err(error) = end {
                warn!("what was sent is not reported: {error}");
            }
        })
    }
}
