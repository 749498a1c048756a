use std::cell::RefCell;
use std::io::Read;

use flate2::read::GzDecoder;

use super::super::{Builtin, read as read_call};
use super::*;

const NOW: i64 = 1_795_269_909_000_000;

fn request(payload: Value) -> LogsRequest {
    match read_call("GetModuleLogs", &payload.to_string(), NOW) {
        Ok(Builtin::GetModuleLogs(request)) => *request,
        other => panic!("{other:?}"),
    }
}

fn line(level: &str, text: &str) -> Box<[u8]> {
    let line = json!({
        "n": 1, "time": "2026-11-21T14:05:09.123Z", "level": level, "source": "s", "text": text, "fields": {"value": 81}
    });
    line.to_string().into_bytes().into()
}

/// The queries that a request asks, and its answer where each log has one line.
fn asked(payload: Value, modules: &[&str]) -> (Vec<Query>, Value) {
    let queries = RefCell::new(Vec::new());
    let names: Vec<String> = modules.iter().map(|name| (*name).to_owned()).collect();
    let answer = request(payload).answer("Hannover01", &names, |query| {
        queries.borrow_mut().push(query.clone());
        Ok(vec![line("warn", "too hot")])
    });
    assert_eq!(answer.status, 200, "{}", answer.payload);
    (queries.into_inner(), serde_json::from_str(&answer.payload).unwrap())
}

fn ids(answer: &Value) -> Vec<&str> {
    answer.as_array().unwrap().iter().map(|log| log["id"].as_str().unwrap()).collect()
}

#[test]
fn ids_are_patterns_without_regard_to_case_and_items_one_or_many() {
    let modules = ["filter", "filter-high", "pump"];
    for (items, expected) in [
        (json!({"id": "pump"}), vec!["pump"]),
        (json!([{"id": "FILTER"}]), vec!["filter", "filter-high"]),
        (json!([{"id": "^filter$"}, {"id": "pump"}]), vec!["filter", "pump"]),
        (json!({"id": "all"}), vec!["edgeAgent", "filter", "filter-high", "pump"]),
        (json!({"id": ".*"}), vec!["edgeAgent", "filter", "filter-high", "pump"]),
        (json!({"id": "edgeagent"}), vec!["edgeAgent"]),
        (json!({"id": "nobody"}), vec![]),
    ] {
        assert_eq!(ids(&asked(json!({"items": items}), &modules).1), expected, "{items}");
    }
}

#[test]
fn filters_become_queries() {
    let filter = json!({"tail": 7, "since": "15m", "until": 1_795_269_900, "loglevel": 5, "regex": "^too"});
    let (queries, _) = asked(json!({"items": {"id": "filter", "filter": filter}}), &["filter"]);

    let query = &queries[0];
    assert_eq!((query.tail, query.level), (Some(7), Some(Level::Warn)));
    assert_eq!((query.since_us, query.until_us), (Some(NOW - 900_000_000), Some(1_795_269_900_000_000)));
    assert!(query.grep.as_ref().unwrap().is_match("too hot") && !query.grep.as_ref().unwrap().is_match("Too"));
    assert_eq!(query.which, Which::Module("filter".to_owned()));
}

#[test]
fn levels_are_severities_and_times_come_in_three_forms() {
    for (severity, level) in
        [(3, Level::Error), (4, Level::Warn), (5, Level::Warn), (6, Level::Info), (7, Level::Trace)]
    {
        let (queries, _) = asked(json!({"items": {"id": "m", "filter": {"loglevel": severity}}}), &["m"]);
        assert_eq!(queries[0].level, Some(level), "{severity}");
    }
    let (queries, answer) = asked(json!({"items": {"id": "m", "filter": {"loglevel": 2}}}), &["m"]);
    assert_eq!((queries.len(), answer), (0, json!([{"id": "m", "payload": ""}])), "nothing is as grave");
    for (since, us) in [
        (json!("2026-11-21T14:05:09Z"), 1_795_269_909_000_000),
        (json!("1795269909"), 1_795_269_909_000_000),
        (json!(1_795_269_909), 1_795_269_909_000_000),
        (json!("1 day"), NOW - 86_400_000_000),
    ] {
        let (queries, _) = asked(json!({"items": {"id": "m", "filter": {"since": since}}}), &["m"]);
        assert_eq!(queries[0].since_us, Some(us), "{since}");
    }
}

