//! What users are promised, through the real binary: one promise a file.
#![cfg(unix)]
#![allow(missing_docs, dead_code, unused_imports, clippy::unwrap_used, clippy::print_stdout)]

mod deployments;
mod desired;
mod full_queue;
mod harness;
mod kill_9;
mod messages;
mod no_runtime;
mod real_input;
mod restarts;
mod stops;
mod two_names;
mod upstream;
