use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::database::tables::loss;
use crate::database::{Database, File, StoreError};
use crate::identity::Identities;
use crate::name::Identity;

pub(super) struct House {
    pub dir: TempDir,
    pub database: Database,
    pub identities: Identities,
    pub twins: Twins,
    pub filter: Identity,
}

impl House {
    pub(super) fn new() -> House {
        House::in_dir(tempfile::tempdir().unwrap())
    }

    pub(super) fn in_dir(dir: TempDir) -> House {
        let database = Database::open(dir.path()).unwrap();
        let (identities, _) =
            Identities::open(&database, crate::identity::MasterKey::random().unwrap(), Some("d"), "").unwrap();
        let filter = identities.ensure(Some("filter")).unwrap().identity.clone();
        let twins = Twins::open(&database, &identities).unwrap();
        House { dir, database, identities, twins, filter }
    }

    pub(super) fn reopened(self) -> House {
        self.database.close();
        let House { dir, .. } = self;
        House::in_dir(dir)
    }

    fn get(&self) -> Arc<TwinSnapshot> {
        self.twins.get(&self.filter).unwrap()
    }

    fn patch(&self, desired: Value) -> Result<Arc<TwinSnapshot>, TwinError> {
        Twins::wait(&self.filter, |done| {
            self.twins.change(&self.filter, &Change::patch_desired(&desired, "operator"), done)
        })
    }

    fn report(&self, reported: Value) -> Result<Arc<TwinSnapshot>, TwinError> {
        Twins::wait(&self.filter, |done| self.twins.patch_reported(&self.filter, &reported, done))
    }

    /// Reports without waiting.
    fn start_report(&self, reported: Value) -> Receiver<Result<Arc<TwinSnapshot>, TwinError>> {
        let (done, outcome) = channel();
        self.twins.patch_reported(&self.filter, &reported, move |result| done.send(result).unwrap()).unwrap();
        outcome
    }

    /// Makes every change of reported properties fail that holds the text `poison`.
    fn refuse_poison(&self) {
        let sql = "CREATE TRIGGER t1 BEFORE INSERT ON twin_reported WHEN new.document LIKE '%poison%'
                   BEGIN SELECT raise(ABORT, 'poison'); END;
                   CREATE TRIGGER t2 BEFORE UPDATE ON twin_reported WHEN new.document LIKE '%poison%'
                   BEGIN SELECT raise(ABORT, 'poison'); END";
        self.database.call(File::Main, |tx| tx.execute_batch(sql)).unwrap();
    }

    pub(super) fn hold_writer(&self) -> Sender<()> {
        let (release, gate) = channel::<()>();
        let (entered, is_in) = channel();
        let mut first = true;
        let job = move |_: &rusqlite::Connection| {
            if std::mem::take(&mut first) {
                entered.send(()).unwrap();
                let _ = gate.recv();
            }
            Ok(())
        };
        self.database.submit(File::Main, Box::new(job), Box::new(|_| {}));
        is_in.recv().unwrap();
        release
    }
}

fn document(section: &Section) -> Value {
    Value::Object(section.parse())
}

#[test]
fn a_patched_twin_comes_back_with_versions_after_a_restart() {
    let house = House::new();
    assert_eq!(house.patch(json!({"limit": 70, "unit": {"name": "C"}})).unwrap().desired.version, 2);
    assert_eq!(house.patch(json!({"limit": 80, "unit": null})).unwrap().desired.version, 3);
    assert_eq!(house.report(json!({"ok": true})).unwrap().reported.version, 2);

    let twin = house.reopened().get();

    assert_eq!(document(&twin.desired), json!({"limit": 80}));
    assert_eq!((twin.desired.revision, twin.desired.version, twin.reported.revision), (3, 3, 2));
    assert_eq!(&*twin.module_view(), r#"{"desired":{"limit":80,"$version":3},"reported":{"ok":true,"$version":2}}"#);
    assert!(Arc::ptr_eq(&twin.module_view(), &twin.module_view()), "made once");
}

#[test]
fn a_patch_that_changes_nothing_still_counts() {
    let house = House::new();
    house.patch(json!({"a": 1})).unwrap();

    assert_eq!(house.patch(json!({"a": 1})).unwrap().desired.version, 3);
    assert_eq!(house.patch(json!({})).unwrap().desired.version, 4);
}

#[test]
fn a_replaced_section_is_told_as_the_difference() {
    let house = House::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    house.twins.on_desired({
        let heard = heard.clone();
        move |identity, change| heard.lock().unwrap().push((identity.clone(), change.clone()))
    });
    house.patch(json!({"a": 1, "b": {"c": 2, "d": 3}})).unwrap();
    let document = json!({"b": {"c": 2, "x": null}, "e": 5, "$version": 9, "$metadata": {}});
    Twins::wait(&house.filter, |done| {
        house.twins.change(&house.filter, &Change::replace_desired(&document, "deployment"), done)
    })
    .unwrap();

    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 2);
    let (identity, change) = &heard[1];
    assert_eq!(identity, &house.filter);
    assert_eq!(serde_json::from_str::<Value>(&change.patch).unwrap(), json!({"a": null, "b": {"d": null}, "e": 5}));
    assert_eq!(serde_json::from_str::<Value>(&change.whole).unwrap(), json!({"b": {"c": 2}, "e": 5}));
    assert_eq!((change.version, change.revision, change.whole_replaced, &*change.by), (3, 3, true, "deployment"));
    assert_eq!((heard[0].1.revision, heard[0].1.whole_replaced), (2, false));
}

