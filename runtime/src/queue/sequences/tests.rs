//! No number is given out twice, and what an end without a word leaves is told.

use super::*;
use crate::database::tables::loss;

struct House {
    folder: tempfile::TempDir,
    lines: Vec<LossRow>,
    book: Book,
    database: Database,
}

fn source() -> Arc<Source> {
    Arc::new(Source { identity: "/devices/d/modules/m".into(), output: "out".into(), epoch: 1 })
}

impl House {
    fn new() -> House {
        House::open(tempfile::tempdir().unwrap())
    }

    fn open(folder: tempfile::TempDir) -> House {
        let database = Database::open(folder.path()).unwrap();
        let (book, lines) = Book::open(&database, folder.path(), "/devices/d/modules/$edgeHub").unwrap();
        House { folder, lines, book, database }
    }

    /// As a start after whatever end there was.
    fn again(self) -> House {
        self.database.close();
        House::open(self.folder)
    }

    fn take(&self, sequence: &mut Sequence, count: u64) -> u64 {
        (0..count).map(|_| sequence.take(&self.book, &source()).unwrap()).last().unwrap()
    }

    fn ranges(&self) -> Vec<(&str, u64, u64, u64)> {
        self.lines.iter().map(|line| (&*line.reason, line.first.1, line.last.1, line.count)).collect()
    }
}

#[test]
fn numbers_go_on_without_a_gap_after_an_orderly_end() {
    let mut house = House::new();
    let mut expected = 0;
    for _ in 0..3 {
        let mut sequence = Sequence::default();
        for _ in 0..1000 {
            expected += 1;
            assert_eq!(sequence.take(&house.book, &source()).unwrap(), expected);
        }
        assert_eq!(sequence.close(), Some(expected));
        assert!(sequence.take(&house.book, &source()).is_err(), "nothing is sent any more");
        house.book.close(vec![(source(), expected)]);
        let epoch = house.book.epoch();
        house = house.again();
        assert_eq!((house.book.epoch(), house.ranges()), (epoch, vec![]));
    }
}

