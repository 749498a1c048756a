//! What clients are shown: the documents of the management API and of `--json`, one struct each.

mod dead_letter;
mod deployment;
mod figures;
mod identity;
mod losses;
mod secret;
mod sending;
mod twin;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

pub use dead_letter::*;
pub use deployment::*;
pub use figures::*;
pub use identity::*;
pub use losses::*;
pub use secret::*;
pub use sending::*;
pub use twin::*;

/// State of an instance as a client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The image is not here yet.
    Waiting,
    /// Being created and started.
    Starting,
    /// Up.
    Running,
    /// Up, but does not answer.
    Unhealthy,
    /// Failed; will be started again after a delay.
    Backoff,
    /// Asked to stop, not gone yet.
    Stopping,
    /// Stopped on request, or ended by itself where its policy leaves it at that.
    Stopped,
    /// The restart budget is spent, or it did not stop in time.
    Failed,
    /// The image is not admitted.
    Quarantined,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 9] = [
        Status::Waiting,
        Status::Starting,
        Status::Running,
        Status::Unhealthy,
        Status::Backoff,
        Status::Stopping,
        Status::Stopped,
        Status::Failed,
        Status::Quarantined,
    ];

    /// The word in `list`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Starting => "starting",
            Status::Running => "running",
            Status::Unhealthy => "unhealthy",
            Status::Backoff => "backoff",
            Status::Stopping => "stopping",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
            Status::Quarantined => "quarantined",
        }
    }
}

/// What waits at the inputs of an instance.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct InboxView {
    /// Messages that wait.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, messages that were moved to disk.
    pub spilled: u64,
}

/// One line of `list`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleView {
    /// Name of the instance.
    pub name: String,
    /// `/devices/{device}/modules/{name}`.
    pub identity: String,
    /// State.
    pub status: Status,
    /// Image reference as asked for.
    pub image: String,
    /// Version of the image in use.
    pub version: Option<String>,
    /// Digest of the image in use, `sha256:…`.
    pub digest: Option<String>,
    /// `thread` or `process`.
    pub isolation: String,
    /// `always`, `on-failure`, `on-unhealthy` or `never`.
    pub restart_policy: String,
    /// Restarts since it last ran steadily.
    pub restart_count: u32,
    /// RFC 3339.
    pub last_start_time_utc: Option<String>,
    /// RFC 3339.
    pub last_exit_time_utc: Option<String>,
    /// 0 for a clean end, 1 for a failure.
    pub exit_code: Option<i32>,
    /// One sentence: why it is in this state, or the module's own health sentence.
    pub status_description: String,
    /// The module's own sentence about its state; `null` where it has none.
    #[serde(default)]
    pub health: Option<HealthSentence>,
    /// `$version` of the desired properties.
    pub desired_version: Option<u64>,
    /// `$version` of the reported properties.
    pub reported_version: Option<u64>,
    /// What waits for it.
    pub inbox: InboxView,
    /// Processor time of all its threads since the runtime started, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory of its image, which all instances of that image share; `null` where it is not known.
    pub memory_bytes: Option<u64>,
}

/// What a module says about its own state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthSentence {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Such as `2 of 3 PLCs connected`.
    pub sentence: String,
}

/// Desired properties that a module refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RefusedView {
    /// Their `$version`.
    pub version: u64,
    /// Why.
    pub error: String,
}

/// A thread of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ThreadView {
    /// Its name, as the system shows it.
    pub name: String,
    /// Processor time, in seconds.
    pub cpu_seconds: Option<f64>,
}

/// Messages that were lost by an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LossView {
    /// `sent` by it, or on their way `to` it.
    pub way: String,
    /// Why, such as `full`, `purged` or `runtimeDied`.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// The log of an instance.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogView {
    /// The file with its newest lines; the one before has `.1` behind its name.
    pub file: Option<String>,
    /// Lines that were dropped since the runtime started: `rate`, `queue` and `disk` together.
    pub dropped: u64,
    /// Because they were more than the rate.
    pub dropped_by_rate: u64,
    /// Because they came faster than they could be written.
    pub dropped_by_queue: u64,
    /// Because the disk did not take them.
    pub dropped_by_disk: u64,
}

/// Everything about one instance.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModuleDetail {
    /// The line of `list`.
    #[serde(flatten)]
    pub module: ModuleView,
    /// Who wanted it: `drop`, `deployment` or `cli`.
    pub origin: String,
    /// Why it is in its state.
    pub reason: String,
    /// What a person should do next; `None` where nothing is to be done.
    pub next_step: Option<String>,
    /// Its data folder.
    pub data_folder: String,
    /// What it said, and what was too much.
    #[serde(default)]
    pub log: LogView,
    /// Position in the start order.
    pub startup_order: u32,
    /// Facts worth a line each, such as what an old image still occupies.
    pub notes: Vec<String>,
    /// How its last worker ended, with the place of a panic.
    #[serde(default)]
    pub last_exit: Option<String>,
    /// When it starts again after a failure: RFC 3339.
    #[serde(default)]
    pub next_start_time_utc: Option<String>,
    /// The newest desired properties, where it refused them: it goes on with older ones.
    #[serde(default)]
    pub refused: Option<RefusedView>,
    /// Its threads: its own first, then those that it started.
    #[serde(default)]
    pub threads: Vec<ThreadView>,
    /// Instances of its image, which share `memoryBytes`.
    #[serde(default)]
    pub image_instances: usize,
    /// Messages to it that are set aside as poisonous.
    #[serde(default)]
    pub parked: u64,
    /// Method calls that wait for it.
    #[serde(default)]
    pub waiting_calls: usize,
    /// Answers of it to method calls that came when nobody waited for them any more.
    #[serde(default)]
    pub late_answers: u64,
    /// Messages that were lost.
    #[serde(default)]
    pub losses: Vec<LossView>,
    /// Inputs, outputs and methods of the image, as its descriptor says.
    pub descriptor: Option<Value>,
}

