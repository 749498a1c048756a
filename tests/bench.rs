//! What `bench` says of this device, in few messages: that it measures all it promises, and that nothing gets lost meanwhile.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::Runtime;

const HOP: [&str; 7] = ["bench", "hop", "--rounds", "1", "--messages", "6000", "--json"];

fn hop() -> Value {
    // Not started: bench needs no runtime.
    let runtime = Runtime::new();
    let mut command = runtime.command(&HOP);
    let ended = command.env("TMPDIR", runtime.folder()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let left = std::fs::read_dir(runtime.folder()).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("dinrail-bench")).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[test]
fn bench_hop_measures_every_mode_and_loses_and_reorders_nothing() {
    let report = hop();
    let hop = &report["hop"];

    assert_eq!(hop["isolation"], "thread");
    for mode in ["windowed", "flood", "fan_out", "conditions"] {
        assert_eq!((&hop[mode]["lost"], &hop[mode]["reordered"]), (&0.into(), &0.into()), "{mode}: {hop}");
    }
    let throughput = ["ours_per_s", "raw_per_s", "ratio", "raw_inline_per_s", "ratio_inline"];
    let paced = ["rate_per_s", "ours_p50_us", "ours_p99_us", "raw_p50_us", "raw_p99_us", "ratio_p50", "ratio_p99"];
    let fan_out = ["inputs", "deliveries_per_s", "single_per_s", "ratio"];
    let positive = [
        ("windowed", &throughput[..]),
        ("flood", &throughput),
        ("paced", &paced),
        ("fan_out", &fan_out),
        ("conditions", &["plain_ns"]),
    ];
    for (mode, members) in positive {
        for member in members {
            assert!(hop[mode][member].as_f64().is_some_and(|value| value > 0.0), "{mode}.{member}: {hop}");
        }
    }
    // Differences: of few messages they may come out below zero.
    for member in ["properties_ns", "body_ns"] {
        assert!(hop["conditions"][member].is_number(), "{member}: {hop}");
    }
    assert_eq!(report.as_object().unwrap().len(), 1, "only what was asked for: {report}");
}
