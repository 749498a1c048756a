//! What is wanted of an instance: the same record whether a manifest, a person or a dropped file asked for it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Start order of an instance that has none: the last. Source: IoT Edge's `startupOrder`.
pub const LAST_STARTUP_ORDER: u32 = u32::MAX;

/// How long an instance may take to stop unless told.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);

/// Whether the instance is to run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredStatus {
    /// It is to run.
    #[default]
    Running,
    /// It is to exist, but not to run.
    Stopped,
}

/// After what an instance is started again by itself. Source: IoT Edge's `restartPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    Never,
    /// After a failure.
    OnFailure,
    /// After a failure, and when it does not answer.
    #[default]
    OnUnhealthy,
    /// Also after it ended by itself without a failure.
    Always,
}

/// When the image is looked for. Accepted for IoT Edge's sake: images arrive by themselves here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// When the instance is made.
    #[default]
    OnCreate,
    /// Never.
    Never,
}

/// Where the module's code runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// As a thread, until that proves unwise.
    #[default]
    Auto,
    /// As a thread of the runtime.
    Thread,
    /// In a process of its own.
    Process,
}

/// What an instance may do with the device's own twin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceTwin {
    /// Nothing.
    #[default]
    None,
    /// Read it, and be told of its desired properties.
    Read,
    /// That, and report into it.
    Report,
}

/// What stands for a variable of `env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    /// Its value.
    Text(String),
    /// The secret that is its value.
    Secret(SecretReference),
}

/// `{"$secret": NAME}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretReference {
    /// Name of the secret.
    #[serde(rename = "$secret")]
    pub name: String,
}

impl EnvValue {
    /// The secret with this name.
    pub fn secret(name: &str) -> EnvValue {
        EnvValue::Secret(SecretReference { name: name.to_owned() })
    }

    /// The name of the secret that it is.
    pub fn secret_name(&self) -> Option<&str> {
        match self {
            EnvValue::Text(_) => None,
            EnvValue::Secret(secret) => Some(&secret.name),
        }
    }
}

impl From<&str> for EnvValue {
    fn from(text: &str) -> EnvValue {
        EnvValue::Text(text.to_owned())
    }
}

/// Who wanted the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A file that appeared in a folder with autostart.
    Drop,
    /// The deployment in force.
    Deployment,
    /// A person, with `dinrail add`.
    Cli,
}

/// What the instance may use; `None` is without a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processor time in percent of one core.
    pub cpu_percent: Option<u32>,
    /// Open files and sockets.
    pub open_files: Option<u32>,
}

/// What `settings.createOptions` of a manifest carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CreateOptions {
    /// Where its code runs.
    pub isolation: Isolation,
    /// What it may use.
    pub limits: Limits,
    /// From being asked to stop until it is given up.
    #[serde(with = "millis", rename = "stopGraceMs")]
    pub stop_grace: Duration,
    /// Longest time in one call before it counts as unhealthy; zero: it is not watched; `None`: the runtime's default.
    #[serde(with = "optional_millis", rename = "watchdogMs")]
    pub watchdog: Option<Duration>,
    /// Stack of its thread, in bytes; `None`: the runtime's default.
    pub stack_bytes: Option<usize>,
    /// What it may do with the device's own twin.
    pub device_twin: DeviceTwin,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions {
            isolation: Isolation::Auto,
            limits: Limits::default(),
            stop_grace: DEFAULT_STOP_GRACE,
            watchdog: None,
            stack_bytes: None,
            device_twin: DeviceTwin::None,
        }
    }
}

/// Everything that is wanted of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceSpec {
    /// Its name: the module id of its identity.
    pub name: String,
    /// Image reference as it was written.
    pub image: String,
    /// Whether it is to run.
    #[serde(default)]
    pub status: DesiredStatus,
    /// After what it is started again.
    #[serde(default)]
    pub restart_policy: RestartPolicy,
    /// Lower starts earlier and stops later.
    #[serde(default = "last")]
    pub startup_order: u32,
    /// What `client.env()` answers.
    #[serde(default)]
    pub env: BTreeMap<String, EnvValue>,
    /// The author's remark on the version of this entry; does not choose an image.
    #[serde(default)]
    pub version: Option<String>,
    /// How it is run.
    #[serde(default)]
    pub options: CreateOptions,
    /// Kept, without an effect.
    #[serde(default)]
    pub image_pull_policy: PullPolicy,
}

impl InstanceSpec {
    /// An instance of `image` with every default.
    pub fn new(name: &str, image: &str) -> InstanceSpec {
        InstanceSpec {
            name: name.to_owned(),
            image: image.to_owned(),
            status: DesiredStatus::default(),
            restart_policy: RestartPolicy::default(),
            startup_order: LAST_STARTUP_ORDER,
            env: BTreeMap::new(),
            version: None,
            options: CreateOptions::default(),
            image_pull_policy: PullPolicy::default(),
        }
    }

