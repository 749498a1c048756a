//! `config.toml` of `run --config FILE`: what can be set about the runtime itself.
//!
//! | key | default | means |
//! |---|---|---|
//! | `restart.first_delay_secs` | 10 | delay after the first failure of an instance; doubles with each further one |
//! | `restart.max_delay_secs` | 300 | longest delay |
//! | `restart.max_starts` | 20 | restarts before an instance is left alone |
//! | `restart.steady_after_secs` | 600 | running so long clears the count of failures |
//! | `restart.jitter_percent` | 20 | each delay varies by up to so much |
//! | `instance.watchdog_secs` | 30 | longest time in one call of a module before it counts as unhealthy; 0: never |
//! | `queue.lane_messages` | 1024 | messages in memory for each sending thread and endpoint |
//! | `queue.lane_bytes` | 16 MiB | their bytes |
//! | `queue.store_bytes` | a quarter of the disk, 8 GiB at most | bytes of messages that may wait on disk, unless the deployment says otherwise |
//! | `queue.max_attempts` | 10,000 | deliveries of one message, before it is set aside however often its handler retries it (at the longest wait of the runtime's own choice that is three and a half days) |
//! | `twin.history_changes` | 200 | changes of desired properties and tags that are kept of each twin; 0: none |
//! | `twin.history_bytes` | 256 KiB | their bytes |
//! | `twin.history_days` | 365 | their age; the ten newest are kept whatever theirs |
//! | `watch.poll` | false | look at watched folders by time only, as network shares need it |
//! | `watch.poll_interval_secs` | 10 | how often folders are looked at besides what the system reports |
//! | `log.level` | `"info"` | `error`, `warn`, `info`, `debug` or `trace` |
//! | `log.instance_bytes` | 8 MiB | bytes that the log of one instance may occupy |
//! | `log.runtime_bytes` | 16 MiB | bytes of the runtime's own |
//! | `log.audit_bytes` | 8 MiB | bytes of the record of who did what |
//! | `log.lines_per_sec` | 200 | lines a second of one instance for as long as it likes; a line counts once for each KiB |
//! | `log.burst_lines` | 2000 | lines of one instance at once |
//! | `api.listen` | none | `"ADDRESS:PORT"` on which the management API is reached from other machines, by TLS and tokens only |
//! | `api.host_names` | `[]` | further names by which this device is reached, for its certificate and in tokens |
//! | `api.certificate` | the device's own | file with a certificate chain in PEM, relative to this one; read again when it changes |
//! | `api.private_key` | the device's own | file with its key |
//! | `api.group_role` | `"operator"` | what members of the group of the state directory may do: `reader`, `operator` or `owner` |

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use crate::identity::Role;
use crate::instance::state::RestartPacing;
use crate::log::{Level, LogLimits};
use crate::spelling::suggestion;
use crate::twin::HistoryLimits;

/// Settings of the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// How failures of instances are paced.
    pub restart: RestartPacing,
    /// What holds for every instance that does not say otherwise.
    pub instance: InstanceConfig,
    /// Bounds of the queues.
    pub queue: QueueConfig,
    /// Twins.
    pub twin: TwinConfig,
    /// Watched folders.
    pub watch: WatchConfig,
    /// The log of modules and of the runtime.
    pub log: LogConfig,
    /// The management API.
    pub api: ApiConfig,
}

/// Who reaches the management API, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// Where it is reached from other machines; `None`: nowhere.
    pub listen: Option<SocketAddr>,
    /// Further names of this device.
    pub host_names: Vec<String>,
    /// Certificate chain, where it is not the device's own.
    pub certificate: Option<PathBuf>,
    /// Its key; given where the chain is.
    pub private_key: Option<PathBuf>,
    /// What users may do on the socket who are neither root nor the runtime's own.
    pub group_role: Role,
}

