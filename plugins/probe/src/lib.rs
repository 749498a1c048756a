//! Source, echo and sink for `dinrail bench`: what carries messages between them is what is measured; and users of a twin.
//!
//! ```text
//!   source.out ──► [echo.in ─► echo.out ──►] sink.in          reported.sent   by the source
//!   source.ack ◄──────────────────────────── sink.ack         reported.result by the sink
//! ```
//! The desired properties of a change with another `run` than before start that run; give it to the sink first. The same
//! properties at a start of the module start nothing. One run at a time: a new one ends the one before. The three `mode`s:
//!
//! - `windowed`: at most `window` messages are under way. The source sends on its instance's thread, driven by `ack`.
//! - `flood`: a thread sends as fast as it can, and again what was refused because a queue was full.
//! - `paced`: a thread sends `ratePerSec` with the time in each message, for latencies.
//!
//! The messages are plain bytes, or documents with properties, which routes can have conditions on (`shape`).
//!
//! Three roles leave the messages out and use the twin: a `reporter` reports `count` documents of `bodyBytes`, each
//! acknowledged before the next; a `reader` reads its twin `count` times (both from `startAtMs` on, and then report
//! `result`); a `listener` reports as `heard` when the handler of the change was entered.
//!
//! And three are for routes that go to the disk: a `storer` and a `passer` send `count` messages each, from `startAtMs` on, wait for
//! each, and report `result` with the times that this took; a `taker` reports `result` once it has handled `count` of its run.
//!
//! Between the messages' ends there is as little of our own as can be: no allocation, and no look at a clock but in `paced`.

mod body;
mod sink;
mod source;
mod store;
mod twin;

use dinrail_plugin::prelude::*;

use body::Shape;
use sink::Sink;
use source::Source;
use store::Taker;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Role {
    /// Takes what comes and does nothing.
    Idle,
    Source,
    /// Sends each message on from `out` as it is.
    Echo,
    Sink,
    /// Reports without pause.
    Reporter,
    /// Reads its twin without pause.
    Reader,
    /// Says when it heard of each change.
    Listener,
    /// Sends from `out` without pause, each message once the one before is as safe as its routes promise.
    Storer,
    /// The same from `through`.
    Passer,
    /// Counts messages until `count` are there.
    Taker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Windowed,
    Flood,
    Paced,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Desired {
    role: Role,
    /// Number of the run; 0: none.
    run: u64,
    mode: Mode,
    /// Messages of the run.
    count: u64,
    /// What source and sink make and expect.
    shape: Shape,
    /// Size of each body.
    #[schemars(range(min = 24, max = 262_144))]
    body_bytes: usize,
    /// Most messages under way in `windowed`.
    #[schemars(range(min = 1, max = 1_048_576))]
    window: u64,
    /// Messages a second in `paced`.
    #[schemars(range(min = 1, max = 1_000_000))]
    rate_per_sec: u32,
    /// When reporter and reader begin, in ms since 1970; past: at once.
    start_at_ms: u64,
}

impl Default for Desired {
    fn default() -> Desired {
        Desired {
            role: Role::Idle,
            run: 0,
            mode: Mode::Windowed,
            count: 1_000_000,
            shape: Shape::Bytes,
            body_bytes: 256,
            window: 1024,
            rate_per_sec: 1000,
            start_at_ms: 0,
        }
    }
}

impl Desired {
    /// Refuses what the type alone cannot.
    fn checked(self) -> Result<Desired, Error> {
        for (name, given, least, most) in [
            ("count", self.count, 1, u64::MAX),
            ("bodyBytes", self.body_bytes as u64, self.shape.least_bytes() as u64, 262_144),
            ("window", self.window, 1, 1 << 20),
            ("ratePerSec", u64::from(self.rate_per_sec), 1, 1_000_000),
        ] {
            if !(least..=most).contains(&given) {
                return Err(Error::refused(format!("{name}: {given} is not within {least}..={most}")));
            }
        }
        Ok(self)
    }
}

struct Probe {
    client: Client,
    out: Output,
    ack: Output,
    through: Output,
    desired: Desired,
    /// Made by the first run of the role; an idle probe is small.
    source: Option<Source>,
    sink: Option<Sink>,
    busy: Option<twin::Busy>,
    taker: Option<Taker>,
}

const IN: Option<usize> = Some(0);
const ACK: Option<usize> = Some(1);

impl Module for Probe {
    type Desired = Desired;
    const INPUTS: &'static [&'static str] = &["in", "ack"];
    const OUTPUTS: &'static [&'static str] = &["out", "ack", "through"];
    const TRIAL_SAFE: bool = true;

    fn create(client: Client, desired: Desired) -> Result<Probe, Error> {
        let (out, ack, through) = (client.output("out")?, client.output("ack")?, client.output("through")?);
        let desired = desired.checked()?;
        Ok(Probe { client, out, ack, through, desired, source: None, sink: None, busy: None, taker: None })
    }

    fn on_desired(&mut self, desired: Desired) -> Result<(), Error> {
        let entered_ns = if desired.role == Role::Listener { body::now_ns() } else { 0 };
        let desired = desired.checked()?;
        if desired.run != 0 && desired.run != self.desired.run {
            // The one before ends when it is dropped.
            (self.source, self.sink, self.busy, self.taker) = (None, None, None, None);
            match desired.role {
                Role::Source => self.source = Some(Source::start(&self.client, self.out, &desired)?),
                Role::Sink => self.sink = Some(Sink::start(&self.client, self.ack, &desired)?),
                Role::Reporter => self.busy = Some(twin::report(&self.client, &desired)?),
                Role::Reader => self.busy = Some(twin::read(&self.client, &desired)?),
                Role::Storer => self.busy = Some(store::send(&self.client, self.out, &desired)?),
                Role::Passer => self.busy = Some(store::send(&self.client, self.through, &desired)?),
                Role::Taker => self.taker = Some(Taker::start(&desired)),
                Role::Listener => twin::heard(&self.client, desired.run, entered_ns)?,
                Role::Idle | Role::Echo => {}
            }
        }
        self.desired = desired;
        Ok(())
    }

    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        match (self.desired.role, message.input_index()) {
            (Role::Sink, IN) => {
                if let Some(sink) = &mut self.sink {
                    sink.take(message.body())?;
                }
            }
            (Role::Source, ACK) => {
                if let Some(source) = &mut self.source {
                    source.acknowledged(message.body())?;
                }
            }
            (Role::Taker, IN) => {
                if let Some(taker) = &mut self.taker {
                    taker.take(message.body(), delivery)?;
                }
            }
            (Role::Echo, IN) => delivery.send(self.out, message)?,
            _ => {}
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, _missed: u64) -> Result<(), Error> {
        self.sink.as_mut().map_or(Ok(()), |sink| sink.look(timer))
    }

    fn stop(&mut self) -> Result<(), Error> {
        (self.source, self.sink, self.busy, self.taker) = (None, None, None, None);
        Ok(())
    }
}

export_module!(Probe);

#[cfg(test)]
mod tests;