#[test]
fn after_an_end_without_a_word_numbers_go_on_behind_the_block_and_the_ledger_has_what_lies_between() {
    let house = House::new();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    let last = house.take(&mut sequence, 100);
    let noting = house.book.noting(vec![(source(), 40)]).unwrap();
    house.database.submit_now(File::Queue, noting, Box::new(|_| {}));
    let house = house.again();

    let [(reason, first, end, count)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert_eq!((reason, first, count), ("runtimeDied", 41, end - 40));
    assert!(house.lines[0].is_upper_bound && end >= last);
    let mut sequence = Sequence::default();
    assert_eq!(house.take(&mut sequence, 1), end + 1);

    // Nothing of that run was in memory, and nothing is lost.
    let house = house.again();
    let [("notAcknowledged", first, _, 0)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert_eq!(first, end + 1);
    let stored = house.database.read(File::Queue, loss::all).unwrap();
    assert_eq!(stored.len(), 2);
    assert_eq!(house.again().ranges(), [], "it is told once");
}

#[test]
fn a_route_into_memory_that_comes_later_is_in_the_book_before_the_first_message_is_in_memory() {
    let house = House::new();
    let mut sequence = Sequence::default();
    house.take(&mut sequence, 10);
    sequence.goes_to_memory();
    house.take(&mut sequence, 1);
    assert_eq!(house.again().ranges()[0].0, "runtimeDied");
}

#[test]
fn a_lost_book_begins_another_epoch_and_the_ledger_says_so() {
    let house = House::new();
    let mut sequence = Sequence::default();
    house.take(&mut sequence, 10);
    let epoch = house.book.epoch();
    house.database.close();
    std::fs::remove_file(house.folder.path().join("queue.db")).unwrap();
    let house = House::open(house.folder);

    assert_eq!(house.book.epoch(), epoch + 1);
    assert_eq!(house.ranges(), [("bookLost", 0, 0, 0)]);
    assert_eq!((house.lines[0].first.0, house.lines[0].last.0), (epoch, epoch + 1));
    assert_eq!(house.take(&mut Sequence::default(), 1), 1);
    let house = house.again();
    assert_eq!(house.book.epoch(), epoch + 1, "once");
}

const NO_UPDATE: &str = "CREATE TRIGGER no BEFORE UPDATE ON sequence BEGIN SELECT raise(ABORT, 'no'); END";
const NO_INSERT: &str = "CREATE TRIGGER no BEFORE INSERT ON sequence BEGIN SELECT raise(ABORT, 'no'); END";

impl House {
    /// From now on the book cannot be written so.
    fn fail(&self, trigger: &'static str) {
        self.database.call(File::Queue, move |tx| tx.execute_batch(trigger)).unwrap();
    }

    /// The book can be written again, after whatever end there was.
    fn heal(self) -> House {
        self.database.call(File::Queue, |tx| tx.execute_batch("DROP TRIGGER no")).unwrap();
        self.again()
    }

    /// The spare file is lost too.
    fn without_spare() -> House {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sequences.spare")).unwrap();
        House::open(folder)
    }
}

#[test]
fn blocks_that_the_book_does_not_take_are_in_the_spare_file_and_the_ledger_has_all_of_them() {
    let house = House::new();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    house.take(&mut sequence, 10);
    let epoch = house.book.epoch();
    house.fail(NO_UPDATE);
    assert_eq!(house.take(&mut sequence, 100_000), 100_010, "a sender goes on");

    let house = house.heal();
    assert_eq!(house.book.epoch(), epoch);
    let [("runtimeDied", 1, last, count)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert!(last >= 100_010 && count == last, "{:?}", house.lines);
    assert_eq!(house.take(&mut Sequence::default(), 1), last + 1, "no number is given twice");
    let house = house.again();
    assert!(house.ranges().iter().all(|(_, first, ..)| *first > last), "it is told once: {:?}", house.lines);
}

#[test]
fn an_output_that_is_new_to_the_book_is_in_the_spare_file_by_its_name() {
    let house = House::new();
    house.fail(NO_INSERT);
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    assert_eq!(house.take(&mut sequence, 5), 5);

    let house = house.heal();
    let [("runtimeDied", 1, last, _)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert_eq!((&*house.lines[0].sender, &*house.lines[0].output), (&*source().identity, &*source().output));
    assert!(last >= 5);
}

#[test]
fn nothing_of_the_spare_file_is_left_by_an_orderly_end() {
    let house = House::new();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    house.take(&mut sequence, 10);
    house.fail(NO_UPDATE);
    let last = house.take(&mut sequence, 1000);
    house.database.call(File::Queue, |tx| tx.execute_batch("DROP TRIGGER no")).unwrap();
    house.book.close(vec![(source(), sequence.close().unwrap())]);
    let house = house.again();
    assert_eq!(house.ranges(), []);
    assert_eq!(house.take(&mut Sequence::default(), 1), last + 1);
}

#[test]
fn numbers_that_no_file_knows_of_are_never_given_out_again() {
    let house = House::without_spare();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    house.take(&mut sequence, 10);
    let epoch = house.book.epoch();
    house.fail(NO_UPDATE);
    assert_eq!(house.take(&mut sequence, 100_000), 100_010, "a sender goes on");

    let house = house.again();
    assert_eq!(house.book.epoch(), epoch + 1);
    assert_eq!(house.ranges().iter().map(|line| line.0).collect::<Vec<_>>(), ["runtimeDied", "bookLost"]);
    assert_eq!(house.again().book.epoch(), epoch + 1);
}

#[cfg(unix)]
#[test]
fn numbers_are_not_given_out_again_where_the_disk_takes_nothing_at_all_when_the_runtime_dies() {
    let house = House::without_spare();
    // As on a file system that has become read-only: nothing can be made beside the book.
    let beside = house.folder.path().join("sequences.behind");
    std::os::unix::fs::symlink(house.folder.path().join("nowhere").join("at all"), &beside).unwrap();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    house.take(&mut sequence, 10);
    let epoch = house.book.epoch();
    house.fail(NO_UPDATE);
    house.take(&mut sequence, 100_000);
    std::fs::remove_file(beside).unwrap();

    let house = house.heal();
    assert_eq!(house.book.epoch(), epoch + 1);
    assert_eq!(house.again().book.epoch(), epoch + 1, "once");
}

#[test]
fn output_whose_line_is_not_in_the_book_is_opened_anew_with_its_next_block() {
    let house = House::new();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    house.take(&mut sequence, 10);
    let epoch = house.book.epoch();
    house.database.call(File::Queue, |tx| tx.execute("DELETE FROM sequence", [])).unwrap();
    assert_eq!(house.take(&mut sequence, 100_000), 100_010);

    let house = house.again();
    assert_eq!(house.book.epoch(), epoch);
    let [("runtimeDied", 1, last, _)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert!(last >= 100_010, "{last}");
    assert_eq!(house.take(&mut Sequence::default(), 1), last + 1, "no number is given twice");
}

#[test]
fn output_that_could_not_be_opened_is_opened_once_the_disk_takes_it() {
    let house = House::without_spare();
    let mut sequence = Sequence::default();
    house.take(&mut sequence, 10);
    house.book.close(vec![(source(), 10)]);
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    house.fail(NO_INSERT);
    assert_eq!(house.take(&mut sequence, 5), 15, "it goes on from what can be read");
    house.database.call(File::Queue, |tx| tx.execute_batch("DROP TRIGGER no")).unwrap();
    let last = house.take(&mut sequence, 10_000);

    house.database.flush().unwrap();
    let open = house.database.read(File::Queue, sequence::open_ones).unwrap();
    let [sequence::Open { settled: 10, reserved, has_memory: true, .. }] = open[..] else { panic!("{open:?}") };
    assert!(reserved >= last, "{reserved} of {last}");
}

#[test]
fn who_must_not_wait_is_told_and_gets_its_number_soon() {
    let house = House::new();
    let mut sequence = Sequence::default();
    assert_eq!(sequence.take_now(&house.book, &source()), None);
    house.database.flush().unwrap();
    assert_eq!(sequence.take_now(&house.book, &source()), Some(1));
}

#[test]
fn output_that_rests_claims_little_after_an_end_without_a_word_and_goes_on_without_a_gap() {
    let house = House::new();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    let last = house.take(&mut sequence, 1_000_000);
    assert!(sequence.rest(&source()).is_none(), "it was busy since the last look, if there was any");
    let rest = sequence.rest(&source()).unwrap();
    assert!(sequence.rest(&source()).is_none(), "once");
    // Before the disk knows, for then it asks for a block by the rate of these moments.
    assert_eq!(house.take(&mut sequence, 10), last + 10, "it may go on at any time");
    house.book.shrink(vec![rest]);
    house.database.flush().unwrap();

    let house = house.again();
    let [("runtimeDied", 1, end, _)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert!((last + 10..last + 1000).contains(&end), "{last} {end}");

    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    let last = house.take(&mut sequence, 1_000_000);
    sequence.rest(&source());
    house.book.shrink(sequence.rest(&source()).into_iter().collect());
    assert_eq!(house.take(&mut sequence, 1_000_000), last + 1_000_000, "another block follows the one that was shrunk");
    let house = house.again();
    let [("runtimeDied", _, end, _)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert!(end >= last + 1_000_000, "{end}");
}

#[test]
fn block_stays_known_where_the_disk_does_not_take_that_it_is_shrunk() {
    let house = House::new();
    let mut sequence = Sequence::default();
    sequence.goes_to_memory();
    house.take(&mut sequence, 1_000_000);
    sequence.rest(&source());
    let rest = sequence.rest(&source()).unwrap();
    house.fail(NO_UPDATE);
    house.book.shrink(vec![rest]);
    let last = house.take(&mut sequence, 100_000);
    let house = house.heal();
    let [("runtimeDied", 1, end, _)] = house.ranges()[..] else { panic!("{:?}", house.lines) };
    assert!(end >= last, "{end}");
}

#[test]
fn nothing_is_opened_at_the_end_so_that_the_next_start_finds_nothing_open() {
    let house = House::new();
    house.book.end();
    assert!(Sequence::default().take(&house.book, &source()).is_err());
    assert_eq!(house.again().ranges(), []);
}

#[test]
fn blocks_last_for_seconds_at_any_rate_and_waste_nothing_at_a_low_one() {
    let second = Duration::from_secs(1);
    let after = |rate: u64| (0..20).fold(FIRST_BLOCK, |size, _| block_size(size, rate.max(1), second));
    assert_eq!(after(10_000_000), 200_000_000);
    assert_eq!(after(1000), 20_000);
    assert_eq!(block_size(FIRST_BLOCK, 1, Duration::from_secs(3600)), MIN_BLOCK);
    assert_eq!(block_size(FIRST_BLOCK, 128, Duration::ZERO), FIRST_BLOCK * MAX_GROWTH, "not at once");
}

#[test]
fn ten_thousand_closed_outputs_are_not_looked_at_by_a_start() {
    let house = House::new();
    let outputs = (0..10_000).map(|at| {
        let output: Arc<str> = at.to_string().into();
        (Arc::new(Source { identity: "/devices/d/modules/m".into(), output, epoch: 1 }), 7)
    });
    house.book.close(outputs.collect());
    let house = house.again();
    let plan = |conn: &rusqlite::Connection| {
        conn.query_row("EXPLAIN QUERY PLAN SELECT 1 FROM sequence WHERE is_open", [], |row| row.get::<_, String>(3))
    };
    let plan = house.database.read(File::Queue, plan).unwrap();
    assert!(plan.contains("sequence_open"), "{plan}");
    let tenth = Arc::new(Source { identity: "/devices/d/modules/m".into(), output: "9999".into(), epoch: 1 });
    assert_eq!(Sequence::default().take(&house.book, &tenth).unwrap(), 8);
}

#[test]
fn how_fast_numbers_are_needed_is_measured_from_where_a_run_begins() {
    let house = House::new();
    house.take(&mut Sequence::default(), 5000);
    let house = house.again();
    let begins = house.ranges()[0].2;
    assert!(begins >= 5000);

    let mut sequence = Sequence::default();
    assert_eq!(house.take(&mut sequence, 1), begins + 1);
    assert_eq!(lock(&sequence.block.as_ref().unwrap().state).asked.1, begins, "not from 1");
}
