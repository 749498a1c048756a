//! What the condition of a route costs: the same messages over a plain route and over routes with conditions.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::processors::pin_threads;
use super::relay::{Relay, Shape};
use super::rounds::{self, Processors};
use super::stage::Stage;
use super::{BenchError, Extent, Scratch};

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
    /// Of the rounds that count.
    pub processors: Processors,
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
    ROUTES.iter().for_each(|(source, _)| pin_threads(source, 0));
    sinks.iter().for_each(|sink| pin_threads(sink, 1));
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
    let (mut lost, mut reordered) = (0_u64, 0_u64);
    let rounds = rounds::measure::<3>(extent.rounds, |piece, where_it_stands| {
        say(&format!("hop, conditions of routes: {where_it_stands}"));
        let run = relays[piece].run(stage, "windowed", (extent.messages / SHARE).max(1))?;
        lost = run.lost.saturating_add(lost);
        reordered = run.reordered.saturating_add(reordered);
        Ok(1e9 / run.per_s)
    })?;
    Ok(Conditions {
        plain_ns: rounds.median(0),
        properties_ns: rounds.difference(1, 0),
        body_ns: rounds.difference(2, 0),
        lost,
        reordered,
        processors: rounds.processors,
    })
}
