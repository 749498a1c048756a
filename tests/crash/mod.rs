//! A power cut at any moment: the databases open, and nothing that was acknowledged before is missing.
//!
//! A runtime works while all writes and syncs of its databases are recorded. Then power is cut, on paper: each cut is a moment of
//! the record, and leaves what was synced until then and any part of the rest (see [`disk`]). `DINRAIL_CUTS` says how many cuts
//! (100 unless told), `DINRAIL_SEED` which.

mod disk;
mod load;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use serde_json::Value;

use crate::harness::numbering::{self, Handled};
use crate::harness::{Chance, Runtime};
use disk::{Disk, Survival};
use record::Record;

/// The names of the databases' files, without what is shared memory only.
const DATABASES: [&str; 6] =
    ["dinrail.db", "dinrail.db-wal", "dinrail.db-journal", "queue.db", "queue.db-wal", "queue.db-journal"];

/// Module and output.
type Origin = (String, String);

/// What was acknowledged, and what was handled, until some moment.
#[derive(Debug, Default)]
struct Known {
    acknowledged: BTreeSet<(Origin, u64)>,
    /// Handled by the module that is the last one to have it in hand. Those before it hand it on in the store.
    handled: BTreeSet<(Origin, u64)>,
    /// The highest number whose report was acknowledged.
    reported: BTreeMap<Origin, u64>,
}

impl Known {
    /// Learns from what modules wrote into their accounts: each line is one write.
    fn learn(&mut self, account: &Path, bytes: &[u8]) {
        let text = std::str::from_utf8(bytes).expect("accounts are text");
        let module = account.parent().and_then(Path::file_name).expect("a data folder").to_string_lossy().into_owned();
        if let Some(sent) = numbering::sent(text.trim_end()).filter(|sent| sent.error.is_none()) {
            self.acknowledged.insert(((module, sent.output), sent.number));
        } else if let Some(Handled::Delivery(delivery)) = numbering::handled(text.trim_end()) {
            if module == load::LAST && delivery.verdict == 'h' {
                self.handled.insert(((delivery.origin, delivery.output), delivery.number));
            }
        } else if let Some((output, number)) = text.trim_end().strip_prefix("r ").and_then(|rest| rest.split_once(' '))
        {
            self.reported.insert((module, output.to_owned()), number.parse().expect("a number"));
        }
    }
}

/// What is wrong after a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// A database does not open, or is not sound.
    Unsound(String),
    /// It was acknowledged, and is nowhere.
    Missing(Origin, u64),
    /// Its handler has sent it on, and is to have it again: what it staged was committed without the end of its input.
    Twice(Origin, u64),
    /// The twin is older than the report that was acknowledged.
    Stale(Origin, u64),
}

/// What is wrong with the databases of a folder.
fn findings(folder: &Path, known: &Known) -> Vec<Finding> {
    match look(folder) {
        Err(error) => vec![Finding::Unsound(error)],
        Ok((stored, reported)) => {
            let is_gone = |sent: &&(Origin, u64)| !stored.contains_key(*sent) && !known.handled.contains(*sent);
            let missing = known.acknowledged.iter().filter(is_gone).cloned();
            let is_twice =
                |(sent, at): &(&(Origin, u64), &Places)| at.is_before && (at.is_last || known.handled.contains(*sent));
            let twice = stored.iter().filter(is_twice).map(|((of, number), _)| Finding::Twice(of.clone(), *number));
            let is_stale = |(of, number): &(&Origin, &u64)| reported.get(*of).is_none_or(|now| now < number);
            let stale = known.reported.iter().filter(is_stale).map(|(of, number)| Finding::Stale(of.clone(), *number));
            missing.map(|(of, number)| Finding::Missing(of, number)).chain(twice).chain(stale).collect()
        }
    }
}

/// Where a message is.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    /// Not at the last input on its way.
    is_before: bool,
    is_last: bool,
}

type Stored = (BTreeMap<(Origin, u64), Places>, BTreeMap<Origin, u64>);