#[test]
fn what_cannot_be_a_version_is_no_guard_and_null_guards_nothing() {
    let house = House::new();
    let change =
        |change: &Change<'_>| Twins::wait(&house.filter, |done| house.twins.change(&house.filter, change, done));
    for wrong in [json!("3"), json!(4.5), json!(-1), json!(true)] {
        let body = json!({"properties": {"desired": {"a": 1, "$version": wrong}}});
        for refused in [change(&Change::patch(&body, "operator")), change(&Change::replace(&body, "operator"))] {
            let Err(TwinError::Invalid { violations, .. }) = refused else { panic!("{wrong}: {refused:?}") };
            assert_eq!(violations[0].path, "properties.desired.$version");
            assert!(violations[0].limit.contains("a whole number"), "{violations:?}");
        }
    }
    let body = json!({"properties": {"desired": {"a": 1, "$version": null}}});
    assert_eq!(change(&Change::patch(&body, "operator")).unwrap().desired.version, 2);
    assert_eq!(change(&Change::replace(&body, "operator")).unwrap().desired.version, 3);
}

#[test]
fn tags_and_desired_of_one_patch_are_changed_both_or_neither() {
    let house = House::new();
    let patch = |body: Value| {
        Twins::wait(&house.filter, |done| house.twins.change(&house.filter, &Change::patch(&body, "operator"), done))
    };

    let refused = patch(json!({"tags": {"hall": 3}, "properties": {"desired": {"a b": 1, "c": [null]}}, "colour": 1}));
    let Err(TwinError::Invalid { violations, .. }) = refused else { panic!("{refused:?}") };
    let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(paths, ["colour", "properties.desired.a b", "properties.desired.c[0]"]);
    assert_eq!(house.get().version(), 2, "nothing was applied");

    let whole = house.get().root(false);
    let twin = patch(json!({"tags": {"hall": 3}, "properties": {"desired": {"a": 1}}})).unwrap();
    assert_eq!((document(&twin.tags), document(&twin.desired)), (json!({"hall": 3}), json!({"a": 1})));
    assert_eq!((twin.version(), twin.tags.revision, twin.desired.revision), (4, 2, 2));

    let put = |if_match| {
        let change = Change::replace(&whole, "operator").if_match(if_match);
        Twins::wait(&house.filter, |done| house.twins.change(&house.filter, &change, done))
    };
    let stale = put(None);
    assert!(matches!(stale, Err(TwinError::VersionMismatch { version: 2, asked: 1, .. })), "{stale:?}");
    let twin = put(Some("*")).unwrap();
    assert_eq!(
        (&*twin.tags.document, &*twin.desired.document),
        ("{}", "{}"),
        "a whole document that was read can be put back"
    );
    assert_eq!(twin.reported.revision, 1);
}

