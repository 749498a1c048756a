//! {{module}}: passes on readings above a limit, which the module's twin sets.

use dinrail_plugin::prelude::*;

/// The desired properties. What the twin leaves out comes from `Default`; what does not fit is refused
/// before it gets here.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Desired {
    /// Readings above it are passed on.
    limit: f64,
}

impl Default for Desired {
    fn default() -> Desired {
        Desired { limit: 80.0 }
    }
}

/// One instance. Its calls never overlap and come on a thread of its own, so it needs no locks.
struct Alarm {
    client: Client,
    alarms: Output,
    limit: f64,
    count: u64,
}

impl Module for Alarm {
    type Desired = Desired;
    const INPUTS: &'static [&'static str] = &["readings"];
    const OUTPUTS: &'static [&'static str] = &["alarms"];
    // `create` has no side effects, so that a new version may be tried out before it is used.
    const TRIAL_SAFE: bool = true;

    fn create(client: Client, desired: Desired) -> Result<Alarm, Error> {
        Ok(Alarm {
            alarms: client.output("alarms")?,
            client,
            limit: desired.limit,
            count: 0,
        })
    }

    /// Ports, sockets, timers and threads begin here.
    fn start(&mut self) -> Result<(), Error> {
        self.tell_health();
        Ok(())
    }

    /// `Ok`: what was sent along durable routes (`"durability": "disk"`) or reported through `delivery` is
    /// committed together with the removal of the message. On an error nothing of that remains: the message
    /// comes again, or is set aside where `Fault::park` says that it can never be handled. What was sent along
    /// routes in memory stays sent, and is sent again by the next try.
    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        let reading = Reading::parse(message.body()).map_err(Fault::park)?;
        let Some(value) = reading.number().filter(|value| *value > self.limit) else {
            return Ok(());
        };
        delivery.send(self.alarms, message)?;
        delivery.patch_reported(json!({ "alarms": self.count + 1 }))?;
        self.count += 1;
        info!(reading = %reading.name, value, limit = self.limit, "above the limit");
        self.tell_health();
        Ok(())
    }

    /// An error refuses the change, and the old properties stay in force. The runtime reports either as
    /// `acknowledged`.
    fn on_desired(&mut self, desired: Desired) -> Result<(), Error> {
        if !desired.limit.is_finite() {
            return Err(Error::refused("limit: must be a finite number"));
        }
        self.limit = desired.limit;
        self.tell_health();
        Ok(())
    }
}

impl Alarm {
    /// The sentence that `dinrail list` shows.
    fn tell_health(&self) {
        let sentence = format!("alarms: {}, limit {}", self.count, self.limit);
        self.client.health(Level::Info, &sentence);
    }
}

{{export}}

#[cfg(test)]
mod tests {
    use super::*;
    use dinrail_plugin::testing::{Bench, Verdict};

    /// An instance as the runtime would have it, without the runtime.
    fn alarm(desired: Value) -> Bench {
        let mut bench = Bench::new::<Alarm>(desired).create().unwrap();
        bench.start().unwrap();
        bench
    }

    fn reading(value: f64) -> Vec<u8> {
        Reading::now("oil", value, "°C").to_json()
    }

    #[test]
    fn reading_above_the_limit_is_passed_on_and_counted() {
        let mut bench = alarm(json!({ "limit": 60 }));

        assert_eq!(
            bench.message("readings", reading(59.5)).deliver(),
            Verdict::Accepted
        );
        assert_eq!(
            bench.message("readings", reading(60.5)).deliver(),
            Verdict::Accepted
        );

        let alarms = bench.sent("alarms");
        assert_eq!(alarms.len(), 1);
        assert_eq!(alarms[0].json::<Value>()["value"], 60.5);
        assert_eq!(bench.reported(), json!({ "alarms": 1 }));
    }

    #[test]
    fn what_is_no_reading_is_set_aside() {
        let mut bench = alarm(json!({}));

        assert!(matches!(
            bench.message("readings", "hello").deliver(),
            Verdict::Parked(_)
        ));
    }

    #[test]
    fn wrong_desired_properties_are_refused_and_the_old_limit_stays() {
        let mut bench = alarm(json!({ "limit": 60 }));

        assert!(bench.desired(json!({ "limit": "high" })).is_err());

        bench.message("readings", reading(70.0)).deliver();
        assert_eq!(bench.sent("alarms").len(), 1);
    }
}
