use std::time::{Duration, Instant};

use super::*;
use crate::body::{Head, read_ack, write_ack};
use dinrail_plugin::testing::{Bench, Verdict};

fn bench(role: &str) -> Bench {
    let mut bench = Bench::new::<Probe>(json!({"role": role})).create().unwrap();
    bench.start().unwrap();
    bench
}

fn message(run: u64, sequence: u64, sent_ns: u64) -> Vec<u8> {
    let mut body = vec![0; 32];
    Head { run, sequence, sent_ns }.write(&mut body);
    body
}

fn give(bench: &mut Bench, input: &str, body: impl AsRef<[u8]>) {
    assert_eq!(bench.message(input, body).deliver(), Verdict::Accepted);
}

fn sequences(bench: &Bench) -> Vec<u64> {
    bench.sent("out").iter().map(|sent| Head::read(&sent.body).unwrap().sequence).collect()
}

/// What a thread of the module reports.
fn wait_for_reported(bench: &Bench, member: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(20);
    while bench.reported().get(member).is_none() {
        assert!(Instant::now() < until, "'{member}' was not reported in time");
        std::thread::yield_now();
    }
    bench.reported()[member].clone()
}

#[test]
fn a_windowed_source_sends_a_window_and_then_what_is_acknowledged() {
    let mut bench = bench("source");
    bench.desired(json!({"run": 7, "count": 10, "window": 4, "bodyBytes": 300})).unwrap();
    assert_eq!(sequences(&bench), [0, 1, 2, 3]);

    give(&mut bench, "ack", write_ack(3, 7));
    give(&mut bench, "ack", write_ack(100, 6));
    assert_eq!(sequences(&bench), [0, 1, 2, 3, 4, 5, 6], "an acknowledgement of another run counts for nothing");

    give(&mut bench, "ack", write_ack(50, 7));
    assert_eq!(sequences(&bench), (0..10).collect::<Vec<_>>());
    assert_eq!(bench.reported()["sent"], json!({"run": 7, "sent": 10, "full": 0}));
    let heads: Vec<_> =
        bench.sent("out").iter().map(|sent| (sent.body.len(), Head::read(&sent.body).unwrap())).collect();
    assert!(heads.iter().all(|(size, head)| *size == 300 && head.run == 7));
    assert!(heads.iter().all(|(_, head)| (head.sent_ns != 0) == (head.sequence == 0)), "only the first is stamped");
}

#[test]
fn documents_have_properties_and_a_value_in_json_and_a_sink_counts_them() {
    let mut source = bench("source");
    source.desired(json!({"run": 0x1_0203, "count": 300, "window": 300, "shape": "document"})).unwrap();
    let mut sink = bench("sink");
    sink.desired(json!({"run": 0x1_0203, "count": 300, "shape": "document"})).unwrap();
    for sent in source.sent("out") {
        let (document, size): (Value, usize) = (sent.json(), sent.body.len());
        assert!(size == 256 && document["value"] == 42, "{size} bytes: {document}");
        assert_eq!(sent.content_type.as_deref(), Some("application/json;charset=utf-8"));
        assert_eq!(["a", "b", "c", "d"].map(|key| sent.property(key).unwrap()), ["x", "z", "42", "press 7"]);
        give(&mut sink, "in", &sent.body);
    }
    let result = sink.reported()["result"].clone();
    assert_eq!((&result["received"], &result["lost"], &result["reordered"]), (&json!(300), &json!(0), &json!(0)));
}

#[test]
fn only_another_run_starts_one() {
    let mut bench = bench("source");
    bench.desired(json!({"count": 2})).unwrap();
    assert_eq!(sequences(&bench), [0; 0]);
    bench.desired(json!({"run": 1})).unwrap();
    bench.desired(json!({"count": 3})).unwrap();
    assert_eq!(sequences(&bench), [0, 1]);
    bench.desired(json!({"run": 2})).unwrap();
    assert_eq!(sequences(&bench), [0, 1, 0, 1, 2]);
}

