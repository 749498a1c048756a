use std::path::{Path, PathBuf};

use super::*;
use dinrail_plugin::testing::{Bench, Verdict};

/// A data folder that lives as long as the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("dinrail-recorder-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Folder(folder)
    }

    /// Texts of the files, oldest first.
    fn texts(&self) -> Vec<String> {
        let is_file = |path: &PathBuf| path.is_file();
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).filter(is_file).collect();
        files.sort_by_key(|path| path.to_string_lossy().split_once("Z-").map(|(_, rest)| rest.to_owned()));
        files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    /// The numbers of the lines of JSON.
    fn numbers(&self) -> Vec<u64> {
        let lines = self.texts().concat();
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bench_in(folder: &Path, desired: Value) -> Bench {
    let mut bench = Bench::new::<Recorder>(desired).data_folder(folder).create().unwrap();
    bench.start().unwrap();
    bench
}

const AT: i64 = 1_795_269_909_000_000;

fn give(bench: &mut Bench, n: u64, body: impl AsRef<[u8]>) -> Verdict {
    let message = bench.message("records", body).sender("/devices/d/modules/m").sequence(1, n);
    message.created_us(AT + n as i64 * 1_000_000).deliver()
}

fn reading(n: u64) -> String {
    json!({"name": "t", "value": n, "unit": "°C", "quality": "good", "sourceTime": "2026-11-21T14:05:09Z"}).to_string()
}

#[test]
fn a_line_holds_all_of_a_message() {
    let folder = Folder::new("all");
    let mut bench = bench_in(&folder.0, json!({}));
    let message = bench.message("records", "{\"a\":\n 1}").sender("/devices/d/modules/m").sequence(3, 42);
    assert_eq!(message.property("line", "3").created_us(AT).deliver(), Verdict::Accepted);
    assert_eq!(give(&mut bench, 43, "plain \"text\"\n"), Verdict::Accepted);
    assert_eq!(give(&mut bench, 44, [0xff, 0x00]), Verdict::Accepted);
    assert_eq!(give(&mut bench, 45, " \"plain\""), Verdict::Accepted);

    let text = folder.texts().concat();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[0],
        json!({
            "received": "2026-11-21T14:05:09.000000Z", "sender": "/devices/d/modules/m", "output": "output",
            "epoch": 3, "n": 42, "input": "records", "properties": {"line": "3"}, "body": {"a": 1}
        })
    );
    assert_eq!((&lines[1]["bodyText"], &lines[2]["bodyHex"]), (&json!("plain \"text\"\n"), &json!("ff00")));
    assert_eq!(lines[3]["bodyText"], " \"plain\"", "a JSON string keeps its quotes where it is sent again");
}

#[test]
fn csv_has_the_columns_that_are_asked_for_and_is_quoted() {
    let folder = Folder::new("csv");
    let mut bench =
        bench_in(&folder.0, json!({"format": "csv", "columns": ["name", "value", "at.zone", "$property.line"]}));
    assert_eq!(
        give(&mut bench, 1, r#"{"name": "a \"b\", c", "value": 1.5, "at": {"zone": "x\ny"}}"#),
        Verdict::Accepted
    );
    assert_eq!(give(&mut bench, 2, "no JSON"), Verdict::Accepted);
    assert_eq!(
        folder.texts(),
        ["received,sender,output,epoch,n,name,value,at.zone,$property.line\r\n\
          2026-11-21T14:05:10.000000Z,/devices/d/modules/m,output,1,1,\"a \"\"b\"\", c\",1.5,\"x\ny\",\r\n\
          2026-11-21T14:05:11.000000Z,/devices/d/modules/m,output,1,2,,,,\r\n"]
    );
}

#[test]
fn a_message_that_comes_again_is_written_once_also_after_a_restart() {
    for format in ["jsonl", "csv"] {
        let folder = Folder::new(&format!("again-{format}"));
        let settings = json!({"format": format});
        for run in 0..3 {
            let mut bench = bench_in(&folder.0, settings.clone());
            for n in [1, 2, 2, 3 + run, 1] {
                assert_eq!(give(&mut bench, n, reading(n)), Verdict::Accepted);
            }
        }
        let lines = folder.texts().concat().lines().count();
        assert_eq!(lines, 5 + usize::from(format == "csv"), "{:?}", folder.texts());
    }
}

#[test]
fn a_line_that_was_cut_is_taken_away_and_written_whole() {
    let folder = Folder::new("cut");
    let mut bench = bench_in(&folder.0, json!({}));
    (1..=3).for_each(|n| drop(give(&mut bench, n, reading(n))));
    drop(bench);
    let file = std::fs::read_dir(&folder.0).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 7]).unwrap();

    let mut bench = bench_in(&folder.0, json!({}));
    assert!(bench.logs().iter().any(|line| line.level == Level::Warn && line.text.contains("taken away")));
    (3..=4).for_each(|n| drop(give(&mut bench, n, reading(n))));
    assert_eq!((folder.numbers(), folder.texts().len()), (vec![1, 2, 3, 4], 1), "the same file goes on");
}

