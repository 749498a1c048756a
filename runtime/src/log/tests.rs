//! The log as a whole, with real files and threads.

use std::io;
use std::sync::mpsc;

use super::*;

/// A console that shows nothing to the end of the test: its reader has gone to sleep.
struct Stuck(mpsc::Receiver<()>);

impl io::Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(limits: LogLimits) -> (tempfile::TempDir, Logs) {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::start(limits, Console::Nowhere).unwrap();
    logs.keep_in(folder.path());
    (folder, logs)
}

fn say(logs: &Logs, module: &str, text: &str) {
    logs.module_says(&logs.module(module), Level::Info, b"test", text.as_bytes(), (b"", 0));
}

fn texts(logs: &Logs, query: &Query) -> Vec<String> {
    logs.read(query).unwrap().iter().map(|line| Stored::parse(line).unwrap().text.into_owned()).collect()
}

fn module(name: &str) -> Query {
    Query { tail: None, ..Query::new(Which::Module(name.to_owned())) }
}

#[test]
fn what_was_said_before_there_is_a_folder_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::start(LogLimits::default(), Console::Nowhere).unwrap();
    say(&logs, "a", "early");
    logs.keep_in(folder.path());
    say(&logs, "a", "late");
    assert_eq!(texts(&logs, &module("a")), ["early", "late"]);
    logs.close();
}

#[test]
fn flood_is_counted_exactly_keeps_its_bound_and_displaces_nobody() {
    let limits = LogLimits { instance_bytes: 256 << 10, ..LogLimits::default() };
    let (folder, logs) = log(limits);
    let flood = |n: u64| {
        let logs = logs.clone();
        std::thread::spawn(move || (0..n).for_each(|k| say(&logs, "flooder", &format!("{k} {}", "x".repeat(100)))))
    };
    let floods = [flood(20_000), flood(20_000), flood(20_000)];
    for k in 0..500 {
        say(&logs, "neighbour", &k.to_string());
    }
    floods.into_iter().for_each(|flood| flood.join().unwrap());

    assert_eq!(texts(&logs, &module("neighbour")), (0..500).map(|k| k.to_string()).collect::<Vec<_>>());
    let all = Query { level: None, ..module("flooder") };
    let lines = logs.read(&all).unwrap();
    let lines: Vec<Stored<'_>> = lines.iter().filter_map(|line| Stored::parse(line)).collect();
    let said_dropped: u64 = lines.iter().filter_map(|line| line.fields.get("dropped")?.as_u64()).sum();
    assert_eq!(said_dropped, logs.dropped("flooder").sum(), "all drops are said");
    assert!(said_dropped > 50_000, "{said_dropped}");
    assert!(lines.iter().any(|line| line.text.ends_with("lines dropped: more than 200 a second")));
    let file = logs.file_of("flooder").unwrap();
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    assert!(size(&file) + size(&files::older(&file)) <= 256 << 10);
    assert!(folder.path().join("modules/neighbour.jsonl").exists());
    logs.close();
}

#[test]
fn nobody_waits_for_a_console_that_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (awake, sleep) = mpsc::channel();
    let stuck = Stuck(sleep);
    let console = Console::Stream(Box::new(stuck), ConsoleForm::Text { colour: false });
    let logs = Logs::start(LogLimits { burst_lines: 100_000, ..LogLimits::default() }, console).unwrap();
    logs.keep_in(folder.path());
    for k in 0..200 {
        say(&logs, "a", &format!("{k} {}", "x".repeat(1000)));
        // Each is a write of its own on the console.
        assert_eq!(texts(&logs, &module("a")).len(), k + 1);
    }
    drop(awake);
    logs.close();
}

