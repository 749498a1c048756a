//! `dinrail run`: the runtime itself.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::places::Surroundings;
use super::{Context, Failure};

/// Form of the log on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// A JSON document a line.
    Json,
}

/// Everything that `run` was told.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Manifest to apply if its bytes differ from the last one given so.
    pub manifest: Option<PathBuf>,
    /// Configuration file.
    pub config: Option<PathBuf>,
    /// State directory.
    pub state: PathBuf,
    /// Device id for the first start.
    pub device_id: Option<String>,
    /// Further folders that supply images.
    pub watch: Vec<PathBuf>,
    /// True if what appears in these folders is started, as in `drop/`.
    pub autostart: bool,
    /// Form of the log.
    pub log_format: LogFormat,
    /// The user's folder for short-lived files: for the socket, where the state directory's path is too long for one.
    pub session_folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Runs until SIGTERM or Ctrl-C, then stops the modules in reverse start order. With no options at all it works: an embedded \
database, no hub, the host's name as the device id. A second runtime on the same state directory is refused.

Examples:
  dinrail run
  dinrail run --watch target/release deployments/host-monitor.json
  dinrail run --state /tmp/try --device-id Hannover01 --log-format json")]
pub struct RunArgs {
    /// Deployment manifest; applied if it differs from the one given last time
    manifest: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Device id, fixed at the first start [default: host name]
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// Further folder that supplies images; may be repeated
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    /// Start what appears in the watched folders, as in the drop folder
    #[arg(long)]
    autostart: bool,
    /// Form of the log on stderr [default: text; json with --json]
    #[arg(long, value_enum, value_name = "FORM")]
    log_format: Option<LogFormat>,
}

pub(super) fn run(args: RunArgs, context: &mut Context) -> Result<(), Failure> {
    let options = options(args, context.state.take(), context.out.is_json(), &Surroundings::read())?;
    start(options)
}

fn options(args: RunArgs, state: Option<PathBuf>, json: bool, around: &Surroundings) -> Result<RunOptions, Failure> {
    let RunArgs { manifest, config, device_id, watch, autostart, log_format } = args;
    let state = state.map_or_else(|| around.run_state(), Ok)?;
    let log_format = log_format.unwrap_or(if json { LogFormat::Json } else { LogFormat::Text });
    let session_folder = around.session().map(Into::into);
    Ok(RunOptions { manifest, config, state, device_id, watch, autostart, log_format, session_folder })
}

/// The place where the runtime is connected: returns when it has ended.
fn start(options: RunOptions) -> Result<(), Failure> {
    Err(Failure::new(format!("this build has no runtime to run on {}", options.state.display()))
        .hint("it is a build of the command line alone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_programs_means_a_log_for_programs_unless_told_otherwise() {
        let args = |log_format| RunArgs {
            manifest: None,
            config: None,
            device_id: None,
            watch: vec![],
            autostart: false,
            log_format,
        };
        let form = |log_format, json| {
            options(args(log_format), Some("/s".into()), json, &Surroundings::default()).unwrap().log_format
        };
        assert_eq!(form(None, false), LogFormat::Text);
        assert_eq!(form(None, true), LogFormat::Json);
        assert_eq!(form(Some(LogFormat::Text), true), LogFormat::Text);
    }
}
