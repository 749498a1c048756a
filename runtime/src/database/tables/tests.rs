use std::sync::Arc;

use super::ids::Ids;
use super::loss::{self, LossRow};
use super::queue::{self, ClockMark, Endpoints, StoredMessage};
use super::{deployment, image, instance, setting};
use crate::database::File;
use crate::database::tests::{message, opened};

#[test]
fn messages_come_back_per_endpoint_and_priority_in_order_and_are_counted() {
    let (_dir, database) = opened();
    let other = StoredMessage { priority: 3, ttl_secs: Some(60), ..message("b/in", 9) };
    let rows = vec![message("$upstream", 1), other.clone(), message("$upstream", 2), message("$upstream", 3)];
    let mark = database.call(File::Queue, |tx| queue::open_boot(tx, "boot-1", 5)).unwrap();
    let mark = ClockMark { boot: Some(mark), monotonic_us: Some(77), ..ClockMark::default() };
    database.call(File::Queue, move |tx| queue::enqueue(tx, &rows, mark)).unwrap();

    let read = |endpoint: &str, priority, after, limit| {
        database.read(File::Queue, |conn| queue::read_batch(conn, endpoint, priority, after, limit)).unwrap()
    };
    let first = read("$upstream", 0, 0, 2);
    let rest = read("$upstream", 0, first[1].id, 10);
    assert_eq!(first.iter().chain(&rest).map(|m| m.message.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(first[0].message, message("$upstream", 1));
    let expiring = &read("b/in", 3, 0, 10)[0];
    assert_eq!((&expiring.message, expiring.ttl_from_us), (&other, Some(1_000)));
    assert_eq!(read("b/in", 0, 0, 10), []);

    let (delete, park) = (first[0].id, first[1].id);
    database
        .call(File::Queue, move |tx| {
            assert_eq!(queue::delete(tx, &[delete, 999])?, 1);
            let parking = queue::Parking { reason: "poison".to_owned(), at_us: 7, tries: queue::Tries::default() };
            assert!(queue::park(tx, park, &parking)?);
            assert!(!queue::park(tx, park, &parking)?, "it is set aside already");
            Ok(())
        })
        .unwrap();
    let counts = database.read(File::Queue, queue::counts).unwrap();
    let told: Vec<_> =
        counts.iter().map(|c| (c.endpoint.as_str(), c.priority, c.is_parked, c.messages, c.bytes)).collect();
    assert_eq!(told, [("$upstream", 0, false, 1, 258), ("$upstream", 0, true, 1, 258), ("b/in", 3, false, 1, 258)]);
    assert_eq!(database.read(File::Queue, queue::total_bytes).unwrap(), 3 * 258);
    assert_eq!(database.call(File::Queue, |tx| queue::delete_endpoint(tx, "$upstream")).unwrap(), 2);
}

#[test]
fn what_waits_is_found_by_endpoint_and_priority_with_its_last_row_and_parked_ones_are_left_out() {
    let (_dir, database) = opened();
    assert_eq!(database.read(File::Queue, queue::left).unwrap(), []);
    let at = |priority, endpoint: &str, sequence| StoredMessage { priority, ..message(endpoint, sequence) };
    let rows = [at(3, "a", 1), at(0, "b", 2), at(7, "a", 3), at(3, "a", 4), at(9, "b", 5), at(1, "c", 6)];
    let first = database.call(File::Queue, move |tx| queue::enqueue(tx, &rows, ClockMark::default())).unwrap();
    let park = move |tx: &rusqlite::Connection| {
        let parking = queue::Parking { reason: "poison".to_owned(), at_us: 7, tries: queue::Tries::default() };
        assert!(queue::park(tx, first + 4, &parking)? && queue::park(tx, first + 5, &parking)?);
        Ok(())
    };
    database.call(File::Queue, park).unwrap();

    let mut left = database.read(File::Queue, queue::left).unwrap();
    left.sort_by_key(|left| (left.endpoint.clone(), left.priority));
    let told: Vec<_> = left.iter().map(|left| (left.endpoint.as_str(), left.priority, left.last - first)).collect();
    assert_eq!(told, [("a", 3, 3), ("a", 7, 2), ("b", 0, 1)]);
}

#[test]
fn ids_of_messages_go_on_over_removals_failures_and_restarts_and_are_not_used_again() {
    let (_dir, database) = opened();
    let append = |ids: &Arc<Ids>, count: usize, fails: bool| {
        let (ids, rows) = (ids.clone(), vec![message("a", 1); count]);
        let appended = database.call(File::Queue, move |tx| {
            let rows: Vec<_> = rows.iter().map(|row| (row, None)).collect();
            let first = queue::append(tx, &rows, ClockMark::default(), &ids, &mut Endpoints::default())?;
            if fails { Err(rusqlite::Error::InvalidQuery) } else { Ok(first) }
        });
        appended.ok()
    };
    let noted = || {
        database.read(File::Queue, |conn| {
            conn.query_row("SELECT seq, (SELECT coalesce(max(id), 0) FROM message) FROM sqlite_sequence", [], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
            })
        })
    };
    let ids = Arc::<Ids>::default();
    // The change that reserves the first block is rolled back.
    assert_eq!(append(&ids, 3, true), None);
    let mut last = 0;
    for count in [1, 5000, 2, 17, 4096, 1, 9000] {
        let first = append(&ids, count, false).unwrap();
        assert!(first > last, "{first} after {last}");
        last = first + count as i64 - 1;
        let (reserved, stored) = noted().unwrap();
        assert_eq!(stored, last, "they follow each other");
        assert!(reserved >= stored, "{reserved} of {stored}");
    }
    let before = noted().unwrap().0;
    assert_eq!(append(&ids, 1, false), Some(last + 1));
    assert_eq!(noted().unwrap().0, before, "nothing is written about ids for each message");
    database.call(File::Queue, |tx| queue::delete_endpoint(tx, "a")).unwrap();
    // As after a start.
    let first = append(&Arc::default(), 1, false).unwrap();
    assert_eq!(first, before + 1);
    assert!(append(&ids, 5000, false) > Some(first), "whoever reserves anew goes on behind all others");
}

#[test]
fn ids_of_messages_that_go_before_all_others_are_not_used_again_either() {
    let (_dir, database) = opened();
    let put = |count: usize, behind: Option<i64>| {
        let rows = vec![message("a", 1); count];
        let put = move |tx: &rusqlite::Connection| super::keeping::put_before(tx, &rows, ClockMark::default(), behind);
        database.call(File::Queue, put).unwrap()
    };
    let of_run = |count: usize| {
        let last = put(count, None);
        assert_eq!(put(2, Some(last)), last + 2, "these go behind those of the same run");
        let first: i64 = database
            .read(File::Queue, |conn| conn.query_row("SELECT min(id) FROM message", [], |row| row.get(0)))
            .unwrap();
        assert_eq!(first, last + 1 - count as i64);
        assert!(last + 2 < 0, "{last}");
        (first, last + 2)
    };
    let mut before = of_run(3);
    for count in [1, 3, 500] {
        // All of it is delivered before the next end.
        database.call(File::Queue, |tx| queue::delete_endpoint(tx, "a")).unwrap();
        let now = of_run(count);
        assert!(now.1 < before.0, "{now:?} after {before:?}");
        before = now;
    }
    let again = of_run(2);
    assert!(again.1 < before.0, "{again:?} while {before:?} are there");
    let append = |tx: &rusqlite::Connection| queue::enqueue(tx, &[message("a", 1)], ClockMark::default());
    assert_eq!(database.call(File::Queue, append).unwrap(), 1, "others count up as ever");
}

fn loss(epoch: u64, first: u64, last: u64) -> LossRow {
    LossRow {
        sender: "s".to_owned(),
        output: "o".to_owned(),
        endpoint: "e".to_owned(),
        reason: "expired".to_owned(),
        first: (epoch, first),
        last: (epoch, last),
        count: if first == 0 { 1 } else { last - first + 1 },
        is_upper_bound: false,
    }
}

#[test]
fn what_comes_into_the_ledger_is_to_be_told_until_it_was() {
    let (_dir, database) = opened();
    let rows = [loss(1, 1, 4), loss(1, 5, 5), loss(1, 9, 9)];
    for row in rows.clone() {
        database.call(File::Queue, move |tx| loss::add(tx, std::slice::from_ref(&row), 7)).unwrap();
    }
    let untold = database.read(File::Queue, loss::untold).unwrap();
    assert_eq!(untold.iter().map(|(_, row)| row).collect::<Vec<_>>(), rows.iter().collect::<Vec<_>>(), "as they came");

    let ids = [untold[0].0, untold[2].0];
    database.call(File::Queue, move |tx| loss::told(tx, &ids)).unwrap();

    assert_eq!(database.read(File::Queue, loss::untold).unwrap(), [untold[1].clone()]);
    assert_eq!(database.read(File::Queue, loss::all).unwrap().len(), 2, "the ledger has all of them");
}

fn ledger_of(rows: Vec<LossRow>) -> Vec<LossRow> {
    let (_dir, database) = opened();
    for row in rows {
        database.call(File::Queue, move |tx| loss::add(tx, std::slice::from_ref(&row), 7)).unwrap();
    }
    let all = database.read(File::Queue, loss::all).unwrap();
    let total: u64 = all.iter().map(|line| line.row.count).sum();
    assert_eq!(database.read(File::Queue, loss::totals).unwrap()[0].count, total);
    all.into_iter().map(|line| line.row).collect()
}

#[test]
fn losses_add_up_and_ranges_that_do_not_meet_stay_apart() {
    let found =
        ledger_of(vec![loss(2, 5, 9), loss(2, 10, 11), loss(2, 20, 20), loss(3, 1, 1), loss(2, 0, 0), loss(2, 0, 0)]);

    let unseen = LossRow { count: 2, ..loss(2, 0, 0) };
    assert_eq!(found, [unseen, loss(2, 5, 11), loss(2, 20, 20), loss(3, 1, 1)]);
}

#[test]
fn an_upper_bound_is_not_mixed_with_what_was_counted() {
    let bound = LossRow { is_upper_bound: true, ..loss(2, 10, 12) };
    assert_eq!(ledger_of(vec![loss(2, 5, 9), bound.clone()]), [loss(2, 5, 9), bound]);
}

#[test]
fn of_very_many_ranges_the_oldest_are_put_together_and_none_is_forgotten() {
    let many: Vec<LossRow> = (1..=40).map(|n| loss(2, n * 10, n * 10 + 1)).collect();
    let found = ledger_of(many);

    assert_eq!(found.len(), loss::MAX_RANGES as usize);
    assert_eq!(found[0], LossRow { count: 50, ..loss(2, 10, 251) });
    assert_eq!(found[1], loss(2, 260, 261));
    assert_eq!(found.last(), Some(&loss(2, 400, 401)));

    // One that ends later may have begun before: what is put together begins where the first of both did.
    let nested = (1..=17).map(|n| loss(2, 100 - n, 100 + 2 * n));
    let found = ledger_of(nested.collect());
    assert_eq!((found[0].first, found[0].last), ((2, 98), (2, 104)));
}

#[test]
fn rows_of_every_table_read_back_as_written() {
    let (_dir, database) = opened();
    let image = |digest: &str, source: Option<&str>| image::ImageRow {
        arrival: 0,
        digest: digest.to_owned(),
        name: "filter".to_owned(),
        version: "1.2.0".to_owned(),
        descriptor: "{}".to_owned(),
        source: source.map(str::to_owned),
        bytes: 7,
        arrived_us: 8,
        verdict: "admitted".to_owned(),
        reason: String::new(),
        abi: "1.0".to_owned(),
        schema: Some("{}".to_owned()),
        defaults: None,
    };
    let instance = instance::InstanceRow {
        name: "filter".to_owned(),
        origin: "cli".to_owned(),
        image: "filter:1".to_owned(),
        digest: None,
        spec: "{}".to_owned(),
        stopped_by: Some("operator".to_owned()),
        stopped_us: Some(4),
        is_local: true,
    };
    let deployment = |id, status: &str| deployment::DeploymentRow {
        id,
        origin: "file".to_owned(),
        source_sha256: "ab".to_owned(),
        document: "{}".to_owned(),
        applied_us: 3,
        status: status.to_owned(),
        reason: String::new(),
        applied_by: "ada".to_owned(),
        steps: "[]".to_owned(),
        ran: "{}".to_owned(),
    };
    let stored = instance.clone();
    database
        .call(File::Main, move |tx| {
            image::arrive(tx, &image("sha256:a", None))?;
            image::arrive(tx, &image("sha256:b", None))?;
            assert_eq!(image::arrive(tx, &image("sha256:a", Some("x.so")))?, 3, "arrived again");
            instance::upsert(tx, &stored)?;
            assert_eq!(deployment::insert(tx, &deployment(0, "applied"))?, 1);
            deployment::insert(tx, &deployment(0, "applying"))?;
            deployment::set_status(tx, 2, "failed", "")?;
            assert_eq!(setting::count_up(tx, setting::key::SEQUENCE_EPOCH)?, 1);
            setting::count_up(tx, setting::key::SEQUENCE_EPOCH)?;
            Ok(())
        })
        .unwrap();

    database
        .read(File::Main, |conn| {
            let images = image::load_all(conn)?;
            assert_eq!(
                images.iter().map(|i| (i.arrival, i.digest.as_str())).collect::<Vec<_>>(),
                [(2, "sha256:b"), (3, "sha256:a")]
            );
            assert_eq!(images[1], image::ImageRow { arrival: 3, ..image("sha256:a", Some("x.so")) });
            assert_eq!(instance::load_all(conn)?, [instance]);
            assert_eq!(deployment::latest(conn, Some("applied"))?, Some(deployment(1, "applied")));
            assert_eq!(deployment::latest(conn, None)?, Some(deployment(2, "failed")));
            assert_eq!(deployment::get(conn, 1)?, Some(deployment(1, "applied")));
            assert_eq!(setting::get(conn, setting::key::SEQUENCE_EPOCH)?.as_deref(), Some("2"));
            Ok(())
        })
        .unwrap();

    database
        .call(File::Main, |tx| {
            image::delete(tx, "sha256:a")?;
            instance::delete(tx, "filter")?;
            deployment::prune(tx, 1)?;
            setting::delete(tx, setting::key::SEQUENCE_EPOCH)
        })
        .unwrap();
    database
        .read(File::Main, |conn| {
            assert_eq!(image::load_all(conn)?.len(), 1);
            assert_eq!(instance::load_all(conn)?, []);
            assert_eq!(
                deployment::load_all(conn)?,
                [deployment(2, "failed"), deployment(1, "applied")],
                "the good one is kept"
            );
            assert_eq!(setting::get(conn, setting::key::SEQUENCE_EPOCH)?, None);
            Ok(())
        })
        .unwrap();
}