#[test]
fn a_follower_hears_every_line_once_and_what_it_is_too_slow_for_is_counted() {
    let (_folder, logs) = log(LogLimits { burst_lines: 100_000, ..LogLimits::default() });
    (0..10).for_each(|k| say(&logs, "a", &k.to_string()));
    let mut follow = logs.follow(module("a")).unwrap();
    (10..20).for_each(|k| say(&logs, "a", &k.to_string()));
    say(&logs, "b", "not this one");
    let mut heard = Vec::new();
    while heard.len() < 20 {
        if let Followed::Line(line) = follow.next(Duration::from_secs(20)) {
            heard.push(Stored::parse(&line).unwrap().text.into_owned());
        }
    }
    assert_eq!(heard, (0..20).map(|k| k.to_string()).collect::<Vec<_>>());

    let many = FOLLOWER_LINES as u64 + 100;
    (0..many).for_each(|k| say(&logs, "a", &k.to_string()));
    logs.read(&module("a")).unwrap();
    assert_eq!(follow.next(Duration::ZERO), Followed::Skipped(100));
    assert!(matches!(follow.next(Duration::ZERO), Followed::Line(_)));
    logs.close();
    while follow.next(Duration::from_secs(20)) != Followed::Ended {}
}

#[test]
fn a_forgotten_module_leaves_nothing_and_may_speak_again() {
    let (folder, logs) = log(LogLimits::default());
    say(&logs, "a", "first life");
    assert!(logs.read(&module("a")).is_ok() && logs.has("a"));
    logs.forget("a");
    assert!(texts(&logs, &module("a")).is_empty() && !logs.has("a"));
    say(&logs, "a", "second life");
    assert_eq!(texts(&logs, &module("a")), ["second life"]);
    assert_eq!(std::fs::read_dir(folder.path().join("modules")).unwrap().count(), 1);
    logs.close();
}

#[test]
fn a_disk_that_takes_nothing_costs_lines_that_are_counted_and_no_more() {
    let (folder, logs) = log(LogLimits::default());
    say(&logs, "a", "before");
    logs.read(&module("a")).unwrap();
    // As a full disk would, a file where the folder should be refuses every write.
    std::fs::remove_dir_all(folder.path().join("modules")).unwrap();
    std::fs::write(folder.path().join("modules"), "").unwrap();
    // The file is open still; another speaker's is not.
    (0..5).for_each(|_| say(&logs, "b", "lost"));
    let _ = logs.read(&module("b"));
    assert_eq!(logs.dropped("b").disk, 5);
    std::fs::remove_file(folder.path().join("modules")).unwrap();
    std::fs::create_dir(folder.path().join("modules")).unwrap();
    say(&logs, "b", "after");
    let found = texts(&logs, &module("b"));
    assert!(
        found.contains(&"after".to_owned()) && found.iter().any(|text| text.contains("5 lines dropped: the disk")),
        "{found:?}"
    );
    logs.close();
}

#[test]
fn the_number_of_lost_lines_outlives_the_full_disk_however_often_it_was_said_in_vain() {
    let (folder, logs) = log(LogLimits::default());
    let mut follow = logs.follow(module("b")).unwrap();
    std::fs::remove_dir_all(folder.path().join("modules")).unwrap();
    std::fs::write(folder.path().join("modules"), "").unwrap();
    for _ in 0..5 {
        say(&logs, "b", "lost");
        let _ = logs.read(&module("b"));
    }
    // Each writes down what was dropped before it.
    (0..10).for_each(|_| drop(logs.read(&module("b"))));
    assert_eq!(logs.dropped("b").disk, 5);
    std::fs::remove_file(folder.path().join("modules")).unwrap();
    std::fs::create_dir(folder.path().join("modules")).unwrap();

    let found = texts(&logs, &module("b"));
    assert_eq!(found, ["5 lines dropped: the disk did not take them"]);
    assert_eq!(texts(&logs, &module("b")).len(), 1);
    assert_eq!(logs.dropped("b").disk, 5);
    // Who follows hears each number once.
    let mut heard = Vec::new();
    while let Followed::Line(line) = follow.next(Duration::ZERO) {
        heard.push(Stored::parse(&line).unwrap().text.into_owned());
    }
    assert_eq!(heard.iter().filter(|text| text.starts_with("5 lines dropped")).count(), 1, "{heard:?}");
    logs.close();
}

#[test]
fn what_was_said_last_is_there_after_the_end() {
    let (folder, logs) = log(LogLimits::default());
    say(&logs, "a", "last");
    logs.close();
    say(&logs, "a", "too late");
    assert_eq!(reader::read(folder.path(), &module("a"), u64::MAX).unwrap().len(), 1);
}
