//! Under a service manager: it is told what is so, when it is so, and nothing else feeds its watchdog.
#![cfg(target_os = "linux")]

use std::os::unix::net::UnixDatagram;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// A service manager's end of the protocol.
struct Manager {
    socket: UnixDatagram,
    lines: Vec<String>,
}

impl Manager {
    /// The manager, and a runtime that it has not started yet.
    fn with(watchdog_usec: Option<u64>) -> (Manager, Runtime) {
        let runtime = Runtime::new().supply(&[fixture("wayward")]);
        let path = runtime.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let runtime = runtime.env("NOTIFY_SOCKET", path);
        let runtime = match watchdog_usec {
            Some(usec) => runtime.env("WATCHDOG_USEC", usec.to_string()),
            None => runtime,
        };
        (Manager { socket, lines: Vec::new() }, runtime)
    }

    /// The next thing that it is told.
    #[track_caller]
    fn hears(&mut self) -> String {
        while self.lines.is_empty() {
            let mut datagram = [0; 4096];
            let length = self.socket.recv(&mut datagram).expect("it is told something");
            let text = std::str::from_utf8(&datagram[..length]).unwrap();
            self.lines = text.lines().rev().map(str::to_owned).collect();
        }
        self.lines.pop().unwrap()
    }

    /// Listens until it is told something that begins so; gives what it was told before, and this.
    #[track_caller]
    fn hears_at_last(&mut self, start: &str) -> Vec<String> {
        let mut heard = vec![self.hears()];
        while !heard.last().unwrap().starts_with(start) {
            heard.push(self.hears());
        }
        heard
    }

    /// What it was told and has not looked at.
    fn has_heard(&mut self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut heard: Vec<String> = self.lines.drain(..).rev().collect();
        let mut datagram = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut datagram) {
            heard.extend(std::str::from_utf8(&datagram[..length]).unwrap().lines().map(str::to_owned));
        }
        self.socket.set_nonblocking(false).unwrap();
        heard
    }
}

#[test]
fn ready_is_said_once_the_api_answers_and_the_deployment_in_force_is_taken_up() {
    let (mut manager, mut runtime) = Manager::with(None);
    runtime.launch();
    runtime.deploy(&Manifest::new().module("one", "wayward").module("two", "wayward"));
    manager.hears_at_last("STATUS=2 of 2 modules running");
    runtime.stop();
    manager.has_heard();

    let mut child = runtime.run_command().spawn().unwrap();
    let heard = manager.hears_at_last("READY=1");
    // At once, not after a while.
    let modules = runtime.api().ask("GET", "/modules", None).unwrap().1;
    child.kill().unwrap();
    child.wait().unwrap();

    assert_eq!(modules.as_array().unwrap().len(), 2, "{modules}");
    assert!(!heard.iter().any(|line| line.starts_with("WATCHDOG")), "nobody asked for it: {heard:?}");
}

#[test]
fn watchdog_is_fed_again_and_again_while_loop_and_writer_answer() {
    let (mut manager, mut runtime) = Manager::with(Some(300_000));
    runtime.launch();

    manager.hears_at_last("READY=1");
    for _ in 0..5 {
        manager.hears_at_last("WATCHDOG=1");
    }
}

#[test]
fn watchdog_starves_while_the_writer_hangs_and_is_fed_again_after_it() {
    let (mut manager, mut runtime) = Manager::with(Some(500_000));
    runtime.launch();
    manager.hears_at_last("WATCHDOG=1");

    // The writer waits for the file, like for a disk that does not answer.
    let blocker = Connection::open(runtime.state().join("dinrail.db")).unwrap();
    wait_until(SOON, "the file is blocked", || blocker.execute_batch("BEGIN EXCLUSIVE").is_ok());
    manager.has_heard();
    let heard = manager.hears_at_last("STATUS=the control loop or the database has not answered");
    // An answer may have been under way when the file was blocked.
    assert!(heard.iter().filter(|line| *line == "WATCHDOG=1").count() <= 1, "{heard:?}");
    let clients = runtime.api().ask("GET", "/health", None).unwrap();
    assert_eq!(clients.0, 200, "only what has to be stored waits");
    assert_eq!(manager.has_heard(), [""; 0]);

    blocker.execute_batch("ROLLBACK").unwrap();
    manager.hears_at_last("WATCHDOG=1");
    manager.hears_at_last("STATUS=0 of 0 modules running");
}

#[test]
fn stopping_is_said_and_more_time_is_asked_for_while_a_module_takes_its_grace() {
    let (mut manager, mut runtime) = Manager::with(None);
    runtime.launch();
    let slow = Manifest::new().module("stuck", "wayward").desired("stuck", json!({"hangIn": ["stop"]})).option(
        "stuck",
        "stopGraceSecs",
        json!(1),
    );
    runtime.deploy(&slow);
    manager.has_heard();

    runtime.stop();

    let heard = manager.has_heard();
    let at = |start: &str| heard.iter().position(|line| line.starts_with(start));
    let stopping = at("STOPPING=1").unwrap_or_else(|| panic!("{heard:?}"));
    let extensions: Vec<&String> =
        heard[stopping..].iter().filter(|line| line.starts_with("EXTEND_TIMEOUT_")).collect();
    assert!(extensions.len() >= 2, "{heard:?}");
    assert!(!heard[stopping..].iter().any(|line| line == "READY=1"), "{heard:?}");
}

#[test]
fn manager_that_cannot_be_reached_keeps_nothing_from_running() {
    let runtime = Runtime::new().env("NOTIFY_SOCKET", "/nonexistent/notify").start();

    wait_until(SOON, "it says so", || runtime.log().contains("the service manager could not be told"));
    runtime.cli(&["list"]).ok();
}
