//! What this device can do: our figures, the raw limits measured in the same run, and their ratios.
//!
//! Ours and raw are measured in turns, so that what else the machine does hits both alike; what is shown is the median of the
//! rounds. Both ends of a hop have a processor each, ours and raw. The probe is a real library at both ends, and its messages take
//! the whole way: ABI, routes, lanes, handler.

mod clearing;
pub mod conditions;
pub mod durable;
pub mod hop;
pub mod identities;
pub mod instances;
mod process;
mod processors;
mod raw;
mod raw_queue;
mod raw_store;
mod relay;
mod rounds;
mod stage;
pub mod twin;

use std::path::PathBuf;

pub use clearing::clear_up;
pub use rounds::Processors;
use serde::Serialize;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// There is no probe module.
    #[error("the probe module is not at {}", .0.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" or "))]
    NoProbe(Vec<PathBuf>),
    /// The runtime to be measured did not start.
    #[error("the runtime to be measured did not start")]
    Start(#[from] crate::runtime::StartError),
    /// Something around the measurement failed.
    #[error("{what}")]
    Around {
        /// What.
        what: String,
    },
    /// A file or process made trouble.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl BenchError {
    /// The next step.
    pub fn hint(&self) -> &'static str {
        match self {
            BenchError::NoProbe(_) => "build it with cargo build --release, or name it with --probe FILE",
            BenchError::Start(_) | BenchError::Around { .. } => "measure again on an idle device; see the log above",
            BenchError::Io { .. } => "see that the temporary folder is writable and has space",
        }
    }

    fn around(what: impl Into<String>) -> BenchError {
        BenchError::Around { what: what.into() }
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rounds of which the median is taken; one more comes before them.
    pub rounds: u32,
    /// Messages of a run as fast as can be; of each sender where there are several.
    pub messages: u64,
}

/// What `bench --json` prints: the parts that were measured.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// From module to module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hop: Option<hop::Hop>,
    /// Messages on disk: sends, the way through the store, a slow disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durable: Option<durable::Durable>,
    /// Twins: reports, reads, desired changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<twin::Twin>,
    /// A thousand instances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<instances::Instances>,
    /// Ten thousand identities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identities: Option<identities::IdentityFigures>,
}

/// Finds the probe module: the given one, else beside the executable, else in `../lib/dinrail`.
pub fn find_probe(given: Option<PathBuf>) -> Result<PathBuf, BenchError> {
    let name = format!("{}probe{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let folder = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let tried = match (given, folder) {
        (Some(given), _) => vec![given],
        (None, Some(folder)) => vec![folder.join(&name), folder.join("../lib/dinrail").join(&name)],
        (None, None) => vec![PathBuf::from(name)],
    };
    let found = tried.iter().find(|path| path.is_file()).and_then(|path| std::path::absolute(path).ok());
    found.ok_or(BenchError::NoProbe(tried))
}

/// A folder for one measurement, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(what: &str) -> Result<Scratch, BenchError> {
        let folder = clearing::scratch_folder(what);
        std::fs::create_dir_all(&folder)
            .map_err(|source| BenchError::Io { what: "a scratch folder cannot be made", source })?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst; the system clears its temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
