//! `dinrail run`: the runtime itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::console::console;
use super::places::Surroundings;
use super::service::Service;
use super::{Context, Failure};
use crate::config::Config;
use crate::log::{LogSubscriber, Logs, log_panics};
use crate::runtime;

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
    /// Whether the device's key is to be made anew.
    pub new_device_key: bool,
    /// Further folders that supply images.
    pub watch: Vec<PathBuf>,
    /// True if what appears in these folders is started, as in `drop/`.
    pub autostart: bool,
    /// Where other machines reach the management API, if not where the configuration says.
    pub listen: Option<SocketAddr>,
    /// Form of the log on stderr; `None` for the journal where there is one, else text.
    pub log_format: Option<LogFormat>,
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
    /// Deployment manifest, JSON or YAML; applied if it differs from the one given last time
    manifest: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Device id, fixed at the first start [default: host name]
    #[arg(long, value_name = "ID")]
    device_id: Option<String>,
    /// Make a new device key, for one that is lost or known to others: every identity gets new keys
    #[arg(long)]
    new_device_key: bool,
    /// Further folder that supplies images; may be repeated
    #[arg(long, value_name = "DIR")]
    watch: Vec<PathBuf>,
    /// Start what appears in the watched folders, as in the drop folder
    #[arg(long)]
    autostart: bool,
    /// Address and port on which other machines reach the management API, by TLS and tokens [default: not at all]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Form of the log on stderr [default: text; json with --json]
    #[arg(long, value_enum, value_name = "FORM")]
    log_format: Option<LogFormat>,
}

pub(super) fn run(args: RunArgs, context: &mut Context) -> Result<(), Failure> {
    let options = options(args, context.state.take(), context.out.is_json(), &Surroundings::read())?;
    start(options)
}

fn options(args: RunArgs, state: Option<PathBuf>, json: bool, around: &Surroundings) -> Result<RunOptions, Failure> {
    let RunArgs { manifest, config, device_id, new_device_key, watch, autostart, listen, log_format } = args;
    let state = state.map_or_else(|| around.run_state(), Ok)?;
    let log_format = log_format.or(json.then_some(LogFormat::Json));
    let session_folder = around.session().map(Into::into);
    Ok(RunOptions {
        manifest,
        config,
        state,
        device_id,
        new_device_key,
        watch,
        autostart,
        listen,
        log_format,
        session_folder,
    })
}

/// Runs the runtime until a signal ends it.
fn start(options: RunOptions) -> Result<(), Failure> {
    let mut config = match &options.config {
        Some(file) => read_config(file)?,
        None => Config::default(),
    };
    config.api.listen = options.listen.or(config.api.listen);
    let logs = Logs::start(config.log.limits, console(options.log_format))
        .map_err(|error| Failure::caused("the log cannot be started", &error))?;
    // Somebody who runs this as a library may have a subscriber of their own.
    let _ = tracing::subscriber::set_global_default(LogSubscriber::new(logs.clone(), config.log.level));
    log_panics();
    let outcome = run_logged(options, config, &logs);
    logs.close();
    outcome
}

fn run_logged(options: RunOptions, config: Config, logs: &Logs) -> Result<(), Failure> {
    let state = options.state.clone();
    let signals = Signals::catch()?;
    let running = runtime::start(runtime::Options {
        manifest: options.manifest,
        config,
        state: options.state,
        device_id: options.device_id,
        new_device_key: options.new_device_key,
        watch: options.watch,
        autostart: options.autostart,
        logs: logs.clone(),
        session_folder: options.session_folder,
    });
    let mut running = running.map_err(|error| Failure::of(&error).hint(error.hint()).details(error.details()))?;
    let service = Service::begin(&running, &state);
    let end = running.ender();
    let end = move || {
        service.stopping();
        end();
    };
    signals.end_with(end, logs.clone())?;
    if running.wait() {
        return Ok(());
    }
    // An exit code of 0 would tell a service manager that somebody wanted it.
    Err(Failure::new("the runtime ended by a defect of its own").hint("its log names the place; start it again"))
}

fn read_config(file: &Path) -> Result<Config, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::caused(format!("the configuration {} cannot be read", file.display()), &error))?;
    Config::parse(file, &text).map_err(|error| Failure::of(&error))
}

/// SIGTERM and Ctrl-C, caught from the moment that this is made: one that comes during the start ends the runtime right after it.
pub(super) struct Signals {
    executor: tokio::runtime::Runtime,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(not(unix))]
    interrupt: tokio::signal::windows::CtrlC,
}

impl Signals {
    pub fn catch() -> Result<Signals, Failure> {
        let failed = |error| Failure::caused("signals cannot be listened to", &error);
        let executor = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let entered = executor.enter();
        #[cfg(unix)]
        let (terminate, interrupt) = {
            use tokio::signal::unix::{SignalKind, signal};
            (signal(SignalKind::terminate()).map_err(failed)?, signal(SignalKind::interrupt()).map_err(failed)?)
        };
        #[cfg(not(unix))]
        let interrupt = tokio::signal::windows::ctrl_c().map_err(failed)?;
        drop(entered);
        Ok(Signals {
            executor,
            #[cfg(unix)]
            terminate,
            interrupt,
        })
    }

    /// Listens on a thread of its own; the second one ends the process at once.
    fn end_with(self, end: impl Fn() + Send + 'static, logs: Logs) -> Result<(), Failure> {
        self.heed(move |signals| {
            signals.wait();
            end();
            signals.wait();
            tracing::warn!("told to end a second time: ending at once, without waiting for the modules");
            logs.close();
            std::process::exit(1);
        })
    }

    /// Hands them to a thread of their own.
    pub fn heed(mut self, act: impl FnOnce(&mut Signals) + Send + 'static) -> Result<(), Failure> {
        std::thread::Builder::new()
            .name("signals".to_owned())
            .stack_size(256 << 10)
            .spawn(move || act(&mut self))
            .map(drop)
            .map_err(|error| Failure::caused("signals cannot be listened to", &error))
    }

    /// Waits for the next one.
    pub fn wait(&mut self) {
        #[cfg(unix)]
        self.executor.block_on(async {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        });
        #[cfg(not(unix))]
        self.executor.block_on(self.interrupt.recv());
    }
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
            new_device_key: false,
            watch: vec![],
            autostart: false,
            listen: None,
            log_format,
        };
        let form = |log_format, json| {
            options(args(log_format), Some("/s".into()), json, &Surroundings::default()).unwrap().log_format
        };
        assert_eq!(form(None, false), None);
        assert_eq!(form(None, true), Some(LogFormat::Json));
        assert_eq!(form(Some(LogFormat::Text), true), Some(LogFormat::Text));
    }
}
