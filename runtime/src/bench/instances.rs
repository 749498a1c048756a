//! `bench instances`: a thousand instances of one image in a runtime of their own.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::process::{Process, until};
use super::{BenchError, Scratch, median};
use crate::admin::client::query;
use crate::view::{ImageView, ModuleView, Status};

/// Instances.
const COUNT: u64 = 1000;
/// Runtimes that are measured one after the other, unless somebody says otherwise.
pub const ROUNDS: u32 = 1;

/// Figures of many instances.
#[derive(Debug, Serialize)]
pub struct Instances {
    /// How many.
    pub count: u64,
    /// From handing the manifest in until the last one runs.
    pub start_ms: f64,
    /// From SIGTERM until the process has ended.
    pub stop_ms: f64,
    /// Resident memory of each, beyond the empty runtime.
    pub bytes_each: f64,
    /// Resident memory of the empty runtime.
    pub empty_bytes: u64,
}

/// Measures; `say` hears of the progress. The medians of the rounds, and of the empty runtimes the largest.
pub fn measure(probe: &Path, rounds: u32, say: &mut dyn FnMut(&str)) -> Result<Instances, BenchError> {
    let (mut figures, mut empty_bytes): ([Vec<f64>; 3], u64) = Default::default();
    for _ in 0..rounds {
        let one = round(probe, say)?;
        let [starts, stops, each] = &mut figures;
        starts.push(one.start_ms);
        stops.push(one.stop_ms);
        each.push(one.bytes_each);
        empty_bytes = empty_bytes.max(one.empty_bytes);
    }
    let [start_ms, stop_ms, bytes_each] = figures.map(median);
    Ok(Instances { count: COUNT, start_ms, stop_ms, bytes_each, empty_bytes })
}

fn round(probe: &Path, say: &mut dyn FnMut(&str)) -> Result<Instances, BenchError> {
    let scratch = Scratch::new("instances")?;
    let state = scratch.0.join("state");
    let mut process = Process::start(&scratch.0, &state)?;
    say("instances: an empty runtime");
    let client = process.client()?;
    let empty_bytes = process.settled()?;

    say(&format!("instances: {COUNT} start"));
    let failed = |error: &dyn std::error::Error| BenchError::around(error.to_string());
    let _: ImageView =
        client.upload(&query("/images", &[("file", "probe")]), probe, |_, _| {}).map_err(|error| failed(&error))?;
    let begin = Instant::now();
    let request = json!({"manifest": manifest().to_string(), "origin": "bench", "images": {}});
    let _: Value = client.put("/deployment", &request, None).map_err(|error| failed(&error))?;
    until("all instances run", || {
        let views: Vec<ModuleView> = client.get("/modules").map_err(|error| failed(&error))?;
        let running = views.iter().filter(|view| view.status == Status::Running).count() as u64;
        Ok((running == COUNT).then_some(()))
    })?;
    let start_ms = begin.elapsed().as_secs_f64() * 1e3;
    let full_bytes = process.settled()?;

    say(&format!("instances: {COUNT} stop"));
    let begin = Instant::now();
    process.stop()?;
    let stop_ms = begin.elapsed().as_secs_f64() * 1e3;
    let bytes_each = (full_bytes.saturating_sub(empty_bytes)) as f64 / COUNT as f64;
    Ok(Instances { count: COUNT, start_ms, stop_ms, bytes_each, empty_bytes })
}

fn manifest() -> Value {
    let module = json!({"type": "library", "settings": {"image": "probe"}});
    let modules: Map<String, Value> = (0..COUNT).map(|n| (format!("probe-{n}"), module.clone())).collect();
    json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": modules}},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}}
    }})
}
