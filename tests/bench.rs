//! What `bench` says of this device, in few messages: that it measures all it promises, and that nothing gets lost meanwhile.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::Runtime;

/// What a bench of few messages reports.
fn bench(part: &str, messages: &str) -> Value {
    // Not started: bench needs no runtime.
    let runtime = Runtime::new();
    let mut command = runtime.command(&["bench", part, "--rounds", "1", "--messages", messages, "--json"]);
    let ended = command.env("TMPDIR", runtime.folder()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert_eq!(scratch_folders(&runtime), Vec::<String>::new(), "left behind");
    serde_json::from_slice(&ended.stdout).unwrap()
}

fn scratch_folders(runtime: &Runtime) -> Vec<String> {
    let entries = std::fs::read_dir(runtime.folder()).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("dinrail-bench")).collect()
}

#[test]
fn bench_hop_measures_every_mode_and_loses_and_reorders_nothing() {
    let report = bench("hop", "6000");
    let hop = &report["hop"];

    assert_eq!(hop["isolation"], "thread");
    // How far they are apart can be known where the test may use two, and the system says where a thread runs.
    let has_two_processors =
        cfg!(target_os = "linux") && std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    for mode in ["windowed", "flood", "fan_out", "conditions"] {
        assert_eq!((&hop[mode]["lost"], &hop[mode]["reordered"]), (&0.into(), &0.into()), "{mode}: {hop}");
        assert_eq!(
            hop[mode]["processors"]["apart_ns"].as_f64().is_some_and(|apart| apart > 0.0),
            has_two_processors,
            "{mode}: {hop}"
        );
        assert!(hop[mode]["processors"]["rounds_set_aside"].is_u64(), "{mode}: {hop}");
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

#[test]
fn bench_durable_measures_each_way_to_the_disk() {
    let report = bench("durable", "40");
    let durable = &report["durable"];

    for way in ["send", "end_to_end", "single"] {
        for member in ["ours_per_s", "raw_per_s", "ratio", "group"] {
            assert!(durable[way][member].as_f64().is_some_and(|value| value > 0.0), "{way}.{member}: {durable}");
        }
    }
    let group = |way: &str| durable[way]["group"].as_f64().unwrap();
    assert!(group("single") <= 1.0, "each message of the single one waits for the one before: {durable}");
    assert!(group("send") <= 8.0, "of eight senders, each has one message in line: {durable}");
    let slow = &durable["slow_disk"];
    let ms = |member: &str| slow[member].as_f64().unwrap();
    assert!(ms("p99_ms") >= ms("p50_ms") && ms("p50_ms") >= ms("fsync_ms"), "Ok comes after the sync: {durable}");
    assert!(ms("bytes_written_per_message") > 256.0, "{durable}");
    assert_eq!(report.as_object().unwrap().len(), 1, "only what was asked for: {report}");
}

#[cfg(unix)]
#[test]
fn a_bench_that_is_told_to_end_leaves_nothing_behind() {
    use std::time::Duration;

    use crate::harness::wait_until;

    for (part, signal) in [("durable", rustix::process::Signal::TERM), ("identities", rustix::process::Signal::INT)] {
        let runtime = Runtime::new();
        let mut command = runtime.command(&["bench", part]);
        command.env("TMPDIR", runtime.folder()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut bench = command.spawn().unwrap();
        wait_until(Duration::from_secs(30), "it measures", || scratch_folders(&runtime).len() == 1);

        let pid = rustix::process::Pid::from_child(&bench);
        rustix::process::kill_process(pid, signal).unwrap();

        assert_eq!(bench.wait().unwrap().code(), Some(130), "{part}");
        assert_eq!(scratch_folders(&runtime), Vec::<String>::new(), "{part}");
    }
}
