//! The probe's own twin: reports without pause, reads without pause, and a word about each desired change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dinrail_plugin::prelude::*;

use crate::Desired;
use crate::body::now_ns;

/// Members of a report, and about what each costs beside its text: `"a":"",`.
const MEMBERS: usize = 32;
const MEMBER_BYTES: usize = 7;

/// A run on a thread of its own. Dropping it ends it.
pub struct Busy(pub(crate) Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Measurements of a machine with four parts: what a module reports, in about `body_bytes` as JSON.
#[derive(Serialize)]
struct Report<'a> {
    n: u64,
    left: Part<'a>,
    right: Part<'a>,
    top: Part<'a>,
    base: Part<'a>,
}

#[derive(Serialize, Clone, Copy)]
struct Part<'a> {
    a: &'a str,
    b: &'a str,
    c: &'a str,
    d: &'a str,
    e: &'a str,
    f: &'a str,
    g: &'a str,
    h: &'a str,
}

/// Reports `count` times, every member of the document new each time, waiting for each to be committed.
pub fn report(client: &Client, desired: &Desired) -> Result<Busy, Error> {
    let text_bytes = (desired.body_bytes / MEMBERS).saturating_sub(MEMBER_BYTES).max(1);
    run(client, desired, move |client, n| {
        let text = format!("{n:0>text_bytes$}");
        let t = text.as_str();
        let part = Part { a: t, b: t, c: t, d: t, e: t, f: t, g: t, h: t };
        client.patch_reported(Report { n, left: part, right: part, top: part, base: part })
    })
}

/// Reads the twin `count` times.
pub fn read(client: &Client, desired: &Desired) -> Result<Busy, Error> {
    run(client, desired, |client, _| {
        std::hint::black_box(client.get_twin()?);
        Ok(())
    })
}

fn run(
    client: &Client,
    desired: &Desired,
    act: impl Fn(&Client, u64) -> Result<(), Error> + Send + 'static,
) -> Result<Busy, Error> {
    let is_over = Arc::new(AtomicBool::new(false));
    let (told, own) = (is_over.clone(), client.clone());
    let (run, count, starts_at_ms) = (desired.run, desired.count, desired.start_at_ms);
    client.spawn("probe-twin", move |stop| {
        // Several probes begin together.
        let ahead = starts_at_ms.saturating_sub(now_ns() / 1_000_000);
        if stop.wait(Duration::from_millis(ahead)) {
            return;
        }
        let (begin, mut done, mut error) = (Instant::now(), 0, None);
        while done < count && error.is_none() && !told.load(Ordering::Relaxed) {
            match act(&own, done) {
                Ok(()) => done += 1,
                Err(why) => error = Some(why.to_string()),
            }
        }
        let elapsed_us = begin.elapsed().as_micros() as u64;
        let result = json!({"run": run, "done": done, "elapsedUs": elapsed_us, "error": error});
        // Gone: the instance was stopped meanwhile.
        if let Err(error) = own.patch_reported(json!({"result": result})) {
            warn!("the result of run {run} is not reported: {error}");
        }
    })?;
    Ok(Busy(is_over))
}

/// Says when the handler of a desired change was entered, by the wall clock: as text, since it is beyond a twin's integers.
pub fn heard(client: &Client, run: u64, at_ns: u64) -> Result<(), Error> {
    client.begin_patch_reported(json!({"heard": {"run": run, "atNs": at_ns.to_string()}}), |end| {
        if let Err(error) = end {
            warn!("the time of a change is not reported: {error}");
        }
    })
}
