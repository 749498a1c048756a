//! What is promised of the ends of deliveries, and of what is sent to the disk, with a real database.

use std::num::NonZeroI64;
use std::sync::Arc;
use std::sync::mpsc::channel;

use tempfile::TempDir;

use super::*;
use crate::database::Database;
use crate::database::tables::queue::{ReadLimits, ReadMessage};
use crate::queue::backlog::InLine;
use crate::queue::budget::Limits;
use crate::queue::losses;
use crate::queue::store_clock::StoreClock;

const IN: &str = "/devices/d/modules/m/inputs/in";
const UP: &str = "$upstream";

struct Store {
    _folder: TempDir,
    database: Database,
    disk: Disk,
    inbox: Arc<Inbox>,
}

impl Store {
    fn new() -> Store {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).unwrap();
        let limits = Limits { total: 1 << 30, ..Limits::default() };
        let disk = Disk::open(database.clone(), limits, StoreClock::open(&database, None).unwrap()).unwrap();
        Store { _folder: folder, database, disk, inbox: Arc::default() }
    }

    fn line(&self, name: &str) -> Arc<Settling> {
        self.disk.settling(&format!("/devices/d/modules/{name}").into(), &self.inbox)
    }

    /// A message on disk.
    fn put(&self, endpoint: &str, sequence: u64) -> RowBehind {
        let (say, heard) = channel();
        self.disk.enqueue(vec![message(endpoint, sequence)], move |end| drop(say.send(end))).unwrap();
        let id = NonZeroI64::new(heard.recv().unwrap().unwrap()).unwrap();
        RowBehind { id, endpoint: endpoint.into(), bytes: 8 }
    }

    fn rows(&self, endpoint: &str) -> Vec<ReadMessage> {
        self.database.flush().unwrap();
        let limits = ReadLimits { messages: 1000, bytes: u64::MAX };
        self.disk.read_after(&endpoint.into(), 0, 0, limits).unwrap()
    }

    fn sequences(&self, endpoint: &str) -> Vec<u64> {
        self.rows(endpoint).iter().map(|row| row.message.sequence).collect()
    }

    fn sql(&self, sql: &'static str) {
        self.database.call(File::Queue, move |tx| tx.execute_batch(sql)).unwrap();
    }

    fn fail_inserts(&self) {
        self.sql("CREATE TRIGGER no_room BEFORE INSERT ON message BEGIN SELECT raise(ABORT, 'no room'); END");
    }

    fn mend_inserts(&self) {
        self.sql("DROP TRIGGER no_room");
    }

    /// Tries again until a line is through.
    fn retry(&self, line: &Arc<Settling>) {
        for _ in 0..100 {
            self.disk.retry();
            self.database.flush().unwrap();
            if !line.is_paused() {
                return;
            }
        }
        panic!("the line does not go on");
    }
}

fn message(endpoint: &str, sequence: u64) -> StoredMessage {
    StoredMessage {
        endpoint: endpoint.into(),
        priority: 0,
        ttl_secs: None,
        sender: "/devices/d/modules/s".into(),
        output: "out".into(),
        epoch: 1,
        sequence,
        created_us: 1_000,
        meta: Vec::new(),
        body: sequence.to_le_bytes().to_vec(),
    }
}

fn handled(row: Option<RowBehind>, staged: Vec<StoredMessage>) -> Settlement {
    Settlement { row, end: End::Handled, staged, line: InLine::default(), before: None }
}

#[test]
fn a_handled_message_goes_with_the_coming_of_what_was_staged_or_not_at_all() {
    let store = Store::new();
    let line = store.line("m");
    let row = store.put(IN, 1);
    store.fail_inserts();

    line.settle(handled(Some(row), vec![message(UP, 7)]));

    assert_eq!((store.sequences(IN), store.sequences(UP)), (vec![1], vec![]));
    assert!(line.is_paused());
    assert!(store.disk.take_unstored().is_empty(), "the row makes it anew");

    let row = RowBehind { id: NonZeroI64::new(store.rows(IN)[0].id).unwrap(), endpoint: IN.into(), bytes: 8 };
    line.settle(handled(Some(row), vec![message(UP, 7)]));
    store.mend_inserts();
    store.retry(&line);
    assert_eq!((store.sequences(IN), store.sequences(UP)), (vec![], vec![7]));
    assert_eq!(store.disk.stored().0, 1);
}