#[test]
fn a_flood_sends_each_message_and_again_what_found_no_room() {
    let mut bench = bench("source");
    bench.set_full(true);
    bench.desired(json!({"run": 1, "mode": "flood", "count": 500})).unwrap();
    std::thread::yield_now();
    bench.set_full(false);
    let sent = wait_for_reported(&bench, "sent");
    assert_eq!((&sent["run"], &sent["sent"]), (&json!(1), &json!(500)));
    assert_eq!(sequences(&bench), (0..500).collect::<Vec<_>>());
}

#[test]
fn a_flood_that_finds_no_room_ends_with_its_instance_or_its_run() {
    for ends in [
        |bench: &mut Bench| bench.stop().unwrap(),
        |bench: &mut Bench| {
            bench.set_full(false);
            bench.desired(json!({"run": 2, "count": 1, "mode": "windowed"})).unwrap();
        },
    ] {
        let mut bench = bench("source");
        bench.set_full(true);
        bench.desired(json!({"run": 1, "mode": "flood", "count": u64::MAX})).unwrap();
        ends(&mut bench);
        let _ = bench.stop();
    }
}

#[test]
fn a_paced_source_stamps_each_message_and_keeps_its_rate() {
    let mut bench = bench("source");
    let began = Instant::now();
    bench.desired(json!({"run": 1, "mode": "paced", "count": 21, "ratePerSec": 1000})).unwrap();
    wait_for_reported(&bench, "sent");
    assert!(began.elapsed() >= Duration::from_millis(20));
    let stamps: Vec<_> = bench.sent("out").iter().map(|sent| Head::read(&sent.body).unwrap().sent_ns).collect();
    assert!(stamps.len() == 21 && stamps[0] > 0 && stamps.is_sorted());
}

#[test]
fn a_sink_acknowledges_by_quarters_of_the_window_and_reports_a_complete_run_once() {
    let mut bench = bench("sink");
    bench.desired(json!({"run": 3, "count": 5, "window": 8})).unwrap();
    for sequence in 0..5 {
        give(&mut bench, "in", message(3, sequence, if sequence == 0 { 1 } else { 0 }));
    }
    let acks: Vec<_> = bench.sent("ack").iter().map(|sent| read_ack(&sent.body).unwrap()).collect();
    assert_eq!(acks, [(2, 3), (2, 3)]);
    let result = &bench.reported()["result"];
    assert_eq!((&result["run"], &result["mode"], &result["received"]), (&json!(3), &json!("windowed"), &json!(5)));
    assert_eq!((&result["lost"], &result["reordered"]), (&json!(0), &json!(0)));
    assert!(result["elapsedNs"].as_u64().unwrap() > 0 && result["perSecond"].is_number());
    assert_eq!(bench.timers(), [], "nothing ticks after a run");
}

#[test]
fn an_acknowledgement_that_found_no_room_is_made_up_for_by_the_next() {
    let mut bench = bench("sink");
    bench.desired(json!({"run": 1, "count": 9, "window": 8})).unwrap();
    for sequence in 0..4 {
        bench.set_full(sequence < 2);
        give(&mut bench, "in", message(1, sequence, 0));
    }
    let acks: Vec<_> = bench.sent("ack").iter().map(|sent| read_ack(&sent.body).unwrap()).collect();
    assert_eq!(acks, [(3, 1)]);
}

#[test]
fn losses_and_disorder_are_counted_apart_and_silence_ends_an_incomplete_run() {
    for (arrive, lost, reordered) in [
        (vec![0, 1, 3, 4, 5], 1, 0),
        (vec![0, 1, 2, 3], 2, 0),
        (vec![0, 2, 1, 3, 4, 5], 1, 1),
        (vec![0, 1, 1, 2, 5], 2, 1),
        (vec![], 6, 0),
    ] {
        let mut bench = bench("sink");
        bench.desired(json!({"run": 1, "count": 6, "mode": "flood"})).unwrap();
        for sequence in &arrive {
            give(&mut bench, "in", message(1, *sequence, 0));
        }
        bench.advance(Duration::from_secs(31)).unwrap();
        let result = &bench.reported()["result"];
        let counted = (&result["received"], &result["lost"], &result["reordered"]);
        assert_eq!(counted, (&json!(arrive.len()), &json!(lost), &json!(reordered)), "{arrive:?}");
    }
}