#[test]
fn files_are_rotated_by_size_and_bounded_and_what_was_deleted_is_counted() {
    let folder = Folder::new("bound");
    let mut bench = bench_in(&folder.0, json!({"maxFileBytes": 4096, "maxTotalBytes": 16384}));
    for n in 1..=200 {
        assert_eq!(give(&mut bench, n, reading(n)), Verdict::Accepted);
        let bytes: usize = folder.texts().iter().map(String::len).sum();
        assert!(bytes <= 16384, "{bytes}");
    }
    let (texts, numbers) = (folder.texts(), folder.numbers());
    assert!(texts.len() >= 3 && texts.iter().all(|text| text.len() <= 4096));
    let first = numbers[0];
    assert!(first > 1 && numbers == (first..=200).collect::<Vec<_>>(), "only the oldest go: {numbers:?}");
    bench.advance(Duration::from_secs(20)).unwrap();
    bench.desired(json!({"sync": "2s"})).unwrap();
    let deleted = bench.reported()["deletedFiles"].as_u64().unwrap();
    assert!(deleted > 5, "{}", bench.reported());
    drop(bench);

    let mut bench = bench_in(&folder.0, json!({"maxFileBytes": 4096, "maxTotalBytes": 16384}));
    give(&mut bench, 201, reading(201));
    let mut names: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), folder.texts().len());
    assert_eq!(folder.numbers().last(), Some(&201));
}

#[test]
fn another_format_begins_a_new_file() {
    let folder = Folder::new("format");
    let mut bench = bench_in(&folder.0, json!({}));
    give(&mut bench, 1, reading(1));
    bench.desired(json!({"format": "csv", "columns": ["value"]})).unwrap();
    give(&mut bench, 2, reading(2));
    bench.desired(json!({"columns": ["name"]})).unwrap();
    give(&mut bench, 3, reading(3));
    assert_eq!(folder.texts().len(), 3);

    let made = bench.method("export", json!({"format": "csv", "file": "all.csv"})).unwrap();
    assert_eq!((made.status, &made.payload["rows"]), (200, &json!(3)));
    let text = std::fs::read_to_string(made.payload["path"].as_str().unwrap()).unwrap();
    let rows: Vec<&str> = text.lines().map(|line| line.split(',').nth(5).unwrap()).collect();
    assert_eq!(rows, ["name", "t", "", "t"], "{text}");
    assert_eq!(made.payload["bytes"], text.len());
}

#[test]
fn an_export_is_one_file_of_the_time_that_is_asked_for() {
    let folder = Folder::new("export");
    let mut bench = bench_in(&folder.0, json!({"maxFileBytes": 4096}));
    (1..=60).for_each(|n| drop(give(&mut bench, n, reading(n))));
    assert!(folder.texts().len() > 2);
    let asked = json!({"from": "2026-11-21T14:05:19Z", "to": "2026-11-21T15:05:29+01:00"});
    let made = bench.method("export", asked).unwrap();
    let text = std::fs::read_to_string(made.payload["path"].as_str().unwrap()).unwrap();
    let numbers: Vec<Value> = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["n"].clone()).collect();
    assert_eq!(numbers, (10..20).map(Value::from).collect::<Vec<_>>());
    assert!(made.payload["path"].as_str().unwrap().contains("/export/export-2"), "{}", made.payload);

    let all = bench.method("export", Value::Null).unwrap();
    assert_eq!((all.status, &all.payload["rows"]), (200, &json!(60)));
    let files = bench.method("files", Value::Null).unwrap().payload;
    assert_eq!((files["exports"].as_array().unwrap().len(), &files["lastExport"]["rows"]), (2, &json!(60)));
    assert_eq!(bench.method("flush", Value::Null).unwrap().status, 200);
}

