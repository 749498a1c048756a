//! A shell in which commands are typed one after the other.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::book::{Step, is_like};

/// As long as a command may take, and what it looks at may take to become so.
const PATIENCE: Duration = Duration::from_secs(40);
/// Stands alone on the line after the output of a command.
const DONE: &str = "-- done --";

/// A shell whose output is read. Dropped: it and the runtime that was started in it are killed.
pub struct Shell {
    child: Child,
    lines: Receiver<String>,
    state: std::path::PathBuf,
}

impl Shell {
    pub fn start(folder: &Path, home: &Path) -> Shell {
        let mut child = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let (send, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        let mut shell = Shell { child, lines, state: home.join("none") };
        // As in a terminal, errors stand among the output.
        shell.type_in("exec 2>&1");
        shell.read();
        shell
    }

    /// Does a command and asserts that it prints what is printed. What only looks is repeated until it is so.
    pub fn take(&mut self, step: &Step) {
        let end = Instant::now() + PATIENCE;
        let looks =
            ["dinrail plan", "dinrail list", "dinrail show", "dinrail logs", "dinrail image list", "dinrail check"];
        let is_repeatable = looks.iter().any(|look| step.command.starts_with(look));
        loop {
            self.type_in(&step.command);
            let seen = self.read();
            self.remember_state();
            // A command in the background prints when it likes; one without printed output is not looked at.
            if step.prints.is_empty() || is_like(&step.prints, &seen) {
                return;
            }
            let (command, printed, seen) = (&step.command, step.prints.join("\n"), seen.join("\n"));
            assert!(
                is_repeatable && Instant::now() < end,
                "$ {command}\nis printed with\n{printed}\n--- but was seen with\n{seen}\n--- log\n{}",
                std::fs::read_to_string(self.state.join("../run.log")).unwrap_or_default()
            );
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Ends the runtime that runs, and the shell.
    pub fn end(mut self) {
        self.type_in("dinrail list --json");
        assert!(self.read().iter().any(|line| line.contains("running")), "the runtime runs to the end of the tour");
    }

    fn remember_state(&mut self) {
        self.type_in("echo \"${DINRAIL_STATE:-none}\"");
        self.state = self.read().pop().unwrap_or_default().into();
    }

    fn type_in(&mut self, command: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{command}\necho; echo '{DONE}'").unwrap();
    }

    /// What was printed since the last command.
    fn read(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no end of the output: {seen:?}"));
            if line == DONE {
                break;
            }
            seen.push(line);
        }
        while seen.last().is_some_and(String::is_empty) {
            seen.pop();
        }
        seen
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.state.join("lock"))
            && let Some(pid) = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