#[test]
fn message_that_expired_goes_with_its_line_in_the_ledger_and_is_counted_once() {
    let store = Store::new();
    let line = store.line("m");
    let expired = |row: &RowBehind, sequence| {
        let end = End::Expired(losses::line("/devices/d/modules/s", "out", IN, losses::EXPIRED, (1, sequence)));
        Settlement { row: Some(row.clone()), end, staged: Vec::new(), line: InLine::default(), before: None }
    };
    let ledger = || -> Vec<(u64, u64, u64)> {
        store.database.flush().unwrap();
        let lines = store.disk.losses().unwrap();
        lines.iter().map(|line| (line.row.first.1, line.row.last.1, line.row.count)).collect()
    };
    let rows: Vec<RowBehind> = (1..=3).map(|sequence| store.put(IN, sequence)).collect();
    store.sql("CREATE TRIGGER no_ledger BEFORE INSERT ON losses BEGIN SELECT raise(ABORT, 'no room'); END");

    rows.iter().zip(1..).for_each(|(row, sequence)| line.settle(expired(row, sequence)));
    assert_eq!((ledger(), store.sequences(IN)), (vec![], vec![1, 2, 3]), "neither without the other");

    store.sql("DROP TRIGGER no_ledger");
    store.retry(&line);
    assert_eq!((ledger(), store.sequences(IN)), (vec![(1, 3, 3)], vec![]));

    line.settle(expired(&rows[0], 1));
    assert_eq!(ledger(), [(1, 3, 3)], "somebody else had removed it");
    assert_eq!(store.disk.stored().0, 0);
}

#[test]
fn what_failed_is_tried_again_in_order_and_nothing_is_skipped_or_overtaken() {
    let store = Store::new();
    let line = store.line("m");
    line.settle(handled(None, vec![message(UP, 0)]));
    store.database.flush().unwrap();
    store.fail_inserts();
    for sequence in 1..=MAX_UNCOMMITTED as u64 {
        line.settle(handled(None, vec![message(UP, sequence)]));
        if sequence == 5 {
            store.database.flush().unwrap();
        }
    }
    store.disk.retry();
    store.database.flush().unwrap();
    assert!(!line.has_room() && line.block());
    let refused =
        store.disk.enqueue(vec![StoredMessage { sender: "/devices/d/modules/m".into(), ..message(UP, 99) }], |_| {
            panic!("it would overtake")
        });
    assert!(refused.is_err());

    store.mend_inserts();
    store.retry(&line);

    assert_eq!(store.sequences(UP), (0..=MAX_UNCOMMITTED as u64).collect::<Vec<_>>());
    assert!(line.has_room());
    assert_eq!(store.disk.stored().0, MAX_UNCOMMITTED as u64 + 1);
}

#[test]
fn a_line_that_waits_for_room_does_not_hold_up_one_that_only_removes() {
    let store = Store::new();
    let (stuck, free) = (store.line("stuck"), store.line("free"));
    let row = store.put(IN, 1);
    store.fail_inserts();
    stuck.settle(handled(None, vec![message(UP, 1)]));
    store.database.flush().unwrap();

    free.settle(handled(Some(row), Vec::new()));

    assert_eq!(store.sequences(IN), Vec::<u64>::new());
    assert!(stuck.is_paused() && !free.is_paused());
    let unstored: Vec<u64> = store.disk.take_unstored().iter().map(|row| row.sequence).collect();
    assert_eq!(unstored, [1], "nothing makes this one anew");
}

#[test]
fn a_parked_message_keeps_its_reason_and_tries_whether_it_had_a_row_or_not() {
    let store = Store::new();
    let line = store.line("m");
    let row = store.put(IN, 1);
    let parked = |sequence| losses::line("/devices/d/modules/s", "out", IN, losses::PARKED, (1, sequence));
    let parking = |reason: &str| Parking { reason: reason.into(), at_us: 5, tries: Tries { attempts: 9, faults: 5 } };
    line.settle(Settlement { end: End::Parked(parking("first"), parked(1), None), ..handled(Some(row), Vec::new()) });
    line.settle(Settlement {
        end: End::Parked(parking("second"), parked(2), Some(message(IN, 2))),
        ..handled(None, Vec::new())
    });

    assert_eq!(store.sequences(IN), Vec::<u64>::new(), "it is not delivered again");
    let kept = store
        .database
        .read(File::Queue, |conn| {
            let sql = "SELECT sequence, reason, parked_us, attempts, faults FROM message WHERE state = 1 ORDER BY id";
            let row = |row: &rusqlite::Row<'_>| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
            };
            conn.prepare(sql)?.query_map([], row)?.collect::<Result<Vec<_>, _>>()
        })
        .unwrap();
    assert_eq!(kept, [(1, "first".into(), 5, 9), (2, "second".into(), 5, 9)]);
    assert_eq!(store.disk.stored(), (0, 2, 16));
    let ledger = store.disk.losses().unwrap();
    let ledger: Vec<_> = ledger.iter().map(|line| (&*line.row.reason, line.row.first.1, line.row.count)).collect();
    assert_eq!(ledger, [("parked", 1, 2)], "no kill comes between");
}