impl Default for ApiConfig {
    fn default() -> ApiConfig {
        ApiConfig {
            listen: None,
            host_names: Vec::new(),
            certificate: None,
            private_key: None,
            group_role: Role::Operator,
        }
    }
}

/// What holds for every instance that does not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceConfig {
    /// Longest time in one call; zero: none is too long.
    pub watchdog: Duration,
}

impl Default for InstanceConfig {
    fn default() -> InstanceConfig {
        InstanceConfig { watchdog: Duration::from_secs(30) }
    }
}

/// Bounds of the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Messages in memory for each sending thread and endpoint.
    pub lane_messages: usize,
    /// Their bytes.
    pub lane_bytes: usize,
    /// Bytes of messages that may wait on disk; `None`: as the size of the disk allows.
    pub store_bytes: Option<u64>,
    /// Deliveries of one message at most, before it is set aside however often its handler asks for another one.
    pub max_attempts: u32,
}

impl Default for QueueConfig {
    fn default() -> QueueConfig {
        QueueConfig { lane_messages: 1024, lane_bytes: 16 << 20, store_bytes: None, max_attempts: 10_000 }
    }
}

/// Twins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TwinConfig {
    /// How much of their past is kept.
    pub history: HistoryLimits,
}

/// Watched folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchConfig {
    /// Whether folders are looked at by time only.
    pub poll: bool,
    /// How often.
    pub poll_interval: Duration,
}

impl Default for WatchConfig {
    fn default() -> WatchConfig {
        WatchConfig { poll: false, poll_interval: Duration::from_secs(10) }
    }
}

/// Which lines are logged, and how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// The least grave that is.
    pub level: Level,
    /// Its bounds.
    pub limits: LogLimits,
}