#[test]
fn an_export_that_makes_no_sense_is_refused_with_every_problem() {
    let folder = Folder::new("refused");
    let mut bench = bench_in(&folder.0, json!({}));
    give(&mut bench, 1, reading(1));
    let answer = bench.method("export", json!({"from": "soon", "to": "later", "file": "../x"})).unwrap();
    assert_eq!(answer.status, 400);
    let error = answer.payload["error"].as_str().unwrap();
    assert!(["from: 'soon'", "to: 'later'", "file: '../x'"].iter().all(|said| error.contains(said)), "{error}");
    let answer = bench.method("export", json!({"form": "csv"})).unwrap();
    assert!(answer.status == 400 && answer.payload["error"].as_str().unwrap().contains("unknown field `form`"));
    assert_eq!(bench.method("export", json!({"file": "a.jsonl"})).unwrap().status, 200);
    assert_eq!(bench.method("export", json!({"file": "a.jsonl"})).unwrap().status, 400);
}

#[test]
fn a_large_export_is_made_beside_the_messages() {
    let folder = Folder::new("large");
    let mut bench = bench_in(&folder.0, json!({}));
    let body = json!({"text": "x".repeat(100_000)}).to_string();
    (1..=50).for_each(|n| drop(give(&mut bench, n, &body)));
    let answer = bench.method("export", json!({"file": "large.jsonl"})).unwrap();
    assert_eq!((answer.status, &answer.payload["running"]), (202, &json!(true)));
    assert_eq!(give(&mut bench, 51, "1"), Verdict::Accepted);
    assert!(bench.wait_for_post(Duration::from_secs(60)).unwrap());
    assert_eq!(bench.reported()["lastExport"]["rows"], 50);
    assert!(folder.0.join("export/large.jsonl").is_file());
}

#[cfg(unix)]
#[test]
fn a_line_that_cannot_be_written_waits_and_the_health_says_so() {
    let folder = Folder::new("full");
    let mut bench = bench_in(&folder.0, json!({}));
    // What stands where the first file has to be made keeps it from being made, for root too.
    std::fs::remove_dir(&folder.0).unwrap();
    assert_eq!(give(&mut bench, 1, reading(1)), Verdict::Retry { after: Some(RETRY) });
    let (level, sentence) = bench.health().unwrap();
    assert!(level == Level::Warn && sentence.starts_with("messages wait, a line cannot be written"), "{sentence}");
    std::fs::create_dir(&folder.0).unwrap();
    assert_eq!(give(&mut bench, 1, reading(1)), Verdict::Accepted);
    assert_eq!((folder.numbers(), bench.health().unwrap().0), (vec![1], Level::Info));
}

#[test]
fn desired_properties_that_make_no_sense_are_refused_all_at_once() {
    let folder = Folder::new("settings");
    let mut bench = bench_in(&folder.0, json!({}));
    let refused = bench
        .desired(
            json!({"maxFileBytes": 1, "maxTotalBytes": 1, "maxFileAge": 0, "columns": ["a", "a", "$x"], "sync": "2h"}),
        )
        .unwrap_err()
        .to_string();
    let paths = ["maxFileBytes: ", "maxTotalBytes: ", "maxFileAge: ", "columns[1]: ", "columns[2]: ", "sync: "];
    assert!(paths.iter().all(|path| refused.contains(path)), "{refused}");
    let refused = bench.desired(json!({"maxFileBytes": "big", "format": "xml", "sync": null})).unwrap_err().to_string();
    assert!(refused.contains("format: unknown variant `xml`") && refused.contains("maxFileBytes: "), "{refused}");
    assert_eq!(give(&mut bench, 1, reading(1)), Verdict::Accepted);
}