/// Messages that are stored, and what modules have reported, once both databases were found sound.
fn look(folder: &Path) -> Result<Stored, String> {
    let open = |name: &str| -> Result<rusqlite::Connection, String> {
        let told = |error: rusqlite::Error| format!("{name}: {error}");
        let conn = rusqlite::Connection::open(folder.join(name)).map_err(told)?;
        let verdict: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(told)?;
        if verdict == "ok" { Ok(conn) } else { Err(format!("{name}: {verdict}")) }
    };
    let text = |error: rusqlite::Error| error.to_string();
    let (main, queue) = (open("dinrail.db")?, open("queue.db")?);
    let all = "SELECT e.name, m.body FROM message m JOIN endpoint e ON e.id = m.endpoint";
    let mut query = queue.prepare(all).map_err(text)?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))).map_err(text)?;
    let mut stored: BTreeMap<(Origin, u64), Places> = BTreeMap::new();
    for row in rows {
        let (endpoint, body) = row.map_err(text)?;
        let body = String::from_utf8(body).map_err(|error| error.to_string())?;
        let words: Vec<&str> = body.split(' ').collect();
        let number = words[2].parse().map_err(|_| format!("a body that nobody sent: {body}"))?;
        let places = stored.entry(((words[0].to_owned(), words[1].to_owned()), number)).or_default();
        let is_last = endpoint.contains(&format!("/modules/{}/", load::LAST));
        *(if is_last { &mut places.is_last } else { &mut places.is_before }) = true;
    }
    let mut query = main.prepare(load::REPORTED).map_err(text)?;
    let twins = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).map_err(text)?;
    let mut reported = BTreeMap::new();
    for twin in twins {
        let (module, document) = twin.map_err(text)?;
        let document: Value = serde_json::from_str(&document).map_err(|error| error.to_string())?;
        for (output, number) in document["sent"].as_object().into_iter().flatten() {
            reported.insert((module.clone(), output.clone()), number.as_u64().unwrap_or(0));
        }
    }
    Ok((stored, reported))
}

/// Cuts the power at `moments`, numbers of records in ascending order, and gives what is wrong after each.
fn cut_at(
    records: &[Record],
    moments: &[usize],
    mut disk: Disk,
    chance: &mut Chance,
) -> Vec<(usize, Survival, Finding)> {
    let mut known = Known::default();
    let mut accounts = BTreeMap::new();
    let mut found = Vec::new();
    let mut at = 0;
    for moment in moments {
        for record in &records[at..*moment] {
            match record {
                Record::Opened { by, path, .. } if load::is_account(path) => drop(accounts.insert(*by, path.clone())),
                Record::Written { by, bytes, .. } if accounts.contains_key(by) => known.learn(&accounts[by], bytes),
                Record::Closed { by } if accounts.contains_key(by) => drop(accounts.remove(by)),
                record => disk.apply(record),
            }
        }
        at = *moment;
        let kinds = [Survival::Nothing, Survival::All, Survival::Writes, Survival::Blocks(512), Survival::Blocks(4096)];
        let survival = chance.pick(&kinds);
        let folder = tempfile::Builder::new().prefix("dinrail-cut-").tempdir().unwrap();
        for (name, content) in disk.cut(survival, chance) {
            std::fs::write(folder.path().join(name.file_name().expect("a file")), content).unwrap();
        }
        found.extend(findings(folder.path(), &known).into_iter().map(|finding| (*moment, survival, finding)));
    }
    found
}

/// Moments at which something was known already: half of them anywhere, half of them right after a change of a database.
fn moments(records: &[Record], count: usize, chance: &mut Chance) -> Vec<usize> {
    let first =
        records.iter().position(|record| matches!(record, Record::Written { bytes, .. } if bytes.starts_with(b"+ ")));
    let first = first.expect("something was acknowledged");
    let is_change = |record: &Record| match record {
        Record::Written { bytes, .. } => bytes.len() >= 24 && !bytes.ends_with(b"\n"),
        record => !matches!(record, Record::Opened { .. } | Record::Closed { .. }),
    };
    let changes: Vec<usize> = (first..records.len()).filter(|at| is_change(&records[*at])).map(|at| at + 1).collect();
    let mut moments: Vec<usize> = (0..count)
        .map(|cut| if cut % 2 == 0 { first + chance.below(records.len() - first) + 1 } else { chance.pick(&changes) })
        .collect();
    moments.sort_unstable();
    moments
}