/// One problem of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// `section.key`, or empty where the file is not TOML.
    pub key: String,
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Every problem of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: String,
    /// Its problems, at least one.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigError {
    /// `config.toml:3:1: restart.max_start: unknown key (did you mean max_starts?)`, a line for each problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: ", self.file, problem.line, problem.column)?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            f.write_str(&problem.message)?;
            if let Some(hint) = &problem.hint {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Puts a value where it belongs, or says what is expected.
type Set = fn(&mut Config, &DeValue<'_>) -> Result<(), String>;

const YEAR_SECS: u64 = 365 * 86_400;

/// Every key that there is: section, name, setter.
const KEYS: &[(&str, &str, Set)] = &[
    ("restart", "first_delay_secs", |c, v| seconds(v, 0..=YEAR_SECS).map(|span| c.restart.first_delay = span)),
    ("restart", "max_delay_secs", |c, v| seconds(v, 0..=YEAR_SECS).map(|span| c.restart.max_delay = span)),
    ("restart", "max_starts", |c, v| whole(v, 0..=u64::from(u32::MAX)).map(|n| c.restart.max_starts = n)),
    ("restart", "steady_after_secs", |c, v| seconds(v, 0..=YEAR_SECS).map(|span| c.restart.steady_after = span)),
    ("restart", "jitter_percent", |c, v| whole(v, 0..=100).map(|n| c.restart.jitter_percent = n)),
    ("instance", "watchdog_secs", |c, v| seconds(v, 0..=86_400).map(|span| c.instance.watchdog = span)),
    ("queue", "lane_messages", |c, v| whole(v, 1..=1 << 24).map(|n| c.queue.lane_messages = n)),
    ("queue", "lane_bytes", |c, v| whole(v, 1 << 12..=1 << 40).map(|n| c.queue.lane_bytes = n)),
    ("queue", "store_bytes", |c, v| whole(v, 1 << 20..=1 << 50).map(|n| c.queue.store_bytes = Some(n))),
    ("queue", "max_attempts", |c, v| whole(v, 1..=1 << 31).map(|n| c.queue.max_attempts = n)),
    ("twin", "history_changes", |c, v| whole(v, 0..=100_000).map(|n| c.twin.history.changes = n)),
    ("twin", "history_bytes", |c, v| whole(v, 1 << 10..=1 << 30).map(|n| c.twin.history.bytes = n)),
    ("twin", "history_days", |c, v| {
        whole(v, 1..=36_500).map(|days: u64| c.twin.history.age = Duration::from_secs(days * 86_400))
    }),
    ("watch", "poll", |c, v| v.as_bool().map(|poll| c.watch.poll = poll).ok_or("expected true or false".to_owned())),
    ("watch", "poll_interval_secs", |c, v| seconds(v, 1..=86_400).map(|span| c.watch.poll_interval = span)),
    ("log", "level", |c, v| level(v).map(|level| c.log.level = level)),
    ("log", "instance_bytes", |c, v| whole(v, 256 << 10..=1 << 40).map(|n| c.log.limits.instance_bytes = n)),
    ("log", "runtime_bytes", |c, v| whole(v, 256 << 10..=1 << 40).map(|n| c.log.limits.runtime_bytes = n)),
    ("log", "audit_bytes", |c, v| whole(v, 256 << 10..=1 << 40).map(|n| c.log.limits.audit_bytes = n)),
    ("log", "lines_per_sec", |c, v| whole(v, 1..=1_000_000).map(|n| c.log.limits.lines_per_sec = n)),
    ("log", "burst_lines", |c, v| whole(v, 20..=1_000_000).map(|n| c.log.limits.burst_lines = n)),
    ("api", "listen", |c, v| address(v).map(|address| c.api.listen = Some(address))),
    ("api", "host_names", |c, v| host_names(v).map(|names| c.api.host_names = names)),
    ("api", "certificate", |c, v| path(v).map(|path| c.api.certificate = Some(path))),
    ("api", "private_key", |c, v| path(v).map(|path| c.api.private_key = Some(path))),
    ("api", "group_role", |c, v| role(v).map(|role| c.api.group_role = role)),
];

impl Config {
    /// Reads a configuration file whose text is `text`; what it does not name keeps its default.
    ///
    /// # Errors
    /// Every problem of the file, in the order of their lines.
    pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
        let error = |problems| ConfigError { file: file.display().to_string(), problems };
        let place = |key: String, at: usize, message: String, hint: Option<String>| {
            let (line, column) = line_and_column(text, at);
            ConfigProblem { key, line, column, message, hint }
        };
        let root = DeTable::parse(text).map_err(|refused| {
            let at = refused.span().map_or(0, |span| span.start);
            error(vec![place(String::new(), at, format!("not TOML: {}", refused.message()), None)])
        })?;
        let mut config = Config::default();
        let mut problems = Vec::new();
        let mut sections: Vec<&str> = KEYS.iter().map(|(section, ..)| *section).collect();
        sections.dedup();
        for (section, value) in root.get_ref() {
            let name: &str = section.get_ref();
            let at = section.span().start;
            if !sections.contains(&name) {
                let message = "unknown section".to_owned();
                problems.push(place(name.to_owned(), at, message, Some(suggestion(name, &sections))));
                continue;
            }
            let DeValue::Table(keys) = value.get_ref() else {
                let hint = Some(format!("write [{name}] and its keys below"));
                problems.push(place(name.to_owned(), at, "expected a section".to_owned(), hint));
                continue;
            };
            for (key, value) in keys {
                let path = format!("{name}.{}", key.get_ref());
                match KEYS.iter().find(|(section, known, _)| *section == name && known == key.get_ref()) {
                    Some((_, _, set)) => {
                        if let Err(message) = set(&mut config, value.get_ref()) {
                            problems.push(place(path, value.span().start, message, None));
                        }
                    }
                    None => {
                        let known: Vec<&str> =
                            KEYS.iter().filter(|(section, ..)| *section == name).map(|(_, known, _)| *known).collect();
                        let hint = Some(suggestion(key.get_ref(), &known));
                        problems.push(place(path, key.span().start, "unknown key".to_owned(), hint));
                    }
                }
            }
        }
        if config.api.certificate.is_some() != config.api.private_key.is_some() {
            let section = root.get_ref().iter().find(|(name, _)| name.get_ref() == "api");
            let at = section.map_or(0, |(name, _)| name.span().start);
            let message = "certificate and private_key belong together: give both, or neither".to_owned();
            problems.push(place("api".to_owned(), at, message, None));
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        for path in [&mut config.api.certificate, &mut config.api.private_key].into_iter().flatten() {
            *path = folder.join(&*path);
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        if problems.is_empty() { Ok(config) } else { Err(error(problems)) }
    }
}

fn whole<T: TryFrom<u64>>(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<T, String> {
    let number = value.as_integer().and_then(|integer| {
        let digits = integer.as_str();
        u64::from_str_radix(digits, integer.radix()).ok()
    });
    let expected = || format!("expected a whole number from {} to {}", range.start(), range.end());
    number.filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok()).ok_or_else(expected)
}

fn seconds(value: &DeValue<'_>, range: RangeInclusive<u64>) -> Result<Duration, String> {
    let float = value.as_float().and_then(|float| float.as_str().parse::<f64>().ok());
    #[allow(clippy::cast_precision_loss, reason = "bounds of a year in seconds are exact")]
    let within = |seconds: &f64| (*range.start() as f64..=*range.end() as f64).contains(seconds);
    match float.filter(within).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
        Some(span) => Ok(span),
        None => match whole(value, range.clone()) {
            Ok(seconds) => Ok(Duration::from_secs(seconds)),
            Err(_) => Err(format!("expected seconds, from {} to {}", range.start(), range.end())),
        },
    }
}

fn level(value: &DeValue<'_>) -> Result<Level, String> {
    let found = value.as_str().and_then(Level::parse);
    found.ok_or_else(|| "expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\"".to_owned())
}

fn address(value: &DeValue<'_>) -> Result<SocketAddr, String> {
    let found = value.as_str().and_then(|text| text.parse().ok());
    found.ok_or_else(|| "expected \"ADDRESS:PORT\", such as \"127.0.0.1:8443\" or \"[::]:8443\"".to_owned())
}

fn host_names(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let is_host = |text: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        !text.is_empty() && text.len() <= 253 && text.chars().all(is_part)
    };
    let name = |value: &DeValue<'_>| value.as_str().filter(|text| is_host(text)).map(str::to_owned);
    let names = value.as_array().map(|list| list.iter().map(|one| name(one.get_ref())).collect::<Option<Vec<_>>>());
    names.flatten().ok_or_else(|| "expected a list of host names or addresses, such as [\"line3.example\"]".to_owned())
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let found = value.as_str().filter(|text| !text.is_empty()).map(PathBuf::from);
    found.ok_or_else(|| "expected the path of a file".to_owned())
}

fn role(value: &DeValue<'_>) -> Result<Role, String> {
    let found = value.as_str().and_then(|text| text.parse().ok());
    found.ok_or_else(|| "expected \"reader\", \"operator\" or \"owner\"".to_owned())
}

fn line_and_column(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let count = |index: usize| u32::try_from(index).unwrap_or(u32::MAX - 1) + 1;
    (count(before.matches('\n').count()), count(before[line_start..].chars().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("config.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn every_key_is_taken() {
        let text = "
            restart.first_delay_secs = 0.5
            [queue]
            lane_messages = 1_000
            lane_bytes = 0x10000
            store_bytes = 2000000
            max_attempts = 50
            [twin]
            history_changes = 7
            history_bytes = 5000
            history_days = 2
            [watch]
            poll = true
            poll_interval_secs = 30
            [log]
            level = 'debug'
            instance_bytes = 1_000_000
            runtime_bytes = 2_000_000
            audit_bytes = 3_000_000
            lines_per_sec = 50
            burst_lines = 100";
        let config = parse(text).unwrap();

        assert_eq!(config.restart.first_delay, Duration::from_millis(500));
        assert_eq!(
            config.queue,
            QueueConfig { lane_messages: 1000, lane_bytes: 65_536, store_bytes: Some(2_000_000), max_attempts: 50 }
        );
        assert_eq!(config.watch, WatchConfig { poll: true, poll_interval: Duration::from_secs(30) });
        let history = HistoryLimits { changes: 7, bytes: 5000, age: Duration::from_secs(2 * 86_400) };
        assert_eq!(config.twin.history, history);
        assert_eq!(config.log.level, Level::Debug);
        let limits = LogLimits {
            instance_bytes: 1_000_000,
            runtime_bytes: 2_000_000,
            audit_bytes: 3_000_000,
            lines_per_sec: 50,
            burst_lines: 100,
        };
        assert_eq!(config.log.limits, limits);

        let text = "[restart]\nmax_delay_secs = 60\nmax_starts = 3\nsteady_after_secs = 5\njitter_percent = 0";
        let restart = parse(text).unwrap().restart;
        assert_eq!((restart.max_delay.as_secs(), restart.max_starts, restart.steady_after.as_secs()), (60, 3, 5));
        assert_eq!(restart.jitter_percent, 0);
    }

    #[test]
    fn the_way_in_from_other_machines_is_off_unless_named() {
        assert_eq!(parse("[api]\ngroup_role = 'reader'").unwrap().api.listen, None);
        let text = "[api]\nlisten = '127.0.0.1:8443'\nhost_names = ['line3.example', '192.0.2.7']\n\
                    certificate = 'tls/chain.pem'\nprivate_key = '/k.pem'\ngroup_role = 'owner'";
        let api = Config::parse(Path::new("/etc/dinrail/config.toml"), text).unwrap().api;

        assert_eq!(api.listen, Some(([127, 0, 0, 1], 8443).into()));
        assert_eq!(api.host_names, ["line3.example", "192.0.2.7"]);
        assert_eq!(api.certificate.as_deref(), Some(Path::new("/etc/dinrail/tls/chain.pem")));
        assert_eq!(api.private_key.as_deref(), Some(Path::new("/k.pem")));
        assert_eq!(api.group_role, Role::Owner);
        let refused = parse("[api]\nlisten = 'localhost'\nhost_names = ['a b']\ncertificate = 'x'").unwrap_err();
        for words in
            ["api: certificate and private_key belong together", "2:10: api.listen: expected", "3:14: api.host_names"]
        {
            assert!(refused.contains(words), "{words} is not in: {refused}");
        }
    }

    #[test]
    fn all_problems_name_file_line_key_and_the_nearest_known_one() {
        let text = "[restart]\nmax_start = 3\njitter_percent = 101\n[logs]\nlevel = 1\n[queue]\nlane_bytes = \"1 MB\"\n[log]\nlevel = \"loud\"\n";
        assert_eq!(
            parse(text).unwrap_err(),
            "config.toml:2:1: restart.max_start: unknown key (did you mean max_starts?)\n\
             config.toml:3:18: restart.jitter_percent: expected a whole number from 0 to 100\n\
             config.toml:4:2: logs: unknown section (did you mean log?)\n\
             config.toml:7:14: queue.lane_bytes: expected a whole number from 4096 to 1099511627776\n\
             config.toml:9:9: log.level: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\""
        );
    }

    #[test]
    fn what_is_not_toml_is_refused_at_its_place() {
        let refused = parse("[restart]\nmax_starts = \n").unwrap_err();
        assert!(refused.starts_with("config.toml:2:1"), "{refused}");
        assert!(refused.contains("not TOML"), "{refused}");
    }

    #[test]
    fn the_table_of_keys_in_the_header_is_complete() {
        let header = include_str!("config.rs");
        for (section, key, _) in KEYS {
            assert!(header.contains(&format!("//! | `{section}.{key}` |")), "{section}.{key}");
        }
    }
}