    /// What differs from `old` apart from [`InstanceSpec::status`], each in words. Empty: nothing to re-create.
    ///
    /// Source: IoT Edge compares modules the same way: a change of the status alone only starts or stops.
    pub fn changes_from(&self, old: &InstanceSpec) -> Vec<String> {
        let mut changes = Vec::new();
        let mut changed = |what: &str, old: String, new: String| {
            if old != new {
                changes.push(format!("{what} changed from {old} to {new}"));
            }
        };
        changed("image", old.image.clone(), self.image.clone());
        changed("restartPolicy", old.restart_policy.to_string(), self.restart_policy.to_string());
        changed("startupOrder", spoken_order(old.startup_order), spoken_order(self.startup_order));
        changed("version", spoken(old.version.as_ref()), spoken(self.version.as_ref()));
        changed("imagePullPolicy", old.image_pull_policy.to_string(), self.image_pull_policy.to_string());
        let (was, is) = (&old.options, &self.options);
        changed("isolation", was.isolation.to_string(), is.isolation.to_string());
        changed("stopGraceSecs", was.stop_grace.as_secs_f64().to_string(), is.stop_grace.as_secs_f64().to_string());
        changed("watchdogSecs", spoken(seconds(was.watchdog).as_ref()), spoken(seconds(is.watchdog).as_ref()));
        changed("stackBytes", spoken(was.stack_bytes.as_ref()), spoken(is.stack_bytes.as_ref()));
        changed("deviceTwin", was.device_twin.to_string(), is.device_twin.to_string());
        let (was, is) = (&was.limits, &is.limits);
        changed("limits.memoryBytes", spoken(was.memory_bytes.as_ref()), spoken(is.memory_bytes.as_ref()));
        changed("limits.cpuPercent", spoken(was.cpu_percent.as_ref()), spoken(is.cpu_percent.as_ref()));
        changed("limits.openFiles", spoken(was.open_files.as_ref()), spoken(is.open_files.as_ref()));
        for name in old.env.keys().filter(|name| !self.env.contains_key(*name)) {
            changes.push(format!("env {name} removed"));
        }
        for (name, value) in &self.env {
            // Values may be secrets: they are not shown. The name of a secret is none.
            match (old.env.get(name), value.secret_name()) {
                (Some(old), _) if old == value => {}
                (_, Some(secret)) => changes.push(format!("env {name} is the secret {secret}")),
                (Some(_), None) => changes.push(format!("env {name} changed")),
                (None, None) => changes.push(format!("env {name} added")),
            }
        }
        changes
    }
}

fn spoken(value: Option<&impl fmt::Display>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}

fn spoken_order(order: u32) -> String {
    if order == LAST_STARTUP_ORDER { "last".to_owned() } else { order.to_string() }
}

fn seconds(span: Option<Duration>) -> Option<f64> {
    span.map(|span| span.as_secs_f64())
}

fn last() -> u32 {
    LAST_STARTUP_ORDER
}

/// Gives an enum its words: as text, and as the list that a manifest is read with.
macro_rules! words {
    ($of:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $of {
            /// Every value with its word.
            pub const WORDS: &'static [(&'static str, $of)] = &[$(($word, $of::$variant)),+];

            /// Its word, as in manifests and listings.
            pub fn as_str(self) -> &'static str {
                match self { $($of::$variant => $word),+ }
            }
        }

        impl fmt::Display for $of {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
words!(DesiredStatus { Running = "running", Stopped = "stopped" });
words!(RestartPolicy { Never = "never", OnFailure = "on-failure", OnUnhealthy = "on-unhealthy", Always = "always" });
words!(PullPolicy { OnCreate = "on-create", Never = "never" });
words!(Isolation { Auto = "auto", Thread = "thread", Process = "process" });
words!(DeviceTwin { None = "none", Read = "read", Report = "report" });
words!(Origin { Drop = "drop", Deployment = "deployment", Cli = "cli" });

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::millis::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_back_what_was_stored() {
        let mut spec = InstanceSpec::new("filter-high", "filter:1");
        spec.env.insert("TZ".into(), "UTC".into());
        spec.options.watchdog = Some(Duration::from_millis(2_500));
        spec.options.limits.open_files = Some(64);
        spec.status = DesiredStatus::Stopped;

        let stored = serde_json::to_string(&spec).unwrap();

        assert_eq!(serde_json::from_str::<InstanceSpec>(&stored).unwrap(), spec);
    }

    #[test]
    fn a_stored_spec_of_an_older_release_gets_today_s_defaults() {
        let spec: InstanceSpec = serde_json::from_str(r#"{"name": "a", "image": "b"}"#).unwrap();

        assert_eq!(spec, InstanceSpec::new("a", "b"));
    }

    #[test]
    fn words_are_those_that_serde_writes() {
        for (word, policy) in RestartPolicy::WORDS {
            assert_eq!(serde_json::to_value(policy).unwrap(), *word);
        }
        for (word, policy) in PullPolicy::WORDS {
            assert_eq!(serde_json::to_value(policy).unwrap(), *word);
        }
    }

    #[test]
    fn changes_are_said_in_words_and_a_status_is_none() {
        let old = InstanceSpec::new("filter", "filter:1");
        let mut new = old.clone();
        new.status = DesiredStatus::Stopped;
        assert_eq!(new.changes_from(&old), Vec::<String>::new());

        new.image = "filter:2".into();
        new.env.insert("TZ".into(), "UTC".into());
        new.startup_order = 3;
        assert_eq!(
            new.changes_from(&old),
            ["image changed from filter:1 to filter:2", "startupOrder changed from last to 3", "env TZ added"]
        );
    }
}
