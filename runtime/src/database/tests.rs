use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use tempfile::TempDir;

use super::tables::loss;
use super::tables::queue::{self, ClockMark, StoredMessage};
use super::tables::setting;
use super::*;

pub(super) fn opened() -> (TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path()).unwrap();
    (dir, database)
}

/// Holds the writer inside a change until the sender is used or dropped.
fn hold_writer(database: &Database) -> Sender<()> {
    let (release, gate) = channel::<()>();
    let (entered, is_in) = channel();
    let mut first = true;
    database.submit(
        File::Main,
        Box::new(move |_| {
            if std::mem::take(&mut first) {
                entered.send(()).unwrap();
                let _ = gate.recv();
            }
            Ok(())
        }),
        Box::new(|_| {}),
    );
    is_in.recv().unwrap();
    release
}

fn submit_setting(database: &Database, key: &str, value: &str) -> Receiver<Result<(), StoreError>> {
    let (done, outcome) = channel();
    let (key, value) = (key.to_owned(), value.to_owned());
    database.submit(
        File::Main,
        Box::new(move |tx| setting::set(tx, &key, &value)),
        Box::new(move |result| done.send(result).unwrap()),
    );
    outcome
}

fn value(database: &Database, key: &str) -> Option<String> {
    database.read(File::Main, |conn| setting::get(conn, key)).unwrap()
}

fn fill(database: &Database, rows: usize) {
    database
        .call(File::Main, move |tx| {
            (0..rows).try_for_each(|i| setting::set(tx, &format!("key{i:05}"), &"v".repeat(200)))
        })
        .unwrap();
}

#[test]
fn what_waits_during_a_commit_is_committed_as_one_group_in_order() {
    let (_dir, database) = opened();
    let order = Arc::new(Mutex::new(Vec::new()));
    let release = hold_writer(&database);
    let before = database.figures().commits.load(Ordering::Relaxed);

    for i in 0..100 {
        let order = order.clone();
        database.submit(
            File::Main,
            Box::new(move |tx| setting::set(tx, "last", &i.to_string())),
            Box::new(move |result| order.lock().unwrap().push((i, result))),
        );
    }
    drop(release);
    database.flush().unwrap();

    assert_eq!(database.figures().commits.load(Ordering::Relaxed), before + 2, "the held one, and the group");
    assert_eq!(*order.lock().unwrap(), (0..100).map(|i| (i, Ok(()))).collect::<Vec<_>>());
    assert_eq!(value(&database, "last").as_deref(), Some("99"));
}

#[test]
fn of_a_group_only_the_guilty_change_fails() {
    let (_dir, database) = opened();
    let release = hold_writer(&database);
    let first = submit_setting(&database, "first", "1");
    let (done, guilty) = channel();
    database.submit(
        File::Main,
        Box::new(|tx| tx.execute("INSERT INTO setting VALUES ('guilty', NULL)", []).map(|_| ())),
        Box::new(move |result| done.send(result).unwrap()),
    );
    let last = submit_setting(&database, "last", "1");
    drop(release);

    assert_eq!(first.recv().unwrap(), Ok(()));
    assert!(matches!(guilty.recv().unwrap(), Err(StoreError::Refused { file: File::Main, .. })));
    assert_eq!(last.recv().unwrap(), Ok(()));
    assert_eq!((value(&database, "first"), value(&database, "guilty")), (Some("1".to_owned()), None));
}

#[test]
fn the_writer_outlives_panics_of_changes_and_completions() {
    let (_dir, database) = opened();

    let panicked = database.call(File::Main, |_| -> rusqlite::Result<()> { panic!("on purpose") });
    database.submit(File::Main, Box::new(|_| Ok(())), Box::new(|_| panic!("on purpose")));

    assert!(matches!(panicked, Err(StoreError::Refused { .. })));
    assert_eq!(submit_setting(&database, "after", "1").recv().unwrap(), Ok(()));
}

