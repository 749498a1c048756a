//! A runtime in a state directory of its own, and the command line as its client.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{Api, Listener, Manifest, SOON, dinrail, wait_until};

/// What a verb printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Itself, where it ended well.
    #[track_caller]
    pub fn ok(self) -> Output {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }

    /// Asserts that it ended with `code` and that stderr says each of `words`.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Output {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        words.iter().for_each(|word| assert!(self.stderr.contains(word), "'{word}' is not in: {}", self.stderr));
        self
    }
}

/// A runtime that is started, ended and started again on one state directory. Dropped: killed, and its log shown if the test
/// failed.
pub struct Runtime {
    folder: TempDir,
    state: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    preloaded: Vec<PathBuf>,
    run_environment: Vec<(&'static str, OsString)>,
    child: Option<Child>,
}

impl Runtime {
    /// Of the device `Hannover01`; not started.
    pub fn new() -> Runtime {
        let folder = tempfile::Builder::new().prefix("dinrail-").tempdir().unwrap();
        let state = folder.path().join("state");
        let home = folder.path().join("home");
        std::fs::create_dir_all(home.join("run")).unwrap();
        let environment = vec![
            ("HOME".to_owned(), home.clone().into()),
            ("XDG_STATE_HOME".to_owned(), home.join("state").into()),
            ("XDG_RUNTIME_DIR".to_owned(), home.join("run").into()),
            ("PATH".to_owned(), std::env::var_os("PATH").unwrap_or_default()),
        ];
        let runtime = Runtime {
            folder,
            state,
            arguments: Vec::new(),
            environment,
            preloaded: Vec::new(),
            run_environment: Vec::new(),
            child: None,
        };
        runtime.args(["--device-id", "Hannover01"])
    }

    /// With more arguments for `run`.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Runtime {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// With a variable in the environment of it and of its clients.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Runtime {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// With a library that is loaded before all others into the runtime, and not into its clients, and what it reads from the
    /// environment.
    pub(super) fn preload(mut self, library: &Path, variables: Vec<(&'static str, OsString)>) -> Runtime {
        self.preloaded.push(library.to_owned());
        self.run_environment.extend(variables);
        self
    }

    /// With `--watch FOLDER`.
    pub fn watch(self, folder: &Path) -> Runtime {
        self.args([OsStr::new("--watch"), folder.as_os_str()])
    }

    /// With a watched folder in which these libraries lie.
    pub fn supply(self, libraries: &[PathBuf]) -> Runtime {
        let folder = self.folder.path().join("supply");
        std::fs::create_dir_all(&folder).unwrap();
        for library in libraries {
            let place = folder.join(library.file_name().expect("a file"));
            // A link is there whole and at once; on another file system a copy has to do.
            if std::fs::hard_link(library, &place).is_err() {
                std::fs::copy(library, &place).unwrap();
            }
        }
        self.watch(&folder)
    }

    /// With `--config` and a file of this text.
    pub fn config(self, text: &str) -> Runtime {
        let file = self.write("config.toml", text);
        self.args([OsStr::new("--config"), file.as_os_str()])
    }

    /// With another state directory.
    pub fn state_at(mut self, state: PathBuf) -> Runtime {
        self.state = state;
        self
    }

    /// Started: its management API answers.
    #[track_caller]
    pub fn start(mut self) -> Runtime {
        self.launch();
        self
    }

    /// Starts it again with the same arguments; its management API answers.
    #[track_caller]
    pub fn launch(&mut self) {
        let run = self.run_command();
        self.await_answer(run);
    }

    #[track_caller]
    fn await_answer(&mut self, mut run: Command) {
        assert!(self.child.is_none(), "it runs already");
        self.child = Some(run.spawn().unwrap());
        let end = Instant::now() + SOON;
        while self.cli(&["list"]).code != 0 {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "run ended with {ended:?}:\n{}", self.log());
            assert!(Instant::now() < end, "the management API does not answer:\n{}", self.log());
        }
    }

    /// Starts it again with other arguments for `run`; its management API answers.
    #[track_caller]
    pub fn launch_with(&mut self, arguments: &[&OsStr]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.launch();
    }

    /// `run` as it would be started, for those that are refused; its log goes to [`Runtime::log`].
    pub fn run_command(&self) -> Command {
        let mut run = self.command(&["run"]);
        run.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log_for_writing());
        if !self.preloaded.is_empty() {
            run.env("LD_PRELOAD", std::env::join_paths(&self.preloaded).unwrap());
        }
        run.envs(self.run_environment.iter().map(|(name, value)| (name, value)));
        run
    }

    fn log_for_writing(&self) -> File {
        File::options().create(true).append(true).open(self.log_file()).unwrap()
    }

    /// Ends it with SIGTERM and asserts that it ends well.
    #[track_caller]
    pub fn stop(&mut self) {
        let status = self.terminate(SOON);
        assert!(status.success(), "ended with {status}:\n{}", self.log());
    }