/// The record of one run, for all tests here, and the runtime for the one that takes it.
fn scene() -> &'static (Mutex<Option<Runtime>>, Vec<Record>) {
    static SCENE: OnceLock<(Mutex<Option<Runtime>>, Vec<Record>)> = OnceLock::new();
    SCENE.get_or_init(|| {
        let (runtime, records) = load::record();
        (Mutex::new(Some(runtime)), records)
    })
}

/// Leaves a state directory with these files in place of its databases.
fn put_back(folder: &Path, files: BTreeMap<PathBuf, Vec<u8>>) {
    for name in DATABASES.iter().chain(&["dinrail.db-shm", "queue.db-shm"]) {
        let _ = std::fs::remove_file(folder.join(name));
    }
    for (name, content) in files {
        std::fs::write(folder.join(name.file_name().expect("a file")), content).unwrap();
    }
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let cuts = std::env::var("DINRAIL_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let (mut chance, seed) = Chance::told("power cuts");
    let (runtime, records) = scene();
    let mut runtime = runtime.lock().unwrap().take().expect("nobody else takes it");
    let count = |is_it: fn(&Record) -> bool| records.iter().filter(|record| is_it(record)).count();
    let syncs = count(|record| matches!(record, Record::Synced { .. }));
    let writes = count(|record| matches!(record, Record::Written { .. }));
    println!("{cuts} cuts in {} records, with {writes} writes and {syncs} syncs of files", records.len());
    assert!(syncs > 50 && writes > 500, "hardly anything was recorded");

    let moments = moments(records, cuts, &mut chance);
    let found = cut_at(records, &moments, Disk::default(), &mut chance);

    assert!(found.is_empty(), "seed {seed}: {} findings, such as {:#?}", found.len(), &found[..found.len().min(5)]);

    // The runtime itself goes on from there.
    let mut disk = Disk::default();
    records[..moments[cuts / 2]].iter().for_each(|record| disk.apply(record));
    put_back(runtime.state(), disk.cut(Survival::Blocks(4096), &mut chance));
    runtime.launch();
    load::go_on(&runtime);
    assert!(!runtime.log().contains("corrupt"), "{}", runtime.log());
}

#[test]
fn message_that_was_sent_on_and_is_still_there_is_found() {
    let (_, records) = scene();
    let (mut disk, mut known) = (Disk::default(), Known::default());
    records.iter().for_each(|record| disk.apply(record));
    let folder = tempfile::tempdir().unwrap();
    put_back(folder.path(), disk.cut(Survival::All, &mut Chance::new(1)));
    assert_eq!(findings(folder.path(), &known), []);
    known.handled.insert((("near".to_owned(), "a".to_owned()), 999_999));
    assert_eq!(findings(folder.path(), &known), []);

    let copy =
        "INSERT INTO message (endpoint, priority, bytes, sender, output, epoch, sequence, created_us, meta, body)
                SELECT e.id, priority, bytes, sender, output, epoch, sequence, created_us, meta,
                       CAST('near a 999999 0 x' AS BLOB)
                FROM message, endpoint e WHERE e.name LIKE '%/modules/relay/inputs/in' LIMIT 1";
    let queue = rusqlite::Connection::open(folder.path().join("queue.db")).unwrap();
    assert_eq!(queue.execute(copy, []).unwrap(), 1);
    drop(queue);

    let found = findings(folder.path(), &known);
    assert_eq!(found, [Finding::Twice(("near".to_owned(), "a".to_owned()), 999_999)]);
}

#[test]
fn cutting_the_power_would_show_a_sync_that_is_missing() {
    let mut chance = Chance::new(1);
    let (_, records) = scene();
    let moments = moments(records, 20, &mut chance);

    let found = cut_at(records, &moments, Disk::that_lies_about("queue.db-wal"), &mut chance);
    let is_missing = |(_, _, finding): &(usize, Survival, Finding)| matches!(finding, Finding::Missing(..));
    assert!(found.iter().any(is_missing), "messages are lost where their sync is: {found:?}");

    let found = cut_at(records, &moments, Disk::that_lies_about("dinrail.db-wal"), &mut chance);
    let is_stale = |(_, _, finding): &(usize, Survival, Finding)| matches!(finding, Finding::Stale(..));
    assert!(found.iter().any(is_stale), "reports are lost where their sync is: {found:?}");
}