#[test]
fn a_completion_may_submit_but_not_wait() {
    let (_dir, database) = opened();
    let (done, outcome) = channel();
    let again = database.clone();
    database.submit(
        File::Main,
        Box::new(|_| Ok(())),
        Box::new(move |_| {
            done.send(again.call(File::Main, |_| Ok(()))).unwrap();
            again.submit(
                File::Main,
                Box::new(|tx| setting::set(tx, "inner", "1")),
                Box::new(move |r| done.send(r).unwrap()),
            );
        }),
    );

    assert_eq!(outcome.recv().unwrap(), Err(StoreError::OnWriter));
    assert_eq!(outcome.recv().unwrap(), Ok(()));
    assert_eq!(value(&database, "inner").as_deref(), Some("1"));
}

#[test]
fn the_queues_part_is_made_only_after_the_main_part_is_committed() {
    let (_dir, database) = opened();
    for (fails, messages) in [(true, 0), (false, 1)] {
        let (done, outcome) = channel();
        let after_main = done.clone();
        let work = Work::new(Box::new(move |result| done.send(("both", result.is_ok())).unwrap()))
            .after_main(Box::new(move |result| after_main.send(("main", result.is_ok())).unwrap()))
            .job(File::Main, Box::new(move |_| if fails { Err(rusqlite::Error::InvalidQuery) } else { Ok(()) }))
            .job(
                File::Queue,
                Box::new(|tx| queue::enqueue(tx, &[message("$upstream", 1)], ClockMark::default()).map(|_| ())),
            );
        database.submit_work(work);

        assert_eq!(outcome.recv().unwrap(), ("main", !fails));
        assert_eq!(outcome.recv().unwrap(), ("both", !fails));
        let counts = database.read(File::Queue, queue::counts).unwrap();
        assert_eq!(counts.iter().map(|c| c.messages).sum::<u64>(), messages);
    }
}

#[test]
fn a_full_disk_is_said_to_the_whole_group_and_the_writer_goes_on_when_there_is_room() {
    let (_dir, database) = opened();
    submit_setting(&database, "kept", "1").recv().unwrap().unwrap();
    let limit_to = |pages: u32| {
        database
            .call(File::Main, move |tx| tx.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())))
            .unwrap();
    };
    limit_to(1);

    let refused = submit_setting(&database, "big", &"x".repeat(200_000)).recv().unwrap();

    assert_eq!(refused, Err(StoreError::Full(File::Main)));
    assert!(refused.unwrap_err().hint().unwrap().contains("free some space"));
    assert_eq!((value(&database, "kept").as_deref(), value(&database, "big")), (Some("1"), None));
    limit_to(1_000_000);
    assert_eq!(submit_setting(&database, "big", &"x".repeat(200_000)).recv().unwrap(), Ok(()));
}

/// A disk of its own, where the test may mount one.
#[cfg(target_os = "linux")]
struct TinyDisk(TempDir);

#[cfg(target_os = "linux")]
impl TinyDisk {
    fn mount(options: &str) -> Option<TinyDisk> {
        let dir = tempfile::tempdir().unwrap();
        run("mount", &["-t", "tmpfs", "-o", options, "tmpfs"], dir.path()).then(|| TinyDisk(dir))
    }
}

#[cfg(target_os = "linux")]
impl Drop for TinyDisk {
    fn drop(&mut self) {
        run("umount", &[], self.0.path());
    }
}

#[cfg(target_os = "linux")]
fn run(program: &str, args: &[&str], path: &Path) -> bool {
    std::process::Command::new(program).args(args).arg(path).output().is_ok_and(|output| output.status.success())
}