#[test]
fn the_root_document_has_the_shape_of_iot_hub() {
    let house = House::new();
    house.patch(json!({"a": {"b": 1}})).unwrap();
    house.patch(json!({"a": {"b": null}})).unwrap();

    let root = house.get().root(true);

    let keys: Vec<&str> = root.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "deviceId",
            "moduleId",
            "etag",
            "status",
            "statusUpdateTime",
            "connectionState",
            "lastActivityTime",
            "cloudToDeviceMessageCount",
            "authenticationType",
            "x509Thumbprint",
            "modelId",
            "version",
            "tags",
            "properties"
        ]
    );
    assert_eq!((&root["deviceId"], &root["moduleId"], &root["version"]), (&json!("d"), &json!("filter"), &json!(4)));
    assert_eq!((&root["etag"], &root["connectionState"]), (&json!("AAAAAAAAAAM="), &json!("Connected")));
    let desired = &root["properties"]["desired"];
    assert_eq!((&desired["a"], &desired["$version"]), (&json!({}), &json!(3)));
    for place in ["", "/a", "/a/b"] {
        let time = desired["$metadata"].pointer(&format!("{place}/$lastUpdated"));
        assert!(time.unwrap().as_str().unwrap().starts_with("20"), "{place}: also of the removed one");
    }
    assert_eq!(
        root["properties"]["reported"],
        json!({"$metadata": {"$lastUpdated": "0001-01-01T00:00:00Z"}, "$version": 1})
    );
    let device = house.twins.get(&house.identities.device().unwrap()).unwrap().root(false);
    assert_eq!((device.get("moduleId"), &device["etag"]), (None, &json!("AAAAAAAAAAE=")));
}

#[test]
fn if_match_takes_the_present_tag_or_a_star_only() {
    let house = House::new();
    let patch = |etag: &str| {
        Twins::wait(&house.filter, |done| {
            house.twins.change(
                &house.filter,
                &Change::patch_tags(&json!({"a": 1}), "operator").if_match(Some(etag)),
                done,
            )
        })
    };
    let quoted = format!("\"{}\"", house.get().etag());

    assert!(patch(&quoted).is_ok());
    let refused = patch(&quoted).unwrap_err();
    assert!(matches!(&refused, TwinError::EtagMismatch { etag, .. } if *etag == house.get().etag()), "{refused}");
    house.report(json!({"busy": true})).unwrap();
    assert!(patch(&house.get().etag()).is_ok(), "unquoted");
    assert!(patch("\"*\"").is_ok() && patch("*").is_ok());
    assert!(patch("\"nonsense\"").is_err());
}

#[test]
fn of_writers_with_the_same_tag_exactly_one_wins_each_version() {
    let house = House::new();
    let wins: Vec<u64> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let house = &house;
                scope.spawn(move || {
                    let mut wins = Vec::new();
                    while wins.len() < 20 {
                        let etag = house.get().etag();
                        let patch = json!({"writer": writer});
                        let outcome = Twins::wait(&house.filter, |done| {
                            house.twins.change(
                                &house.filter,
                                &Change::patch_desired(&patch, "operator").if_match(Some(&etag)),
                                done,
                            )
                        });
                        match outcome {
                            Ok(twin) => wins.push(twin.desired.version),
                            Err(TwinError::EtagMismatch { .. }) => std::thread::yield_now(),
                            Err(other) => panic!("{other}"),
                        }
                    }
                    wins
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });

    let mut sorted = wins;
    sorted.sort_unstable();
    assert_eq!(sorted, (2..82).collect::<Vec<_>>());
}

#[test]
fn what_builds_on_a_change_that_was_not_stored_fails_and_the_next_one_starts_from_committed_state() {
    let house = House::new();
    house.report(json!({"kept": 1})).unwrap();
    house.refuse_poison();
    let release = house.hold_writer();
    let before = house.start_report(json!({"before": 1}));
    let guilty = house.start_report(json!({"text": "poison"}));
    let on_top = house.start_report(json!({"text": "harmless"}));
    let (done, desired) = channel();
    house
        .twins
        .change(&house.filter, &Change::patch_desired(&json!({"a": 1}), "x"), move |r| done.send(r).unwrap())
        .unwrap();
    drop(release);

    assert_eq!(before.recv().unwrap().unwrap().reported.revision, 3);
    let guilty = guilty.recv().unwrap().unwrap_err();
    assert!(
        matches!(&guilty, TwinError::Store { cause: StoreError::Refused { cause, .. }, .. } if cause == "poison"),
        "{guilty}"
    );
    let on_top = on_top.recv().unwrap().unwrap_err();
    assert!(matches!(on_top, TwinError::Store { cause: StoreError::Stale, .. }), "{on_top}");
    assert_eq!(desired.recv().unwrap().unwrap().desired.revision, 2, "the other section is not touched by it");

    let twin = house.report(json!({"after": 1})).unwrap();
    assert_eq!((document(&twin.reported), twin.reported.revision), (json!({"kept": 1, "before": 1, "after": 1}), 4));
    let twin = house.reopened().get();
    assert_eq!((document(&twin.reported), twin.reported.revision), (json!({"kept": 1, "before": 1, "after": 1}), 4));
}

