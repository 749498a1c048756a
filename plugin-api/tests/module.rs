//! A module, as its author writes it.

use dinrail_plugin::prelude::*;

struct Hello {
    client: Client,
    alarm: Output,
    limit: f64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(crate = "dinrail_plugin::serde")]
#[schemars(crate = "dinrail_plugin::schemars")]
struct Desired {
    limit: f64,
}
impl Default for Desired {
    fn default() -> Desired {
        Desired { limit: 70.0 }
    }
}

impl Module for Hello {
    type Desired = Desired;
    const INPUTS: &'static [&'static str] = &["in"];
    const OUTPUTS: &'static [&'static str] = &["alarm"];

    fn create(client: Client, desired: Desired) -> Result<Hello, Error> {
        let alarm = client.output("alarm")?;
        Ok(Hello { client, alarm, limit: desired.limit })
    }
    fn on_message(&mut self, message: &Message<'_>, delivery: &Delivery<'_>) -> Result<(), Fault> {
        let value: f64 = message.text()?.parse()?;
        if value > self.limit {
            delivery.send(self.alarm, message)?;
            delivery.send("alarm", Outgoing::json(&json!({ "value": value }))?.property("k", "v"))?;
            self.client.send_message_to_output(&self.alarm, message.body())?;
        }
        Ok(())
    }
}
export_module!(Hello);
