//! kill -9 in the middle of twin updates: what was acknowledged is there, and the databases are sound.
//!
//! `DINRAIL_KILLS` says how often (100 unless told).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::harness::{Api, Manifest, Runtime, SOON, fixture, wait_until};

const TWIN: &str = "/twins/Hannover01/modules/victim";

/// The newest update that the runtime acknowledged.
#[derive(Debug, Clone, Copy, Default)]
struct Acknowledged {
    number: u64,
    version: u64,
}

fn desired(twin: &Value) -> Acknowledged {
    let desired = &twin["properties"]["desired"];
    Acknowledged {
        number: desired["note"]["number"].as_u64().unwrap_or(0),
        version: desired["$version"].as_u64().expect("a version"),
    }
}

/// Patches the twin as fast as it goes, over all restarts, and keeps what was acknowledged.
fn patch(runtime: &Runtime, kept: Arc<Mutex<Acknowledged>>, count: Arc<AtomicU64>, is_over: Arc<AtomicBool>) {
    let state = runtime.state().to_owned();
    std::thread::spawn(move || {
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            // No runtime just now.
            let Ok(mut api) = Api::connect(&state) else { continue };
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                let patch = json!({"properties": {"desired": {"note": {"number": number}}}});
                match api.ask("PATCH", TWIN, Some(&patch)) {
                    Ok((200, twin)) => {
                        let now = desired(&twin);
                        assert_eq!(now.number, number, "{twin}");
                        *kept.lock().unwrap() = now;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok((status, answer)) => panic!("{status}: {answer}"),
                    Err(_) => break,
                }
            }
        }
    });
}

fn assert_sound(runtime: &Runtime) {
    for file in ["dinrail.db", "queue.db"] {
        let database = rusqlite::Connection::open(runtime.state().join(file)).unwrap();
        database.busy_timeout(SOON).unwrap();
        let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{file}");
    }
}

#[test]
fn no_acknowledged_twin_update_is_lost_by_kill_9_and_databases_stay_sound() {
    let kills: u32 = std::env::var("DINRAIL_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut runtime = Runtime::new().supply(&[fixture("wayward")]).start();
    runtime.deploy(&Manifest::new().module("victim", "wayward"));
    let (kept, count, is_over) = (Arc::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    patch(&runtime, Arc::clone(&kept), count.clone(), is_over.clone());
    for kill in 0..kills {
        // Each time after another number of updates: in the middle of a commit, of a start, of a change of the log file.
        let wanted = count.load(Ordering::Relaxed) + 1 + u64::from(kill % 7) * 5;
        wait_until(SOON, "the twin is patched", || count.load(Ordering::Relaxed) >= wanted);
        runtime.kill9();
        // Whatever is acknowledged from here on was acknowledged before the kill: nobody is there to do it.
        let acknowledged = *kept.lock().unwrap();
        if kill % 10 == 0 {
            assert_sound(&runtime);
        }
        runtime.launch();
        let now = desired(&runtime.json(&["twin", "get", "victim"]));
        assert!(now.number >= acknowledged.number, "{now:?} after {acknowledged:?}, kill {kill}");
        assert!(now.version >= acknowledged.version, "{now:?} after {acknowledged:?}, kill {kill}");
    }
    is_over.store(true, Ordering::Relaxed);
    runtime.wait_for("victim", "running");
    // The module saw every change once at most and in order, and ends with the newest one.
    let newest = || desired(&runtime.json(&["twin", "get", "victim"])).version;
    wait_until(SOON, "the module has the newest version", || {
        let twin = runtime.json(&["twin", "get", "victim"]);
        twin["properties"]["reported"]["acknowledged"]["version"] == newest()
    });
    runtime.stop();
    assert_sound(&runtime);
    assert!(!runtime.log().contains("corrupt"), "{}", runtime.log());
    println!("{kills} kills, {} acknowledged updates", count.load(Ordering::Relaxed));
}
