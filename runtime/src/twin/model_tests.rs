//! Random changes against the plainest model of a twin: three JSON documents and three counters.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::patch::merge;
use super::patch::tests::document;
use super::tests::House;
use super::*;
use crate::database::File;

#[derive(Debug, Clone)]
enum Op {
    PatchDesired(Map<String, Value>),
    ReplaceDesired(Map<String, Value>),
    PatchTags(Map<String, Value>),
    /// Tags and desired in one.
    Patch(Map<String, Value>, Map<String, Value>),
    Report(Map<String, Value>),
    /// With the tag that the twin has then.
    Guarded(Map<String, Value>),
    Refused,
    /// To the version so many before the newest.
    Undo(u64),
    Acknowledge(bool),
    /// Waits until everything is committed and compares.
    Compare,
    /// A second passes.
    Rest,
    Reopen,
    /// The power goes while these patches are in line: the files as they are then are opened again.
    Crash(Vec<Map<String, Value>>),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => document(true).prop_map(Op::PatchDesired),
        2 => document(true).prop_map(Op::ReplaceDesired),
        2 => document(true).prop_map(Op::PatchTags),
        2 => (document(true), document(true)).prop_map(|(tags, desired)| Op::Patch(tags, desired)),
        6 => document(true).prop_map(Op::Report),
        2 => document(true).prop_map(Op::Guarded),
        1 => Just(Op::Refused),
        2 => (0..30u64).prop_map(Op::Undo),
        2 => any::<bool>().prop_map(Op::Acknowledge),
        2 => Just(Op::Compare),
        1 => Just(Op::Rest),
        1 => Just(Op::Reopen),
        1 => proptest::collection::vec(document(true), 0..4).prop_map(Op::Crash),
    ]
}

struct Model {
    documents: [Value; 3],
    revisions: [u64; 3],
    /// The desired properties at each of their versions.
    past: BTreeMap<u64, Value>,
    accepted: Option<(Value, u64)>,
    /// The module's copy of the desired section, kept by the patches that it was told.
    told: (Value, u64),
}

impl Model {
    fn patch(&mut self, part: Part, patch: &Map<String, Value>) {
        merge(&mut self.documents[part as usize], &Value::Object(patch.clone()));
        self.revisions[part as usize] += 1;
        if part == Part::Desired {
            self.past.insert(self.revisions[part as usize], self.documents[part as usize].clone());
        }
    }

    fn replace(&mut self, part: Part, document: &Map<String, Value>) {
        self.documents[part as usize] = json!({});
        self.patch(part, document);
    }

    fn assert_is(&self, twin: &TwinSnapshot) {
        for part in Part::ALL {
            let section = twin.section(part);
            assert_eq!(Value::Object(section.parse()), self.documents[part as usize], "{part:?}");
            assert_eq!(section.revision, self.revisions[part as usize], "{part:?}");
            assert_eq!(section.version, section.revision);
            assert_times_cover(&section.parse_times(), &section.parse(), section.revision > 1);
        }
        let accepted = twin.accepted.as_ref().map(|a| (serde_json::from_str(&a.document).unwrap(), a.revision));
        assert_eq!(accepted, self.accepted);
        let view: Value = serde_json::from_str(&twin.module_view()).unwrap();
        let mut desired = self.documents[Part::Desired as usize].clone();
        desired["$version"] = self.revisions[Part::Desired as usize].into();
        assert_eq!(view["desired"], desired);
    }
}

fn assert_times_cover(times: &Map<String, Value>, document: &Map<String, Value>, written: bool) {
    assert!(!written || times.contains_key("$"));
    for (key, value) in document {
        match value {
            Value::Object(members) => assert_times_cover(times[key].as_object().unwrap(), members, true),
            _ => assert!(times[key].is_i64() || times[key].is_array(), "{key}"),
        }
    }
}