#[test]
fn twins_survive_a_full_disk_and_go_on_when_there_is_room() {
    let house = House::new();
    house.report(json!({"kept": 1})).unwrap();
    let limit_to = |pages: u32| {
        let limit =
            move |tx: &rusqlite::Connection| tx.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()));
        house.database.call(File::Main, limit).unwrap();
    };
    let big: Value =
        (0..8).map(|i| (format!("k{i}"), json!("x".repeat(4000)))).collect::<serde_json::Map<_, _>>().into();
    limit_to(1);
    for _ in 0..3 {
        let full = house.report(big.clone()).unwrap_err();
        assert!(matches!(full, TwinError::Store { cause: StoreError::Full(File::Main), .. }), "{full}");
        assert!(full.hint().contains("free some space"), "{}", full.hint());
        assert_eq!(document(&house.get().reported), json!({"kept": 1}));
    }
    limit_to(100_000);

    assert_eq!(house.report(big).unwrap().reported.revision, 3);
}

#[test]
fn reports_of_many_threads_are_committed_in_groups_and_none_is_missing() {
    let house = House::new();
    let names: Vec<String> = (0..8).map(|i| format!("m{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let records = house.identities.ensure_many(&names).unwrap();
    let release = house.hold_writer();
    let before = house.database.figures().commits.load(Ordering::Relaxed);
    let (done, outcomes) = channel();

    std::thread::scope(|scope| {
        for record in &records {
            let (twins, done) = (&house.twins, done.clone());
            scope.spawn(move || {
                for i in 0..50 {
                    let done = done.clone();
                    let patch = json!({"count": i, format!("k{}", i % 7): i});
                    twins.patch_reported(&record.identity, &patch, move |r| done.send(r.map(|_| ())).unwrap()).unwrap();
                }
            });
        }
    });
    drop((release, done));

    assert_eq!(outcomes.iter().collect::<Vec<_>>(), vec![Ok(()); 400]);
    let commits = house.database.figures().commits.load(Ordering::Relaxed) - before;
    assert!(commits <= 3, "{commits} commits for 400 reports in line");
    let house = house.reopened();
    for record in records {
        let reported = house.twins.get(&record.identity).unwrap().reported.clone();
        assert_eq!((document(&reported)["count"].clone(), reported.revision), (json!(49), 51));
    }
}

#[test]
fn a_handlers_reports_are_one_change_and_its_messages_follow_only_when_it_is_committed() {
    let house = House::new();
    let message = |text: &'static str| -> crate::database::Job {
        Box::new(move |tx| {
            let row = loss::LossRow {
                sender: text.to_owned(),
                output: String::new(),
                endpoint: String::new(),
                reason: String::new(),
                first: (1, 1),
                last: (1, 1),
                count: 1,
                is_upper_bound: false,
            };
            if text == "fails" { Err(rusqlite::Error::InvalidQuery) } else { loss::add(tx, &[row], 1) }
        })
    };
    let report = |patches: &[Value], text| {
        Twins::wait(&house.filter, |done| house.twins.report(&house.filter, patches, Some(message(text)), done))
    };
    let written = || house.database.read(File::Queue, loss::all).unwrap().len();

    let twin = report(&[json!({"a": 1}), json!({"b": 2, "a": null})], "sent").unwrap();
    assert_eq!((document(&twin.reported), twin.reported.revision, written()), (json!({"b": 2}), 2, 1));

    house.refuse_poison();
    report(&[json!({"a": "poison"})], "must not be sent").unwrap_err();
    assert_eq!((house.get().reported.revision, written()), (2, 1));

    report(&[json!({"c": 3})], "fails").unwrap_err();
    assert_eq!(house.get().reported.revision, 3, "committed before the queue's part failed");
    assert_eq!(house.report(json!({"d": 4})).unwrap().reported.revision, 4);

    assert!(house.twins.check_report(&house.filter, &json!({"a": [null]})).is_err());
    assert!(house.twins.check_report(&house.filter, &json!(1)).is_err());
    assert!(house.twins.check_report(&house.filter, &json!({"a": null})).is_ok());
}

#[test]
fn the_accepted_document_is_kept_for_the_next_cold_start() {
    let house = House::new();
    let acknowledge = |house: &House, said: &Acknowledgement, accepted| {
        Twins::wait(&house.filter, |done| house.twins.acknowledge(&house.filter, said, accepted, done)).unwrap()
    };
    let good = house.patch(json!({"limit": 70})).unwrap().desired.clone();
    let accepted = Accepted { document: good.document.clone(), version: good.version, revision: good.revision };
    let ok = Acknowledgement { version: 2, ok: true, error: None };
    acknowledge(&house, &ok, Some(accepted.clone()));
    house.patch(json!({"limit": "warm"})).unwrap();
    let no = Acknowledgement { version: 3, ok: false, error: Some("ü".repeat(3000)) };
    let twin = acknowledge(&house, &no, None);

    assert_eq!(twin.accepted, Some(accepted.clone()));
    let said = twin.acknowledged().unwrap();
    assert_eq!((said.version, said.ok, said.error.unwrap().len()), (3, false, 4096));
    let house = house.reopened();
    assert_eq!(house.get().accepted, Some(accepted));
    assert_eq!(house.get().acknowledged().map(|said| said.version), Some(3));
    let twin = acknowledge(&house, &Acknowledgement { version: 4, ..ok }, None);
    assert_eq!(document(&twin.reported)["acknowledged"], json!({"version": 4, "ok": true}), "no error any more");
}

#[test]
fn what_a_busy_module_reports_is_kept_parsed_and_given_up_when_it_rests() {
    let house = House::new();
    let kept_after = |reported: Value| {
        let _ = house.report(reported);
        house.twins.kept_parsed()
    };

    assert_eq!(kept_after(json!({"a": {"b": "x", "gone": 1.5}})), 0, "most modules report once and again much later");
    assert_eq!(kept_after(json!({"a": {"b": "longer", "gone": null}, "n": -1})), 1);
    assert_eq!(kept_after(json!({"a": {"c": [{"d": true}]}, "n": "text"})), 1);
    assert_eq!(kept_after(json!({"ok": 1, "big": "x".repeat(5000)})), 0, "what is refused is not kept");
    assert_eq!(kept_after(json!({})), 1);
    house.twins.rest();
    assert_eq!(kept_after(json!({})), 1, "it was used since the last rest");
    house.twins.rest();
    house.twins.rest();
    assert_eq!(house.twins.kept_parsed(), 0);
    let text = || json!("x".repeat(4000));
    assert_eq!(
        kept_after(json!({"n": 1})) + kept_after(json!({"l": text(), "m": text(), "o": text()})),
        0,
        "too large"
    );
    let all = json!({"p": text(), "q": text(), "r": text(), "s": text(), "t": text(), "u": text(), "v": text()});
    assert_eq!(kept_after(all), 0);

    let expected = json!({"a": {"b": "longer", "c": [{"d": true}]}, "n": 1, "l": text(), "m": text(), "o": text()});
    assert_eq!(document(&house.get().reported), expected, "what was merged before the size was looked at is not there");
}

#[test]
fn a_full_reported_section_refuses_reports_but_not_acknowledgements() {
    let house = House::new();
    let text = |n: usize| json!("x".repeat(n));
    let full = json!({"a": text(4096), "b": text(4096), "c": text(4096), "d": text(4096), "e": text(4096), "f": text(4096),
        "g": text(4096), "h": text(4088)});
    house.report(full).unwrap();

    let refused = house.report(json!({"i": 1})).unwrap_err();
    assert!(refused.to_string().contains("a section of 32768 bytes at most"), "{refused}");
    let said = Acknowledgement { version: 1, ok: true, error: None };
    Twins::wait(&house.filter, |done| house.twins.acknowledge(&house.filter, &said, None, done)).unwrap();
    house.report(json!({"a": "short"})).unwrap();
}

#[test]
fn no_twin_without_an_identity_and_none_after_its_removal() {
    let house = House::new();
    let stranger = Identity::module("d", "stranger").unwrap();
    assert!(house.twins.get(&stranger).is_none());
    let refused = house.twins.patch_reported(&stranger, &json!({}), |_| panic!("not called")).unwrap_err();
    assert!(matches!(&refused, TwinError::NotFound { .. }) && refused.to_string().contains("/modules/stranger"));

    house.report(json!({"a": 1})).unwrap();
    let release = house.hold_writer();
    let (removed, late) = std::thread::scope(|scope| {
        let removing = scope.spawn(|| house.identities.remove(&house.filter, None));
        let late = scope.spawn(|| house.start_report(json!({"b": 1})));
        let late = late.join().unwrap();
        drop(release);
        (removing.join().unwrap().unwrap(), late.recv().unwrap())
    });
    assert_eq!(removed.len(), 1);
    if let Err(error) = late {
        assert!(matches!(error, TwinError::NotFound { .. } | TwinError::Store { .. }), "{error}");
    }
    house.twins.forget(&house.filter);
    assert!(house.twins.get(&house.filter).is_none());

    house.identities.ensure(Some("filter")).unwrap();
    assert_eq!(house.get().version(), 2, "made again, it is empty");
    assert_eq!(house.report(json!({"c": 1})).unwrap().reported.revision, 2);
}

#[test]
fn readers_see_committed_state_only() {
    let house = House::new();
    let release = house.hold_writer();
    let pending = house.start_report(json!({"a": 1}));
    assert_eq!(house.get().reported.revision, 1);
    drop(release);
    pending.recv().unwrap().unwrap();
    assert_eq!(house.get().reported.revision, 2);
}

#[test]
fn listeners_hear_revisions_in_order_before_the_completion_and_after_the_snapshot() {
    let house = House::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    house.twins.on_desired({
        let (heard, twins) = (heard.clone(), house.twins.clone());
        move |identity, change| {
            assert_eq!(twins.get(identity).unwrap().desired.revision, change.revision);
            heard.lock().unwrap().push(change.revision);
        }
    });
    let changes = Arc::new(Mutex::new(0));
    house.twins.on_change({
        let changes = changes.clone();
        move |_| *changes.lock().unwrap() += 1
    });
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..25 {
                    let revision = house.patch(json!({"i": i})).unwrap().desired.revision;
                    assert!(heard.lock().unwrap().contains(&revision));
                }
            });
        }
    });

    assert_eq!(*heard.lock().unwrap(), (2..102).collect::<Vec<_>>());
    assert_eq!(*changes.lock().unwrap(), 100);
}

