//! Measures the machine it runs on, and sends each value as a reading of its own from the output `readings`.
//!
//! | selected      | readings, with the disk, interface or sensor after the colon | unit |
//! |---------------|--------------------------------------------------------------|------|
//! | `cpu`         | `cpu.usage`; `cpu.load1` `cpu.load5` `cpu.load15`            | %; – |
//! | `memory`      | `memory.usage`; `memory.total` `.used` `.available`          | %; B |
//! |               | `swap.total` `swap.used`                                     | B    |
//! | `disk`        | `disk.usage:/`; `disk.total:/` `disk.used:/`                 | %; B |
//! | `network`     | `network.received:eth0` `network.sent:eth0`                  | B/s  |
//! | `temperature` | `temperature:cpu_thermal`                                    | °C   |
//!
//! The body is a [`Reading`], and the property `name` is that of the reading, so that a route can choose without a look into
//! the body: `WHERE name = 'cpu.usage'`. What this machine does not have is left out. So is what needs two samples
//! (usage of the CPU, rates of the networks) in the first round.

mod machine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dinrail_plugin::ErrorKind;
use dinrail_plugin::prelude::*;

use machine::Machine;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Group {
    Cpu,
    Memory,
    Disk,
    Network,
    Temperature,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Desired {
    /// Milliseconds from one round of readings to the next.
    #[schemars(range(min = 100, max = 86_400_000))]
    period_ms: u64,
    /// What is measured.
    select: Vec<Group>,
}

impl Default for Desired {
    fn default() -> Desired {
        use Group::*;
        Desired { period_ms: 1000, select: vec![Cpu, Memory, Disk, Network, Temperature] }
    }
}

impl Desired {
    /// Refuses what the type alone cannot.
    fn checked(self) -> Result<Desired, Error> {
        if !(100..=86_400_000).contains(&self.period_ms) {
            let text = format!("periodMs: {} is not within 100..=86400000, which is 0.1 s to a day", self.period_ms);
            return Err(Error::refused(text));
        }
        Ok(self)
    }
}

struct HostMetrics {
    client: Client,
    output: Output,
    desired: Desired,
    machine: Machine,
    timer: Option<Timer>,
    /// Readings that a receiver had no room for. Also counted up when a durable send fails, on whatever thread says so.
    lost: Arc<AtomicU64>,
}

impl Module for HostMetrics {
    type Desired = Desired;
    const OUTPUTS: &'static [&'static str] = &["readings"];
    const TRIAL_SAFE: bool = true;

    fn create(client: Client, desired: Desired) -> Result<HostMetrics, Error> {
        let (desired, output) = (desired.checked()?, client.output("readings")?);
        let machine = Machine::new().context("asking the system what can be measured")?;
        Ok(HostMetrics { client, output, desired, machine, timer: None, lost: Arc::default() })
    }

    fn start(&mut self) -> Result<(), Error> {
        self.begin_rounds()
    }

    fn on_desired(&mut self, desired: Desired) -> Result<(), Error> {
        self.desired = desired.checked()?;
        self.begin_rounds()
    }

    fn on_timer(&mut self, _: Timer, _missed: u64) -> Result<(), Error> {
        self.round()
    }
}

impl HostMetrics {
    /// Makes a round now and then one every period.
    fn begin_rounds(&mut self) -> Result<(), Error> {
        if let Some(timer) = self.timer.take() {
            self.client.cancel(timer);
        }
        self.timer = Some(self.client.every(Duration::from_millis(self.desired.period_ms))?);
        self.round()
    }

    fn round(&mut self) -> Result<(), Error> {
        let readings = self.machine.measure(&self.desired.select);
        let mut body = Vec::with_capacity(128);
        for (sent, reading) in readings.iter().enumerate() {
            body.clear();
            reading.write_to(&mut body);
            let message = Outgoing::from(&body)
                .content_type("application/json")
                .content_encoding("utf-8")
                .property("name", &reading.name);
            let lost = self.lost.clone();
            // Does not wait for the disk on durable routes: the round's readings go into one commit.
            let begun = self.client.begin_send(self.output, message, move |end| {
                lost.fetch_add(u64::from(end.is_err()), Ordering::Relaxed);
            });
            match begun {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Full => {
                    // It held us for a while, and so would each of the others: rather the next round in time.
                    self.lost.fetch_add((readings.len() - sent) as u64, Ordering::Relaxed);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.tell_health(readings.len());
        Ok(())
    }

    fn tell_health(&self, readings: usize) {
        let sentence = format!("{readings} readings every {} ms", self.desired.period_ms);
        match self.lost.load(Ordering::Relaxed) {
            0 => self.client.health(Level::Info, &sentence),
            lost => self.client.health(Level::Warn, &format!("{sentence}, {lost} not taken by their receivers")),
        }
    }
}

export_module!(HostMetrics);

#[cfg(test)]
mod tests;
