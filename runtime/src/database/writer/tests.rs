//! What is promised of those who wait for their change and make it themselves.

use std::sync::mpsc::{Sender, channel};
use std::thread::{ThreadId, current};
use std::time::Duration;

use crate::database::tests::opened;
use crate::database::{Database, File, StoreError, Work};

/// As long as a commit may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Puts a row in line; `say` hears who made it, and what a change from the completion is told.
fn put(database: &Database, n: i64, is_attended: bool, say: &Sender<(ThreadId, Option<StoreError>)>) {
    let (own, say) = (database.clone(), say.clone());
    let completion = move |outcome: Result<(), StoreError>| {
        outcome.unwrap();
        let _ = say.send((current().id(), own.call(File::Main, |_| Ok(())).err()));
    };
    let job = move |tx: &rusqlite::Connection| tx.execute("INSERT INTO seen (n) VALUES (?1)", [n]).map(drop);
    let work = Work::new(Box::new(completion)).job(File::Queue, Box::new(job));
    database.submit_work(if is_attended { work.attended() } else { work });
    if is_attended {
        database.attend();
    }
}

fn seen(database: &Database) -> Vec<i64> {
    database
        .read(File::Queue, |conn| {
            conn.prepare("SELECT n FROM seen ORDER BY rowid")?.query_map([], |row| row.get(0))?.collect()
        })
        .unwrap()
}

fn with_table() -> (tempfile::TempDir, Database) {
    let (dir, database) = opened();
    database.call(File::Queue, |tx| tx.execute_batch("CREATE TABLE seen (n INTEGER)")).unwrap();
    (dir, database)
}

#[test]
fn who_waits_writes_where_nobody_else_does_and_is_the_writer_then() {
    let (_dir, database) = with_table();
    let (say, heard) = channel();

    // The writer's thread may still be about from the change before.
    let own = (0..10_000).find(|n| {
        put(&database, *n, true, &say);
        let (thread, refused) = heard.recv_timeout(SOON).unwrap();
        assert_eq!(refused, Some(StoreError::OnWriter), "whoever writes must not wait for the writer");
        thread == current().id()
    });

    assert!(own.is_some());
    assert_eq!(seen(&database).len() as i64, own.unwrap() + 1);
    // And no longer.
    database.call(File::Main, |_| Ok(())).unwrap();
}

#[test]
fn changes_of_many_that_wait_and_of_others_that_do_not_are_all_made_in_order() {
    const EACH: i64 = 300;
    let (_dir, database) = with_table();

    std::thread::scope(|scope| {
        for of in 0..6 {
            let database = &database;
            scope.spawn(move || {
                let (say, heard) = channel();
                for n in 0..EACH {
                    put(database, of * EACH + n, of > 0, &say);
                    heard.recv_timeout(SOON).expect("nobody makes it");
                }
            });
        }
    });

    let seen = seen(&database);
    assert_eq!(seen.len() as i64, 6 * EACH);
    for of in 0..6 {
        let own = seen.iter().copied().filter(|n| n / EACH == of);
        assert!(own.eq(of * EACH..(of + 1) * EACH), "in the order of submission");
    }
}
