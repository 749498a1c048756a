//! `bench instances`: a thousand instances of one image in a runtime of their own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{BenchError, Scratch};
use crate::admin::client::{Client, query};
use crate::view::{ImageView, ModuleView, Status};

/// Instances.
const COUNT: u64 = 1000;
/// Longest that anything may take.
const LIMIT: Duration = Duration::from_secs(60);
/// So long it is the same before it counts as settled: longer than the runtime takes to give memory back.
const SETTLE: Duration = Duration::from_millis(2500);
/// Between two looks at something that has no event.
const LOOK: Duration = Duration::from_millis(5);

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

/// A runtime in a process of its own, ended with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures; `say` hears of the progress.
pub fn measure(probe: &Path, say: &mut dyn FnMut(&str)) -> Result<Instances, BenchError> {
    let scratch = Scratch::new("instances")?;
    let state = scratch.0.join("state");
    let io = |what| move |source| BenchError::Io { what, source };
    let executable = std::env::current_exe().map_err(io("this executable is not to be found"))?;
    let log = std::fs::File::create(scratch.0.join("log")).map_err(io("a log cannot be made"))?;
    let child = Command::new(executable)
        .arg("run")
        .args(["--device-id", "bench", "--state"])
        .arg(&state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(io("the runtime to be measured cannot be started"))?;
    let mut process = Process(child);
    say("instances: an empty runtime");
    let client = until("the empty runtime answers", || Ok(Client::find(std::slice::from_ref(&state)).ok()))?;
    let empty_bytes = settled(process.0.id())?;

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
    let full_bytes = settled(process.0.id())?;

    say(&format!("instances: {COUNT} stop"));
    let begin = Instant::now();
    terminate(process.0.id())?;
    until("the runtime ends", || process.0.try_wait().map_err(io("the runtime cannot be waited for")))?;
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

fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>, BenchError>) -> Result<T, BenchError> {
    let begin = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if begin.elapsed() > LIMIT {
            return Err(BenchError::around(format!("not within {} s: {what}", LIMIT.as_secs())));
        }
        std::thread::sleep(LOOK);
    }
}

/// Resident memory once it no longer changes: what it costs to have them, not to start them.
fn settled(pid: u32) -> Result<u64, BenchError> {
    let begin = Instant::now();
    let mut last = resident(pid)?;
    loop {
        std::thread::sleep(SETTLE);
        let now = resident(pid)?;
        if now == last || begin.elapsed() > LIMIT {
            return Ok(now);
        }
        last = now;
    }
}

#[cfg(target_os = "linux")]
fn resident(pid: u32) -> Result<u64, BenchError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|source| BenchError::Io { what: "the memory of the runtime cannot be read", source })?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| BenchError::around("the system does not say how much memory is resident"))
}

#[cfg(not(target_os = "linux"))]
fn resident(_pid: u32) -> Result<u64, BenchError> {
    Err(BenchError::around("resident memory is only measured on Linux"))
}

#[cfg(unix)]
fn terminate(pid: u32) -> Result<(), BenchError> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| BenchError::around("the runtime has no process id"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .map_err(|error| BenchError::Io { what: "the runtime cannot be told to end", source: error.into() })
}

#[cfg(not(unix))]
fn terminate(_pid: u32) -> Result<(), BenchError> {
    Err(BenchError::around("this system has no signal that ends a process in an orderly way"))
}