fn run(ops: Vec<Op>) {
    let mut house = House::new();
    let mut model = Model {
        documents: [json!({}), json!({}), json!({})],
        revisions: [1; 3],
        past: BTreeMap::from([(1, json!({}))]),
        accepted: None,
        told: (json!({}), 1),
    };
    let (mut tell, mut told) = channel();
    let listen = |house: &House, tell: std::sync::mpsc::Sender<std::sync::Arc<DesiredChange>>| {
        house.twins.on_desired(move |_, change| tell.send(change.clone()).unwrap());
    };
    listen(&house, tell);
    for op in ops {
        let (twins, id) = (&house.twins, &house.filter);
        let must = |outcome: Result<std::sync::Arc<TwinSnapshot>, TwinError>| {
            outcome.unwrap();
        };
        match op {
            Op::PatchDesired(patch) => {
                twins.change(id, &Change::patch_desired(&Value::Object(patch.clone()), "x"), must).unwrap();
                model.patch(Part::Desired, &patch);
            }
            Op::ReplaceDesired(document) => {
                twins.change(id, &Change::replace_desired(&Value::Object(document.clone()), "x"), must).unwrap();
                model.replace(Part::Desired, &document);
            }
            Op::PatchTags(patch) => {
                twins.change(id, &Change::patch_tags(&Value::Object(patch.clone()), "x"), must).unwrap();
                model.patch(Part::Tags, &patch);
            }
            Op::Patch(tags, desired) => {
                let body = json!({"tags": tags, "properties": {"desired": desired}});
                twins.change(id, &Change::patch(&body, "x"), must).unwrap();
                model.patch(Part::Tags, &tags);
                model.patch(Part::Desired, &desired);
            }
            Op::Report(patch) => {
                twins.patch_reported(id, &Value::Object(patch.clone()), must).unwrap();
                model.patch(Part::Reported, &patch);
            }
            Op::Guarded(patch) => {
                house.database.flush().unwrap();
                let tag = format!("\"stale\", \"{}\"", twins.get(id).unwrap().etag());
                let body = Value::Object(patch.clone());
                twins.change(id, &Change::patch_desired(&body, "x").if_match(Some(&tag)), must).unwrap();
                // Not committed yet, but the tag is used up.
                let late = Change::patch_desired(&body, "x").if_match(Some(&tag));
                twins.change(id, &late, |_| panic!("not called")).unwrap_err();
                model.patch(Part::Desired, &patch);
            }
            Op::Undo(back) => {
                house.database.flush().unwrap();
                let newest = model.revisions[Part::Desired as usize];
                let to = newest.saturating_sub(back).max(1);
                let past = Value::Object(twins.past(id, Part::Desired, to).unwrap().desired);
                assert_eq!(past, model.past[&to], "version {to} of {newest}");
                twins.change(id, &Change::replace_desired(&past, "x").undoing_to(to), must).unwrap();
                model.replace(Part::Desired, past.as_object().unwrap());
            }
            Op::Refused => {
                twins.patch_reported(id, &json!({"ok": 1, "not ok": 2}), |_| panic!("not called")).unwrap_err();
                twins
                    .change(id, &Change::patch_desired(&json!({"ok": 1}), "x").if_match(Some("\"stale\"")), |_| {
                        panic!("not called")
                    })
                    .unwrap_err();
            }
            Op::Acknowledge(ok) => {
                let (desired, revision) = (&model.documents[1], model.revisions[1]);
                let said = Acknowledgement { version: revision, ok, error: (!ok).then(|| "no".to_owned()) };
                let accepted =
                    ok.then(|| Accepted { document: desired.to_string().into(), version: revision, revision });
                twins.acknowledge(id, &said, accepted, must).unwrap();
                if ok {
                    model.accepted = Some((desired.clone(), revision));
                }
                let error = if ok { json!(null) } else { json!("no") };
                let patch = json!({"acknowledged": {"version": revision, "ok": ok, "error": error}});
                model.patch(Part::Reported, patch.as_object().unwrap());
            }
            Op::Compare => {
                twins.kept_parsed();
                house.database.flush().unwrap();
                model.assert_is(&twins.get(id).unwrap());
                for change in told.try_iter() {
                    merge(&mut model.told.0, &serde_json::from_str(&change.patch).unwrap());
                    model.told.1 += 1;
                    assert_eq!(change.revision, model.told.1, "no gap, none twice");
                    assert_eq!(serde_json::from_str::<Value>(&change.whole).unwrap(), model.told.0);
                }
                assert_eq!(model.told, (model.documents[1].clone(), model.revisions[1]));
            }
            Op::Rest => twins.rest(),
            Op::Reopen => {
                house = house.reopened();
                model.assert_is(&house.twins.get(&house.filter).unwrap());
                model.told = (model.documents[1].clone(), model.revisions[1]);
                (tell, told) = channel();
                listen(&house, tell);
            }
            Op::Crash(lost) => {
                house.database.flush().unwrap();
                let release = house.hold_writer();
                for patch in lost {
                    twins.change(id, &Change::patch_desired(&Value::Object(patch), "x"), drop).unwrap();
                }
                let copy = tempfile::tempdir().unwrap();
                copy_files(house.dir.path(), copy.path());
                drop(release);
                // What is still done there is done to files that nobody looks at again.
                house = House::in_dir(copy);
                model.assert_is(&house.twins.get(&house.filter).unwrap());
                model.told = (model.documents[1].clone(), model.revisions[1]);
                (tell, told) = channel();
                listen(&house, tell);
            }
        }
    }
    house.database.flush().unwrap();
    model.assert_is(&house.twins.get(&house.filter).unwrap());
    let sound: String =
        house.database.read(File::Main, |c| c.query_row("PRAGMA integrity_check", [], |r| r.get(0))).unwrap();
    assert_eq!(sound, "ok");
}

/// As a power cut leaves them: what other processes share is not there.
fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_files(&entry.path(), &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Fewer than usual, since each makes a database and ends it; a long run asks for more by
/// `DINRAIL_TWIN_OPERATIONS`.
fn config() -> ProptestConfig {
    const MEAN_OPERATIONS: u32 = 175;
    let usual = ProptestConfig::default();
    let asked = std::env::var("DINRAIL_TWIN_OPERATIONS").ok().and_then(|text| text.parse::<u32>().ok());
    let cases = match asked {
        Some(operations) => operations.div_ceil(MEAN_OPERATIONS),
        None if usual.cases == 256 => 24,
        None => usual.cases,
    };
    ProptestConfig { cases, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn twins_agree_with_the_model_whatever_is_done_to_them(ops in proptest::collection::vec(op(), 50..300)) {
        run(ops);
    }
}
