//! A runtime in this process with probes on it: told what to do by their desired properties, heard by what they report.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::BenchError;
use crate::config::Config;
use crate::handle::{TwinChange, TwinWish};
use crate::name::Identity;
use crate::runtime::{self, Running};

/// Device id of the runtime.
const DEVICE: &str = "bench";
/// Longest that a run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The runtime. To be ended with [`Stage::end`].
pub(super) struct Stage {
    pub running: Running,
    executor: tokio::runtime::Runtime,
    modules: usize,
}

impl Stage {
    /// Starts a runtime in `folder` with a probe of each name, and waits until all run.
    pub fn start(folder: &Path, probe: &Path, modules: &[&str], routes: Value) -> Result<Stage, BenchError> {
        let module = json!({"type": "library", "settings": {"image": probe}});
        let named: Map<String, Value> = modules.iter().map(|name| ((*name).to_owned(), module.clone())).collect();
        let manifest = json!({"modulesContent": {
            "$edgeAgent": {"properties.desired": {"schemaVersion": "1.1", "modules": named}},
            "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": routes}}
        }});
        let file = folder.join("bench.json");
        std::fs::write(&file, manifest.to_string())
            .map_err(|source| BenchError::Io { what: "the manifest of the bench cannot be written", source })?;
        let executor = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|source| BenchError::Io { what: "no executor", source })?;
        let running = runtime::start(runtime::Options {
            logs: crate::log::Logs::nowhere(),
            manifest: Some(file),
            config: Config::default(),
            state: folder.join("state"),
            device_id: Some(DEVICE.to_owned()),
            new_device_key: false,
            watch: Vec::new(),
            autostart: false,
            session_folder: None,
        })?;
        let stage = Stage { running, executor, modules: modules.len() };
        match stage.all_run() {
            Ok(()) => Ok(stage),
            Err(error) => {
                stage.end();
                Err(error)
            }
        }
    }

    /// Stops it in an orderly way.
    pub fn end(self) {
        self.running.stop();
    }

    /// A probe's identity.
    pub fn identity(module: &str) -> Result<Identity, BenchError> {
        Identity::module(DEVICE, module).map_err(|error| BenchError::around(error.to_string()))
    }

    /// Merges into a probe's desired properties; gives their `$version` then.
    pub fn tell(&self, identity: &Identity, desired: Value) -> Result<u64, BenchError> {
        let patch = json!({"properties": {"desired": desired}});
        let handle = self.running.handle().clone();
        let change = TwinChange::of_any(TwinWish::Patch(patch), "bench");
        let root = self.executor.block_on(async { handle.change_twin(identity, change).await });
        let root = root.map_err(|error| BenchError::around(error.to_string()))?;
        Ok(root["properties"]["desired"]["$version"].as_u64().unwrap_or(u64::MAX))
    }

    /// Waits until the reported properties of a probe are as wanted, and gives them. Not while something is measured that
    /// changes twins all the time: it looks at each change.
    pub fn reported(&self, identity: &Identity, is_wanted: impl Fn(&Value) -> bool) -> Result<Value, BenchError> {
        let handle = self.running.handle().clone();
        self.wait_for(&format!("{identity} reports"), async || {
            let root = handle.twin(identity).await.map_err(|error| BenchError::around(error.to_string()))?;
            let reported = &root["properties"]["reported"];
            Ok(is_wanted(reported).then(|| reported.clone()))
        })
    }

    fn all_run(&self) -> Result<(), BenchError> {
        let handle = self.running.handle().clone();
        self.wait_for("the probes run", async || {
            let views = handle.modules().await.map_err(|error| BenchError::around(error.to_string()))?;
            let running = views.iter().filter(|view| view.status == crate::view::Status::Running).count();
            Ok((running == self.modules).then_some(()))
        })
    }

    /// Looks at each change until there is something.
    fn wait_for<T>(&self, what: &str, look: impl AsyncFn() -> Result<Option<T>, BenchError>) -> Result<T, BenchError> {
        let mut changes = self.running.handle().changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look().await? {
                    return Ok(found);
                }
                changes.changed().await.map_err(|_| BenchError::around("the runtime ended"))?;
            }
        };
        let outcome = self.executor.block_on(async { tokio::time::timeout(LIMIT, wait).await });
        outcome.unwrap_or_else(|_| Err(BenchError::around(format!("not in time: {what}"))))
    }
}