#[test]
fn deliveries_of_a_row_are_counted_over_a_restart() {
    let store = Store::new();
    let row = store.put(IN, 1);
    let tries = Tries { attempts: 4, faults: 1 };
    store.line("m").settle(Settlement { end: End::Tried(tries), ..handled(Some(row.clone()), Vec::new()) });
    store.database.flush().unwrap();

    let limits = Limits { total: 1 << 30, ..Limits::default() };
    let clock = StoreClock::open(&store.database, None).unwrap();
    let disk = Disk::open(store.database.clone(), limits, clock).unwrap();
    assert_eq!(disk.tries(row.id.get()), Tries::default());
    let found = disk.read_after(&IN.into(), 0, 0, ReadLimits { messages: 9, bytes: u64::MAX }).unwrap();

    assert_eq!((found[0].tries, disk.tries(row.id.get())), (tries, tries));
}

#[test]
fn what_was_reported_is_committed_before_and_begun_again_where_it_failed() {
    let store = Store::new();
    let line = store.line("m");
    let row = store.put(IN, 1);
    let (say, heard) = channel();
    let (database, count) = (store.database.clone(), Arc::new(AtomicUsize::new(0)));
    let report: Before = Box::new(move |job, done| {
        let is_first = count.fetch_add(1, Ordering::SeqCst) == 0;
        say.send(is_first).unwrap();
        let main = move |_: &rusqlite::Connection| {
            if is_first { Err(rusqlite::Error::QueryReturnedNoRows) } else { Ok(()) }
        };
        database.submit_work(Work::new(done).job(File::Main, Box::new(main)).job(File::Queue, job));
        true
    });
    line.settle(Settlement { before: Some(report), ..handled(Some(row), vec![message(UP, 1)]) });
    // What comes later waits for it.
    line.settle(handled(None, vec![message(UP, 2)]));

    assert_eq!((store.sequences(IN), store.sequences(UP)), (vec![1], vec![]));
    assert!(line.is_paused());
    store.retry(&line);

    assert_eq!((store.sequences(IN), store.sequences(UP)), (vec![], vec![1, 2]));
    assert_eq!(heard.try_iter().collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_report_that_is_refused_for_good_holds_up_nothing() {
    let store = Store::new();
    let line = store.line("m");
    line.settle(Settlement { before: Some(Box::new(|_, _| false)), ..handled(None, vec![message(UP, 1)]) });
    line.settle(handled(None, vec![message(UP, 2)]));
    assert_eq!(store.sequences(UP), [1, 2]);
}

#[test]
fn rows_are_announced_in_the_order_of_their_ids_before_their_senders_hear() {
    let store = Store::new();
    let announced = Arc::new(Mutex::new(Vec::new()));
    let noted = announced.clone();
    store.disk.on_arrival(move |rows, first| {
        lock(&noted).extend(rows.iter().zip(first..).map(|(row, id)| (id, row.sequence)));
    });
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (disk, announced) = (store.disk.clone(), announced.clone());
            scope.spawn(move || {
                for n in 0..50 {
                    let (sequence, seen, (say, heard)) = (thread * 1000 + n, announced.clone(), channel());
                    let rows = vec![message(UP, sequence), message(IN, sequence)];
                    let done = move |end: Result<i64, StoreError>| {
                        say.send(lock(&seen).contains(&(end.unwrap(), sequence))).unwrap();
                    };
                    disk.enqueue(rows, done).unwrap();
                    assert!(heard.recv().unwrap(), "announced before");
                }
            });
        }
    });
    let announced = lock(&announced);
    assert_eq!(announced.len(), 400);
    assert!(announced.is_sorted());
    let stored: Vec<(i64, u64)> = store.rows(UP).iter().map(|row| (row.id, row.message.sequence)).collect();
    assert!(stored.iter().all(|row| announced.contains(row)));
    assert_eq!(store.disk.stored().0, 400);
}

#[test]
fn what_is_read_ends_with_the_message_that_reaches_the_bytes() {
    let store = Store::new();
    let ids: Vec<i64> = (0..30).map(|sequence| store.put(IN, sequence).id.get()).collect();
    let read = |after, bytes| {
        let limits = ReadLimits { messages: 20, bytes };
        let found = store.disk.read_after(&IN.into(), 0, after, limits).unwrap();
        found.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 17), ids[..3]);
    assert_eq!(read(ids[2], u64::MAX), ids[3..23]);
    assert_eq!(read(ids[22], 1), ids[23..24]);
}