    /// Sends SIGTERM and waits for its end.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        kill_process(pid(&child), Signal::TERM).unwrap();
        let mut status = None;
        wait_until(limit, "the runtime ends after SIGTERM", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_death(&mut self) {
        let mut child = self.child.take().expect("it runs");
        wait_until(SOON, "the runtime ends by itself", || child.try_wait().unwrap().is_some());
    }

    /// Kills it without a word.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Kills it without a word and starts it with the same command line.
    #[track_caller]
    pub fn kill9_and_launch(&mut self) {
        self.kill9();
        self.launch();
    }

    /// Starts it by another command, such as `unshare -n`; its management API answers.
    #[track_caller]
    pub fn launch_under(&mut self, wrapper: &[&str]) {
        let run = self.run_command();
        let mut wrapped = Command::new(wrapper[0]);
        wrapped.args(&wrapper[1..]).arg(run.get_program()).args(run.get_args());
        wrapped.env_clear().envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
        wrapped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(self.log_for_writing());
        self.await_answer(wrapped);
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// What it logged in all its runs. Lines come a moment after what they tell: it is read when no more come.
    pub fn log(&self) -> String {
        let read = || std::fs::read(self.log_file()).unwrap_or_default();
        let end = Instant::now() + Duration::from_secs(1);
        let mut log = read();
        while self.child.is_some() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(60));
            let now = read();
            if now.len() == log.len() {
                break;
            }
            log = now;
        }
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the test's own.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Deploys a manifest, waits until what is to run runs, and gives the document of the verb.
    #[track_caller]
    pub fn deploy(&self, manifest: &Manifest) -> Value {
        let file = self.write("manifest.json", manifest.text());
        self.json(&["deploy", &file.to_string_lossy(), "--wait", "--timeout", "20s"])
    }

    /// What the fixture `wayward` recorded as the instance `name`, a line each.
    pub fn events(&self, name: &str) -> Vec<String> {
        let file = self.state.join("data").join(name).join("events");
        std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Does a verb.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        finish(self.command(arguments).stdin(Stdio::null()).output().unwrap())
    }

    /// Does a verb that is given `input` on stdin.
    pub fn cli_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut verb = self.command(arguments);
        let mut child = verb.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finish(child.wait_with_output().unwrap())
    }

    /// Does a verb with `--json` that ends well, and gives its one document.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["--json"]].concat()).ok();
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    }

    /// The row of a module in `list`; null where there is none.
    #[track_caller]
    pub fn module(&self, name: &str) -> Value {
        let list = self.json(&["list"]);
        list.as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until a module has a status.
    #[track_caller]
    pub fn wait_for(&self, name: &str, status: &str) {
        let output = self.cli(&["wait", name, "--for", status, "--timeout", "20s"]);
        assert_eq!(output.code, 0, "{}\n{}", output.stderr, self.log());
    }

    /// A connection to its management API.
    pub fn api(&self) -> Api {
        Api::connect(&self.state).unwrap()
    }

    /// Follows the messages that pass a route; what passes after this returned is seen.
    #[track_caller]
    pub fn listen(&self, route: &str) -> Listener {
        self.api().listen(route)
    }

    /// Follows what a verb prints (`tail`) line by line.
    pub fn follow(&self, arguments: &[&str]) -> Followed {
        let mut verb = self.command(arguments);
        let mut child = verb.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, followed) = channel();
        let (notes, noted) = channel();
        let pass_on = |from: Box<dyn std::io::Read + Send>, to: std::sync::mpsc::Sender<String>| {
            let pass = move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| to.send(line));
            std::thread::spawn(pass);
        };
        pass_on(Box::new(child.stdout.take().unwrap()), lines);
        pass_on(Box::new(child.stderr.take().unwrap()), notes);
        Followed { child, lines: followed, notes: noted }
    }

    /// A verb as a process, with `--state`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(dinrail());
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments).arg("--state").arg(&self.state).current_dir(self.folder.path());
        command
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the runtime ---\n{}--- end of the log ---", self.log());
        }
    }
}

/// A verb that goes on printing. Dropped: killed.
pub struct Followed {
    child: Child,
    lines: Receiver<String>,
    notes: Receiver<String>,
}

impl Followed {
    /// The next line of stdout.
    #[track_caller]
    pub fn line(&self) -> String {
        let line = self.lines.recv_timeout(SOON);
        line.unwrap_or_else(|_| {
            panic!("no other line on stdout; on stderr: {:?}", self.notes.try_iter().collect::<Vec<_>>())
        })
    }

    /// The next line of stdout, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }

    /// Waits for its end: exit code and what is left on stderr.
    pub fn end(mut self) -> (i32, String) {
        let mut code = None;
        wait_until(SOON, "the verb ends", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        (code.and_then(|status| status.code()).unwrap_or(-1), self.notes.iter().collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed()).expect("a process has a number")
}

fn finish(output: std::process::Output) -> Output {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("verbs print UTF-8");
    Output { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}