#[test]
fn changes_after_the_end_are_refused_not_lost_in_silence() {
    let house = House::new();
    house.database.close();

    let refused = house.report(json!({"a": 1})).unwrap_err();

    assert!(matches!(refused, TwinError::Store { cause: StoreError::Closed, .. }));
    assert_eq!(house.get().reported.revision, 1);
}

#[test]
fn a_damaged_section_is_emptied_and_the_twin_can_be_written_again() {
    let house = House::new();
    house.patch(json!({"a": 1})).unwrap();
    house
        .database
        .call(File::Main, |tx| tx.execute("UPDATE twin_desired SET document = '{\"a', metadata = '7'", []).map(|_| ()))
        .unwrap();

    let house = house.reopened();

    assert_eq!((&*house.get().desired.document, house.get().desired.revision), ("{}", 2));
    assert_eq!(house.patch(json!({"b": 1})).unwrap().desired.revision, 3);
}

#[test]
fn each_section_takes_exactly_its_limit_and_not_one_byte_more() {
    let house = House::new();
    // Keys of one byte with texts of 4096 bytes at most, `bytes` in all.
    let document = |bytes: usize| {
        let mut members = serde_json::Map::new();
        let mut left = bytes;
        for key in "abcdefghijklmnop".chars().map(String::from) {
            let text = left.saturating_sub(1).min(4096);
            if left == 0 {
                break;
            }
            members.insert(key, json!("x".repeat(text)));
            left -= text + 1;
        }
        Value::Object(members)
    };
    for (part, max) in [(Part::Tags, 8 * 1024), (Part::Desired, 32 * 1024), (Part::Reported, 32 * 1024)] {
        let put = |wanted: &Value| match part {
            Part::Tags => Twins::wait(&house.filter, |done| {
                house.twins.change(&house.filter, &Change::replace_tags(wanted, "operator"), done)
            }),
            Part::Desired => Twins::wait(&house.filter, |done| {
                house.twins.change(&house.filter, &Change::replace_desired(wanted, "operator"), done)
            }),
            Part::Reported => house.report(wanted.clone()),
        };
        let refused = put(&document(max + 1)).unwrap_err().to_string();
        for word in [part.path(), &format!("{} bytes after the change", max + 1), &format!("{max} bytes at most")] {
            assert!(refused.contains(word), "{word} is not in {refused}");
        }
        assert_eq!(put(&document(max)).unwrap().section(part).revision, 2);
    }
}
