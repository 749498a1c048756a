//! A device that is redeployed for years does not fill up: nothing of what was removed stays behind, save identities and twins.
#![cfg(target_os = "linux")]

use crate::harness::{Manifest, Runtime, SOON, fixture, wait_until};

/// Threads, open files, and kilobytes of anonymous memory of the runtime.
fn holds(runtime: &Runtime) -> (usize, usize, u64) {
    let process = std::path::Path::new("/proc").join(runtime.pid().to_string());
    let count = |folder: &str| std::fs::read_dir(process.join(folder)).unwrap().count();
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    (count("task"), count("fd"), kilobytes)
}

#[test]
fn two_hundred_redeployments_leave_nothing_behind() {
    let runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.add_bystanders();
    // Two deployments that have a module in common, and another configuration of it.
    let deployment = |turn: usize| {
        let other = format!("other-{}", turn % 2);
        Manifest::new()
            .module("common", "wayward")
            .option("common", "stopGraceSecs", (5 + turn % 2).into())
            .module(&other, "wayward")
            .connect("common", &other)
            .connect(&other, "common")
            .with_bystanders()
    };
    let redeploy = |turns: std::ops::Range<usize>| {
        for turn in turns {
            runtime.deploy(&deployment(turn));
            runtime.cli(&["send", "common", "send", r#"{"count": 3}"#]).ok();
            // What a listener that has left did not take goes with it.
            let mut listener = runtime.listen("FROM /messages/*");
            runtime.cli(&["send", "common", "send", r#"{"count": 3}"#]).ok();
            listener.next();
        }
    };
    redeploy(0..1);
    // All the while numbers go from a module that does not change to another one: none is lost, none out of turn.
    let (threads, files, early) = runtime.undisturbed(|| {
        redeploy(1..20);
        let (threads, files, _) = holds(&runtime);
        redeploy(20..60);
        let (.., early) = holds(&runtime);
        redeploy(60..201);
        (threads, files, early)
    });

    wait_until(SOON, "threads and files are gone", || {
        let (threads_now, files_now, _) = holds(&runtime);
        threads_now < threads + 5 && files_now < files + 10
    });
    let (.., late) = holds(&runtime);
    assert!(late < early + 4096, "{early} kB after 60 redeployments, {late} kB after 200");
}
