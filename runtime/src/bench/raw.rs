//! The raw limit: the plainest program that carries the same messages between two threads of this device.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::processors::Pinned;

/// Size of every body.
pub const BODY_BYTES: usize = 256;
/// Capacity of the channel.
const CAPACITY: usize = 1024;

/// The clock is waited for by spinning only when it is this near.
const SPIN: Duration = Duration::from_micros(20);

/// A body in the raw channel.
pub trait Raw: Send + 'static {
    /// A fresh one, a copy of `bytes`.
    fn fresh(bytes: &[u8; BODY_BYTES]) -> Self;
    /// Its bytes.
    fn bytes(&self) -> &[u8];
}

impl Raw for Arc<[u8]> {
    fn fresh(bytes: &[u8; BODY_BYTES]) -> Arc<[u8]> {
        Arc::from(&bytes[..])
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Raw for [u8; BODY_BYTES] {
    fn fresh(bytes: &[u8; BODY_BYTES]) -> [u8; BODY_BYTES] {
        *bytes
    }

    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Messages per second from thread to thread: with at most `window` outstanding, or (`None`) as many as the channel takes.
pub fn throughput<T: Raw>(count: u64, window: Option<u64>) -> Option<f64> {
    let (to_sink, from_source) = bounded::<T>(CAPACITY);
    let (ack, acks) = bounded::<u64>(CAPACITY);
    let sink = thread::Builder::new().name("raw-sink".to_owned());
    let sink = sink.spawn(move || {
        let _end = Pinned::to(1);
        drain(&from_source, &ack, window.map(|window| window / 4))
    });
    let (sink, _end) = (sink.ok()?, Pinned::to(0));
    let begin = Instant::now();
    feed(&to_sink, &acks, count, window)?;
    drop(to_sink);
    let last = sink.join().ok()??;
    Some(count as f64 / last.duration_since(begin).as_secs_f64())
}

fn feed<T: Raw>(to_sink: &Sender<T>, acks: &Receiver<u64>, count: u64, window: Option<u64>) -> Option<()> {
    let mut body = [0; BODY_BYTES];
    let mut outstanding = 0;
    for sequence in 0..count {
        while window.is_some_and(|window| outstanding >= window) {
            outstanding -= acks.recv().ok()?;
        }
        body[8..16].copy_from_slice(&sequence.to_le_bytes());
        to_sink.send(T::fresh(&body)).ok()?;
        outstanding += 1;
    }
    Some(())
}

/// Takes everything; gives the time of the last message, or nothing where the order was not kept.
fn drain<T: Raw>(from_source: &Receiver<T>, ack: &Sender<u64>, ack_every: Option<u64>) -> Option<Instant> {
    let mut expected = 0;
    let mut unacknowledged = 0;
    while let Ok(message) = from_source.recv() {
        if sequence(message.bytes())? != expected {
            return None;
        }
        expected += 1;
        unacknowledged += 1;
        if ack_every == Some(unacknowledged) {
            // The source may have sent its last message and gone.
            let _ = ack.send(unacknowledged);
            unacknowledged = 0;
        }
    }
    Some(Instant::now())
}

fn sequence(body: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(body.get(8..16)?.try_into().ok()?))
}

/// Latencies in nanoseconds from thread to thread at a fixed rate, sorted.
pub fn paced(count: u64, rate_per_s: u64) -> Option<Vec<u64>> {
    let (to_sink, from_source) = bounded::<(Arc<[u8]>, Instant)>(CAPACITY);
    let sink = thread::Builder::new().name("raw-sink".to_owned()).spawn(move || {
        let _end = Pinned::to(1);
        let mut latencies = Vec::with_capacity(count as usize);
        while let Ok((_body, sent)) = from_source.recv() {
            latencies.push(sent.elapsed().as_nanos() as u64);
        }
        latencies.sort_unstable();
        latencies
    });
    let sink = sink.ok()?;
    let source = thread::Builder::new().name("raw-source".to_owned()).spawn(move || {
        let _end = Pinned::to(0);
        let begin = Instant::now();
        let body = [0; BODY_BYTES];
        for sequence in 0..count {
            let due = begin + Duration::from_nanos(sequence * 1_000_000_000 / rate_per_s);
            // Like the probe: sleeps, and spins for the last moment.
            thread::sleep(due.saturating_duration_since(Instant::now() + SPIN));
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let sent = Instant::now();
            if to_sink.send((Arc::fresh(&body), sent)).is_err() {
                return;
            }
        }
    });
    source.ok()?.join().ok()?;
    sink.join().ok()
}