#[cfg(target_os = "linux")]
#[test]
fn a_really_full_disk_loses_nothing_and_refuses_a_new_start_clearly() {
    let Some(disk) = TinyDisk::mount("size=600k") else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    let database = Database::open(disk.0.path()).unwrap();
    let mut stored = 0;
    let refused = loop {
        match submit_setting(&database, &format!("key{stored}"), &"x".repeat(3000)).recv().unwrap() {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Full(File::Main));
    fs::write(disk.0.path().join("filler"), vec![0; 1 << 20]).unwrap_err();
    let second = disk.0.path().join("second");
    fs::create_dir(&second).unwrap();
    let no_room = Database::open(&second).err().unwrap();
    assert!(matches!(no_room, DatabaseError::Full { .. }) && no_room.hint().contains("free some space"), "{no_room}");

    assert!(run("mount", &["-o", "remount,size=8M"], disk.0.path()));
    assert_eq!(submit_setting(&database, "after", "1").recv().unwrap(), Ok(()));
    drop(database);
    let database = Database::open(disk.0.path()).unwrap();
    assert_eq!(database.notes(), [] as [String; 0]);
    for key in (0..stored).map(|i| format!("key{i}")).chain(["after".to_owned()]) {
        assert!(value(&database, &key).is_some(), "{key} of {stored}");
    }
    drop(database);
}

#[cfg(target_os = "linux")]
#[test]
fn what_needs_no_further_page_is_stored_on_a_full_disk_for_as_long_as_it_is_full() {
    let Some(disk) = TinyDisk::mount("size=4m") else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    let database = Database::open(disk.0.path()).unwrap();
    let set = |round: u32| submit_setting(&database, "number", &format!("{round:05}")).recv().unwrap();
    let fill = || {
        let mut filler = fs::File::options().append(true).create(true).open(disk.0.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &[b'x'; 512]).is_ok() {}
    };
    // Some room in the log, less than it has when it is folded.
    (0..100).for_each(|round| set(round).unwrap());
    fill();
    let ballast = || disk.0.path().join("ballast").exists();
    let mut round = 100;
    while ballast() {
        set(round).unwrap();
        round += 1;
    }
    fill();

    for round in round..round + 2000 {
        assert_eq!(set(round), Ok(()), "round {round}");
    }
    assert!(disk_space(disk.0.path()).is_some_and(|(free, _)| free < 8192), "it has been full all the time");
}

#[test]
fn after_close_changes_are_refused_and_nothing_accepted_is_missing() {
    let (dir, database) = opened();
    let release = hold_writer(&database);
    let accepted = submit_setting(&database, "accepted", "1");
    let closing = std::thread::spawn({
        let database = database.clone();
        move || database.close()
    });
    drop(release);
    closing.join().unwrap();

    assert_eq!(accepted.recv().unwrap(), Ok(()));
    assert_eq!(submit_setting(&database, "late", "1").recv().unwrap(), Err(StoreError::Closed));
    assert_eq!(database.call(File::Main, |_| Ok(())), Err(StoreError::Closed));
    assert_eq!(fs::metadata(dir.path().join("dinrail.db-wal")).map_or(0, |m| m.len()), 0, "folded up");
    drop(database);
    assert_eq!(value(&Database::open(dir.path()).unwrap(), "accepted").as_deref(), Some("1"));
}

#[test]
fn too_much_in_line_holds_submitters_until_the_disk_follows() {
    let (_dir, database) = opened();
    let release = hold_writer(&database);
    let submitted = Arc::new(AtomicU32::new(0));
    let flood = std::thread::spawn({
        let (database, submitted) = (database.clone(), submitted.clone());
        move || {
            for _ in 0..40 {
                database.submit_work(Work::new(Box::new(|_| {})).bytes(1 << 20));
                submitted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    while submitted.load(Ordering::SeqCst) < 8 {
        std::thread::yield_now();
    }
    assert_eq!(submitted.load(Ordering::SeqCst), 8);
    assert!(!database.has_room());
    // What is hurried goes in all the same: this would not return.
    database.submit_now(File::Queue, Box::new(|_| Ok(())), Box::new(|_| {}));
    drop(release);
    flood.join().unwrap();
    database.flush().unwrap();
    assert_eq!(submitted.load(Ordering::SeqCst), 40);
}

#[test]
fn files_are_private_and_opened_as_measured_to_be_sound() {
    let (dir, database) = opened();
    fill(&database, 1);
    #[cfg(unix)]
    for name in ["dinrail.db", "dinrail.db-wal", "queue.db"] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    for file in File::ALL {
        let pragma = |name: &'static str| {
            database
                .call(file, move |tx| tx.pragma_query_value(None, name, |r| r.get::<_, rusqlite::types::Value>(0)))
                .unwrap()
        };
        for (name, expected) in
            [("auto_vacuum", 2), ("synchronous", 2), ("cell_size_check", 1), ("foreign_keys", 1), ("temp_store", 2)]
        {
            assert_eq!(pragma(name), rusqlite::types::Value::Integer(expected), "{file} {name}");
        }
        assert_eq!(pragma("journal_mode"), rusqlite::types::Value::Text("wal".to_owned()));
        assert_eq!(pragma("journal_size_limit"), rusqlite::types::Value::Integer(16 << 20));
    }
    drop(dir);
}

#[test]
fn what_was_committed_is_there_after_a_power_cut() {
    let (dir, database) = opened();
    submit_setting(&database, "committed", "1").recv().unwrap().unwrap();
    let release = hold_writer(&database);
    submit_setting(&database, "not committed", "1");

    // What a power cut leaves: the files as they are now, without a shared-memory index.
    let after = tempfile::tempdir().unwrap();
    for name in ["dinrail.db", "dinrail.db-wal", "queue.db", "queue.db-wal"] {
        fs::copy(dir.path().join(name), after.path().join(name)).unwrap();
    }
    let survivor = Database::open(after.path()).unwrap();

    assert_eq!(survivor.notes(), [] as [String; 0]);
    assert_eq!((value(&survivor, "committed").as_deref(), value(&survivor, "not committed")), (Some("1"), None));
    drop(release);
}

fn overwrite(path: &Path, from: usize, to: usize) {
    let mut bytes = fs::read(path).unwrap();
    let to = to.min(bytes.len());
    bytes[from..to].fill(0xAA);
    fs::write(path, bytes).unwrap();
}

fn names(dir: &TempDir, part: &str) -> Vec<String> {
    let all = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    all.filter(|name| name.contains(part)).collect()
}

#[test]
fn a_damaged_file_is_set_aside_and_what_can_be_read_is_salvaged() {
    let (dir, database) = opened();
    fill(&database, 1000);
    drop(database);
    let path = dir.path().join("dinrail.db");
    let middle = fs::metadata(&path).unwrap().len() as usize * 3 / 4;
    overwrite(&path, middle, middle + 3 * 4096);

    let database = Database::open(dir.path()).unwrap();

    assert_eq!(names(&dir, ".corrupt-").iter().filter(|name| !name.ends_with("-wal")).count(), 1);
    assert_eq!(database.notes().len(), 1);
    assert!(database.notes()[0].contains("dinrail.db was damaged") && database.notes()[0].contains("of setting"));
    let salvaged: i64 =
        database.read(File::Main, |conn| conn.query_row("SELECT count(*) FROM setting", [], |r| r.get(0))).unwrap();
    assert!((500..1000).contains(&salvaged), "{salvaged} of 1000");
    assert_eq!(submit_setting(&database, "after", "1").recv().unwrap(), Ok(()));
    drop(database);
    assert_eq!(Database::open(dir.path()).unwrap().notes(), [] as [String; 0]);
}

#[test]
fn rows_whose_identity_is_lost_are_not_salvaged() {
    let (dir, database) = opened();
    database
        .call(File::Main, |tx| {
            tx.execute_batch(
                "INSERT INTO device (name, is_self) VALUES ('d', 1);
                 INSERT INTO identity (device, module, generation_id, created_us) VALUES (1, 'm', '1', 0);
                 INSERT INTO twin_tags VALUES (1, 2, 2, '{}', '{}', NULL, NULL)",
            )
        })
        .unwrap();
    drop(database);
    let old = Connection::open(dir.path().join("dinrail.db")).unwrap();
    old.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM identity").unwrap();
    drop(old);

    let fresh = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join("dinrail.db"), fresh.path().join("dinrail.db")).unwrap();
    // The last page is damaged, and holds none of these rows.
    let database = {
        let conn = Connection::open(fresh.path().join("dinrail.db")).unwrap();
        conn.execute_batch("INSERT INTO setting VALUES ('big', zeroblob(20000))").unwrap();
        drop(conn);
        let path = fresh.path().join("dinrail.db");
        let len = fs::metadata(&path).unwrap().len() as usize;
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(len - 4096);
        fs::write(&path, bytes).unwrap();
        Database::open(fresh.path()).unwrap()
    };

    assert_eq!(database.notes().len(), 1);
    let count = |table: &'static str| {
        let sql = format!("SELECT count(*) FROM {table}");
        database.read(File::Main, |conn| conn.query_row(&sql, [], |r| r.get::<_, i64>(0))).unwrap()
    };
    assert_eq!((count("device"), count("twin_tags")), (1, 0));
}

#[test]
fn a_file_that_is_no_database_or_cut_off_is_set_aside_and_the_runtime_starts() {
    for (what, damage) in [
        (
            "garbage",
            (|path: &Path| fs::write(path, b"this is no database, whatever its name says".repeat(200)).unwrap())
                as fn(&Path),
        ),
        ("cut off", |path: &Path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2 + 100]).unwrap();
        }),
        ("head overwritten", |path: &Path| overwrite(path, 0, 4096)),
    ] {
        for file in File::ALL {
            let (dir, database) = opened();
            fill(&database, 300);
            drop(database);
            damage(&dir.path().join(file.name()));
            if file == File::Queue {
                fs::write(dir.path().join("queue.db.suspect"), b"").unwrap();
            }

            let database = Database::open(dir.path()).unwrap();

            assert_eq!(database.notes().len(), 1, "{what} {file}");
            assert_eq!(submit_setting(&database, "after", "1").recv().unwrap(), Ok(()), "{what} {file}");
            assert_eq!(names(&dir, "suspect").len(), 0, "{what} {file}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_though_the_other_one_is_is_told() {
    for file in File::ALL {
        let (dir, database) = opened();
        database.call(File::Main, |tx| setting::set(tx, setting::key::SEQUENCE_BOOK, "1")).unwrap();
        assert_eq!(database.notes(), [] as [String; 0], "the first start");
        drop(database);
        for name in names(&dir, file.name()) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }

        let database = Database::open(dir.path()).unwrap();

        assert!(database.notes()[0].starts_with(&format!("{file} was not there")), "{:?}", database.notes());
        drop(database);
        assert_eq!(Database::open(dir.path()).unwrap().notes(), [] as [String; 0], "once");
    }
}

#[test]
fn damage_seen_in_the_queue_has_it_checked_at_the_next_start() {
    let (dir, database) = opened();
    let rows: Vec<StoredMessage> = (0..2000).map(|i| message("$upstream", i)).collect();
    database.call(File::Queue, move |tx| queue::enqueue(tx, &rows, ClockMark::default())).unwrap();
    drop(database);
    let path = dir.path().join("queue.db");
    let middle = fs::metadata(&path).unwrap().len() as usize / 2 / 4096 * 4096;
    overwrite(&path, middle, middle + 5 * 4096);

    let database = Database::open(dir.path()).unwrap();
    assert_eq!(database.notes(), [] as [String; 0], "not looked at: it must not hold up the start");
    let mut failed = false;
    let mut after = 0;
    while let Ok(batch) =
        database.read(File::Queue, |conn| queue::read_batch(conn, "$upstream", 0, after, 100)).map_err(|e| {
            failed = matches!(e, StoreError::Corrupt { file: File::Queue, .. });
        })
    {
        let Some(last) = batch.last() else { break };
        after = last.id;
    }
    assert!(failed);
    drop(database);

    let database = Database::open(dir.path()).unwrap();
    assert_eq!(database.notes().len(), 1);
    let left: u64 = database.read(File::Queue, queue::counts).unwrap().iter().map(|c| c.messages).sum();
    assert!((1000..2000).contains(&left), "{left} of 2000 salvaged");
    let lost: u64 = database.read(File::Queue, loss::all).unwrap().iter().map(|line| line.row.count).sum();
    assert!(lost > 0 && left + lost <= 2000, "{left} salvaged, {lost} in the ledger");
    assert!(database.notes()[0].contains(&format!("{lost} messages are lost")), "{:?}", database.notes());
    let next =
        database.call(File::Queue, |tx| queue::enqueue(tx, &[message("$upstream", 1)], ClockMark::default())).unwrap();
    assert!(next > 2000, "an id is used twice: {next}");
}

#[test]
fn damage_of_the_queue_is_found_beside_whoever_writes() {
    let (dir, database) = opened();
    let rows: Vec<StoredMessage> = (0..2000).map(|i| message("$upstream", i)).collect();
    database.call(File::Queue, move |tx| queue::enqueue(tx, &rows, ClockMark::default())).unwrap();
    database.look_for_damage();
    assert!(names(&dir, "suspect").is_empty());
    drop(database);
    let path = dir.path().join("queue.db");
    let middle = fs::metadata(&path).unwrap().len() as usize / 2 / 4096 * 4096;
    overwrite(&path, middle, middle + 5 * 4096);

    let database = Database::open(dir.path()).unwrap();
    let other = database.0.looking.lock().unwrap();
    database.look_for_damage();
    assert!(names(&dir, "suspect").is_empty(), "never two at once");
    drop(other);
    database.look_for_damage();

    assert_eq!(names(&dir, "suspect").len(), 1);
    drop(database);
    assert_eq!(Database::open(dir.path()).unwrap().notes().len(), 1, "repaired by the next start");
}

#[cfg(unix)]
#[test]
fn what_was_deleted_or_replaced_is_not_written_until_it_is_back() {
    for (name, is_log) in [("dinrail.db", false), ("dinrail.db-wal", true)] {
        let (dir, database) = opened();
        submit_setting(&database, "before", "1").recv().unwrap().unwrap();
        let (path, aside) = (dir.path().join(name), dir.path().join("aside"));
        let gone = StoreError::Gone { file: File::Main, is_log };

        fs::rename(&path, &aside).unwrap();
        assert_eq!(submit_setting(&database, "deleted", "1").recv().unwrap(), Err(gone.clone()), "{name}");
        fs::write(&path, b"another").unwrap();
        assert_eq!(submit_setting(&database, "replaced", "1").recv().unwrap(), Err(gone.clone()), "{name}");
        assert!(database.troubles()[0].starts_with(name), "{:?}", database.troubles());
        // The other file goes on.
        database.call(File::Queue, |tx| queue::enqueue(tx, &[message("e", 1)], ClockMark::default())).unwrap();

        fs::rename(&aside, &path).unwrap();
        assert_eq!(submit_setting(&database, "back", "1").recv().unwrap(), Ok(()), "{name}");
        assert_eq!(database.troubles(), [] as [String; 0]);
        drop(database);
        let database = Database::open(dir.path()).unwrap();
        let found = ["before", "deleted", "replaced", "back"].map(|key| value(&database, key).is_some());
        assert_eq!(found, [true, false, false, true], "{name}");
    }
}

#[test]
fn a_folder_that_cannot_be_used_is_named_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");

    let refused = Database::open(&missing).err().unwrap();

    assert!(refused.to_string().contains("missing") && refused.to_string().contains("dinrail.db"), "{refused}");
    assert!(refused.hint().contains("writable folder"), "{}", refused.hint());
}

pub(super) fn message(endpoint: &str, sequence: u64) -> StoredMessage {
    StoredMessage {
        endpoint: endpoint.into(),
        priority: 0,
        ttl_secs: None,
        sender: "/devices/d/modules/m".into(),
        output: "out".into(),
        epoch: 1,
        sequence,
        created_us: 1_000,
        meta: vec![1, 2],
        body: vec![7; 256],
    }
}
