//! What the condition of a route costs: the same messages over a plain route and over routes with conditions.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::relay::{Relay, Shape};
use super::stage::Stage;
use super::{BenchError, Extent, Scratch, median};

/// The routes: the name of the source, and its condition, which is true for every message.
const ROUTES: [(&str, &str); 3] = [
    ("plain", ""),
    ("properties", "WHERE a = 'x' AND b <> 'y' AND as_number(c) > 3 "),
    ("body", "WHERE $body.value > 3 "),
];
/// Of the messages of another run.
const SHARE: u64 = 4;

/// Nanoseconds per message of a windowed hop. Every message has four properties and a document of 256 bytes, whatever the route.
#[derive(Debug, Serialize)]
pub struct Conditions {
    /// Over a route without a condition.
    pub plain_ns: f64,
    /// What three conditions on properties cost more.
    pub properties_ns: f64,
    /// What a condition on the body costs more.
    pub body_ns: f64,
    /// Messages that did not arrive.
    pub lost: u64,
    /// Messages that arrived out of order.
    pub reordered: u64,
}

/// Measures; `say` hears of the progress.
pub(super) fn measure(probe: &Path, extent: Extent, say: &mut dyn FnMut(&str)) -> Result<Conditions, BenchError> {
    let scratch = Scratch::new("conditions")?;
    let sinks = ROUTES.map(|(source, _)| format!("{source}-sink"));
    let (mut modules, mut routes, mut relays) = (Vec::new(), Map::new(), Vec::new());
    for ((source, condition), sink) in ROUTES.iter().zip(&sinks) {
        let route = |from: &str, output: &str, condition: &str, into: &str, input: &str| {
            let endpoint = format!("BrokeredEndpoint(\"/modules/{into}/inputs/{input}\")");
            format!("FROM /messages/modules/{from}/outputs/{output} {condition}INTO {endpoint}")
        };
        routes.insert((*source).to_owned(), route(source, "out", condition, sink, "in").into());
        routes.insert(format!("{source}-ack"), route(sink, "ack", "", source, "ack").into());
        modules.extend([*source, sink.as_str()]);
        relays.push(Relay::new(source, &[sink], Shape::Document)?);
    }
    let stage = Stage::start(&scratch.0, probe, &modules, Value::Object(routes))?;
    let outcome = compare(&stage, &mut relays, extent, say);
    stage.end();
    outcome
}

fn compare(
    stage: &Stage,
    relays: &mut [Relay],
    extent: Extent,
    say: &mut dyn FnMut(&str),
) -> Result<Conditions, BenchError> {
    let (mut plain, mut dearer) = (Vec::new(), [Vec::new(), Vec::new()]);
    let (mut lost, mut reordered) = (0_u64, 0_u64);
    for round in 0..=extent.rounds {
        say(&format!("hop, conditions of routes: round {round} of {}", extent.rounds));
        let mut costs = Vec::new();
        for relay in &mut *relays {
            let run = relay.run(stage, "windowed", (extent.messages / SHARE).max(1))?;
            lost = run.lost.saturating_add(lost);
            reordered = run.reordered.saturating_add(reordered);
            costs.push(1e9 / run.per_s);
        }
        // The first round warms up all three. Differences are within a round: what else the device does hits all of it.
        if let ([first, others @ ..], 1..) = (costs.as_slice(), round) {
            plain.push(*first);
            dearer.iter_mut().zip(others).for_each(|(all, cost)| all.push(cost - first));
        }
    }
    let [properties_ns, body_ns] = dearer.map(median);
    Ok(Conditions { plain_ns: median(plain), properties_ns, body_ns, lost, reordered })
}