#[test]
fn messages_of_another_run_are_not_counted() {
    let mut bench = bench("sink");
    give(&mut bench, "in", message(1, 0, 0));
    bench.desired(json!({"run": 2, "count": 2})).unwrap();
    for body in [message(1, 7, 0), message(2, 0, 5), vec![1, 2], message(2, 1, 0), message(2, 2, 0)] {
        give(&mut bench, "in", body);
    }
    assert_eq!(bench.reported()["result"]["received"], 2);
}

#[test]
fn a_paced_run_has_quantiles_of_its_latencies() {
    let mut bench = bench("sink");
    bench.desired(json!({"run": 1, "count": 100, "mode": "paced"})).unwrap();
    for sequence in 0..100 {
        give(&mut bench, "in", message(1, sequence, body::now_ns() - 2_000_000));
    }
    let result = bench.reported()["result"].clone();
    let [p50, p99, p999] = ["p50Us", "p99Us", "p999Us"].map(|name| result[name].as_f64().unwrap());
    assert!(2000.0 <= p50 && p50 <= p99 && p99 <= p999, "{result}");
}

#[test]
fn an_echo_sends_the_same_on_and_an_idle_probe_takes_everything() {
    let mut echo = bench("echo");
    assert_eq!(echo.message("in", [7; 300]).property("a", "b").deliver(), Verdict::Accepted);
    assert_eq!((echo.sent("out")[0].body.as_slice(), echo.sent("out")[0].property("a")), (&[7; 300][..], Some("b")));

    let mut idle = bench("idle");
    idle.desired(json!({"run": 1})).unwrap();
    give(&mut idle, "in", "x");
    give(&mut idle, "ack", "x");
    assert_eq!((idle.sent("out"), idle.sent("ack")), (vec![], vec![]));
}

#[test]
fn desired_properties_out_of_range_are_refused_with_their_path() {
    let mut bench = bench("source");
    for (patch, said) in [
        (json!({"bodyBytes": 23}), "bodyBytes: 23 is not within 24..=262144"),
        (json!({"bodyBytes": null, "window": 0}), "window: 0 is not within 1..=1048576"),
        (json!({"shape": "document", "bodyBytes": 24, "window": null}), "bodyBytes: 24 is not within"),
        (json!({"shape": null, "bodyBytes": null, "ratePerSec": 0}), "ratePerSec: 0 is not within"),
        (json!({"ratePerSec": null, "role": "sauce"}), "role: unknown variant `sauce`"),
    ] {
        let refused = bench.desired(patch).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn a_reporter_reports_documents_of_the_wanted_size_and_then_its_result() {
    let mut bench = bench("reporter");
    bench.desired(json!({"run": 4, "count": 3, "bodyBytes": 1024})).unwrap();
    let result = wait_for_reported(&bench, "result");
    assert_eq!((&result["run"], &result["done"], &result["error"]), (&json!(4), &json!(3), &Value::Null));
    let mut reported = bench.reported().clone();
    reported.as_object_mut().unwrap().remove("result");
    assert_eq!(reported["n"], 2);
    let bytes = reported.to_string().len();
    assert!((960..=1088).contains(&bytes), "{bytes} bytes");
}

#[test]
fn a_reader_reads_and_a_listener_says_when_it_heard() {
    let mut reader = bench("reader");
    reader.desired(json!({"run": 1, "count": 5})).unwrap();
    assert_eq!(wait_for_reported(&reader, "result")["done"], 5);

    let mut listener = bench("listener");
    let before = body::now_ns();
    listener.desired(json!({"run": 9})).unwrap();
    let heard = wait_for_reported(&listener, "heard");
    let at: u64 = heard["atNs"].as_str().unwrap().parse().unwrap();
    assert!(heard["run"] == 9 && (before..=body::now_ns()).contains(&at), "{heard}");
}
