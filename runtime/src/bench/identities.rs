//! `bench identities`: ten thousand identities, each with a twin of 1 KB, in a runtime of their own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::process::{Process, executable, io};
use super::{BenchError, Scratch, median};
use crate::database::Database;
use crate::identity::{Identities, IdentityChange, NewIdentity, device_key};
use crate::name::Identity;
use crate::twin::{Change, Twins};

/// Child devices, each with one module.
const DEVICES: usize = 5000;
/// Added in one commit.
const BATCH: usize = 500;
/// Times that it is started, and listed, unless somebody says otherwise.
pub const ROUNDS: u32 = 3;
/// Members of each section, and the text in each: 1 KB for both sections as they are stored, without metadata.
const MEMBERS: usize = 12;
const TEXT: &str = "0123456789abcdef0123456789abc";

/// Figures of many identities.
#[derive(Debug, Serialize)]
pub struct IdentityFigures {
    /// Identities with a twin.
    pub count: u64,
    /// Mean size of a twin's desired and reported properties.
    pub twin_bytes: f64,
    /// From the start of the process until the management API answers.
    pub start_ms: f64,
    /// `dinrail identity list --json`, a process of its own.
    pub list_ms: f64,
    /// Resident memory of the runtime.
    pub resident_bytes: u64,
}

/// Measures; `say` hears of the progress.
pub fn measure(rounds: u32, say: &mut dyn FnMut(&str)) -> Result<IdentityFigures, BenchError> {
    let scratch = Scratch::new("identities")?;
    let state = scratch.0.join("state");
    std::fs::create_dir_all(&state).map_err(io("a state directory cannot be made"))?;
    say(&format!("identities: {} are made", 2 * DEVICES));
    let twin_bytes = fill(&state)?;
    let (mut starts, mut lists, mut resident_bytes) = (Vec::new(), Vec::new(), 0);
    for round in 1..=rounds {
        say(&format!("identities: start {round} of {rounds}"));
        let begin = Instant::now();
        let mut process = Process::start(&scratch.0, &state)?;
        process.client()?;
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
        resident_bytes = resident_bytes.max(process.settled()?);
        lists.push(list(&state)?);
        process.stop()?;
    }
    Ok(IdentityFigures {
        count: 2 * DEVICES as u64,
        twin_bytes,
        start_ms: median(starts),
        list_ms: median(lists),
        resident_bytes,
    })
}

/// Makes identities and twins in a state directory; gives the mean size of a twin.
fn fill(state: &Path) -> Result<f64, BenchError> {
    let failed = |error: &dyn std::fmt::Display| BenchError::around(format!("identities cannot be made: {error}"));
    let database = Database::open(state).map_err(|error| failed(&error))?;
    let (master, _) = device_key(&database, state, false).map_err(|error| failed(&error))?;
    let (identities, _) =
        Identities::open(&database, master, Some("bench"), "bench").map_err(|error| failed(&error))?;
    let twins = Twins::open(&database, &identities).map_err(|error| failed(&error))?;
    let mut all = Vec::new();
    for n in 0..DEVICES {
        let device = format!("child-{n:05}");
        all.push(Identity::device(&device).map_err(|error| failed(&error))?);
        all.push(Identity::module(&device, "collector").map_err(|error| failed(&error))?);
    }
    for batch in all.chunks(BATCH) {
        let new: Vec<NewIdentity> = batch
            .iter()
            .map(|identity| NewIdentity { identity: identity.clone(), change: IdentityChange::default() })
            .collect();
        identities.add(&new).map_err(|(_, error)| failed(&error))?;
    }
    let section: Map<String, Value> = (0..MEMBERS).map(|n| (format!("member{n:02}"), TEXT.into())).collect();
    let section = Value::Object(section);
    for identity in &all {
        // Many commit together; what fails shows in the size below.
        twins.change(identity, &Change::patch_desired(&section, "bench"), |_| {}).map_err(|error| failed(&error))?;
        twins.patch_reported(identity, &json!({ "state": section }), |_| {}).map_err(|error| failed(&error))?;
    }
    database.flush().map_err(|error| failed(&error))?;
    let size = |identity: &Identity| {
        let twin = twins.get(identity)?;
        Some(twin.desired.stored_bytes().0 + twin.reported.stored_bytes().0)
    };
    let bytes: usize = all.iter().filter_map(size).sum();
    database.close();
    Ok(bytes as f64 / all.len() as f64)
}

/// Time of the verb that lists them, in ms.
fn list(state: &Path) -> Result<f64, BenchError> {
    let begin = Instant::now();
    let listed = Command::new(executable()?)
        .args(["identity", "list", "--json", "--state"])
        .arg(state)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(io("the list of identities cannot be asked for"))?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    let found: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap_or_default();
    if found.len() < 2 * DEVICES {
        return Err(BenchError::around(format!("dinrail identity list shows {} of {}", found.len(), 2 * DEVICES)));
    }
    Ok(took)
}