/// What a person wants of an instance that no manifest names.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AddRequest {
    /// Its name.
    pub name: String,
    /// Image reference.
    pub image: String,
    /// Merged into its desired properties before it starts.
    #[schema(value_type = Option<Object>)]
    pub desired: Option<Map<String, Value>>,
    /// What `client.env()` answers: texts, or `{"$secret": NAME}`.
    #[schema(value_type = BTreeMap<String, Object>)]
    pub env: BTreeMap<String, Value>,
    /// What it may do with the device's own twin: `none`, `read` or `report`.
    pub device_twin: Option<String>,
    /// `auto`, `thread` or `process`.
    pub isolation: Option<String>,
    /// `always`, `on-failure`, `on-unhealthy` or `never`.
    pub restart_policy: Option<String>,
    /// Lower starts earlier and stops later; `None`: last.
    pub startup_order: Option<u32>,
    /// Also with desired properties that the image does not take.
    pub force: bool,
    /// It is not started before a person says so.
    pub stopped: bool,
}

/// What became of an instance that was removed.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemovedView {
    /// Its name.
    pub name: String,
    /// There was an instance, and it is gone. False: only what an earlier one had left was there.
    pub removed: bool,
    /// What it had is gone too.
    pub purged: bool,
    /// Of its identity with the twin, messages and data folder: what there still is, each in words.
    pub kept: Vec<String>,
    /// The same for what was discarded.
    pub discarded: Vec<String>,
    /// What could not be done, each with the next step.
    pub problems: Vec<String>,
}

/// One image of the store, or one file that was refused.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageView {
    /// Name from the descriptor; `None` for a refused file.
    pub name: Option<String>,
    /// Version from the descriptor.
    pub version: Option<String>,
    /// `sha256:…`; `None` for a file that was refused before it was hashed.
    pub digest: Option<String>,
    /// `admitted`, `quarantined` or `refused`.
    pub verdict: String,
    /// One sentence: used by whom, or not used and why, or why it was refused and what to do.
    pub reason: String,
    /// Names of the instances that use it.
    pub used_by: Vec<String>,
    /// The file it came from last.
    pub source: Option<String>,
    /// RFC 3339.
    pub arrived_utc: Option<String>,
    /// Size of the library in bytes.
    pub bytes: Option<u64>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// Its text.
    pub route: String,
    /// Lower is served first; 2000000000 where none was given.
    pub priority: u32,
    /// How long its messages may wait; `None`: as long as the deployment says.
    pub time_to_live_secs: Option<u64>,
    /// `memory` or `disk`.
    pub durability: String,
    /// `spill`, `dropOldest`, `dropNewest` or `block`.
    pub on_full: String,
    /// With `block`: for how many milliseconds a sender is held at most.
    #[serde(default)]
    pub block_ms: Option<u32>,
    /// Largest message, body and properties together; `None`: the device's limit.
    pub max_message_bytes: Option<u32>,
    /// `deployment`, or `cli` for one that a person added.
    pub origin: String,
    /// Who added it.
    pub added_by: Option<String>,
    /// RFC 3339.
    pub added_utc: Option<String>,
    /// False for an added one while the deployment has a route of its name.
    pub in_force: bool,
    /// What it names and is not there yet, and why it is not in force.
    pub notes: Vec<String>,
}

/// What became of a message that a client sent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SendView {
    /// Identity of the receiver.
    pub to: String,
    /// Its input.
    pub input: String,
    /// State of the receiver: a message to one that is not running waits.
    pub receiver: Status,
}

/// State of the runtime.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthView {
    /// `ok` or `degraded`.
    pub status: String,
    /// Version of the binary.
    pub version: String,
    /// Device id.
    pub device_id: String,
    /// Process id.
    pub pid: u32,
    /// State directory.
    pub state: String,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// Anything that a person should know, a line each.
    pub notes: Vec<String>,
    /// How other machines reach it; `None`: not at all.
    #[serde(default)]
    pub api: Option<ApiView>,
}

/// How the management API is reached from other machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiView {
    /// Address and port.
    pub address: String,
    /// SHA-256 of the certificate that clients trust, as they compare it.
    pub fingerprint: String,
    /// File with the certificate that clients have to trust; `None` where the operator gave one.
    pub authority: Option<String>,
    /// Names of the device, the first of them its main one.
    pub names: Vec<String>,
}

/// How a thing that was looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Cannot be said, or does not apply.
    Skipped,
    /// All is well.
    Ok,
    /// Works, but a person should look.
    Warning,
    /// Does not work, or will not for long.
    Error,
}

/// One line of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// For programs, such as `disk-space`; kept from release to release.
    pub id: String,
    /// How it is.
    pub status: Severity,
    /// What was found.
    pub summary: String,
    /// Every single thing, where there are several.
    pub details: Vec<String>,
    /// What to do, where something is to be done.
    pub hint: Option<String>,
}

/// What `check` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckView {
    /// The gravest of all.
    pub status: Severity,
    /// In the order in which they matter.
    pub findings: Vec<Finding>,
}

impl CheckView {
    /// With the gravest of `findings` as its status.
    pub fn of(findings: Vec<Finding>) -> CheckView {
        CheckView { status: findings.iter().map(|found| found.status).max().unwrap_or(Severity::Ok), findings }
    }
}

/// A folder that supplies images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WatchedFolderView {
    /// Where.
    pub path: String,
    /// Whether what appears there is started.
    pub autostart: bool,
    /// Why it is not watched, or not well.
    pub trouble: Option<String>,
}
