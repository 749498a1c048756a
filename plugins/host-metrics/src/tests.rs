use super::*;
use dinrail_plugin::Reading;
use dinrail_plugin::testing::{Bench, Sent};

fn bench(desired: Value) -> Bench {
    let mut bench = Bench::new::<HostMetrics>(desired).create().unwrap();
    bench.start().unwrap();
    bench
}

/// The name of a reading that was sent, and its value.
fn read(sent: &Sent) -> (String, f64) {
    let reading = Reading::parse(&sent.body).unwrap();
    assert_eq!(sent.property("name"), Some(&*reading.name));
    assert_eq!(
        (sent.content_type.as_deref(), sent.content_encoding.as_deref()),
        (Some("application/json"), Some("utf-8"))
    );
    (reading.name.to_string(), reading.number().unwrap())
}

fn readings(bench: &Bench) -> Vec<(String, f64)> {
    bench.sent("readings").iter().map(read).collect()
}

fn value_of(readings: &[(String, f64)], name: &str) -> Option<f64> {
    readings.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
}

#[test]
fn the_memory_of_this_machine_is_measured_at_the_start() {
    let bench = bench(json!({"select": ["memory"]}));
    let readings = readings(&bench);
    let [total, used, available, usage] = ["memory.total", "memory.used", "memory.available", "memory.usage"]
        .map(|name| value_of(&readings, name).unwrap_or_else(|| panic!("no {name}")));
    assert!(total > 1e6 && used > 0.0 && used + available == total, "{readings:?}");
    assert!((usage - 100.0 * used / total).abs() < 0.01);
    assert_eq!(bench.health(), Some((Level::Info, "6 readings every 1000 ms".into())));
}

#[test]
fn what_needs_two_samples_is_left_out_of_the_first_round() {
    let mut machine = Machine::new().unwrap();
    let select = [Group::Cpu, Group::Network];
    let named = |readings: &[Reading<'_>], start: &str| readings.iter().any(|reading| reading.name.starts_with(start));

    let first = machine.measure(&select);
    assert!(!named(&first, "cpu.usage") && !named(&first, "network."));

    // Real time has to pass on a real machine: as much as the usage of a CPU needs.
    let began = std::time::Instant::now();
    let mut busy = 0_u64;
    while began.elapsed() <= sysinfo::MINIMUM_CPU_UPDATE_INTERVAL {
        busy = std::hint::black_box(busy + 1);
    }
    let second = machine.measure(&select);
    let usage = second.iter().find(|reading| reading.name == "cpu.usage").and_then(Reading::number).unwrap();
    assert!(usage > 0.0 && usage <= 100.0, "{usage} after {busy} rounds of work");
    assert!(!cfg!(target_os = "linux") || named(&second, "network.received:"));
}

#[test]
fn each_file_system_is_measured_once() {
    let bench = bench(json!({"select": ["disk"]}));
    let readings = readings(&bench);
    let names: Vec<_> = readings.iter().map(|(name, _)| name.as_str()).collect();
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len(), "{names:?}");
    for (name, total) in readings.iter().filter(|(name, _)| name.starts_with("disk.total:")) {
        let used = value_of(&readings, &name.replace("total", "used")).unwrap();
        assert!(*total > 0.0 && used <= *total, "{readings:?}");
    }
}

#[test]
fn a_change_of_period_and_selection_takes_effect_at_once() {
    let mut bench = bench(json!({"select": ["memory"], "periodMs": 1000}));
    bench.clear_sent();
    assert_eq!(bench.advance(Duration::from_secs(3)).unwrap(), 3);
    assert_eq!(bench.sent("readings").len(), 18);

    bench.clear_sent();
    bench.desired(json!({"periodMs": 200, "select": ["memory", "disk"]})).unwrap();
    assert!(readings(&bench).len() > 6, "a round at once, with the disks");
    assert_eq!((bench.timers().len(), bench.advance(Duration::from_secs(1)).unwrap()), (1, 5));

    bench.clear_sent();
    bench.desired(json!({"select": []})).unwrap();
    bench.advance(Duration::from_secs(1)).unwrap();
    assert_eq!((bench.sent("readings").len(), bench.health().unwrap().1), (0, "0 readings every 200 ms".into()));
}

#[test]
fn readings_that_find_no_room_are_counted_and_the_next_round_is_tried() {
    let mut bench = bench(json!({"select": ["memory"]}));
    bench.clear_sent();
    bench.set_full(true);
    bench.advance(Duration::from_secs(1)).unwrap();
    let said = "6 readings every 1000 ms, 6 not taken by their receivers";
    assert_eq!(bench.health(), Some((Level::Warn, said.into())));

    bench.set_full(false);
    bench.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(bench.sent("readings").len(), 6);
}

#[test]
fn desired_properties_that_make_no_sense_are_refused_with_their_path() {
    let mut bench = bench(json!({"select": ["memory"]}));
    for (patch, said) in [
        (json!({"periodMs": 99}), "periodMs: 99 is not within 100..=86400000"),
        (json!({"periodMs": 86_400_001}), "periodMs: 86400001 is not within"),
        (json!({"periodMs": null, "select": ["memory", "gpu"]}), "select[1]: unknown variant `gpu`"),
        (json!({"select": null, "period": 5}), "period: unknown field `period`"),
    ] {
        let refused = bench.desired(patch).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
    bench.clear_sent();
    bench.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(bench.sent("readings").len(), 6, "the old ones stay in force");
}