#[test]
fn lines_are_written_as_iot_edge_writes_them() {
    let (_, text) = asked(json!({"items": {"id": "m"}}), &["m"]);
    assert_eq!(text[0]["payload"], "<4> 2026-11-21 14:05:09.123 +00:00 [WRN] - too hot value=81\n");
    let (_, answer) = asked(json!({"items": {"id": "m"}, "contentType": "JSON"}), &["m"]);
    let lines: Value = serde_json::from_str(answer[0]["payload"].as_str().unwrap()).unwrap();
    let expected = json!([{
        "timestamp": "2026-11-21T14:05:09.123Z", "iothub": "", "device": "Hannover01", "id": "m", "stream": "stdout",
        "loglevel": 4, "text": "too hot value=81"
    }]);
    assert_eq!(lines, expected);
    for (level, severity, word) in [("error", 3, "ERR"), ("info", 6, "INF"), ("debug", 7, "DBG"), ("trace", 7, "DBG")] {
        let answer =
            request(json!({"items": {"id": "m"}})).answer("d", &["m".to_owned()], |_| Ok(vec![line(level, "x")]));
        assert!(
            answer.payload.contains(&format!("<{severity}>")) && answer.payload.contains(word),
            "{}",
            answer.payload
        );
    }
}

#[test]
fn gzip_gives_the_same_text_packed() {
    let (_, answer) = asked(json!({"items": {"id": "m"}, "encoding": "gzip"}), &["m"]);
    let packed = BASE64_STANDARD.decode(answer[0]["payloadBytes"].as_str().unwrap()).unwrap();
    let mut text = String::new();
    GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, "<4> 2026-11-21 14:05:09.123 +00:00 [WRN] - too hot value=81\n");
    assert_eq!(answer[0].get("payload"), None);
}

#[test]
fn what_does_not_fit_is_refused_with_what_to_narrow() {
    let many = |_: &Query| Ok((0..2000).map(|n| line("info", &format!("line {n} of a talkative module"))).collect());
    let names = ["m".to_owned()];
    let answer = request(json!({"items": {"id": "m"}})).answer("d", &names, many);
    assert_eq!(answer.status, 400);
    for word in ["127000 bytes", "tail", "loglevel", "encoding gzip"] {
        assert!(answer.payload.contains(word), "{}", answer.payload);
    }
    let packed = request(json!({"items": {"id": "m"}, "encoding": "gzip"})).answer("d", &names, many);
    assert_eq!(packed.status, 200, "{}", packed.payload);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let payload = json!({
        "items": [{"id": "a("}, {"filter": {"tail": -1, "since": "soon", "loglevel": 8, "regex": "[", "level": 3}}, 7],
        "encoding": "zip", "contentType": 3
    });
    let answer = read_call("GetModuleLogs", &payload.to_string(), NOW).unwrap_err();
    for problem in [
        "encoding: \\\"zip\\\" is not one of none, gzip",
        "contentType: 3 is not one of text, json",
        "items[0].id: 'a(' is not a regular expression",
        "items[1].id: is missing",
        "items[1].filter.tail: -1 is not a number of lines",
        "items[1].filter.since: 'soon' is not a time",
        "items[1].filter.loglevel: 8 is not a severity",
        "items[1].filter.regex: '[' is not a regular expression",
        "items[1].filter.level: is not known",
        "items[2]: 7 is not an object",
    ] {
        assert!(answer.payload.contains(problem), "{problem}: {}", answer.payload);
    }
    for payload in [json!(null), json!({}), json!({"items": []}), json!({"items": "m"}), json!([])] {
        assert!(read_call("GetModuleLogs", &payload.to_string(), NOW).is_err(), "{payload}");
    }
}
