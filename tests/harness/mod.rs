//! What every test stands on: the real binary and libraries, built once, and a runtime in a folder of its own.

mod api;
mod build;
mod bystanders;
mod chance;
mod manifest;
pub mod mount;
pub mod numbering;
mod preload;
mod remote;
mod runtime;

use std::time::{Duration, Instant};

pub use api::{Api, Exchange, Listener};
pub use build::{c_fixture, c_module, dinrail, fixture, misbehaving, plugin_folder, unloadable_module, workspace};
pub use chance::Chance;
pub use manifest::Manifest;
pub use preload::{Clock, Failing, FailingDisk, SlowDisk};
pub use remote::{LISTEN, Tls, body, connect, say, tls_config};
pub use runtime::{Output, Runtime};

/// As long as anything may take on a busy machine that should happen soon.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `is_so`; panics with `what` when the time is up.
#[track_caller]
pub fn wait_until(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
